"""A guest's tree as a dict of files, for tests of planning and of the Linux readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drivers.tree import FileType, Kept, Stat

_LINKS_AT_MOST = 40


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link with this target text."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory that has to exist even when no file is below it."""


Node = bytes | str | Link | Folder


class InMemoryTree:
    """Implements ``drivers.tree.GuestTree`` over ``{"/etc/fstab": "...", "/bin": Link("usr/bin")}``.

    Text is encoded as UTF-8 with surrogateescape. Parents of the paths are directories without being named.
    ``modes`` gives permission bits by path (default 0o644, directories 0o755, links 0o777); ``owners`` gives
    (uid, gid) by path (default root), ``kept`` how a file's contents are kept.
    """

    def __init__(
        self,
        files: Mapping[str, Node],
        modes: Mapping[str, int] | None = None,
        owners: Mapping[str, tuple[int, int]] | None = None,
        kept: Mapping[str, Kept] | None = None,
    ) -> None:
        self._nodes: dict[str, bytes | Link | Folder] = {"/": Folder()}
        self._modes = dict(modes or {})
        self._owners = dict(owners or {})
        self._kept = dict(kept or {})
        for path, node in files.items():
            if not path.startswith("/"):
                raise ValueError(f"{path!r} is not absolute")
            clean = path.rstrip("/") or "/"
            self._nodes[clean] = node.encode("utf-8", "surrogateescape") if isinstance(node, str) else node
        for path in list(self._nodes):
            parent = path.rpartition("/")[0]
            while parent:
                above = self._nodes.setdefault(parent, Folder())
                if not isinstance(above, Folder):
                    raise ValueError(f"{parent} is no directory, but {path} is below it")
                parent = parent.rpartition("/")[0]

    def _resolve(self, path: str, *, follow_last: bool = True) -> str | None:
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        at, links = "/", 0
        while todo:
            part = todo.pop()
            if not isinstance(self._nodes[at], Folder):
                return None
            if part == "..":
                at = at.rpartition("/")[0] or "/"
                continue
            child = at.rstrip("/") + "/" + part
            node = self._nodes.get(child)
            if node is None:
                return None
            if isinstance(node, Link) and (todo or follow_last):
                links += 1
                if links > _LINKS_AT_MOST:
                    return None
                todo.extend(p for p in reversed(node.target.split("/")) if p not in ("", "."))
                at = "/" if node.target.startswith("/") else at
                continue
            at = child
        return at

    def _file(self, path: str) -> bytes:
        at = self._resolve(path)
        node = None if at is None else self._nodes[at]
        if not isinstance(node, bytes):
            raise FileNotFoundError(path)
        return node

    def read(self, path: str, limit: int = 4 * 1024 * 1024) -> bytes:
        data = self._file(path)
        if len(data) > limit:
            raise ValueError(f"{path}: {len(data)} bytes, at most {limit} are read")
        return data

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        return self._file(path)[offset : offset + length]

    def exists(self, path: str) -> bool:
        return self._resolve(path) is not None

    def list(self, path: str) -> tuple[str, ...]:
        at = self._resolve(path)
        if at is None or not isinstance(self._nodes[at], Folder):
            return ()
        prefix = at.rstrip("/") + "/"
        names = (p.removeprefix(prefix) for p in self._nodes if p.startswith(prefix) and p != "/")
        return tuple(sorted(name for name in names if "/" not in name))

    def lstat(self, path: str) -> Stat:
        at = self._resolve(path, follow_last=False)
        if at is None:
            raise FileNotFoundError(path)
        node = self._nodes[at]
        uid, gid = self._owners.get(at, (0, 0))
        match node:
            case Folder():
                return Stat(FileType.DIRECTORY, 4096, self._modes.get(at, 0o755), uid, gid)
            case Link():
                return Stat(FileType.SYMLINK, len(node.target), 0o777, uid, gid)
            case _:
                return Stat(FileType.FILE, len(node), self._modes.get(at, 0o644), uid, gid, self._kept.get(at, Kept.PLAIN))

    def readlink(self, path: str) -> str:
        at = self._resolve(path, follow_last=False)
        node = None if at is None else self._nodes[at]
        if not isinstance(node, Link):
            raise FileNotFoundError(path)
        return node.target
