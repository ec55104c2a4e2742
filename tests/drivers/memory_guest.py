"""A guest that can be written, as a dict of nodes: what changes are applied to in tests."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from drivers.tree import FileType, Stat
from drivers.writable import Space

MIB = 1024 * 1024
ETC_LABEL = b"system_u:object_r:etc_t:s0\0"


@dataclass
class Node:
    """One inode. ``data`` of a link is its target; of a folder, nothing."""

    type: FileType
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    label: bytes | None = None
    inode: int = 0


def file(data: str | bytes, mode: int = 0o644, uid: int = 0, gid: int = 0, label: bytes | None = None) -> Node:
    """A regular file."""
    return Node(FileType.FILE, data.encode() if isinstance(data, str) else data, mode, uid, gid, label)


def folder(label: bytes | None = None) -> Node:
    """A directory."""
    return Node(FileType.DIRECTORY, b"", 0o755, label=label)


def link(target: str) -> Node:
    """A symbolic link."""
    return Node(FileType.SYMLINK, target.encode(), 0o777)


@dataclass
class MemoryGuest:
    """Implements ``drivers.writable.WritableGuest``; ``writes`` logs every call that changes something.

    Links in the middle of a path are not followed: code under test has to find them before it gets that far.
    """

    nodes: dict[str, Node]
    mounts: dict[str, Space] = field(default_factory=lambda: {"/": Space("/", 100 * MIB, 1000)})
    writes: list[str] = field(default_factory=list)
    synced: int = 0
    lose_appended: int = 0
    """This many bytes of what is appended get lost, as on a failing disk."""
    _inodes: itertools.count[int] = field(default_factory=lambda: itertools.count(100))

    def __post_init__(self) -> None:
        self.nodes.setdefault("/", folder())
        for path in list(self.nodes):
            above = path.rpartition("/")[0]
            while above and above not in self.nodes:
                self.nodes[above] = folder()
                above = above.rpartition("/")[0]
        for node in self.nodes.values():
            node.inode = next(self._inodes)

    def _at(self, path: str) -> Node:
        if path not in self.nodes:
            raise FileNotFoundError(path)
        return self.nodes[path]

    def _parent_is_there(self, path: str) -> None:
        assert self.nodes[path.rpartition("/")[0] or "/"].type is FileType.DIRECTORY

    def read(self, path: str, limit: int = 4 * MIB) -> bytes:
        data = self._at(path).data
        if len(data) > limit:
            raise ValueError(path)
        return data

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        return self._at(path).data[offset : offset + length]

    def exists(self, path: str) -> bool:
        return path in self.nodes

    def list(self, path: str) -> tuple[str, ...]:
        above = path.rstrip("/") + "/"
        names = (p.removeprefix(above) for p in self.nodes if p.startswith(above) and p != above)
        return tuple(sorted(name for name in names if "/" not in name))

    def lstat(self, path: str) -> Stat:
        node = self._at(path)
        return Stat(node.type, len(node.data), node.mode, node.uid, node.gid)

    def readlink(self, path: str) -> str:
        node = self._at(path)
        if node.type is not FileType.SYMLINK:
            raise FileNotFoundError(path)
        return node.data.decode()

    def write(self, path: str, data: bytes) -> None:
        self.writes.append(f"write {path}")
        self._at(path).data = data

    def append(self, path: str, data: bytes) -> None:
        self.writes.append(f"append {path}")
        self._at(path).data += data[: len(data) - self.lose_appended]

    def patch(self, path: str, data: bytes, offset: int) -> None:
        self.writes.append(f"patch {path}")
        node = self._at(path)
        whole = bytearray(node.data.ljust(offset, b"\0"))
        whole[offset : offset + len(data)] = data
        node.data = bytes(whole)

    def patch_volume(self, path: str, data: bytes, offset: int) -> None:
        """As NTFS has it: its own file for the first sectors shows what is written there."""
        self.writes.append(f"volume of {path}")
        node = self._at(path.rpartition("/")[0] + "/$Boot")
        written = data[: len(data) - self.lose_appended]
        node.data = node.data[:offset] + written + node.data[offset + len(written) :]

    def create(self, path: str, data: bytes, mode: int) -> None:
        self.writes.append(f"create {path}")
        self._parent_is_there(path)
        assert path not in self.nodes
        self.nodes[path] = Node(FileType.FILE, data, mode, inode=next(self._inodes))

    def make_folder(self, path: str, mode: int) -> None:
        self.writes.append(f"folder {path}")
        self._parent_is_there(path)
        assert path not in self.nodes
        self.nodes[path] = Node(FileType.DIRECTORY, b"", mode, inode=next(self._inodes))

    def make_symlink(self, path: str, target: str) -> None:
        self.writes.append(f"link {path}")
        self._parent_is_there(path)
        assert path not in self.nodes
        self.nodes[path] = Node(FileType.SYMLINK, target.encode(), 0o777, inode=next(self._inodes))

    def remove(self, path: str) -> None:
        self.writes.append(f"remove {path}")
        assert self._at(path).type is not FileType.DIRECTORY
        del self.nodes[path]

    def label(self, path: str) -> bytes | None:
        return self._at(path).label

    def set_label(self, path: str, label: bytes) -> None:
        self.writes.append(f"label {path}")
        self._at(path).label = label

    def space(self, path: str) -> Space:
        inside = (m for m in self.mounts if m == "/" or path.startswith(m + "/"))
        return self.mounts[max(inside, key=len)]

    def sync(self) -> None:
        self.synced += 1
