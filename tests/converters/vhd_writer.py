"""Our own writer of tiny VHDs: what no tool on this host makes (differencing disks, old locators, damage).

Written from the specification's field tables, apart from the reader: nothing of ``converters`` is used here, so that
both can only agree where both are right (or both misread the specification, which libvhdi's reading guards against).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
NOBODY = uuid.UUID(int=0)
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_HEADER = struct.Struct(">8sQQIIII16sI4x512s192s256x")
_LOCATOR = struct.Struct(">4sIIIQ")


@dataclass(frozen=True)
class Vhd:
    """A VHD to be written; ``sectors`` are its own, by number. ``locators`` are (code, data) pairs, ``locator_space``
    what their headers say instead of the bytes they take."""

    size: int
    sectors: Mapping[int, bytes]
    kind: int = DYNAMIC
    block_bytes: int = 4096
    unique_id: uuid.UUID = field(default_factory=uuid.uuid4)
    parent_id: uuid.UUID = NOBODY
    parent_name: str = ""
    parent_time_stamp: int = 0
    locators: Sequence[tuple[bytes, bytes]] = ()
    locator_space: int | None = None
    creator: bytes = b"win "
    geometry: tuple[int, int, int] = (65535, 16, 255)

    def write(self, path: Path) -> Path:
        """Write it to ``path``."""
        path.write_bytes(self._fixed() if self.kind == FIXED else self._dynamic())
        return path

    def _fixed(self) -> bytes:
        raw = bytearray(self.size)
        for number, data in self.sectors.items():
            raw[number * SECTOR : (number + 1) * SECTOR] = data
        return bytes(raw) + self._footer(0xFFFFFFFFFFFFFFFF)

    def _dynamic(self) -> bytes:
        per_block = self.block_bytes // SECTOR
        bitmap_bytes = -(-per_block // (8 * SECTOR)) * SECTOR
        entries = -(-self.size // self.block_bytes)
        names, at = b"", 512 + 1024
        locators = []
        for code, data in self.locators:
            padded = data.ljust(-(-len(data) // SECTOR) * SECTOR or SECTOR, b"\0")
            space = len(padded) if self.locator_space is None else self.locator_space
            locators.append(_LOCATOR.pack(code, space, len(data), 0, at + len(names)))
            names += padded
        bat_offset = at + len(names)
        bat_bytes = -(-entries * 4 // SECTOR) * SECTOR
        bat, blocks = [0xFFFFFFFF] * entries, b""
        # backwards, so that neighbours in the disk are none in the file
        for block in sorted({number // per_block for number in self.sectors}, reverse=True):
            bat[block] = (bat_offset + bat_bytes + len(blocks)) // SECTOR
            blocks += self._block(block, per_block, bitmap_bytes)
        table = struct.pack(f">{entries}I", *bat).ljust(bat_bytes, b"\xff")
        header = self._header(bat_offset, entries, b"".join(locators))
        footer = self._footer(512)
        return footer + header + names + table + blocks + footer

    def _block(self, block: int, per_block: int, bitmap_bytes: int) -> bytes:
        bits, data = 0, b""
        for index in range(per_block):
            own = self.sectors.get(block * per_block + index)
            bits |= (own is not None) << (bitmap_bytes * 8 - 1 - index)
            # what is not own must not matter
            data += b"\xee" * SECTOR if own is None and self.kind == DIFFERENCING else own or bytes(SECTOR)
        return bits.to_bytes(bitmap_bytes, "big") + data

    def _footer(self, data_offset: int) -> bytes:
        def packed(checksum: int) -> bytes:
            return _FOOTER.pack(
                b"conectix", 2, 0x00010000, data_offset, 0, self.creator, 0x00060001, b"Wi2k", self.size, self.size,
                *self.geometry, self.kind, checksum, self.unique_id.bytes, 0,
            )  # fmt: skip

        return packed(~sum(packed(0)) & 0xFFFFFFFF)

    def _header(self, bat_offset: int, entries: int, locators: bytes) -> bytes:
        def packed(checksum: int) -> bytes:
            return _HEADER.pack(
                b"cxsparse", 0xFFFFFFFFFFFFFFFF, bat_offset, 0x00010000, entries, self.block_bytes, checksum,
                self.parent_id.bytes, self.parent_time_stamp, self.parent_name.encode("utf-16-be"), locators,
            )  # fmt: skip

        return packed(~sum(packed(0)) & 0xFFFFFFFF)
