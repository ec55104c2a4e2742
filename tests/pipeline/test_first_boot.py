"""What was left for the first boot, done by a real guest: a new identity, tools removed, an agent that answers.

The guest is cut off from every network, as in the boot check.
"""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivers.linux import firstboot, identity
from p2v.core.workspace import socket_folder
from tests.fixtures import secured
from tests.fixtures.guests import guest_disks, named
from tests.fixtures.programs import run
from tests.pipeline.afterwards import RootFileSystem, await_end, converted, give_task, run_to_its_end, started
from tests.pipeline.test_families import noted, seen_wrong

GUEST = named("ssh-server")
ANSWER_SECONDS = 600.0
_WAIT = f"while [ -e {firstboot.SCRIPT} ]; do sleep 2; done\n"


@dataclass
class Agent:
    """The host's end of a guest agent's channel."""

    path: Path

    def ask(self, command: str, seconds: float = 60.0, **arguments: Any) -> Any:
        """What a command returns; None when it fails, or there is no answer in time."""
        deadline = time.monotonic() + seconds
        with socket.socket(socket.AF_UNIX) as channel:
            try:
                channel.connect(str(self.path))
            except OSError:  # QEMU has only just been started
                time.sleep(0.5)
                return None
            channel.settimeout(1.0)
            channel.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            heard = b""
            while time.monotonic() < deadline:
                try:
                    data = channel.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    return None
                heard += data
                *lines, _ = heard.split(b"\n")
                answers = [json.loads(line) for line in lines if line.strip()]
                if answers:
                    return answers[-1].get("return")
        return None

    def await_answer(self) -> None:
        """Wait until the agent is there."""
        deadline = time.monotonic() + ANSWER_SECONDS
        number = 0
        while self.ask("guest-sync", 5.0, id=number) != number:
            assert time.monotonic() < deadline, "the agent never answered"
            number += 1


def keys(root: RootFileSystem) -> dict[str, str]:
    return {name: root.read(f"/etc/ssh/{name}") for name in root.names("/etc/ssh") if name.startswith("ssh_host_")}


def installed(root: RootFileSystem, package: str) -> bool:
    stanzas = root.read("/var/lib/dpkg/status").split("\n\n")
    return any(f"Package: {package}\n" in f"{s}\n" and "\nStatus: install ok installed\n" in f"{s}\n" for s in stanzas)


def left(root: RootFileSystem) -> set[str]:
    """What there still is of ours that goes away by itself."""
    found = {f"/etc/{name}" for name in root.names("/etc")} | {f"/var/lib/{name}" for name in root.names("/var/lib")}
    for folder in ("/etc/systemd/system", "/etc/systemd/system/multi-user.target.wants"):
        found |= {f"{folder}/{name}" for name in root.names(folder)}
    return found & {*firstboot.TEXTS, *firstboot.LINKS, firstboot.PACKAGES_FOLDER}


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(2400)
def test_a_guest_gets_its_new_identity_loses_its_tools_and_its_agent_answers(tmp_path: Path) -> None:
    packages = [word for path in secured.agent_packages() for word in ("--agent-package", str(path))]
    result = converted(GUEST, tmp_path, "--new-identity", "--purge-tools", *packages)
    before = result.root_in(guest_disks(GUEST.name)[0])
    assert installed(before, "open-vm-tools")
    with socket_folder() as sockets:
        agent = Agent(sockets / "agent")
        with started(result, agent.path) as qemu:
            agent.await_answer()
            interfaces = agent.ask("guest-network-get-interfaces")
            # the channel answers while the script is still on its way to its end
            while agent.ask("guest-file-open", path=firstboot.SCRIPT) is not None:
                time.sleep(2)
            agent.ask("guest-shutdown", 5.0, mode="powerdown")
            await_end(result, qemu)
    addresses = [a["ip-address"] for i in interfaces if i["name"] == "ens33" for a in i["ip-addresses"]]
    assert GUEST.converted.address.partition("/")[0] in addresses

    root = result.root
    log = root.read(firstboot.LOG)
    assert not installed(root, "open-vm-tools"), log
    assert installed(root, "qemu-guest-agent"), log
    assert "failed" not in log
    assert left(root) == set()
    old, new = keys(before), keys(root)
    assert set(new) == set(old)
    assert all(text and new[name] != text for name, text in old.items())
    assert re.fullmatch(r"[0-9a-f]{32}\n", root.read(identity.MACHINE_ID))
    assert root.read(identity.MACHINE_ID).strip() != secured.MACHINE_ID

    record = result.checked(result.planned())
    problems = seen_wrong(GUEST, record, result.folder)
    noted(GUEST, record, problems, "after its first boot: new identity, open-vm-tools removed, agent from a .deb answers")
    assert problems == []


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(1800)
def test_without_being_asked_a_guest_stays_who_it_is(tmp_path: Path) -> None:
    result = converted(GUEST, tmp_path)
    before = result.root_in(guest_disks(GUEST.name)[0])
    give_task(result, "systemctl is-active ssh.service")
    said = run_to_its_end(result)
    assert "task ended with 0" in said, said[-3000:]
    assert len(keys(before)) >= 6
    assert keys(result.root) == keys(before)
    assert result.root.read(identity.MACHINE_ID).strip() == secured.MACHINE_ID
    assert installed(result.root, "open-vm-tools")


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(1800)
def test_a_first_boot_that_fails_is_seen_and_holds_nothing_up(tmp_path: Path) -> None:
    control = tmp_path / "package/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: qemu-guest-agent\nVersion: 9\nArchitecture: all\nMaintainer: nobody <n@example.org>\n"
        "Depends: what-nobody-has\nDescription: lacks something\n"
    )
    run("dpkg-deb", "--build", tmp_path / "package", tmp_path / "agent.deb")
    result = converted(GUEST, tmp_path / "out", "--agent-package", str(tmp_path / "agent.deb"))
    shown = "systemctl --failed --plain --no-legend; journalctl --no-pager -o cat -u p2v-firstboot.service; dpkg --audit"
    give_task(result, f"systemctl is-active multi-user.target\n{_WAIT}{shown}")
    said = run_to_its_end(result)
    assert "task ended with 0" in said, said[-3000:]
    told = said.partition("\nactive")[2]
    assert re.search(r"^p2v-firstboot\.service .*failed", told, re.MULTILINE), said[-3000:]
    assert f"p2v, first boot: installing {firstboot.PACKAGES_FOLDER}/qemu-guest-agent_9_all.deb failed" in told
    assert "unpacked but not yet configured" not in told
    assert not installed(result.root, "qemu-guest-agent")
    assert left(result.root) == set()
    assert "what-nobody-has" in result.root.read(firstboot.LOG)
