"""What the guest does itself at its first boot: planned in full, run once, and never in the way of the boot."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from drivers.changes import Change, DeleteFile, EditFile, MakeSymlink, WriteFile
from drivers.facts import GuestFacts, Tool
from drivers.linux import firstboot, identity, tool_catalogue
from drivers.linux.firstboot import LOG, MANAGERS, SCRIPT
from drivers.linux.reading import collect_digests
from drivers.linux.selinux import CREATED_BELOW
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from p2v.core.run import find_program
from tests.drivers.linux.guest import applied, facts_of, files
from tests.drivers.memory_tree import InMemoryTree, Link, Node

BOTH = PlanOptions(install_agent=True, purge_tools=True)
IDENTITY = PlanOptions(new_identity=True)
OPEN_VM_TOOLS = Tool("open-vm-tools", "vmware", "package open-vm-tools")
AGENT = Tool("qemu-guest-agent", "qemu", "package qemu-guest-agent")
MACHINE_ID = "0123456789abcdef0123456789abcdef\n"


def guest(
    family: str = "debian",
    init: str = "systemd",
    found: tuple[Tool, ...] = (OPEN_VM_TOOLS,),
    more: Mapping[str, Node] | None = None,
) -> GuestFacts:
    nodes = {**files(), **(more or {})}
    facts = dataclasses.replace(facts_of(nodes), tools=found, digests=collect_digests(InMemoryTree(nodes)))
    assert facts.os is not None
    return dataclasses.replace(facts, os=dataclasses.replace(facts.os, family=family, init=init))


def script_of(changes: tuple[Change, ...]) -> str:
    return next(change.content for change in changes if isinstance(change, WriteFile) and change.path == SCRIPT)


def planned(facts: GuestFacts, options: PlanOptions = BOTH) -> tuple[Change, ...]:
    return firstboot.contribute(facts, options).changes


# --- the plan ----------------------------------------------------------------------------------------------


def test_nothing_is_left_for_the_first_boot_unless_asked_for() -> None:
    plan = plan_guest(guest(), PlanOptions())
    assert not any(change.path in (*firstboot.TEXTS, *firstboot.LINKS) for change in plan.changes)
    assert planned(guest(found=(AGENT,))) == ()


def test_what_is_asked_for_is_in_the_plan_word_for_word() -> None:
    plan = plan_guest(guest(), BOTH)
    script = script_of(plan.changes)
    assert "apt-get" in script
    assert "open-vm-tools" in script
    assert "install qemu-guest-agent" in script
    (unit,) = [c for c in plan.changes if isinstance(c, WriteFile) and c.path.endswith("p2v-firstboot.service")]
    assert f"/bin/sh {SCRIPT}" in unit.content
    assert "oneshot" not in unit.content.replace("# not oneshot", "")
    (link,) = [c for c in plan.changes if isinstance(c, MakeSymlink) and "multi-user.target.wants" in c.path]
    assert link.target == unit.path


@pytest.mark.parametrize("options", [PlanOptions(install_agent=True), PlanOptions(purge_tools=True)])
def test_only_what_is_asked_for_is_done(options: PlanOptions) -> None:
    script = script_of(planned(guest(), options))
    assert ("retry install" in script) == options.install_agent
    assert ("retry remove" in script) == options.purge_tools


@pytest.mark.parametrize("family", MANAGERS)
@pytest.mark.parametrize("init", ["systemd", "openrc", "sysv", "upstart"])
def test_every_family_has_its_own_commands_or_a_warning(family: str, init: str) -> None:
    contribution = firstboot.contribute(guest(family, init), BOTH)
    if init in ("systemd", "openrc") or family == "redhat" or (init, family) == ("upstart", "debian"):
        assert MANAGERS[family].remove in script_of(contribution.changes)
        assert all(change.path.startswith(CREATED_BELOW) for change in contribution.changes)
    else:
        assert contribution.changes == ()
        assert [finding.id for finding in contribution.warnings] == ["linux.first-boot.impossible"]


def test_a_family_without_known_packages_gets_a_warning() -> None:
    assert [f.id for f in firstboot.contribute(guest("unknown"), BOTH).warnings] == ["linux.first-boot.impossible"]


def test_upstart_starts_a_job_that_goes_with_its_script_and_that_nothing_waits_for() -> None:
    changes = planned(guest("debian", "upstart"))
    (job,) = [change for change in changes if isinstance(change, WriteFile) and change.path == "/etc/init/p2v-firstboot.conf"]
    assert "start on stopped rc" in job.content
    assert "\ntask" not in job.content
    assert f"rm -f {job.path} {SCRIPT}" in script_of(changes)


def test_a_tool_whose_package_nobody_knows_is_said_to_stay() -> None:
    odd = Tool("strange-agent", "strange", "file /x")
    contribution = firstboot.contribute(guest(found=(odd,)), PlanOptions(purge_tools=True))
    assert contribution.changes == ()
    assert [finding.id for finding in contribution.warnings] == ["linux.first-boot.tool-left"]


@pytest.mark.parametrize("init", ["systemd", "openrc", "sysv", "upstart"])
def test_planning_again_leaves_it_as_it_is(init: str) -> None:
    family = "redhat" if init == "sysv" else "debian"
    changes = planned(guest(family, init))
    assert len(changes) >= 2
    assert planned(guest(family, init, more=applied({}, changes))) == ()


# --- the script --------------------------------------------------------------------------------------------


class Machine:
    """A folder in which a first boot's script finds its own files, and programs that only log how they are called."""

    def __init__(self, folder: Path, script: str, programs: Mapping[str, str]) -> None:
        self.folder = folder
        self.unit = folder / "firstboot.service"
        self.unit.write_text("")
        for path in (firstboot._UNIT.link, firstboot._UNIT.path):
            script = script.replace(path, str(self.unit))
        self.script = folder / "script"
        self.script.write_text(script.replace(SCRIPT, str(self.script)).replace(LOG, str(folder / "log")))
        for name, body in {"sleep": "", "systemctl": "", **programs}.items():
            program = folder / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n{body}\n')
            program.chmod(0o755)

    def start(self) -> subprocess.Popen[bytes]:
        # a name of its own, so that nothing of this host's is run
        env = {"PATH": f"{self.folder}:/usr/bin:/bin"}
        return subprocess.Popen(["/bin/sh", str(self.script)], env=env, cwd=self.folder)

    def calls(self) -> list[str]:
        found = self.folder / "calls"
        return found.read_text().splitlines() if found.exists() else []


def machine(tmp_path: Path, programs: Mapping[str, str], options: PlanOptions = BOTH) -> Machine:
    return Machine(tmp_path, script_of(planned(guest(), options)), programs)


DPKG = 'for name; do :; done; [ "$name" = open-vm-tools ] && echo "install ok installed"; exit 0'


def test_only_installed_packages_are_removed_and_everything_of_ours_goes(tmp_path: Path) -> None:
    made = machine(tmp_path, {"dpkg-query": DPKG, "apt-get": ""})
    assert made.start().wait(30) == 0
    (removal,) = [call for call in made.calls() if call.startswith("apt-get") and "purge" in call]
    assert removal.endswith("purge open-vm-tools")
    assert [call for call in made.calls() if call.endswith("install qemu-guest-agent")]
    assert "systemctl start qemu-guest-agent" in made.calls()
    assert not made.script.exists()
    assert not made.unit.exists()
    assert "removing open-vm-tools" in (tmp_path / "log").read_text()


def test_without_a_network_it_tries_for_a_while_and_then_lets_be(tmp_path: Path) -> None:
    made = machine(tmp_path, {"dpkg-query": "", "apt-get": "exit 100"}, PlanOptions(install_agent=True))
    assert made.start().wait(30) == 0
    assert made.calls().count("apt-get update") == 20
    assert "installing failed" in (tmp_path / "log").read_text()
    assert not made.script.exists()


def test_it_goes_away_when_it_is_stopped_for_taking_too_long(tmp_path: Path) -> None:
    made = machine(tmp_path, {"dpkg-query": DPKG, "apt-get": "exec /bin/sleep 2"})
    running = made.start()
    deadline = time.monotonic() + 20
    while not any("apt-get" in call for call in made.calls()) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 1
    assert not made.script.exists()
    assert not made.unit.exists()


@pytest.mark.parametrize("family", MANAGERS)
def test_scripts_are_good_shell(family: str, tmp_path: Path) -> None:
    every = tuple(Tool(known.name, known.vendor, "") for known in tool_catalogue.KNOWN if known.vendor != "qemu")
    script = tmp_path / "script"
    script.write_text(script_of(planned(guest(family, "openrc" if family == "alpine" else "systemd", every))))
    assert subprocess.run(["/bin/sh", "-n", str(script)], check=False).returncode == 0
    if find_program("shellcheck"):
        done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


# --- a new identity ----------------------------------------------------------------------------------------

KEYS: Mapping[str, Node] = {
    "/etc/machine-id": MACHINE_ID,
    "/var/lib/dbus/machine-id": Link("/etc/machine-id"),
    "/etc/ssh/ssh_host_rsa_key": "SECRET",
    "/etc/ssh/ssh_host_rsa_key.pub": "public",
    "/etc/ssh/sshd_config": "Port 22\n",
    "/var/lib/systemd/random-seed": b"\x00\xff" * 256,
}


def test_the_same_machine_keeps_its_identity() -> None:
    plan = plan_guest(guest(more=KEYS), PlanOptions())
    assert not any(isinstance(change, DeleteFile) for change in plan.changes)
    assert not any(change.path == "/etc/machine-id" for change in plan.changes)


def test_a_new_identity_is_a_new_id_new_keys_and_new_seeds() -> None:
    changes = identity.contribute(guest(more=KEYS)).changes
    assert EditFile("/etc/machine-id", MACHINE_ID, "", changes[0].why) == changes[0]
    assert {change.path for change in changes if isinstance(change, DeleteFile)} == {
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssh/ssh_host_rsa_key.pub",
        "/var/lib/systemd/random-seed",
    }
    (unit,) = [change for change in changes if isinstance(change, WriteFile)]
    assert "ssh-keygen -A" in unit.content
    assert "Before=ssh.service" in unit.content
    assert identity.KEYS_UNIT.link in unit.content
    assert MakeSymlink(identity.KEYS_UNIT.link, unit.path, None, unit.why) in changes


def test_no_secret_is_among_the_facts() -> None:
    assert "SECRET" not in repr(guest(more=KEYS))


def test_dbus_own_copy_of_the_id_makes_way_for_a_link() -> None:
    facts = guest(more={**KEYS, "/var/lib/dbus/machine-id": MACHINE_ID})
    of_dbus = [change for change in identity.contribute(facts).changes if change.path == "/var/lib/dbus/machine-id"]
    assert [type(change) for change in of_dbus] == [DeleteFile, MakeSymlink]


def test_where_sshd_makes_missing_keys_itself_no_unit_is_needed() -> None:
    changes = identity.contribute(guest("redhat", more=KEYS)).changes
    assert any(change.path.startswith("/etc/ssh/") for change in changes)
    assert not any(isinstance(change, WriteFile) for change in changes)


def test_keys_that_the_guest_could_not_replace_stay() -> None:
    contribution = identity.contribute(guest("debian", "sysv", more=KEYS))
    assert not any(change.path.startswith("/etc/ssh/") for change in contribution.changes)
    assert [finding.id for finding in contribution.warnings] == ["linux.identity.host-keys"]


def test_a_new_identity_planned_again_changes_nothing() -> None:
    nodes = {**files(), **KEYS, "/var/lib/dbus/machine-id": MACHINE_ID}
    changes = identity.contribute(guest(more=nodes)).changes
    after = applied(nodes, changes)
    facts = dataclasses.replace(facts_of(after), digests=collect_digests(InMemoryTree(after)))
    assert identity.contribute(facts).changes == ()


def test_links_in_place_of_keys_are_left_alone() -> None:
    facts = guest(more={**KEYS, "/etc/ssh/ssh_host_rsa_key": Link("/etc/passwd"), "/etc/passwd": "root"})
    assert "/etc/ssh/ssh_host_rsa_key" not in facts.digests
    assert "/etc/passwd" not in facts.digests


def test_this_host_is_not_the_guest() -> None:
    # the scripts above are run for real: none of their paths may be this host's
    assert not os.path.exists(SCRIPT)
    assert not os.path.exists(LOG)
