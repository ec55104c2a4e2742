"""The files of a CD image as a tree, read on the host: ISO 9660 with its three ways to long names. Nothing is mounted.

Sources: ECMA-119 (ISO 9660, with the enhanced volume descriptor of its 1999 edition), Joliet specification (Microsoft, 1995),
SUSP and RRIP ("Rock Ridge", IEEE P1281 and P1282). Images are hostile: descriptors, folders, names and depth are counted, a folder
that was seen is not entered again, and no byte outside the image is asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drivers.tree import FileType, Stat
from p2v.core.disk import DiskReader
from p2v.core.errors import BadImage
from p2v.core.units import MIB

_SECTOR = 2048
_FIRST_DESCRIPTOR = 16 * _SECTOR
_DESCRIPTORS_AT_MOST = 64
_PRIMARY, _SUPPLEMENTARY, _TERMINATOR = 1, 2, 255
_JOLIET_ESCAPES = (b"%/@", b"%/C", b"%/E")
_ENHANCED_VERSION = 2
_ENTRIES_AT_MOST = 200_000
_FOLDER_BYTES_AT_MOST = 4 * MIB
_FOLDERS_BYTES_AT_MOST = 64 * MIB
_DEPTH_AT_MOST = 32
_EXTENTS_AT_MOST = 64
_CONTINUATIONS_AT_MOST = 8
_RECORD = struct.Struct("<BBI4xI4x7xBBB4xB")
_IS_FOLDER, _GOES_ON = 0x02, 0x80
# of Rock Ridge: the entry stands for the folder itself or the one above
_NAME_IS_DOT = 0x06
_ADVICE = "The copy may be incomplete; compare its size and checksum with those of where it came from."


@dataclass(frozen=True, slots=True)
class IsoFile:
    """Where a file's bytes stand in the image: (offset, length) in bytes, in order."""

    size: int
    extents: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Record:
    name: str
    offset: int
    size: int
    flags: int
    system_use: bytes


@dataclass(frozen=True, slots=True)
class _Volume:
    """A descriptor that leads to a tree of folders. ``names``: how their names are written."""

    label: str
    names: str
    block_bytes: int
    root: _Record


# the tree's own method hides the name
_Folders = list[_Record]


@dataclass
class _Bounds:
    entries: int = 0
    folder_bytes: int = 0
    seen: set[int] = field(default_factory=set)


@dataclass
class IsoTree:
    """Implements ``drivers.tree.GuestTree`` for a CD image; names have no version (``;1``), and no links are followed.

    ``label``: the volume's name. Raises BadImage when the image is none, or contradicts itself.
    """

    reader: DiskReader
    label: str = ""
    _files: dict[str, IsoFile] = field(default_factory=dict)
    _folders: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        volume = self._volume()
        self.label = volume.label
        self._folders["/"] = []
        self._walk(volume, volume.root, "", 0, _Bounds())

    def read(self, path: str, limit: int = 4 * MIB) -> bytes:
        """See ``GuestTree.read``."""
        size = self.file(path).size
        if size > limit:
            raise ValueError(f"{path} has {size} bytes, more than {limit}")
        return self.read_range(path, size, 0)

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        """See ``GuestTree.read_range``."""
        parts = []
        for at, size in self.file(path).extents:
            if offset < size and length > 0:
                part = self._pread(min(length, size - offset), at + offset)
                parts.append(part)
                length -= len(part)
            offset = max(0, offset - size)
        return b"".join(parts)

    def exists(self, path: str) -> bool:
        """See ``GuestTree.exists``."""
        return path in self._files or path in self._folders

    def list(self, path: str) -> tuple[str, ...]:
        """See ``GuestTree.list``."""
        return tuple(sorted(self._folders.get(path, ())))

    def lstat(self, path: str) -> Stat:
        """See ``GuestTree.lstat``."""
        if path in self._folders:
            return Stat(FileType.DIRECTORY, 0, 0o555, 0, 0)
        return Stat(FileType.FILE, self.file(path).size, 0o444, 0, 0)

    def readlink(self, path: str) -> str:
        """There are no links here."""
        raise FileNotFoundError(path)

    def file(self, path: str) -> IsoFile:
        """Where a file stands. Raises FileNotFoundError."""
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    # --- reading -----------------------------------------------------------------------------------------

    def _bad(self, problem: str) -> BadImage:
        return BadImage(self.reader.files[0] if self.reader.files else Path("image"), problem, _ADVICE)

    def _pread(self, length: int, offset: int) -> bytes:
        if offset < 0 or offset + length > self.reader.virtual_size:
            raise self._bad(f"{length} bytes at {offset} lie past its end ({self.reader.virtual_size})")
        data = self.reader.pread(length, offset)
        if len(data) != length:
            raise self._bad(f"{length} bytes at {offset} cannot be read")
        return data

    def _volume(self) -> _Volume:
        """The descriptor whose names are the best: Joliet's, the enhanced ones, then the primary's with Rock Ridge."""
        found: dict[str, _Volume] = {}
        for number in range(_DESCRIPTORS_AT_MOST):
            at = _FIRST_DESCRIPTOR + number * _SECTOR
            if at + _SECTOR > self.reader.virtual_size:
                break
            sector = self._pread(_SECTOR, at)
            if sector[1:6] != b"CD001" or sector[0] == _TERMINATOR:
                break
            if sector[0] == _PRIMARY:
                found.setdefault("plain", self._described(sector, "plain"))
            elif sector[0] == _SUPPLEMENTARY and sector[88:91] in _JOLIET_ESCAPES:
                found.setdefault("joliet", self._described(sector, "joliet"))
            elif sector[0] == _SUPPLEMENTARY and sector[6] == _ENHANCED_VERSION:
                found.setdefault("enhanced", self._described(sector, "enhanced"))
        for names in ("joliet", "enhanced", "plain"):
            if names in found:
                # Joliet has room for 16 letters of the label only
                return replace(found[names], label=found.get("plain", found[names]).label)
        raise self._bad("is no image of a CD: it has no volume descriptor of ISO 9660")

    def _described(self, sector: bytes, names: str) -> _Volume:
        label = _text(sector[40:72], names).rstrip(" \0")
        blocks, block_bytes = struct.unpack_from("<I", sector, 80)[0], struct.unpack_from("<H", sector, 128)[0]
        if block_bytes not in (512, 1024, 2048):
            raise self._bad(f"has blocks of {block_bytes} bytes")
        if blocks * block_bytes > self.reader.virtual_size:
            raise self._bad(f"has {self.reader.virtual_size} bytes of {blocks * block_bytes}")
        root = self._record(sector[156:190], names, block_bytes)
        if root is None or not root.flags & _IS_FOLDER:
            raise self._bad("has no root folder")
        return _Volume(label, names, block_bytes, root)

    def _walk(self, volume: _Volume, folder: _Record, path: str, depth: int, bounds: _Bounds) -> None:
        if depth > _DEPTH_AT_MOST:
            raise self._bad(f"has folders more than {_DEPTH_AT_MOST} deep")
        if folder.offset in bounds.seen:
            raise self._bad(f"has a folder twice ({path or '/'}, at byte {folder.offset})")
        bounds.seen.add(folder.offset)
        children, parts = _Folders(), _Folders()
        for record in self._records(volume, folder, bounds):
            parts.append(record)
            if len(parts) > _EXTENTS_AT_MOST:
                raise self._bad(f"has a file in more than {_EXTENTS_AT_MOST} parts")
            if record.flags & _GOES_ON:
                continue
            name = self._long_name(volume, parts[0])
            if name not in ("", ".", "..") and "/" not in name and "\0" not in name:
                self._add(path, name, parts, children)
            parts = _Folders()
        for child in children:
            self._walk(volume, child, child.name, depth + 1, bounds)

    def _add(self, path: str, name: str, parts: Sequence[_Record], folders: _Folders) -> None:
        whole = f"{path}/{name}"
        if whole in self._files or whole in self._folders:
            return  # an older version of the file, or a name that only an image made by hand has twice
        self._folders[path or "/"].append(name)
        if parts[0].flags & _IS_FOLDER:
            self._folders[whole] = []
            folders.append(replace(parts[0], name=whole))
        else:
            extents = tuple((part.offset, part.size) for part in parts)
            self._files[whole] = IsoFile(sum(part.size for part in parts), extents)

    def _records(self, volume: _Volume, folder: _Record, bounds: _Bounds) -> Iterator[_Record]:
        bounds.folder_bytes += folder.size
        if folder.size > _FOLDER_BYTES_AT_MOST or bounds.folder_bytes > _FOLDERS_BYTES_AT_MOST:
            raise self._bad(f"has a folder of {folder.size} bytes")
        data = self._pread(folder.size, folder.offset)
        at = own = 0
        while at < len(data):
            length = data[at]
            if length == 0:
                # a record does not cross the end of a sector
                at = (at // _SECTOR + 1) * _SECTOR
                continue
            bounds.entries += 1
            own += 1
            if bounds.entries > _ENTRIES_AT_MOST:
                raise self._bad(f"has more than {_ENTRIES_AT_MOST} files")
            record = self._record(data[at : at + length], volume.names, volume.block_bytes)
            if record is None:
                raise self._bad(f"has a damaged folder at byte {folder.offset + at}")
            # the first two are the folder itself and the one above
            if own > 2:
                yield record
            at += length

    def _record(self, data: bytes, names: str, block_bytes: int) -> _Record | None:
        if len(data) < _RECORD.size:
            return None
        _, attribute_blocks, block, size, flags, unit, gap, name_bytes = _RECORD.unpack_from(data)
        end = _RECORD.size + name_bytes
        if end > len(data) or unit or gap:
            return None
        name = _text(data[_RECORD.size : end], names)
        return _Record(
            name=_without_version(name),
            offset=(block + attribute_blocks) * block_bytes,
            size=size,
            flags=flags,
            system_use=data[end + (name_bytes % 2 == 0) :],
        )

    def _long_name(self, volume: _Volume, record: _Record) -> str:
        """The name that Rock Ridge has for it, else its own."""
        if volume.names != "plain":
            return record.name
        name = b""
        area = record.system_use
        for _ in range(_CONTINUATIONS_AT_MOST):
            more = b""
            for signature, payload in _system_use(area):
                if signature == b"NM" and payload and not payload[0] & _NAME_IS_DOT:
                    name += payload[1:]
                elif signature == b"CE" and len(payload) >= 24:
                    block, offset, length = struct.unpack_from("<I4xI4xI", payload)
                    more = self._pread(min(length, _SECTOR), block * volume.block_bytes + offset)
            if not more:
                break
            area = more
        return name.decode("utf-8", "replace") if name else record.name


def _system_use(area: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a system use area: signature and what follows length and version."""
    at = 0
    while at + 4 <= len(area):
        length = area[at + 2]
        if length < 4 or at + length > len(area):
            return
        yield area[at : at + 2], area[at + 4 : at + length]
        at += length


def _text(data: bytes, names: str) -> str:
    return data.decode("utf-16-be", "replace") if names == "joliet" else data.decode("latin-1")


def _without_version(name: str) -> str:
    stem, semicolon, version = name.rpartition(";")
    name = stem if semicolon and version.isdigit() else name
    # a name without an ending keeps its dot in the strictest form
    return name[:-1] if name.endswith(".") and len(name) > 1 else name
