"""Package files of this host that are carried into a guest: what a .deb or an .rpm says of itself. Nothing is unpacked.

Sources: deb(5), deb-control(5); the rpm file format (rpm.org, "RPM V4 package format"). Files are read within bounds: a
package may come from anywhere.
"""

from __future__ import annotations

import enum
import hashlib
import io
import os
import re
import stat
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from drivers.changes import CARRIED_BYTES_AT_MOST
from drivers.linux.cpio import BadArchive, ByteStream
from drivers.linux.inflate import Budget, inflated
from p2v.core.errors import NoSource
from p2v.core.units import MIB

_ADVICE = "Name a package of the guest's distribution, as in --agent-package qemu-guest-agent_7.2_amd64.deb."
_PIECE_BYTES = 1 * MIB
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_AR_MEMBERS_AT_MOST = 8
_CONTROL_BYTES_AT_MOST = 16 * MIB
_CONTROL_TEXT_AT_MOST = 1 * MIB
_CODECS = {"": "", ".gz": "gzip", ".xz": "xz", ".zst": "zstd"}
_FIELD = re.compile(r"^(?P<name>Package|Version|Architecture):[ \t]*(?P<value>\S+)[ \t]*$", re.MULTILINE)

_RPM_MAGIC = b"\xed\xab\xee\xdb"
_RPM_LEAD_BYTES = 96
_RPM_HEADER = struct.Struct(">4s4xII")
_RPM_HEADER_MAGIC = b"\x8e\xad\xe8\x01"
_RPM_ENTRY = struct.Struct(">IIII")
_RPM_ENTRIES_AT_MOST = 65536
_RPM_DATA_AT_MOST = 32 * MIB
_RPM_STRINGS = (6, 8, 9)
_NAME, _VERSION, _RELEASE, _ARCH, _SOURCE_RPM = 1000, 1001, 1002, 1022, 1044

# What each format calls the architectures of ``OperatingSystem.arch``; others are called alike.
_NAMES = {
    "amd64": "x86_64", "arm64": "aarch64", "armhf": "arm", "armel": "arm", "ppc64el": "ppc64le",
    "i386": "i386", "i486": "i386", "i586": "i386", "i686": "i386", "armv7hl": "arm",
}  # fmt: skip
_ANY = frozenset({"all", "noarch"})


class PackageFormat(enum.Enum):
    """Of package files; the value is the ending of their names."""

    DEB = "deb"
    RPM = "rpm"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A package file of this host. ``size`` in bytes, ``sha256`` in hex; the rest is what it says of itself."""

    path: str
    size: int
    sha256: str
    format: PackageFormat
    name: str
    version: str
    arch: str
    """As the format spells it: ``amd64``, ``x86_64``, ``all``, ``noarch``."""

    def fits(self, arch: str) -> bool:
        """Whether it is made for guests of an architecture (``OperatingSystem.arch``)."""
        return self.arch in _ANY or _NAMES.get(self.arch, self.arch) == _NAMES.get(arch, arch)


def read_package(path: Path) -> PackageFile:
    """What a package file says of itself. Raises NoSource when it cannot be read or is none."""
    try:
        # a FIFO of that name must not make us wait
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NoSource(str(path), "is no regular file", _ADVICE)
            if status.st_size > CARRIED_BYTES_AT_MOST:
                raise NoSource(str(path), f"has more than the {CARRIED_BYTES_AT_MOST // MIB} MiB that are carried", _ADVICE)
            return _read(path.absolute(), file, status.st_size)
    except OSError as error:
        raise NoSource(str(path), error.strerror or "cannot be read", _ADVICE) from error
    except (BadArchive, tarfile.TarError, struct.error, ValueError) as error:
        raise NoSource(str(path), f"is no sound .deb or .rpm package: {error}", _ADVICE) from error


def _read(path: Path, file: BinaryIO, size: int) -> PackageFile:
    head = file.read(len(_AR_MAGIC))
    if head == _AR_MAGIC:
        kind, said = PackageFormat.DEB, _deb(file)
    elif head.startswith(_RPM_MAGIC):
        kind, said = PackageFormat.RPM, _rpm(file)
    else:
        raise BadArchive("it begins as neither")
    if not all(said) or any(len(text) > 200 or not text.isprintable() for text in said):
        raise BadArchive("it lacks a name, a version or an architecture")
    file.seek(0)
    total = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        total.update(piece)
    name, version, arch = said
    return PackageFile(str(path), size, total.hexdigest(), kind, name, version, arch)


def _deb(file: BinaryIO) -> tuple[str, str, str]:
    for name, length in _members(file):
        stem, dot, ending = name.partition(".tar")
        if stem == "control" and dot and ending in _CODECS:
            if length > _CONTROL_BYTES_AT_MOST:
                break
            fields = dict(_FIELD.findall(_control(file.read(length), _CODECS[ending])))
            return fields.get("Package", ""), fields.get("Version", ""), fields.get("Architecture", "")
    raise BadArchive("it has no control.tar that is read here")


def _members(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Names and lengths in bytes; the file stands at the member's first one."""
    for _ in range(_AR_MEMBERS_AT_MOST):
        header = file.read(_AR_HEADER_BYTES)
        if len(header) < _AR_HEADER_BYTES or not header.endswith(b"`\n"):
            return
        length, begin = int(header[48:58]), file.tell()
        yield header[:16].decode("ascii", "replace").rstrip().rstrip("/"), length
        file.seek(begin + length + length % 2)


def _control(data: bytes, codec: str) -> str:
    if codec:
        budget = Budget(left_bytes=_CONTROL_BYTES_AT_MOST)
        data = b"".join(inflated(codec, ByteStream([data]), budget, lambda: None))
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if member.name in ("control", "./control") and member.isreg() and member.size <= _CONTROL_TEXT_AT_MOST:
                found = archive.extractfile(member)
                assert found is not None
                return found.read().decode("utf-8", "replace")
    raise BadArchive("its control.tar has no control file")


def _rpm(file: BinaryIO) -> tuple[str, str, str]:
    file.seek(_RPM_LEAD_BYTES)
    signature = _rpm_header(file)
    # the signature is padded to eight bytes
    file.seek(_RPM_LEAD_BYTES + signature.size + -signature.size % 8)
    header = _rpm_header(file)
    if not header.text(_SOURCE_RPM):
        raise BadArchive("it is a source package")
    version = f"{header.text(_VERSION)}-{header.text(_RELEASE)}"
    return header.text(_NAME), version, header.text(_ARCH)


@dataclass(frozen=True, slots=True)
class _RpmHeader:
    index: bytes
    data: bytes

    @property
    def size(self) -> int:
        return _RPM_HEADER.size + len(self.index) + len(self.data)

    def text(self, wanted: int) -> str:
        for tag, kind, offset, _ in _RPM_ENTRY.iter_unpack(self.index):
            if tag == wanted and kind in _RPM_STRINGS and offset < len(self.data):
                return self.data[offset : self.data.find(b"\0", offset)].decode("utf-8", "replace")
        return ""


def _rpm_header(file: BinaryIO) -> _RpmHeader:
    magic, entries, length = _RPM_HEADER.unpack(file.read(_RPM_HEADER.size))
    if magic != _RPM_HEADER_MAGIC or entries > _RPM_ENTRIES_AT_MOST or length > _RPM_DATA_AT_MOST:
        raise BadArchive(f"no header of rpm at byte {file.tell() - _RPM_HEADER.size}")
    index, data = file.read(entries * _RPM_ENTRY.size), file.read(length)
    if len(index) + len(data) != entries * _RPM_ENTRY.size + length:
        raise BadArchive("it ends inside its header")
    return _RpmHeader(index, data)
