"""BitLocker: how a volume is locked, as far as that stands unencrypted beside it. Nothing is decrypted.

Sources: libbde's "BitLocker Drive Encryption (BDE) format" (volume headers of Vista, of Windows 7 and later, and To Go on FAT;
metadata blocks, entries, protection types); for the two states of a metadata block what cryptsetup's manual and dislocker's
notes on the format say (4: encrypted, 2: being changed, 5: that is paused, 1: decrypted; the second is where it leads to).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from p2v.core.units import KIB

SIGNATURE = b"-FVE-FS-"
_SECTOR = 512
_TO_GO = b"MSWIN4.1"
_OF_VISTA = b"\xeb\x52\x90"
_IDENTIFIERS = frozenset(
    uuid.UUID(text).bytes_le
    # the second is of volumes of which only used space was encrypted
    for text in ("4967d63b-2e29-4ad8-8399-f6a339e3d001", "92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8")
)
_IDENTIFIER_AT, _IDENTIFIER_AT_TO_GO = 160, 424
_BLOCK_HEADER_BYTES, _HEADER_BYTES = 64, 48
_METADATA_AT_MOST = 64 * KIB
_PROTECTORS_AT_MOST = 32
_VOLUME_MASTER_KEY, _AS_KEY = 0x0002, 0x0008
_PROTECTION_AT = 8 + 26
_PROTECTORS = {
    0x0000: "clear key", 0x0100: "TPM", 0x0200: "startup key", 0x0300: "TPM and startup key", 0x0500: "TPM and PIN",
    0x0800: "recovery password", 0x1000: "smart card", 0x2000: "password",
}  # fmt: skip
CLEAR_KEY = "clear key"
_DECRYPTED, _CHANGING, _WHILE_WRITTEN, _ENCRYPTED, _PAUSED = 1, 2, 3, 4, 5

Read = Callable[[int, int], bytes]
"""``length`` bytes at ``offset`` of the volume; empty when they are not all inside."""


@dataclass(frozen=True, slots=True)
class BitLocker:
    """``state``: ``encrypted``, ``encrypting``, ``decrypting``; ``unknown`` where no metadata block could be read.

    ``protectors``: what opens it, each kind once (``TPM``, ``recovery password``, ...); with ``clear key`` among them it is
    suspended, or not armed yet: the key stands beside the data.
    """

    state: str
    protectors: tuple[str, ...] = ()

    @property
    def is_suspended(self) -> bool:
        """Whether nothing is needed to open it."""
        return CLEAR_KEY in self.protectors

    def __str__(self) -> str:
        opened = f", opened by {', '.join(self.protectors)}" if self.protectors else ""
        if self.state in ("encrypting", "decrypting"):
            return f"BitLocker is {self.state} it{opened}"
        if self.is_suspended:
            return "encrypted, its protection suspended: a key stands beside it, but what it holds stays encrypted"
        return f"locked{opened}"


def read_bitlocker(read: Read) -> BitLocker | None:
    """How the volume is locked; None where it is none of BitLocker's."""
    head = read(_SECTOR, 0)
    if len(head) < _SECTOR:
        return None
    is_to_go = head[3:11] == _TO_GO and head[_IDENTIFIER_AT_TO_GO:][:16] in _IDENTIFIERS
    if head[3:11] != SIGNATURE and not is_to_go:
        return None
    for at in _blocks(head, is_to_go=is_to_go):
        found = _block(read, at)
        if found is not None:
            return found
    return BitLocker("unknown")


def _blocks(head: bytes, *, is_to_go: bool) -> Iterator[int]:
    """Where the metadata blocks stand, in bytes."""
    if head[:3] == _OF_VISTA:
        sector_bytes, cluster_sectors = struct.unpack_from("<HB", head, 11)
        yield int(struct.unpack_from("<Q", head, 56)[0]) * sector_bytes * cluster_sectors
        return
    yield from struct.unpack_from("<3Q", head, (_IDENTIFIER_AT_TO_GO if is_to_go else _IDENTIFIER_AT) + 16)


def _block(read: Read, at: int) -> BitLocker | None:
    raw = read(_BLOCK_HEADER_BYTES + _HEADER_BYTES, at) if at else b""
    if raw[:8] != SIGNATURE:
        return None
    version, current, following = struct.unpack_from("<HHH", raw, 10)
    size, header_version, header_bytes = struct.unpack_from("<III", raw, _BLOCK_HEADER_BYTES)
    if version not in (1, 2) or header_version != 1 or header_bytes != _HEADER_BYTES:
        return None
    if not _HEADER_BYTES <= size <= _METADATA_AT_MOST:
        return None
    entries = read(size - _HEADER_BYTES, at + _BLOCK_HEADER_BYTES + _HEADER_BYTES)
    if len(entries) < size - _HEADER_BYTES:
        return None
    protectors = tuple(dict.fromkeys(_protectors(entries)))[:_PROTECTORS_AT_MOST]
    return BitLocker(_state(current, following), protectors)


def _state(current: int, following: int) -> str:
    if current in (_CHANGING, _PAUSED, _WHILE_WRITTEN) or current != following:
        return "decrypting" if following == _DECRYPTED else "encrypting"
    return "encrypted" if current == _ENCRYPTED else "unknown"


def _protectors(entries: bytes) -> Iterator[str]:
    at = 0
    while at + 8 <= len(entries):
        size, kind, value = struct.unpack_from("<HHH", entries, at)
        if size < 8 or at + size > len(entries):
            return
        if (kind, value) == (_VOLUME_MASTER_KEY, _AS_KEY) and size >= _PROTECTION_AT + 2:
            number = struct.unpack_from("<H", entries, at + _PROTECTION_AT)[0]
            yield _PROTECTORS.get(number, f"protector {number:#06x}")
        at += size
