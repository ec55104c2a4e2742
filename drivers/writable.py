"""What changes are applied to: a guest's tree that can be written.

``drivers.appliance_tree`` implements it over the appliance, a dict of files does in tests. All these calls work on
the path itself: callers have made sure that no component of it is a symbolic link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from drivers.tree import GuestTree
from p2v.core.errors import P2vError


@dataclass(eq=False)
class GuestFull(P2vError):
    """A file system inside the guest has less free space than the changes need (bytes)."""

    mountpoint: str
    needed: int
    free: int
    exit_code: ClassVar[int] = 73
    code: ClassVar[str] = "guest-full"

    def sentence(self) -> str:
        return f"the guest's file system {self.mountpoint}: {self.needed} bytes are needed and {self.free} are free"

    def hint(self) -> str:
        return f"Free some space below {self.mountpoint} in the source (old kernels, logs), then convert again."


@dataclass(frozen=True, slots=True)
class Space:
    """What root may still write to one of the guest's file systems, which is named by its mount point.

    ``free_inodes`` is None for file systems that do not count them.
    """

    mountpoint: str
    free_bytes: int
    free_inodes: int | None


class WritableGuest(GuestTree, Protocol):
    """A guest's tree, mounted read-write."""

    def write(self, path: str, data: bytes) -> None:
        """Replace a file's contents: the same inode, so owner, mode and extended attributes stay."""
        ...

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file; the same inode."""
        ...

    def patch(self, path: str, data: bytes, offset: int) -> None:
        """Write over a part of a file, which may grow by it; the same inode."""
        ...

    def patch_volume(self, path: str, data: bytes, offset: int) -> None:
        """Write over a part of the volume that a path is on, at an offset of the volume."""
        ...

    def create(self, path: str, data: bytes, mode: int) -> None:
        """Make a regular file of root:root that is not there yet, with exactly this mode."""
        ...

    def make_folder(self, path: str, mode: int) -> None:
        """Make a directory of root:root with exactly this mode; its parent exists."""
        ...

    def make_symlink(self, path: str, target: str) -> None:
        """Make a symbolic link of root:root where nothing stands."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file or a symbolic link."""
        ...

    def label(self, path: str) -> bytes | None:
        """The SELinux label of what stands at the path itself; None where there is none."""
        ...

    def set_label(self, path: str, label: bytes) -> None:
        """Set the SELinux label of what stands at the path itself."""
        ...

    def space(self, path: str) -> Space:
        """The file system that holds ``path`` (which need not exist) and its room."""
        ...

    def sync(self) -> None:
        """Have everything written reach the disks."""
        ...
