"""The undo journal on disk, and the redo file beside it. Everything is little-endian.

``NAME.undo``::

    0               start block, 4096 bytes: ``START``, zeroes, and in its last 32 bytes the SHA-256 of the rest (the *seal*)
    4096            pre-images of the rows, one behind the other
    rows_offset     rows: ``ROW`` each, in the order of disk and disk offset
    header_offset   header: JSON (``undo_journal.JournalHeader``)
    records_offset  records, appended one by one: ``RECORD``, JSON, and the SHA-256 of seal, ``RECORD`` and JSON

The start block has the digests of rows and header, each row has those of its images, so the seal stands for all but the
records; each record stands for itself, and the first that is cut short or damaged is where the records end.

``NAME.undo.redo``: 4096 bytes (``REDO``, zeroes), then the rows' post-images, each at the offset its pre-image has in the journal.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

UNDO_MAGIC = b"P2VUNDO\x01"
REDO_MAGIC = b"P2VREDO\x01"
FORMAT_VERSION = 1
START_BYTES = 4096
DIGEST_BYTES = 32

_START = struct.Struct("<8sI4x16sQQQQQ32s32s")
_ROW = struct.Struct("<IIQQQI4x32s32s")
_RECORD = struct.Struct("<4sII")
_REDO = struct.Struct("<8s16s")
ROW_BYTES = _ROW.size
RECORD_BYTES = _RECORD.size
RECORD_MAGIC = b"p2vR"

# A row's images are held in memory.
MAX_IMAGE_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 4 * 1024 * 1024
# 400 MB of rows; at the smallest row that is 16 GiB of changes.
MAX_ROWS = 4 * 1024 * 1024
MAX_RECORD_BYTES = 1024 * 1024
# Each start of an undo or a recovery may add two.
MAX_RECORDS = 4096


@dataclass(frozen=True, slots=True)
class Start:
    """The start block's fields; sizes and offsets in bytes."""

    version: int
    uuid: bytes
    rows_offset: int
    row_count: int
    header_offset: int
    header_length: int
    records_offset: int
    rows_sha256: bytes
    header_sha256: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One range: of which disk, where there, in which file, where there; ``image_offset`` is that of its images.

    ``before`` and ``after`` are SHA-256 digests of the ``length`` bytes.
    """

    disk: int
    file: int
    disk_offset: int
    file_offset: int
    image_offset: int
    length: int
    before: bytes
    after: bytes

    @property
    def end(self) -> int:
        """First byte of the disk behind it."""
        return self.disk_offset + self.length


def pack_start(start: Start) -> bytes:
    """The block without its seal: ``START_BYTES`` less ``DIGEST_BYTES``."""
    packed = _START.pack(
        UNDO_MAGIC, start.version, start.uuid, start.rows_offset, start.row_count, start.header_offset,
        start.header_length, start.records_offset, start.rows_sha256, start.header_sha256,
    )  # fmt: skip
    return packed.ljust(START_BYTES - DIGEST_BYTES, b"\0")


def unpack_start(raw: bytes) -> Start:
    """Read a start block; nothing is judged but the magic. Raises ValueError."""
    if len(raw) < START_BYTES or raw[:8] != UNDO_MAGIC:
        raise ValueError("no undo journal")
    return Start(*_START.unpack_from(raw)[1:])


def pack_row(row: Row) -> bytes:
    """A row as it stands in the journal."""
    return _ROW.pack(
        row.disk, row.file, row.disk_offset, row.file_offset, row.image_offset, row.length, row.before, row.after
    )


def unpack_row(raw: bytes | memoryview, index: int) -> Row:
    """The row ``index`` of a table."""
    return Row(*_ROW.unpack_from(raw, index * ROW_BYTES))


def pack_record(sequence: int, length: int) -> bytes:
    """The head of a record whose JSON has ``length`` bytes."""
    return _RECORD.pack(RECORD_MAGIC, sequence, length)


def unpack_record(raw: bytes) -> tuple[int, int] | None:
    """Sequence number and length of a record; None where no record begins."""
    if len(raw) < RECORD_BYTES:
        return None
    magic, sequence, length = _RECORD.unpack_from(raw)
    return (sequence, length) if magic == RECORD_MAGIC else None


def pack_redo(uuid: bytes) -> bytes:
    """The redo file's start."""
    return _REDO.pack(REDO_MAGIC, uuid).ljust(START_BYTES, b"\0")
