"""The directories of tar and zip archives, by the standard library, as members and where they stand."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from converters.source_file import SourceFile, shown
from p2v.core.errors import BadImage, UnsupportedImage
from p2v.core.units import MIB

_MEMBERS_AT_MOST = 10_000
# Of a member's name, attributes and the like; a central directory of that many members is smaller.
_LARGEST_HEADER_BYTES = 16 * MIB
# What archive libraries raise for damage, beside their own errors.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, ValueError, OverflowError, EOFError, struct.error, LookupError, RuntimeError)
_LOCAL_SIGNATURE = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: ``length`` stored bytes at ``offset``, deflated or plain; ``size`` and ``crc`` are its own."""

    name: str
    offset: int
    length: int
    size: int
    deflated: bool = False
    crc: int = 0


def tar_members(file: SourceFile) -> Iterator[Member]:
    """The regular files of a tar archive. Raises BadImage, UnsupportedImage (sparse members)."""
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


def zip_members(file: SourceFile) -> Iterator[Member]:
    """The files of a zip archive. Raises BadImage, UnsupportedImage (encrypted, or packed in a rare way)."""
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
            if signature != _LOCAL_SIGNATURE:
                raise BadImage(file.path, f"there is no member at byte {member.header_offset}")
            file.require(member.compress_size, offset, f"the member {shown(member.filename)}")
            deflated = member.compress_type == zipfile.ZIP_DEFLATED
            yield Member(_plain(member.filename), offset, member.compress_size, member.file_size, deflated, member.CRC)


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
