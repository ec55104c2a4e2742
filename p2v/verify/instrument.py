"""What a boot check puts into the throw-away overlay: the reporter, and the console on the first serial line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from drivers.apply import set_new_label
from drivers.facts import GuestFacts, Mount, TextFile
from drivers.keys import Key
from drivers.linux import bls, extlinux, grub_legacy
from drivers.linux.kernel_arguments import CommandLine
from drivers.linux.selinux import labels_for
from drivers.linux.splice import Splice, spliced
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
_GRUB_LINE = re.compile(r"^[ \t]*(?:linux|linux16|linuxefi)[ \t]+(?P<arguments>.*)$", re.MULTILINE)
_BLS_FOLDER = "/boot/loader/entries"
_LARGEST_CONFIG = 4 * 1024 * 1024


def grub_lines(file: TextFile) -> Iterator[CommandLine]:
    """Where arguments (after the kernel's path) stand in GRUB 2's menu."""
    for line in _GRUB_LINE.finditer(file.text):
        yield CommandLine(*line.span("arguments"))


_LinesOf = Callable[[TextFile], Iterable[CommandLine]]
# where each loader's configuration, and the further files that its entries come from, have arguments
_MENUS: Mapping[str, _LinesOf] = {
    "grub2": grub_lines,
    "grub1": grub_legacy.command_lines,
    "extlinux": extlinux.command_lines,
}
_OTHER_FILES: Mapping[str, _LinesOf] = {
    "grub2": bls.command_lines,
    "systemd-boot": bls.command_lines,
    "extlinux": extlinux.command_lines,
}


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
        from drivers.appliance_launch import open_appliance
        from drivers.appliance_tree import ApplianceGuest
        from drivers.appliance_values import ApplianceDisk
    except ImportError as error:
        return f"libguestfs is not available on this host ({error})"
    disks = [
        ApplianceDisk(path, "qcow2", read_only=False, sector_bytes=facts.sector_bytes(index))
        for index, path in enumerate(overlays)
    ]
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
    consoles = _CONSOLES.get(arch, CONSOLES)
    for path, lines_of in _kernel_configs(guest, facts).items():
        text = guest.read(path, _LARGEST_CONFIG).decode("utf-8", "surrogateescape")
        lines = lines_of(TextFile(path, path, text))
        guest.write(path, with_console(text, lines, consoles).encode("utf-8", "surrogateescape"))
    guest.sync()


def put(guest: WritableGuest, path: str, data: bytes, labels: Mapping[str, str]) -> None:
    """Write a file that may be there already."""
    if guest.exists(path):
        guest.write(path, data)
    else:
        guest.create(path, data, 0o644)
        set_new_label(guest, path, labels)


def with_console(text: str, lines: Iterable[CommandLine], consoles: str = CONSOLES) -> str:
    """A boot menu whose kernels speak on the first serial line as well as on the screen."""
    told = [Splice(line.start, line.end, _arguments(text[line.start : line.end], consoles)) for line in lines]
    return spliced(text, told)


def _arguments(given: str, consoles: str) -> str:
    words = [word for word in re.split(r"([ \t]+)", given.rstrip()) if word not in _QUIET]
    return f"{''.join(words).rstrip()} {consoles}"


def _kernel_configs(guest: WritableGuest, facts: GuestFacts) -> dict[str, _LinesOf]:
    """The files that tell kernels their arguments, each with what finds them in it.

    LILO's and zipl's maps and a unified kernel image are none: what they say was laid down when they were made.
    """
    loader = facts.boot_loader
    in_menu, in_others = _MENUS.get(loader.kind), _OTHER_FILES.get(loader.kind)
    paths = {entry.source: in_others for entry in loader.entries if entry.source not in ("", entry.kernel)}
    if loader.kind == "grub2":
        names = (name for name in guest.list(_BLS_FOLDER) if name.endswith(".conf"))
        paths |= {f"{_BLS_FOLDER}/{name}": in_others for name in names}
    if loader.config and in_menu is not None:
        paths[loader.config] = in_menu
    return {path: lines for path, lines in paths.items() if lines is not None and guest.exists(path)}
