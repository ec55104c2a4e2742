"""Disks inside other files: members of tar archives (OVA) and zip archives, gzip files; read in place, nothing unpacked.

Names in an archive are names only: they are compared, never joined to a path of the host's. What a member names is looked for
among the members. Links and devices in an archive are no disks.
"""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from converters.inflated_file import InflatedFile, Promise, Wrapping
from converters.joined import following_parts, joined, joined_beside
from converters.source_file import SourceFile, open_source, shown
from converters.vmdk_descriptor import MAX_DESCRIPTOR_BYTES, is_descriptor, parse_descriptor
from converters.windows import Window
from p2v.core.errors import BadImage, NoSource, UnsupportedImage

if TYPE_CHECKING:
    from converters.archive_members import Member

# gzip in tar in gzip is the deepest anybody packs a disk.
_DEEPEST = 3
_GZIP, _ZIP, _TAR, _TAR_AT = b"\x1f\x8b\x08", b"PK\x03\x04", b"ustar", 257
# What exports put beside disks.
_NO_DISKS = ("", ".ovf", ".mf", ".cert", ".xml", ".txt", ".nvram", ".json")
# Of an archive whose disk nobody named.
_DESCRIPTORS_READ = 64


LooksLikeDisk = Callable[[SourceFile], bool]


def open_source_or_member(path: Path, looks_like_disk: LooksLikeDisk) -> SourceFile:
    """Open a file, or the disk in an archive: the only one there is, or the one a path below the archive names.

    Raises NoSource, NotPermitted, ReadFailed, BadImage, UnsupportedImage.
    """
    archive, wanted = _split(path)
    file = open_source(archive)
    try:
        file = joined_beside(file)
        for _ in range(_DEEPEST):
            inside = _inside(file, wanted, looks_like_disk)
            if inside is None:
                break
            file, wanted = inside
        else:
            raise UnsupportedImage(archive, "holds archives in archives", "Unpack it, and name the disk in it.")
        if wanted:
            raise NoSource(str(path), f"{archive.name} is no archive, so nothing is in it")
    except BaseException:
        file.close()
        raise
    return file


def open_stored(path: Path) -> SourceFile:
    """Open a file, or the member of an archive that a path below it names, as it is: neither joined with further parts of a
    split file nor inflated, whatever is in it (a zip's own packing of a member is undone).

    Raises as ``open_source_or_member``.
    """
    archive, wanted = _split(path)
    if not wanted:
        return open_source(archive)
    file, members = _unwrapped(archive)
    try:
        if members is None:
            raise NoSource(str(path), f"{archive.name} is no archive, so nothing is in it")
        return _Archive(file, members).stored(wanted)
    except BaseException:
        file.close()
        raise


def member_names(path: Path) -> tuple[str, ...] | None:
    """The names of the files in an archive; None when the file is no archive. Raises as ``open_source_or_member``."""
    file, members = _unwrapped(path)
    try:
        return tuple(member.name for member in members) if members is not None else None
    finally:
        file.close()


def _unwrapped(path: Path) -> tuple[SourceFile, Iterator[Member] | None]:
    """A file, out of what it is compressed with, and its members, None when it is no archive. The caller closes the file."""
    file = open_source(path)
    try:
        file = joined_beside(file)
        for _ in range(_DEEPEST):
            head = file.pread(_TAR_AT + len(_TAR), 0)
            if (members := _members(file, head)) is not None:
                return file, members
            if not head.startswith(_GZIP):
                break
            file = _inflated(file)
    except BaseException:
        file.close()
        raise
    return file, None


def _split(path: Path) -> tuple[Path, str]:
    """A path that leads into a file, as that file and the rest."""
    for above in path.parents:
        try:
            is_file = above.is_file()
        except OSError:
            continue  # not ours to look into; opening it says so
        if is_file:
            return above, path.relative_to(above).as_posix()
    return path, ""


def _inside(file: SourceFile, wanted: str, looks_like_disk: LooksLikeDisk) -> tuple[SourceFile, str] | None:
    """The file inside a file, and what is still wanted below it; None when it is no archive."""
    head = file.pread(_TAR_AT + len(_TAR), 0)
    if head.startswith(_GZIP):
        return _inflated(file), wanted
    if (members := _members(file, head)) is not None:
        return _Archive(file, members).chosen(wanted, looks_like_disk), ""
    return None


def _inflated(file: SourceFile) -> SourceFile:
    name = file.path.name.removesuffix(".gz")
    return InflatedFile(file, Wrapping.GZIP, file.path / (name if name != file.path.name else "inflated"))


def _members(file: SourceFile, head: bytes) -> Iterator[Member] | None:
    """The members of an archive that begins with ``head``; None when it is none."""
    is_zip = head.startswith(_ZIP)
    if not is_zip and not head[_TAR_AT:].startswith(_TAR):
        return None
    # Only archives need it and the libraries it imports, so it is no import of every start.
    from converters.archive_members import tar_members, zip_members

    return zip_members(file) if is_zip else tar_members(file)


class _Archive:
    """The members of an archive, by their names."""

    def __init__(self, file: SourceFile, members: Iterable[Member]) -> None:
        self._file = file
        self._by_name: dict[str, list[Member]] = {}
        for member in members:
            self._by_name.setdefault(member.name, []).append(member)

    def chosen(self, wanted: str, looks_like_disk: LooksLikeDisk) -> SourceFile:
        """The member of that name (or last name), or the only disk. Owns the archive. Raises NoSource."""
        members = [member for same in self._by_name.values() for member in same]
        if wanted:
            found = self._by_name.get(wanted) or [m for m in members if PurePosixPath(m.name).name == wanted]
        else:
            found = [m for m in members if self._is_disk(m, looks_like_disk)]
            parts = self._parts_of(found)
            found = [m for m in found if m.name not in parts]
        if len(found) != 1:
            names = ", ".join(shown(member.name) for member in (found or members)[:12]) or "nothing"
            what = f"has {len(found)} members" if found else "has no member"
            what += f" called {shown(wanted)}" if wanted else " that are disks" if found else " that is a disk"
            raise NoSource(str(self._file.path), f"{what}; in it: {names}", f"Name one as in {self._file.host_path.name}/NAME.")
        return self._joined(found[0], owns=True)

    def stored(self, name: str) -> SourceFile:
        """The member of exactly that name, as it is. Owns the archive. Raises NoSource."""
        found = self._by_name.get(name, [])
        if len(found) != 1:
            raise NoSource(str(self._file.path), f"has {len(found) or 'no'} members called {shown(name)}")
        return self._opened(found[0], owns=True)

    def _is_disk(self, member: Member, looks_like_disk: LooksLikeDisk) -> bool:
        if member.deflated and PurePosixPath(member.name).suffix.lower() in _NO_DISKS:
            return False
        if member.deflated and member.size > MAX_DESCRIPTOR_BYTES:
            # Inflating each member only to look at it would take for ever.
            return True
        try:
            file = self._opened(member, owns=False)
        except BadImage:
            return True  # whoever opens it is told
        return file.pread(len(_GZIP), 0) == _GZIP or looks_like_disk(file)

    def _parts_of(self, disks: list[Member]) -> set[str]:
        """Names of members that are parts of other ones: further chunks, and the extents of split VMDKs."""
        parts: set[str] = set()
        for member in disks:
            parts.update(itertools.takewhile(self._by_name.__contains__, following_parts(member.name)))
        described = [m for m in disks if m.size <= MAX_DESCRIPTOR_BYTES and m.name.lower().endswith(".vmdk")]
        for member in described[:_DESCRIPTORS_READ]:
            try:
                raw = self._opened(member, owns=False).pread(MAX_DESCRIPTOR_BYTES, 0)
                lines = parse_descriptor(raw, self._file.path).extents if is_descriptor(raw) else ()
            except BadImage:
                continue  # whoever opens it is told
            found = (self._beside(member, line.file_name.replace("\\", "/")) for line in lines)
            parts.update(extent.name for extent in found if extent is not None and extent is not member)
        return parts

    def _beside(self, member: Member, place: str) -> Member | None:
        """The member that a path from another one means: as it stands, or moved beside that one. Names are only compared."""
        folder = PurePosixPath(member.name).parent
        for name in (posixpath.normpath(folder / place), str(folder / PurePosixPath(place).name)):
            found = self._by_name.get(name, [])
            if len(found) > 1:
                raise BadImage(self._file.path, f"has {len(found)} members called {shown(name)}", "Unpack it.")
            if found:
                return found[0]
        return None

    def _sibling(self, member: Member, place: str) -> SourceFile | None:
        found = self._beside(member, place)
        return None if found is None else self._joined(found, owns=False)

    def _joined(self, member: Member, *, owns: bool) -> SourceFile:
        """A member, or all the chunks of which it is the first."""
        first = self._opened(member, owns=owns)
        whole = joined(first, member.name, self._by_name.__contains__, self._part)
        whole.siblings = partial(self._sibling, member)
        return whole

    def _part(self, name: str) -> SourceFile:
        first, *others = self._by_name[name]
        if others:
            raise BadImage(self._file.path, f"has {1 + len(others)} members called {shown(name)}", "Unpack it.")
        return self._opened(first, owns=False)

    def _opened(self, member: Member, *, owns: bool) -> SourceFile:
        # Two members never have one path.
        path = self._file.path / member.name.replace("%", "%25").replace("/", "%2F")
        window = Window(self._file, member.offset, member.length, path, owns=owns)
        return InflatedFile(window, Wrapping.NONE, path, Promise(member.size, member.crc)) if member.deflated else window
