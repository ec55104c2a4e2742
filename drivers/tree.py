"""The small protocol through which facts are read from a guest's files.

Three things stand behind it: the host-side readers (``drivers.offline``), a read-only appliance
(``drivers.appliance``), and a dict of files in tests. Planning knows none of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class FileType(enum.Enum):
    """What a directory entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


class Kept(enum.Enum):
    """How a file system keeps a file's contents, where that matters to who reads or writes them. NTFS knows all of these."""

    PLAIN = "plain"
    COMPRESSED = "compressed"
    """By Windows' overlay filter (CompactOS), in a stream beside the file: not by NTFS itself, which every driver reads."""
    ELSEWHERE = "elsewhere"
    """A reparse point: deduplicated, in a cloud, a link; its contents are not in it."""
    ENCRYPTED = "encrypted"


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``lstat`` tells; ``mode`` holds the permission bits only (``0o644``)."""

    type: FileType
    size: int
    mode: int
    uid: int
    gid: int
    kept: Kept = Kept.PLAIN


class GuestTree(Protocol):
    """The guest's mounted file systems as one tree; paths are absolute, ``/``-separated.

    Links are resolved inside the guest by ``read``, ``exists`` and ``list`` (an absolute link target means
    the guest's root), never outside it; loops end as "not there".
    """

    def read(self, path: str, limit: int = 4 * 1024 * 1024) -> bytes:
        """A file's contents. Raises FileNotFoundError; ValueError when it is larger than ``limit`` bytes."""
        ...

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes of a file from ``offset`` on. Raises FileNotFoundError."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the path leads to something."""
        ...

    def list(self, path: str) -> tuple[str, ...]:
        """Sorted names in a directory, without ``.`` and ``..``; empty when it is not there."""
        ...

    def lstat(self, path: str) -> Stat:
        """What stands at the path itself (its last component is not followed). Raises FileNotFoundError."""
        ...

    def readlink(self, path: str) -> str:
        """The target text of a symbolic link. Raises FileNotFoundError when there is no link."""
        ...


def text_of(tree: GuestTree, path: str, limit: int) -> str | None:
    """A file's text, any bytes kept (surrogateescape); None when it is not there or larger than ``limit`` bytes."""
    try:
        return tree.read(path, limit).decode("utf-8", "surrogateescape")
    except (FileNotFoundError, ValueError):
        return None
