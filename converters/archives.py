"""Disks inside other files: members of tar archives (OVA) and zip archives, gzip files; read in place, nothing unpacked.

Names in an archive are names only: they are compared, never joined to a path of the host's. Links and devices in it are no disks.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from converters.inflated_file import InflatedFile, Wrapping
from converters.source_file import SourceFile, open_source, shown
from converters.windows import Window
from p2v.core.errors import BadImage, NoSource, UnsupportedImage
from p2v.core.units import MIB

_MEMBERS_AT_MOST = 10_000
# Of a member's name, attributes and the like; a central directory of that many members is smaller.
_LARGEST_HEADER_BYTES = 16 * MIB
# gzip in tar in gzip is the deepest anybody packs a disk.
_DEEPEST = 3
_GZIP, _ZIP, _TAR, _TAR_AT = b"\x1f\x8b\x08", b"PK\x03\x04", b"ustar", 257
# What archive libraries raise for damage, beside their own errors.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, ValueError, OverflowError, EOFError, struct.error, LookupError, RuntimeError)
_LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: ``length`` stored bytes at ``offset``, deflated or plain; ``size`` is its own."""

    name: str
    offset: int
    length: int
    size: int
    deflated: bool = False


LooksLikeDisk = Callable[[SourceFile], bool]


def open_source_or_member(path: Path, looks_like_disk: LooksLikeDisk) -> SourceFile:
    """Open a file, or the disk in an archive: the only one there is, or the one a path below the archive names.

    Raises NoSource, NotPermitted, ReadFailed, BadImage, UnsupportedImage.
    """
    archive, wanted = _split(path)
    file = open_source(archive)
    try:
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
        name = file.path.name.removesuffix(".gz")
        return InflatedFile(file, Wrapping.GZIP, file.path / (name if name != file.path.name else "inflated")), wanted
    if head.startswith(_ZIP):
        return _chosen(file, tuple(_zip_members(file)), wanted, looks_like_disk)
    if head[_TAR_AT:].startswith(_TAR):
        return _chosen(file, tuple(_tar_members(file)), wanted, looks_like_disk)
    return None


def _chosen(
    file: SourceFile, members: tuple[Member, ...], wanted: str, looks_like_disk: LooksLikeDisk
) -> tuple[SourceFile, str]:
    if wanted:
        found = [m for m in members if m.name == wanted] or [m for m in members if PurePosixPath(m.name).name == wanted]
    else:
        found = [member for member in members if _is_disk(file, member, looks_like_disk)]
    if len(found) != 1:
        names = ", ".join(shown(member.name) for member in (found or members)[:12]) or "nothing"
        what = f"has {len(found)} members" if found else "has no member"
        what += f" called {shown(wanted)}" if wanted else " that are disks" if found else " that is a disk"
        raise NoSource(str(file.path), f"{what}; in it: {names}", f"Name one as in {file.path.name}/NAME.")
    return _opened(file, found[0]), ""


def _opened(file: SourceFile, member: Member) -> SourceFile:
    path = file.path / member.name.replace("/", "_")
    window = Window(file, member.offset, member.length, path)
    return InflatedFile(window, Wrapping.NONE, path) if member.deflated else window


def _is_disk(file: SourceFile, member: Member, looks_like_disk: LooksLikeDisk) -> bool:
    if member.deflated:
        # Inflating each member only to look at it would take for ever.
        return PurePosixPath(member.name).suffix.lower() not in ("", ".ovf", ".mf", ".cert", ".xml", ".txt", ".nvram", ".json")
    # closing a window closes its archive, so it is not closed here
    window = Window(file, member.offset, member.length, file.path / "member")
    return window.pread(len(_GZIP), 0) == _GZIP or looks_like_disk(window)


def _tar_members(file: SourceFile) -> Iterator[Member]:
    with _damage_of(file, "tar"):
        archive = tarfile.open(fileobj=_Bounded(file), mode="r:", errorlevel=2)  # noqa: SIM115 - holds no descriptor
        for number, member in enumerate(archive):
            _check_count(file, number)
            if member.issparse():
                raise UnsupportedImage(file.path, f"its member {shown(member.name)} is stored as a sparse file", "Unpack it.")
            if member.isreg():
                if member.size < 0 or member.offset_data + member.size > file.size:
                    problem = f"its member {shown(member.name)} has {member.size} bytes at {member.offset_data}, past the end"
                    raise BadImage(file.path, problem)
                yield Member(_plain(member.name), member.offset_data, member.size, member.size)


def _zip_members(file: SourceFile) -> Iterator[Member]:
    with _damage_of(file, "zip"):
        archive = zipfile.ZipFile(_Bounded(file))
        for number, member in enumerate(archive.infolist()):
            _check_count(file, number)
            if member.is_dir():
                continue
            if member.flag_bits & 1:
                raise UnsupportedImage(file.path, f"its member {shown(member.filename)} is encrypted", "Unpack it.")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UnsupportedImage(file.path, f"its member {shown(member.filename)} is packed in a rare way", "Unpack it.")
            raw = file.read_exactly(_LOCAL_HEADER.size, member.header_offset, f"the header of {shown(member.filename)}")
            signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(raw)
            offset = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
            if signature != _ZIP:
                raise BadImage(file.path, f"there is no member at byte {member.header_offset}")
            file.require(member.compress_size, offset, f"the member {shown(member.filename)}")
            deflated = member.compress_type == zipfile.ZIP_DEFLATED
            yield Member(_plain(member.filename), offset, member.compress_size, member.file_size, deflated)


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _check_count(file: SourceFile, number: int) -> None:
    if number >= _MEMBERS_AT_MOST:
        raise BadImage(file.path, f"has more than {_MEMBERS_AT_MOST} members", "Unpack it, and name the disk in it.")


@contextmanager
def _damage_of(file: SourceFile, kind: str) -> Iterator[None]:
    """Turns what the archive libraries raise for damage into BadImage."""
    try:
        yield
    except _DAMAGE as error:
        problem = f"is a {kind} archive whose directory is damaged: {shown(str(error))}"
        raise BadImage(file.path, problem) from error


class _Bounded(io.RawIOBase):
    """A source file as the archive libraries want it; reads of more than a header are refused."""

    def __init__(self, file: SourceFile) -> None:
        super().__init__()
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """See ``io``."""
        self._at = max(0, offset + (0, self._at, self._file.size)[whence])
        return self._at

    def tell(self) -> int:
        """See ``io``."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """See ``io``."""
        left = max(0, self._file.size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if size > _LARGEST_HEADER_BYTES:
            raise ValueError(f"a header of {size} bytes")
        data = self._file.pread(size, self._at)
        self._at += len(data)
        return data
