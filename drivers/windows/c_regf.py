"""Registry hives on disk: base block, bins, cells and what they hold, and the two kinds of transaction logs.

Source: M. Suhanov, "Windows registry file format specification" (github.com/msuhanov/regf), whose names are used here.
Everything is little-endian; offsets inside a hive count from the start of the bins, behind the base block.
Behaviour is in ``regf.py`` and ``hive_log.py``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

BASE_BLOCK_BYTES = 4096
BASE_BLOCK_SIGNATURE = b"regf"
BASE_BLOCK = struct.Struct("<4sIIQIIIIIII")
CHECKSUM_OFFSET = 508
FLAGS_OFFSET = 144
FLAGS_IN_LOG_ENTRIES = 0x1
"""The one flag of the base block that log entries carry."""
NAME_OFFSET, NAME_BYTES = 48, 64
PRIMARY_FILE = 0
OLD_LOGS = (1, 2)
NEW_LOG = 6
DIRECT_MEMORY_LOAD = 1
MAJOR_VERSION = 1
MINOR_VERSIONS = (2, 3, 4, 5, 6)
BIG_DATA_SINCE_MINOR = 4

BIN_SIGNATURE = b"hbin"
BIN_HEADER = struct.Struct("<4sIIQQI")
BIN_HEADER_BYTES = 32
BIN_UNIT_BYTES = 4096
BIN_TIMESTAMP_OFFSET = 20

CELL_UNIT_BYTES = 8
NOWHERE = 0xFFFFFFFF

KEY_NODE = struct.Struct("<2sHQIIIIIIIIIIIIIIIHH")
KEY_NODE_SIGNATURE = b"nk"


class KeyNode(NamedTuple):
    """The fields of ``KEY_NODE``; places are those of cells. Keys and lists that are volatile are never in a file."""

    signature: bytes
    flags: int
    written: int
    access_bits: int
    parent: int
    subkeys: int
    volatile_subkeys: int
    subkeys_list: int
    volatile_list: int
    values: int
    value_list: int
    security: int
    class_name: int
    longest_subkey: int
    longest_subkey_class: int
    longest_value: int
    largest_data: int
    work_var: int
    name_bytes: int
    class_bytes: int


KEY_HIVE_ENTRY = 0x0004
KEY_SYM_LINK = 0x0010
KEY_COMP_NAME = 0x0020
KEY_PREDEF_HANDLE = 0x0040

LIST_HEADER = struct.Struct("<2sH")
INDEX_LEAF, FAST_LEAF, HASH_LEAF, INDEX_ROOT = b"li", b"lf", b"lh", b"ri"
LEAF_ELEMENT_BYTES = {INDEX_LEAF: 4, FAST_LEAF: 8, HASH_LEAF: 8}

KEY_VALUE = struct.Struct("<2sHIIIHH")
KEY_VALUE_SIGNATURE = b"vk"
VALUE_COMP_NAME = 0x0001
DATA_IS_INLINE = 0x80000000
INLINE_BYTES_AT_MOST = 4

BIG_DATA = struct.Struct("<2sHI")
BIG_DATA_SIGNATURE = b"db"
SEGMENT_BYTES = 16344

KEY_SECURITY = struct.Struct("<2sHIIII")
KEY_SECURITY_SIGNATURE = b"sk"

LOG_SECTOR_BYTES = 512
DIRTY_VECTOR_SIGNATURE = b"DIRT"
DIRTY_PAGE_BYTES = 512
LOG_ENTRY = struct.Struct("<4sIIIIIQQ")
LOG_ENTRY_SIGNATURE = b"HvLE"
PAGE_REFERENCE = struct.Struct("<II")
HASHED_HEADER_BYTES = 32
MARVIN32_SEED = 0x82EF4D887A4E55C5

REG_NONE, REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD, REG_DWORD_BIG_ENDIAN, REG_LINK, REG_MULTI_SZ = range(8)
REG_QWORD = 11


@dataclass(frozen=True, slots=True)
class BaseBlock:
    """What stands at the start of a hive, and of each of its logs. ``timestamp`` counts 100 ns since 1601 (FILETIME)."""

    primary_sequence: int
    secondary_sequence: int
    timestamp: int
    major: int
    minor: int
    file_type: int
    file_format: int
    root_offset: int
    bins_bytes: int
    clustering_factor: int
    is_sound: bool
    """Whether it has its signature and the right checksum."""

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> BaseBlock | None:
        """The base block at the start of some bytes; None when they are too few for one."""
        if len(data) < LOG_SECTOR_BYTES:
            return None
        signature, primary, secondary, timestamp, *rest = BASE_BLOCK.unpack_from(data)
        major, minor, file_type, file_format, root_offset, bins_bytes, clustering_factor = rest
        (stored,) = struct.unpack_from("<I", data, CHECKSUM_OFFSET)
        is_sound = signature == BASE_BLOCK_SIGNATURE and stored == checksum(data)
        return cls(primary, secondary, timestamp, major, minor, file_type, file_format, root_offset, bins_bytes,
                   clustering_factor, is_sound)  # fmt: skip

    @property
    def is_dirty(self) -> bool:
        """Whether a hive that begins so has to be recovered from its logs."""
        return not self.is_sound or self.primary_sequence != self.secondary_sequence


def checksum(block: bytes | bytearray | memoryview) -> int:
    """XOR of the first 508 bytes as words; 0 and 0xFFFFFFFF are stored as 1 and 0xFFFFFFFE."""
    total = 0
    for (word,) in struct.iter_unpack("<I", block[:CHECKSUM_OFFSET]):
        total ^= word
    return {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)


def seal(block: bytearray) -> None:
    """Make the checksum of a base block right."""
    struct.pack_into("<I", block, CHECKSUM_OFFSET, checksum(block))


def name_hash(name: str) -> int:
    """The hash of a key's name in a hash leaf."""
    total = 0
    for (unit,) in struct.iter_unpack("<H", upper(name).encode("utf-16-le", "surrogatepass")):
        total = (37 * total + unit) & 0xFFFFFFFF
    return total


def name_hint(name: str) -> bytes:
    """The first four characters of a key's name in a fast leaf; nothing where they are not all in Latin-1."""
    try:
        return name[:4].encode("latin-1").ljust(4, b"\0")
    except UnicodeEncodeError:
        return bytes(4)


def upper(name: str) -> str:
    """A name as Windows compares it: letter by letter, none of which becomes two."""
    plain = name.upper()
    if len(plain) == len(name):
        return plain
    return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in name)
