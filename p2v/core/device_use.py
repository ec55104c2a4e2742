"""Who uses a block device, up to the file systems in volumes and loop devices on it, and how: for those who only want to read.

``p2v.core.block_devices`` answers for who wants to write, to whom every user is in the way. To a reader those are who may write:
what is mounted read-only only, or a loop device that cannot write, changes nothing.

Only the mounts of our own mount namespace are seen; a file system that is mounted in another one alone (a container's) is told by
``is_held`` without a name.

Source: the kernel's Documentation/ABI (sysfs-block), Documentation/filesystems/proc.rst (3.5: mountinfo).
"""

from __future__ import annotations

import enum
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.core.block_devices import (
    THIS_HOST,
    HostFiles,
    family_of,
    holder_words,
    is_device,
    kernel_entries,
    kernel_text,
    loop_devices,
    mounts_in,
    node_of,
    openers_of,
    swaps_of,
)

_DEEPEST = 16
_PATIENCE_SECONDS, _LOOK_SECONDS = 2.0, 0.1


class UseKind(enum.Enum):
    """What kind of user it is."""

    MOUNTED = "mounted"
    """A file system that is mounted and may be written."""
    READ_ONLY = "read-only"
    """It does not write: mounted read-only, or a device on it that nobody writes to and cannot be written itself."""
    SWAP = "swap"
    STACKED = "stacked"
    """A device that stands on it (a volume, an array, a loop device)."""
    OPEN = "open"
    """A process has it open for writing."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mounted file system. ``number``: the kernel's of it, which all its mounts share; ``kind``: ``ext4``, ``xfs``, ..."""

    mountpoint: str
    number: str
    kind: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Use:
    """One user, in words."""

    kind: UseKind
    words: str
    mounted: Mounted | None = None

    @property
    def may_write(self) -> bool:
        """Whether the device may be written through it."""
        return self.kind is not UseKind.READ_ONLY


def uses_of(number: str, host: HostFiles = THIS_HOST, patience: float = _PATIENCE_SECONDS) -> tuple[Use, ...]:
    """All users of a device, its partitions and the disk it is a partition of, and of what stands on them; nobody twice.

    What stands on something comes behind it. Whoever has it open alone is looked for again for ``patience`` seconds: udev's and
    losetup's looks last a moment.
    """
    deadline = time.monotonic() + patience
    while True:
        found = tuple(dict.fromkeys(_uses(number, host, 0)))
        if not found or any(use.kind is not UseKind.OPEN for use in found) or time.monotonic() >= deadline:
            return found
        time.sleep(_LOOK_SECONDS)


def is_held(path: Path) -> bool:
    """Whether the kernel holds a device for somebody, whom it need not name. It is opened for reading only, for a moment."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def mounts(host: HostFiles = THIS_HOST) -> Iterator[tuple[Mounted, str]]:
    """Everything that is mounted, and what it was mounted from."""
    for mount in mounts_in(kernel_text(host.proc / "self/mountinfo")):
        # the file system's own options: what is mounted read-only here may be written through another mount
        yield Mounted(mount.point, mount.number, mount.kind, "ro" in mount.options), mount.source


def mount_below(path: Path, host: HostFiles = THIS_HOST) -> Mounted | None:
    """The mounted file system that a path is on."""
    place = os.path.realpath(path)
    fitting = [m for m, _ in mounts(host) if place == m.mountpoint or place.startswith(m.mountpoint.rstrip("/") + "/")]
    # of several at one place the last one hides the others
    return max(reversed(fitting), key=lambda mount: len(mount.mountpoint), default=None)


def _uses(number: str, host: HostFiles, depth: int) -> Iterator[Use]:
    for each, node in family_of(number, host):
        # whatever is no user of the device that was asked for says whose it is
        where = "" if each == number and depth == 0 else f" (/dev/{node.name})"
        for mounted, source in mounts(host):
            # Btrfs and others have numbers of their own there: then the name of what was mounted tells
            if mounted.number == each or is_device(source, each, node.name):
                kind, how = (UseKind.READ_ONLY, ", read-only") if mounted.read_only else (UseKind.MOUNTED, "")
                yield Use(kind, f"mounted on {mounted.mountpoint}{how}{where}", mounted)
        yield from (Use(UseKind.SWAP, words + where) for words in swaps_of(each, node.name, host))
        if depth < _DEEPEST:
            for words, above in _above(each, node, host):
                yield from _stacked(words, where, above, host, depth)
        yield from (Use(UseKind.OPEN, words + where) for words in openers_of(each, host))


def _above(number: str, node: Path, host: HostFiles) -> Iterator[tuple[str, str]]:
    """Devices that stand on one: in words, and their numbers."""
    for entry in kernel_entries(node / "holders"):
        yield holder_words(entry), kernel_text(entry / "dev")
    for loop, backing in loop_devices(host):
        if is_device(backing, number, node.name):
            yield f"loop device /dev/{loop}", kernel_text(host.sys / "block" / loop / "dev")


def _stacked(words: str, where: str, number: str, host: HostFiles, depth: int) -> Iterator[Use]:
    """A device that stands on another, then who uses it in turn."""
    above = tuple(_uses(number, host, depth + 1)) if number else ()
    cannot = bool(number) and kernel_text(node_of(number, host) / "ro") == "1"
    # one that is only read changes nothing; where nobody is on it yet, anybody may come
    only_read = cannot or (bool(above) and not any(use.may_write for use in above))
    kind, how = (UseKind.READ_ONLY, ", read-only") if only_read else (UseKind.STACKED, "")
    yield Use(kind, words + how + where)
    yield from above
