"""Our own writer of tiny VHDX files: differencing disks, every block state, logs that were not replayed.

Written from [MS-VHDX]'s field tables, apart from the reader; qemu-img (which replays logs, and reads what has no parent) and
libvhdi read the same images in the tests.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c

KIB, MIB = 1024, 1024 * 1024
PAGE = 4096
LOG_AT, METADATA_AT, BAT_AT, DATA_AT = 1 * MIB, 2 * MIB, 3 * MIB, 4 * MIB
NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULLY, PARTIALLY = 0, 1, 2, 3, 6, 7
NOBODY = uuid.UUID(int=0)
_LOCATOR_TYPE = uuid.UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")


def crc32c(raw: bytes) -> int:
    """Of a whole structure."""
    return int(google_crc32c.value(raw))


def with_checksum(raw: bytes) -> bytes:
    """A structure whose bytes 4 to 7 are its checksum."""
    return raw[:4] + struct.pack("<I", crc32c(raw[:4] + bytes(4) + raw[8:])) + raw[8:]


@dataclass(frozen=True)
class Vhdx:
    """A VHDX to be written. ``sectors`` are its own by number; ``states`` overrules the state of whole blocks."""

    size: int
    sectors: Mapping[int, bytes]
    block_bytes: int = MIB
    sector_bytes: int = 512
    fixed: bool = False
    write_guid: uuid.UUID = field(default_factory=uuid.uuid4)
    log_guid: uuid.UUID = NOBODY
    states: Mapping[int, int] = field(default_factory=dict)
    parent: Mapping[str, str] | None = None
    parent_type: uuid.UUID = _LOCATOR_TYPE

    def pages(self) -> dict[int, bytes]:
        """The file as pages of 4 KiB by offset; what is missing is zero."""
        file: dict[int, bytes] = {}
        _put(file, 0, b"vhdxfile" + "our own writer".encode("utf-16-le"))
        for number, at in enumerate((64 * KIB, 128 * KIB)):
            header = struct.pack(
                "<4sIQ16s16s16sHHIQ", b"head", 0, 7 + number, self.write_guid.bytes_le, self.write_guid.bytes_le,
                self.log_guid.bytes_le, 0, 1, MIB, LOG_AT,
            )  # fmt: skip
            _put(file, at, with_checksum(header.ljust(PAGE, b"\0")))
        table = with_checksum(_region_table().ljust(64 * KIB, b"\0"))
        for at in (192 * KIB, 256 * KIB):
            _put(file, at, table)
        _put(file, METADATA_AT, self._metadata())
        self._put_blocks(file)
        return file

    def write(self, path: Path) -> Path:
        """Write it to ``path``, holes left out."""
        return write_pages(path, self.pages())

    @property
    def _per_block(self) -> int:
        return self.block_bytes // self.sector_bytes

    def _metadata(self) -> bytes:
        flags = (1 if self.fixed else 0) | (2 if self.parent is not None else 0)
        items = [
            ("CAA16737-FA36-4D43-B3B6-33F0AA44E76B", struct.pack("<II", self.block_bytes, flags)),
            ("2FA54224-CD1B-4876-B211-5DBED83BF4B8", struct.pack("<Q", self.size)),
            ("BECA12AB-B2E6-4523-93EF-C309E000C746", uuid.uuid5(NOBODY, str(self.size)).bytes_le),
            ("8141BF1D-A96F-4709-BA47-F233A8FAAB5F", struct.pack("<I", self.sector_bytes)),
            ("CDA348C7-445D-4471-9CC9-E9885251C556", struct.pack("<I", 4096)),
        ]
        if self.parent is not None:
            items.append(("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C", locator(self.parent, self.parent_type)))
        table, contents, at = struct.pack("<8sHH20x", b"metadata", 0, len(items)), b"", 64 * KIB
        for item_id, content in items:
            table += struct.pack("<16sIIII", uuid.UUID(item_id).bytes_le, at + len(contents), len(content), 4, 0)
            contents += content
        return table.ljust(at, b"\0") + contents

    def _put_blocks(self, file: dict[int, bytes]) -> None:
        ratio = (1 << 23) * self.sector_bytes // self.block_bytes
        blocks = -(-self.size // self.block_bytes)
        bat, at = [0] * ((blocks // ratio + 1) * (ratio + 1)), DATA_AT
        bitmaps: dict[int, int] = {}
        # backwards, so that neighbours in the disk are none in the file
        for block in sorted({number // self._per_block for number in self.sectors}, reverse=True):
            own = [index for index in range(self._per_block) if block * self._per_block + index in self.sectors]
            whole = len(own) == self._per_block or self.parent is None
            if not whole:
                chunk = block // ratio
                base = block % ratio * self._per_block
                bitmaps[chunk] = bitmaps.get(chunk, 0) | sum(1 << (base + index) for index in own)
                for index in range(0, self.block_bytes, PAGE):
                    _put(file, at + index, b"\xee" * PAGE)  # what is not own must not matter
            for index in own:
                _put(file, at + index * self.sector_bytes, self.sectors[block * self._per_block + index])
            _put(file, at + self.block_bytes - 1, file_byte(file, at + self.block_bytes - 1))
            bat[block + block // ratio] = at | (FULLY if whole else PARTIALLY)
            at += self.block_bytes
        for block, state in self.states.items():
            bat[block + block // ratio] = bat[block + block // ratio] >> 20 << 20 | state
        for chunk, bits in bitmaps.items():
            _put(file, at, bits.to_bytes(MIB, "little").rstrip(b"\0"))
            _put(file, at + MIB - 1, file_byte(file, at + MIB - 1))
            bat[chunk * (ratio + 1) + ratio] = at | 6
            at += MIB
        _put(file, BAT_AT, struct.pack(f"<{len(bat)}Q", *bat))
        _put(file, max(at, DATA_AT) - 1, file_byte(file, max(at, DATA_AT) - 1))


def locator(values: Mapping[str, str], kind: uuid.UUID = _LOCATOR_TYPE) -> bytes:
    """A parent locator item."""
    at = 20 + 12 * len(values)
    entries, strings = b"", b""
    for key, value in values.items():
        raw_key, raw_value = key.encode("utf-16-le"), value.encode("utf-16-le")
        entries += struct.pack("<IIHH", at + len(strings), at + len(strings) + len(raw_key), len(raw_key), len(raw_value))
        strings += raw_key + raw_value
    return struct.pack("<16sHH", kind.bytes_le, 0, len(values)) + entries + strings


@dataclass(frozen=True)
class LogEntry:
    """One entry: pages by file offset, and ranges of zeroes (offset, length), applied zeroes first."""

    pages: Mapping[int, bytes] = field(default_factory=dict)
    zeroes: Sequence[tuple[int, int]] = ()

    def packed(self, sequence: int, tail: int, guid: uuid.UUID, flushed: int, last: int) -> bytes:
        """The entry's bytes."""
        descriptors, sectors = b"", b""
        for offset, length in self.zeroes:
            descriptors += struct.pack("<4sIQQQ", b"zero", 0, length, offset, sequence)
        for offset, page in self.pages.items():
            descriptors += struct.pack("<4s4s8sQQ", b"desc", page[-4:], page[:8], offset, sequence)
            sectors += struct.pack("<4sI4084sI", b"data", sequence >> 32, page[8:-4], sequence & 0xFFFFFFFF)
        head = -(-(64 + len(descriptors)) // PAGE) * PAGE
        length = head + len(sectors)
        count = len(self.zeroes) + len(self.pages)
        header = struct.pack(
            "<4sIIIQII16sQQ", b"loge", 0, length, tail, sequence, count, 0, guid.bytes_le, flushed, last
        )
        return with_checksum((header + descriptors).ljust(head, b"\0") + sectors)


def put_log(
    file: dict[int, bytes], guid: uuid.UUID, entries: Sequence[LogEntry], *, at: int = 0, sequence: int = 1 << 33,
    flushed: int = 0, last: int = 0, log_bytes: int = MIB,
) -> int:  # fmt: skip
    """Put a sequence of entries into the log from ``at`` on, wrapping round; returns where the next would be."""
    tail = at
    for number, entry in enumerate(entries):
        raw = entry.packed(sequence + number, tail, guid, flushed, last)
        for index in range(0, len(raw), PAGE):
            _put(file, LOG_AT + (at + index) % log_bytes, raw[index : index + PAGE])
        at = (at + len(raw)) % log_bytes
    return at


def write_pages(path: Path, file: Mapping[int, bytes]) -> Path:
    """Write pages to a file, holes left out."""
    with path.open("wb") as out:
        for at in sorted(file):
            out.seek(at)
            out.write(file[at])
    return path


def file_byte(file: Mapping[int, bytes], offset: int) -> bytes:
    """One byte of a file in pages."""
    page, within = divmod(offset, PAGE)
    return file.get(page * PAGE, bytes(PAGE))[within : within + 1]


def data_pages(file: Mapping[int, bytes]) -> Iterable[int]:
    """Offsets of the pages that a log may write: everything behind the log."""
    return sorted(at for at in file if at >= METADATA_AT)


def _put(file: dict[int, bytes], offset: int, content: bytes) -> None:
    at = offset // PAGE * PAGE
    end = offset + len(content)
    while at < end:
        page = bytearray(file.get(at, bytes(PAGE)))
        start, stop = max(offset, at), min(end, at + PAGE)
        page[start - at : stop - at] = content[start - offset : stop - offset]
        file[at] = bytes(page)
        at += PAGE


def _region_table() -> bytes:
    bat = uuid.UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
    metadata = uuid.UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
    return struct.pack("<4sIII", b"regi", 0, 2, 0) + b"".join(
        struct.pack("<16sQII", guid.bytes_le, at, MIB, 1) for guid, at in ((bat, BAT_AT), (metadata, METADATA_AT))
    )
