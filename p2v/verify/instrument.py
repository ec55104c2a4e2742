"""What a boot check puts into the throw-away overlay: the reporter, and the console on the first serial line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from drivers.apply import set_new_label
from drivers.facts import GuestFacts, Mount
from drivers.keys import Key
from drivers.linux.selinux import labels_for
from drivers.writable import WritableGuest
from p2v.core.acceleration import Acceleration
from p2v.core.errors import P2vError
from p2v.core.events import Reporter
from p2v.targets.platforms import known_architecture
from p2v.verify.guest_report import SCRIPT_PATH, UNIT, UNIT_NAME, UNIT_PATH, WANTED_FOLDER, reporter_script

# The last console is the one that an initramfs shell and systemd's messages appear on.
CONSOLES = "console=tty0 console=ttyS0,115200"
_CONSOLES = {"aarch64": "console=tty0 console=ttyAMA0,115200", "ppc64le": "console=tty0 console=hvc0"}
_QUIET = frozenset({"quiet", "splash", "rhgb"})
_KERNEL_LINE = re.compile(r"^(?P<head>[ \t]*(?:linux|linux16|linuxefi|options)[ \t]+)(?P<rest>.*)$", re.MULTILINE)
_BLS_FOLDER = "/boot/loader/entries"
_LARGEST_CONFIG = 4 * 1024 * 1024


def instrument_overlays(
    overlays: Sequence[Path],
    facts: GuestFacts | None,
    acceleration: Acceleration,
    nonce: str,
    wait_seconds: int,
    report: Reporter,
    keys: Sequence[Key] = (),
) -> str:
    """Put the reporter and the console into a guest; returns why it could not be done, empty when it was.

    A guest that cannot be written to is still booted and looked at from outside.
    """
    if reason := why_not(facts):
        return reason
    assert facts is not None
    try:
        # imported here: on a host without libguestfs the guest is still booted
        from drivers.appliance import ApplianceDisk, open_appliance
        from drivers.appliance_tree import ApplianceGuest
    except ImportError as error:
        return f"libguestfs is not available on this host ({error})"
    disks = [ApplianceDisk(path, "qcow2", read_only=False) for path in overlays]
    try:
        with open_appliance(disks, acceleration, report=report) as appliance:
            appliance.activate(facts.volumes, keys)
            appliance.mount(mounts(facts), read_only=False)
            instrument(ApplianceGuest(appliance), facts, nonce, wait_seconds)
    except P2vError as error:
        return error.sentence()
    return ""


def why_not(facts: GuestFacts | None) -> str:
    """Why nothing can be put into such a guest; empty when it can."""
    if facts is None or facts.os is None or facts.root is None:
        return "no operating system was found in the disks"
    if facts.os.kind != "linux":
        return f"nothing is known to report from inside {facts.os.name or facts.os.kind}"
    if facts.os.init != "systemd":
        return f"the guest is started by {facts.os.init or 'something unknown'}, not systemd"
    return ""


def mounts(facts: GuestFacts) -> tuple[Mount, ...]:
    """The root and what is mounted below it, each place once."""
    places = {mount.mountpoint: mount for mount in (*facts.mounts, *((facts.root,) if facts.root else ()))}
    return tuple(m for m in places.values() if m.mountpoint.startswith("/"))


def instrument(guest: WritableGuest, facts: GuestFacts, nonce: str, wait_seconds: int) -> None:
    """Write everything into a mounted guest.

    With SELinux enforcing nothing could start what has no label, so the files get those that a plan's would get.
    """
    link = f"{WANTED_FOLDER}/{UNIT_NAME}"
    labels, _ = labels_for(facts.label_policy, (SCRIPT_PATH, UNIT_PATH), (link,))
    arch = facts.os.arch if facts.os is not None else ""
    put(guest, SCRIPT_PATH, reporter_script(nonce, wait_seconds, known_architecture(arch)).encode(), labels)
    put(guest, UNIT_PATH, UNIT.encode(), labels)
    if not guest.exists(WANTED_FOLDER):
        guest.make_folder(WANTED_FOLDER, 0o755)
        set_new_label(guest, WANTED_FOLDER, labels)
    if UNIT_NAME not in guest.list(WANTED_FOLDER):
        guest.make_symlink(link, UNIT_PATH)
        set_new_label(guest, link, labels)
    for path in _kernel_configs(guest, facts):
        text = guest.read(path, _LARGEST_CONFIG)
        seen = with_console(text.decode("utf-8", "surrogateescape"), _CONSOLES.get(arch, CONSOLES))
        guest.write(path, seen.encode("utf-8", "surrogateescape"))
    guest.sync()


def put(guest: WritableGuest, path: str, data: bytes, labels: Mapping[str, str]) -> None:
    """Write a file that may be there already."""
    if guest.exists(path):
        guest.write(path, data)
    else:
        guest.create(path, data, 0o644)
        set_new_label(guest, path, labels)


def with_console(text: str, consoles: str = CONSOLES) -> str:
    """A boot menu whose kernels speak on the first serial line as well as on the screen."""
    return _KERNEL_LINE.sub(lambda line: line["head"] + _arguments(line["rest"], consoles), text)


def _arguments(rest: str, consoles: str) -> str:
    words = [word for word in rest.split(" ") if word not in _QUIET]
    return " ".join(words).rstrip() + f" {consoles}"


def _kernel_configs(guest: WritableGuest, facts: GuestFacts) -> list[str]:
    # zipl starts what is in its map, whatever stands there
    if facts.boot_loader.kind == "zipl":
        return []
    config = facts.boot_loader.config
    found = [config] if config and guest.exists(config) else []
    return found + [f"{_BLS_FOLDER}/{name}" for name in guest.list(_BLS_FOLDER) if name.endswith(".conf")]
