"""What the guest does itself at its first boot: planned in full, run once, and never in the way of the boot."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from drivers.changes import CarryFile, Change, DeleteFile, EditFile, MakeSymlink, WriteFile
from drivers.facts import BootEntry, BootLoader, GuestFacts, Tool
from drivers.linux import firstboot, identity, tool_catalogue
from drivers.linux.firstboot import LOG, MANAGERS, SCRIPT
from drivers.linux.reading import collect_digests
from drivers.linux.selinux import CREATED_BELOW
from drivers.packages import PackageFile, PackageFormat
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from p2v.core.run import find_program
from tests.drivers.linux.guest import applied, extended, facts_of, files
from tests.drivers.memory_tree import InMemoryTree, Link, Node
from tests.fixtures.layout import ROOT_UUID

BOTH = PlanOptions(install_agent=True, purge_tools=True)
IDENTITY = PlanOptions(new_identity=True)
OPEN_VM_TOOLS = Tool("open-vm-tools", "vmware", "package open-vm-tools")
AGENT = Tool("qemu-guest-agent", "qemu", "package qemu-guest-agent")
MACHINE_ID = "0123456789abcdef0123456789abcdef\n"
DEB = PackageFile("/tmp/a b.deb", 1000, "ab" * 32, PackageFormat.DEB, "qemu-guest-agent", "1:7.2$(x)", "amd64")
NEEDED_DEB = PackageFile("/tmp/u.deb", 2000, "cd" * 32, PackageFormat.DEB, "liburing2", "2.3-3", "amd64")
FROM_FILES = PlanOptions(agent_packages=(DEB, NEEDED_DEB))


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


# --- an agent from package files ---------------------------------------------------------------------------


def test_package_files_are_carried_with_their_digests_and_named_in_the_script() -> None:
    plan = plan_guest(guest(), FROM_FILES)
    assert plan.blockers == ()
    carried = [change for change in plan.changes if isinstance(change, CarryFile)]
    assert [(c.source, c.size, c.sha256, c.mode) for c in carried] == [
        (DEB.path, 1000, DEB.sha256, 0o600),
        (NEEDED_DEB.path, 2000, NEEDED_DEB.sha256, 0o600),
    ]
    script = script_of(plan.changes)
    for change in carried:
        assert f"# {change.path}: SHA-256 {change.sha256}" in script
        assert change.path.startswith(f"{firstboot.PACKAGES_FOLDER}/")
        assert set(change.path.removeprefix(firstboot.PACKAGES_FOLDER)).isdisjoint("$(): '")
    assert "dpkg -i" in script
    assert "apt-get update" not in script.partition("install_files()")[2]
    assert not any(finding.id == "linux.agent-missing" for finding in plan.warnings)


@pytest.mark.parametrize(
    ("family", "change", "found"),
    [
        ("redhat", {}, ["linux.agent-package.format"] * 2),
        ("arch", {}, ["linux.agent-package.format"] * 2),
        ("redhat", {"format": PackageFormat.RPM, "arch": "x86_64"}, []),
        ("debian", {"arch": "i386"}, ["linux.agent-package.architecture"] * 2),
        ("debian", {"arch": "all"}, []),
        ("debian", {"name": "liburing2"}, ["linux.agent-package.missing"]),
    ],
)
def test_files_that_the_guest_cannot_install_block(family: str, change: dict[str, Any], found: list[str]) -> None:
    packages = tuple(dataclasses.replace(package, **change) for package in FROM_FILES.agent_packages)
    contribution = firstboot.contribute(guest(family), PlanOptions(agent_packages=packages))
    assert [finding.id for finding in contribution.blockers] == found
    assert bool(contribution.changes) is not bool(found)


def test_an_agent_that_is_there_makes_files_unneeded() -> None:
    contribution = firstboot.contribute(guest(found=(AGENT,)), FROM_FILES)
    assert contribution.changes == ()
    assert [finding.id for finding in contribution.warnings] == ["linux.agent-package.unneeded"]


def test_files_that_were_carried_are_not_carried_again_and_others_are() -> None:
    facts = guest(more=applied({}, planned(guest(), FROM_FILES)))
    assert planned(facts, FROM_FILES) == ()
    other = PlanOptions(agent_packages=(dataclasses.replace(DEB, sha256="ef" * 32),))
    assert any(isinstance(change, CarryFile) for change in planned(facts, other))


# --- the script --------------------------------------------------------------------------------------------


class Machine:
    """A folder in which a first boot's script finds its own files, and programs that only log how they are called."""

    def __init__(self, folder: Path, script: str, programs: Mapping[str, str]) -> None:
        self.folder = folder
        self.unit = folder / "firstboot.service"
        self.unit.write_text("")
        for path in (firstboot._UNIT.link, firstboot._UNIT.path):
            script = script.replace(path, str(self.unit))
        script = script.replace(firstboot.PACKAGES_FOLDER, str(folder / "packages"))
        self.script = folder / "script"
        self.script.write_text(script.replace(SCRIPT, str(self.script)).replace(LOG, str(folder / "log")))
        for name, body in {"sleep": "", "systemctl": "", **programs}.items():
            program = folder / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n{body}\n')
            program.chmod(0o755)

    def start(self) -> subprocess.Popen[bytes]:
        # a name of its own, so that nothing of this host's is run
        env = {"PATH": f"{self.folder}:/usr/bin:/bin"}
        with (self.folder / "journal").open("wb") as journal:
            return subprocess.Popen(["/bin/sh", str(self.script)], env=env, cwd=self.folder, stdout=journal)

    def calls(self) -> list[str]:
        found = self.folder / "calls"
        return found.read_text().splitlines() if found.exists() else []


def machine(tmp_path: Path, programs: Mapping[str, str], options: PlanOptions = BOTH) -> Machine:
    return Machine(tmp_path, script_of(planned(guest(), options)), programs)


DPKG = 'for name; do :; done; [ "$name" = open-vm-tools ] && echo "install ok installed"; exit 0'


def test_only_installed_packages_are_removed_and_everything_of_ours_goes(tmp_path: Path) -> None:
    made = machine(tmp_path, {"dpkg-query": DPKG, "apt-get": ""})
    assert made.start().wait(300) == 0
    (removal,) = [call for call in made.calls() if call.startswith("apt-get") and "purge" in call]
    assert removal.endswith("purge open-vm-tools")
    assert [call for call in made.calls() if call.endswith("install qemu-guest-agent")]
    assert "systemctl start qemu-guest-agent" in made.calls()
    assert not made.script.exists()
    assert not made.unit.exists()
    assert "removing open-vm-tools" in (tmp_path / "log").read_text()


def test_without_a_network_it_tries_for_a_while_and_then_lets_be(tmp_path: Path) -> None:
    made = machine(tmp_path, {"dpkg-query": "", "apt-get": "exit 100"}, PlanOptions(install_agent=True))
    assert made.start().wait(300) == 1
    assert made.calls().count("apt-get update") == 20
    assert "installing qemu-guest-agent failed" in (tmp_path / "log").read_text()
    assert not made.script.exists()


def test_what_failed_is_told_to_the_journal_and_what_follows_is_done(tmp_path: Path) -> None:
    fails = "case $* in *purge*) exit 100 ;; esac"
    made = machine(tmp_path, {"dpkg-query": DPKG, "apt-get": fails})
    assert made.start().wait(300) == 1
    assert (tmp_path / "journal").read_text().startswith("p2v, first boot: removing open-vm-tools failed; see ")
    assert "systemctl start qemu-guest-agent" in made.calls()


def test_files_are_installed_without_asking_a_repository_and_go(tmp_path: Path) -> None:
    made = machine(tmp_path, {"dpkg-query": "", "dpkg": "", "apt-get": "exit 100"}, FROM_FILES)
    (tmp_path / "packages").mkdir()
    for package in FROM_FILES.agent_packages:
        (tmp_path / firstboot._place(package).replace(firstboot.PACKAGES_FOLDER, "packages")).write_text("x")
    assert len(list((tmp_path / "packages").iterdir())) == 2
    assert made.start().wait(300) == 0
    (call,) = [call for call in made.calls() if call.startswith("dpkg ")]
    assert [name.rpartition("/")[2] for name in call.split()[-2:]] == [
        "qemu-guest-agent_1_7.2__x__amd64.deb",
        "liburing2_2.3-3_amd64.deb",
    ]
    assert not any(call.startswith("apt-get") for call in made.calls())
    assert "systemctl start qemu-guest-agent" in made.calls()
    assert not (tmp_path / "packages").exists()


def test_files_that_lack_something_leave_nothing_half_installed(tmp_path: Path) -> None:
    made = machine(tmp_path, {"dpkg-query": "", "dpkg": "exit 1", "apt-get": ""}, FROM_FILES)
    assert made.start().wait(300) == 1
    assert [call.split()[0] for call in made.calls() if "dpkg " in call[:5] or "apt-get" in call] == ["dpkg", "apt-get"] * 4
    assert all(call.endswith("-f install") for call in made.calls() if call.startswith("apt-get"))
    assert "installing" in (tmp_path / "journal").read_text()


def test_it_goes_away_when_it_is_stopped_for_taking_too_long(tmp_path: Path) -> None:
    made = machine(tmp_path, {"dpkg-query": DPKG, "apt-get": "exec /bin/sleep 2"})
    running = made.start()
    while not any("apt-get" in call for call in made.calls()):
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(300) == 1
    assert not made.script.exists()
    assert not made.unit.exists()


@pytest.mark.parametrize("family", MANAGERS)
def test_scripts_are_good_shell(family: str, tmp_path: Path) -> None:
    every = tuple(Tool(known.name, known.vendor, "") for known in tool_catalogue.KNOWN if known.vendor != "qemu")
    script = tmp_path / "script"
    options = BOTH
    if MANAGERS[family].file_format is PackageFormat.RPM:
        options = dataclasses.replace(BOTH, agent_packages=(dataclasses.replace(DEB, format=PackageFormat.RPM),))
    elif family == "debian":
        options = dataclasses.replace(BOTH, agent_packages=FROM_FILES.agent_packages)
    facts = guest(family, "openrc" if family == "alpine" else "systemd", every)
    script.write_text(script_of(planned(facts, options)))
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


OLD_ARGUMENT = f"systemd.machine_id={MACHINE_ID.strip()}"


def entry(arguments: str) -> str:
    version = "6.1.0-9-amd64"
    return f"title Debian\nversion {version}\noptions {arguments}\nlinux /vmlinuz-{version}\ninitrd /initrd.img-{version}\n"


def test_no_kernel_is_told_the_old_machine_id_and_its_entries_keep_their_names() -> None:
    snippet = f"/boot/loader/entries/{MACHINE_ID.strip()}-6.1.0-9-amd64.conf"
    told = entry(f"root=/dev/sda1 {OLD_ARGUMENT} quiet noresume {OLD_ARGUMENT}")
    nodes: dict[str, Node] = {
        "/etc/machine-id": MACHINE_ID, "/boot/loader/loader.conf": "timeout 1\n", snippet: told,
        "/etc/kernel/cmdline": f"{OLD_ARGUMENT} ro\n", "/etc/default/grub": f'X="a {OLD_ARGUMENT}0"\n',
    }  # fmt: skip
    nodes = {path: node for path, node in {**files(), **nodes}.items() if path != "/boot/grub/grub.cfg"}
    facts = guest(more=nodes)
    facts = dataclasses.replace(facts, boot_loader=BootLoader("systemd-boot", "/boot/loader/loader.conf"))
    plan = plan_guest(facts, IDENTITY)
    after = applied(nodes, plan.changes)
    assert after[snippet] == entry(f"root=UUID={ROOT_UUID} quiet noresume")
    assert after["/etc/kernel/cmdline"] == " ro\n"
    assert f"{OLD_ARGUMENT}0" in str(after["/etc/default/grub"])
    assert after["/etc/kernel/entry-token"] == MACHINE_ID
    kernels = extended(facts.kernels, plan.changes)
    again = dataclasses.replace(guest(more=after), boot_loader=facts.boot_loader, digests={}, kernels=kernels)
    assert plan_guest(again, IDENTITY).changes == ()
    kept = applied(nodes, plan_guest(facts, PlanOptions()).changes)
    assert OLD_ARGUMENT in str(kept[snippet])
    assert "/etc/kernel/entry-token" not in kept


def test_a_block_of_grubs_environment_keeps_its_size_without_the_old_id() -> None:
    block = f"# GRUB Environment Block\nkernelopts=root=UUID={ROOT_UUID} {OLD_ARGUMENT} ro\n".ljust(1024, "#")
    facts = guest(more={"/etc/machine-id": MACHINE_ID, "/boot/grub/grubenv": block})
    (edit,) = identity.forgotten(facts, ())
    assert isinstance(edit, EditFile)
    assert len(edit.after) == 1024
    assert OLD_ARGUMENT not in edit.after
    assert edit.after.endswith("#")


def test_an_old_id_inside_an_image_is_told_of() -> None:
    image = BootEntry("Debian", "/efi/a.efi", (), f"ro {OLD_ARGUMENT}", "/efi/a.efi")
    facts = dataclasses.replace(guest(more={"/etc/machine-id": MACHINE_ID}), boot_loader=BootLoader("systemd-boot", "", (image,)))
    assert [finding.id for finding in identity.contribute(facts).warnings] == ["linux.identity.machine-id-fixed"]


def test_links_in_place_of_keys_are_left_alone() -> None:
    facts = guest(more={**KEYS, "/etc/ssh/ssh_host_rsa_key": Link("/etc/passwd"), "/etc/passwd": "root"})
    assert "/etc/ssh/ssh_host_rsa_key" not in facts.digests
    assert "/etc/passwd" not in facts.digests


def test_this_host_is_not_the_guest() -> None:
    # the scripts above are run for real: none of their paths may be this host's
    assert not os.path.exists(SCRIPT)
    assert not os.path.exists(LOG)
