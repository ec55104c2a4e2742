"""Paths inside a guest's tree: links followed to the file that is really there, folders listed within bounds."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator

from drivers.facts import TextFile
from drivers.tree import FileType, GuestTree

LINKS_AT_MOST = 40
NAMES_AT_MOST = 500
TEXT_BYTES_AT_MOST = 1024 * 1024


def resolve(tree: GuestTree, path: str) -> str | None:
    """The path with every symbolic link followed inside the guest; None when it leads nowhere."""
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    at, links = "/", 0
    while todo:
        part = todo.pop()
        if part == "..":
            at = posixpath.dirname(at)
            continue
        child = posixpath.join(at, part)
        try:
            kind = tree.lstat(child).type
            target = tree.readlink(child) if kind is FileType.SYMLINK else None
        except FileNotFoundError:
            return None
        if target is None:
            if todo and kind is not FileType.DIRECTORY:
                return None
            at = child
            continue
        links += 1
        if links > LINKS_AT_MOST:
            return None
        todo.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
        at = "/" if target.startswith("/") else at
    return at


def boot_file(tree: GuestTree, path: str, *folders: str) -> str | None:
    """A boot loader's path as a resolved path of the guest: its root may be the guest's, /boot's, or a folder given."""
    for start in (*folders, "", "/boot"):
        resolved = resolve(tree, f"{start}/{path}")
        if resolved is not None:
            return resolved
    return None


def resolve_any_case(tree: GuestTree, folder: str, path: str) -> str | None:
    """A path below a folder as it is really written there, for file systems that do not tell upper from lower case."""
    at = resolve(tree, folder)
    for part in filter(None, path.split("/")):
        if at is None or part in (".", ".."):
            return None
        name = next((name for name in tree.list(at)[:NAMES_AT_MOST] if name.lower() == part.lower()), None)
        at = resolve(tree, posixpath.join(at, name)) if name is not None else None
    return at


def matching(tree: GuestTree, pattern: str) -> Iterator[str]:
    """Paths that fit an absolute pattern; ``*`` and ``?`` work in every component, and skip hidden names."""
    yield from _matching(tree, "/", [part for part in pattern.split("/") if part])


def read_text(tree: GuestTree, path: str) -> TextFile | None:
    """A regular file's text; None when it is not there, no regular file, or too large to be configuration."""
    resolved = resolve(tree, path)
    if resolved is None:
        return None
    try:
        stat = tree.lstat(resolved)
        if stat.type is not FileType.FILE:
            return None
        data = tree.read(resolved, TEXT_BYTES_AT_MOST)
    except (FileNotFoundError, ValueError):
        return None
    return TextFile(path, resolved, data.decode("utf-8", "surrogateescape"), stat.mode, stat.uid, stat.gid)


def _matching(tree: GuestTree, folder: str, parts: list[str]) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if any(letter in part for letter in "*?["):
        listed = tree.list(folder)[:NAMES_AT_MOST]
        names = [name for name in listed if fnmatch.fnmatchcase(name, part) and not name.startswith(".")]
    else:
        names = [part]
    for name in names:
        path = posixpath.join(folder, name)
        if rest:
            yield from _matching(tree, path, rest)
        elif tree.exists(path):
            yield path
