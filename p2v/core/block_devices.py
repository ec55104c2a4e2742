"""The host's block devices: what they are, who uses them, what they stand on.

An exclusive open tells of a mount, of swap and of what the kernel built on a device, but not of a loop device over it, of a
QEMU that has it open, or of what is above its partitions in another way: so all of these are looked for. Everything is read
from /proc and /sys, whose places are handed in.

Source: the kernel's Documentation/ABI (sysfs-block, sysfs-block-device), proc(5), Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.core.errors import NotPermitted, UnfitDevice
from p2v.core.open_files import writers
from p2v.core.units import SECTOR_BYTES

# Octal, as the kernel writes blanks and the like in names.
_ESCAPED = re.compile(r"\\([0-7]{3})")
# Deeper stacks of devices (a volume on a RAID on partitions on multipath on ...) were never seen.
_DEEPEST = 32
_OPEN = "open in "
_PATIENCE_SECONDS, _LOOK_SECONDS = 2.0, 0.1


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Where the kernel tells of itself."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")


THIS_HOST = HostFiles()


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A block device as it was found; sizes in bytes.

    ``number``: the kernel's, as ``8:16``. ``name``: the kernel's. ``identity``: tells it from another one that has its name
    later on, as far as the kernel knows what it is.
    """

    path: Path
    number: str
    name: str
    size: int
    logical_sector_size: int
    read_only: bool
    identity: str
    physical_sector_size: int = SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class Ground:
    """What a file or device stands on.

    ``numbers``: the devices, itself among them. ``files``: files below loop devices on the way, as (device, inode).
    ``own``: the file itself, or the one right below where it is a loop device.
    """

    numbers: frozenset[str]
    files: frozenset[tuple[int, int]] = frozenset()
    own: tuple[int, int] | None = None
    number: str | None = None

    def touches(self, other: Ground) -> bool:
        """Whether writing one of the two may write the other: one stands on the other, or both are the same."""
        if self.own is not None and self.own in other.files:
            return True
        if other.own is not None and other.own in self.files:
            return True
        return self.number in other.numbers or other.number in self.numbers


def look_at(path: Path, host: HostFiles = THIS_HOST) -> BlockDevice:
    """What the block device at a path is. Raises UnfitDevice when there is none, NotPermitted."""
    number = _number_at(path)
    node = node_of(number, host)
    whole = node.parent if (node / "partition").exists() else node
    try:
        return BlockDevice(
            path=path,
            number=number,
            name=node.name,
            size=int(kernel_text(node / "size")) * SECTOR_BYTES,
            logical_sector_size=int(kernel_text(whole / "queue/logical_block_size") or SECTOR_BYTES),
            read_only=kernel_text(node / "ro") == "1",
            identity=_identity(node, whole, number),
            physical_sector_size=int(kernel_text(whole / "queue/physical_block_size") or SECTOR_BYTES),
        )
    except ValueError as error:
        raise UnfitDevice(path, "the kernel does not tell its size") from error


def users_of(number: str, host: HostFiles = THIS_HOST, patience: float = _PATIENCE_SECONDS) -> tuple[str, ...]:
    """Who uses a device, its partitions, or the disk it is a partition of; in words, nobody twice.

    Whoever has it open alone is looked for again for ``patience`` seconds: udev's and losetup's looks last a moment.
    """
    deadline = time.monotonic() + patience
    while True:
        found = _users(number, host)
        if not found or not all(use.startswith(_OPEN) for use in found) or time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK_SECONDS)


def _users(number: str, host: HostFiles) -> tuple[str, ...]:
    found: dict[str, None] = {}
    loops = tuple(loop_devices(host))
    for each, node in family_of(number, host):
        above = [holder_words(holder) for holder in kernel_entries(node / "holders")]
        above += [f"loop device /dev/{loop}" for loop, backing in loops if is_device(backing, each, node.name)]
        uses = [*_mounts(each, node.name, host), *swaps_of(each, node.name, host), *above, *openers_of(each, host)]
        # a partition says which it is
        found.update(dict.fromkeys(uses if each == number else [f"{use} (/dev/{node.name})" for use in uses]))
    return tuple(found)


def ground_of(path: Path, host: HostFiles = THIS_HOST) -> Ground:
    """What a file or block device stands on; of a path that is not there, nothing is known."""
    try:
        status = os.stat(path)
    except OSError:
        return Ground(frozenset())
    if stat.S_ISBLK(status.st_mode):
        return ground_of_device(_number(status.st_rdev), host)
    below = ground_of_device(_number(status.st_dev), host)
    own = (status.st_dev, status.st_ino)
    return Ground(below.numbers, below.files | {own}, own)


def ground_of_device(number: str, host: HostFiles = THIS_HOST, depth: int = 0) -> Ground:
    """What a block device stands on; ``depth`` counts those above it."""
    node = node_of(number, host)
    numbers, files, own = {number}, set(), None
    if depth < _DEEPEST:
        below = [found for entry in kernel_entries(node / "slaves") if (found := kernel_text(entry / "dev"))]
        if (node / "partition").exists() and (whole := kernel_text(node.parent / "dev")):
            below.append(whole)
        backing = kernel_text(node / "loop/backing_file")
        with contextlib.suppress(OSError, ValueError):
            if backing and not stat.S_ISBLK((status := os.stat(backing)).st_mode):
                own = (status.st_dev, status.st_ino)
                files.add(own)
                below.append(_number(status.st_dev))
            elif backing:
                below.append(_number(os.stat(backing).st_rdev))
        for each in below:
            deeper = ground_of_device(each, host, depth + 1)
            numbers |= deeper.numbers
            files |= deeper.files
    return Ground(frozenset(numbers), frozenset(files), own, number)


def stable_names(number: str) -> tuple[Path, ...]:
    """Names of a device that stay the same when the host starts again."""
    folder = Path("/dev/disk/by-id")
    return tuple(sorted(name for name in kernel_entries(folder) if is_device(str(name), number, "")))


def _number_at(path: Path) -> str:
    try:
        status = os.stat(path)
    except PermissionError as error:
        raise NotPermitted(str(path), "look at") from error
    except (OSError, ValueError) as error:
        raise UnfitDevice(path, "does not exist") from error
    if not stat.S_ISBLK(status.st_mode):
        what = "a file" if stat.S_ISREG(status.st_mode) else "a folder" if stat.S_ISDIR(status.st_mode) else "something else"
        raise UnfitDevice(path, f"is {what}, not a block device")
    return _number(status.st_rdev)


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def node_of(number: str, host: HostFiles) -> Path:
    """The folder below /sys that tells of a device."""
    return (host.sys / "dev/block" / number).resolve()


def _identity(node: Path, whole: Path, number: str) -> str:
    """What the device itself bears, or what it stands on; its number where it tells nothing."""
    partition = kernel_text(node / "partition")
    for place in ("dm/uuid", "wwid", "device/wwid", "device/serial", "loop/backing_file"):
        found = kernel_text(whole / place)
        if found:
            return f"{place}={found}" + (f" partition={partition}" if partition else "")
    return f"number={number}"


def family_of(number: str, host: HostFiles) -> Iterator[tuple[str, Path]]:
    """The device, its partitions, and the disk it is a partition of."""
    node = node_of(number, host)
    yield number, node
    for entry in kernel_entries(node):
        if (entry / "partition").exists() and (found := kernel_text(entry / "dev")):
            yield found, entry
    if (node / "partition").exists() and (found := kernel_text(node.parent / "dev")):
        yield found, node.parent


def _mounts(number: str, name: str, host: HostFiles) -> Iterator[str]:
    for mount in mounts_in(kernel_text(host.proc / "self/mountinfo")):
        # Btrfs and others have numbers of their own there: then the name of what was mounted tells
        if mount.number == number or (mount.source and is_device(mount.source, number, name)):
            yield f"mounted on {mount.point}"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system at a place. ``number``: the kernel's of it, which all its mounts share; ``source``: what was mounted, as it was
    named then; ``options``: the file system's own, and not the mount's; ``root``: which of its folders is there.
    """

    point: str
    number: str
    kind: str
    source: str
    options: tuple[str, ...]
    root: str


def mounts_in(mountinfo: str) -> Iterator[Mount]:
    """What is mounted, in the order in which it was: the last of several at one place hides the others.

    ``mountinfo``: what stands in /proc/self/mountinfo (https://docs.kernel.org/filesystems/proc.html, section 3.5).
    """
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, source, options, *_) = before.split(" "), [*after.split(" "), "", "", ""]
        if len(fields) > 4 and kind:
            words = tuple(options.split(","))
            yield Mount(unescaped(fields[4]), fields[2], kind, unescaped(source), words, unescaped(fields[3]))


def swaps_of(number: str, name: str, host: HostFiles) -> Iterator[str]:
    """In words that it is swap space, where it is."""
    for line in kernel_text(host.proc / "swaps").splitlines()[1:]:
        if is_device(unescaped(line.split()[0]), number, name):
            yield "swap space in use"


def holder_words(entry: Path) -> str:
    """What the kernel built on a device, by its entry below /sys."""
    named = kernel_text(entry / "dm/name")
    return f"held by {entry.name}" + (f" ({named})" if named else "")


def loop_devices(host: HostFiles) -> Iterator[tuple[str, str]]:
    """Loop devices, and what is below each."""
    for entry in kernel_entries(host.sys / "block"):
        if entry.name.startswith("loop") and (backing := kernel_text(entry / "loop/backing_file")):
            yield entry.name, backing


def openers_of(number: str, host: HostFiles) -> Iterator[str]:
    """Processes that have the device open for writing, this one excepted. Those who only read are none of its users."""

    def is_it(handle: Path) -> bool:
        return os.readlink(handle).startswith("/dev/") and is_device(str(handle), number, "")

    for process, name in writers(is_it, host.proc):
        if process != os.getpid():
            yield f"{_OPEN}{name or 'a process'} (process {process})"


def is_block_device(path: Path) -> bool:
    """Whether a path leads to a block device; False where it cannot be looked at: who opens it says why."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_device(path: str, number: str, name: str) -> bool:
    """Whether a name is a device's: by its number, or where it cannot be looked at, by the kernel's name for it."""
    if not path.startswith("/"):
        return False
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return bool(name) and path == f"/dev/{name}"
    return stat.S_ISBLK(status.st_mode) and _number(status.st_rdev) == number


def unescaped(text: str) -> str:
    """A name as it is, which the kernel wrote with octal escapes."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def kernel_text(path: Path) -> str:
    """The text of one of the kernel's files; empty when there is none."""
    try:
        return path.read_text("utf-8", "surrogateescape").strip("\n\0 ")
    except OSError:
        return ""


def kernel_entries(folder: Path) -> tuple[Path, ...]:
    """What is in one of the kernel's folders, by name; nothing where there is none."""
    try:
        return tuple(sorted(folder.iterdir()))
    except OSError:
        return ()
