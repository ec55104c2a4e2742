"""Kernel command lines, wherever they stand: device names in them made lasting, consoles that will be gone moved.

Which arguments name devices: bootparam(7), dracut.cmdline(7), mkinitcpio's and mkinitfs' ``cryptdevice`` and
``cryptroot``, genkernel's ``real_root``. ``rd.lvm.lv``, ``rd.md.uuid`` and the like name what is written on the disks.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from drivers.changes import EditFile
from drivers.facts import BootEntry, GuestFacts, TextFile
from drivers.linux.architectures import PC, Architecture
from drivers.linux.devices import DeviceNames
from drivers.linux.splice import Splice, spliced
from drivers.plan import Finding

WHY = "kernels are told their root by a name that lasts: disks have other names on KVM"
WHY_RESUME = (
    "; resume= overrides the old device name kept in the initramfs, which would be waited for at every start "
    "until the initramfs is built anew"
)

# "boot=" is where a FIPS guest checks its kernel's signature
DEVICE_ARGUMENTS = frozenset({"root", "resume", "boot", "real_root", "crypt_root", "cryptroot", "cryptdevice"})
# a by-path name has colons of its own, so that only cryptdevice's ends at one
ARGUMENT = re.compile(
    r"(?<![A-Za-z0-9_.-])(?P<key>[A-Za-z0-9_.-]+)=(?P<device>(?<=cryptdevice=)/dev/[^\s\"',;:]+|(?<!cryptdevice=)/dev/[^\s\"',;]+)"
)
_CONSOLE = re.compile(r"(?<![^\s\"'])console=(?P<console>[A-Za-z]+[0-9]+)(?=[\s\"',]|\Z)")
_RESUMES = re.compile(r"(?<!\S)(?:noresume\b|resume=)")
# what is not opened to look for more file systems
_PLAIN_KINDS = frozenset({"ext2", "ext3", "ext4", "xfs", "swap", "vfat", "ntfs"})
# "PARTUUID=" of an MBR's partition came with Linux 3.8 (init/do_mounts.c)
_PARTUUID_SINCE = (3, 8)


class RootFinder(enum.Enum):
    """Who makes a device of ``root=``, which decides what names it understands."""

    INITRAMFS = "initramfs"
    """Any name that udev or blkid know."""
    KERNEL = "kernel"
    """Device names and ``PARTUUID=``."""
    OLD_KERNEL = "old kernel"
    """Device names only."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The characters of a text that a kernel gets as arguments."""

    start: int
    end: int
    finder: RootFinder = RootFinder.INITRAMFS


def finder_of(kernel: str, has_initramfs: bool) -> RootFinder:
    """Who looks for the root of a kernel (a path or version); one whose version does not show counts as new."""
    if has_initramfs:
        return RootFinder.INITRAMFS
    version = re.search(r"-([0-9]{1,4})\.([0-9]{1,4})", kernel)
    is_old = version is not None and (int(version[1]), int(version[2])) < _PARTUUID_SINCE
    return RootFinder.OLD_KERNEL if is_old else RootFinder.KERNEL


def lasting(argument: re.Match[str], names: DeviceNames, finder: RootFinder) -> str | None:
    """The name to put in place of the device in a match of ``ARGUMENT``; None to leave it."""
    found = names.resolve(argument["device"]) if argument["key"] in DEVICE_ARGUMENTS else None
    if found is None or found.partition is None or found.stable is None:
        return None
    match finder:
        case RootFinder.INITRAMFS:
            return found.stable
        case RootFinder.KERNEL:
            return names.partuuid(found.partition)
        case RootFinder.OLD_KERNEL:
            return None


def device_splices(text: str, line: CommandLine, names: DeviceNames) -> Iterator[Splice]:
    """The replacements of device names in one command line."""
    for argument in ARGUMENT.finditer(text, line.start, line.end):
        if (name := lasting(argument, names, line.finder)) is not None:
            yield Splice(argument.start("device"), argument.end("device"), name)


def console_splices(text: str, start: int, end: int, here: Architecture) -> Iterator[Splice]:
    """Consoles that will be gone as the first serial line."""
    for match in _CONSOLE.finditer(text, start, end):
        if match["console"] in here.gone:
            yield Splice(match.start("console"), match.end("console"), here.console)


def plan_lines(
    file: TextFile,
    lines: Iterable[CommandLine],
    names: DeviceNames,
    *,
    here: Architecture = PC,
    resume: str | None = None,
) -> EditFile | None:
    """The edit of a text that holds command lines; None when none needs it.

    ``resume``: the lasting name of a swap area that the initramfs knows by an old device name; it is added
    to kernels that are told nothing about resuming.
    """
    splices: list[Splice] = []
    why = WHY
    for line in lines:
        splices += device_splices(file.text, line, names)
        splices += console_splices(file.text, line.start, line.end, here)
        if resume and line.finder is RootFinder.INITRAMFS and not _RESUMES.search(file.text, line.start, line.end):
            splices.append(Splice(line.end, line.end, f" resume={resume}"))
            why = WHY + WHY_RESUME
    return EditFile(file.resolved, file.text, spliced(file.text, splices), why) if splices else None


def line_findings(
    file: TextFile, lines: Iterable[CommandLine], names: DeviceNames, default: BootEntry | None
) -> Iterator[Finding]:
    """What keeps a name that may mean nothing on KVM. ``default``: the entry whose root is a reason not to go on."""
    arguments = (
        (argument, lasting(argument, names, line.finder) is not None)
        for line in lines
        for argument in ARGUMENT.finditer(file.text, line.start, line.end)
    )
    yield from argument_findings(file.path, arguments, names, default.arguments.split() if default else [])


def argument_findings(
    path: str, arguments: Iterable[tuple[re.Match[str], bool]], names: DeviceNames, decisive: Collection[str]
) -> Iterator[Finding]:
    """The same for arguments found by whatever reads their text, each with whether it gets a name that lasts.

    ``decisive``: the arguments of the entry whose root is a reason not to go on.
    """
    told: set[str] = set()
    for argument, is_replaced in arguments:
        found = names.resolve(argument["device"])
        if found is None or argument[0] in told:
            continue
        told.add(argument[0])
        is_root = argument["key"] == "root" and argument[0] in decisive
        if not is_replaced:
            # a name that only hardware can keep is boot_check's
            if not (is_root and found.stable):
                yield unresolved(path, argument, found.problem, is_root)
        elif is_root and (problem := elsewhere(names, argument["device"])):
            yield unresolved(path, argument, problem, is_root)


def elsewhere(names: DeviceNames, device: str) -> str:
    """Why a root that can be resolved is the wrong one; empty when it is not."""
    found = names.resolve(device)
    if found is None or found.partition is None or names.root is None:
        return ""
    same = (found.partition.disk, found.partition.number) == (names.root.disk, names.root.number)
    return "" if same else "that is not where the root file system was found"


def unresolved(path: str, argument: re.Match[str], problem: str, root: bool) -> Finding:
    """The finding about an argument that stays."""
    hint = "Name all disks of the machine, in the order the source had them."
    return Finding(
        "linux.boot-loader.root-unresolved" if root else "linux.boot-loader.argument-names-device",
        f"{path} passes {argument[0]} to a kernel: {problem or 'that name may mean nothing on KVM'}",
        hint if root else "Check that boot entry after the migration.",
    )


def absent_root(facts: GuestFacts, path: str, arguments: Iterable[str]) -> Iterator[Finding]:
    """A root by a UUID that nothing has, where all file systems are known."""
    systems = [partition.filesystem for partition in facts.partitions if partition.filesystem]
    if any(system.kind not in _PLAIN_KINDS for system in systems):
        return  # it may be inside what was not opened
    known = {system.uuid.lower() for system in systems if system.uuid}
    for argument in arguments:
        uuid = argument.removeprefix("root=UUID=").strip("\"'").lower()
        if argument.startswith("root=UUID=") and uuid not in known:
            yield Finding(
                "linux.boot-loader.root-absent",
                f"{path} starts with {argument}, and no file system in the disks has that UUID",
                "The guest will not find its root; look whether a disk is missing.",
            )
