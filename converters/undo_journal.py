"""The undo journal of a conversion in place: what the disks held, what they hold then, how far the commit came.

Everything read from one is checked before it is used: bounds, order, digests. ``c_undo`` has its layout.
"""

from __future__ import annotations

import enum
import hashlib
import json
import uuid
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

from converters import c_undo
from converters.c_undo import Row, Start
from converters.storage import FileState, Storage, StoredFile
from p2v.core import jsonio, jsontext
from p2v.core.errors import BadJournal, P2vError, TargetExists

_T = TypeVar("_T")
_IMAGES_AT = c_undo.START_BYTES
_TAKEN = "It takes back an earlier conversion. Name another with --undo-journal, or remove it if that is not wanted any more."


class State(enum.Enum):
    """How far a transaction came, as its last sound record says."""

    PREPARED = "prepared"
    """The journal is complete; no disk was touched."""
    COMMITTING = "committing"
    COMMITTED = "committed"
    UNDOING = "undoing"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class JournalFile:
    """A file or block device that is written to, as it was before; ``sha256`` of all of it where that was asked for.

    ``identity``: what tells a block device from another that has its name later on; empty for files.
    """

    path: Path
    state: FileState
    sha256: str | None = None
    identity: str = ""


@dataclass(frozen=True, slots=True)
class JournalDisk:
    """A disk whose bytes are in the files, as it was before; digests as ``converters.info.SourceIdentity`` has them."""

    path: Path
    format: str
    virtual_size: int
    metadata_sha256: str = ""
    sample_sha256: str = ""


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """Whose journal it is. ``created``: UTC, ISO 8601."""

    machine: str
    created: str
    suite_version: str
    disks: tuple[JournalDisk, ...]
    files: tuple[JournalFile, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A step that was taken. ``files``: what each file was right after it, in the header's order (committed only)."""

    state: State
    at: str = ""
    files: tuple[FileState, ...] = ()


class Rows(Sequence[Row]):
    """The rows of a journal, unpacked when they are asked for."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed) // c_undo.ROW_BYTES

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [c_undo.unpack_row(self._packed, i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return c_undo.unpack_row(self._packed, index % len(self))


def partial_path(journal: Path) -> Path:
    """Where a journal is written."""
    return journal.with_name(journal.name + ".partial")


def redo_path(journal: Path) -> Path:
    """Where the post-images are until they are committed: beside the journal."""
    return journal.with_name(journal.name + ".redo")


class JournalWriter:
    """Writes a journal and its redo file; nothing has the final name before ``finish``."""

    def __init__(self, storage: Storage, path: Path) -> None:
        """Begin; what an earlier run left under the partial names is replaced. Raises TargetExists, NotPermitted, NoSpace."""
        if storage.exists(path):
            raise TargetExists(path, _TAKEN)
        self._storage, self._path = storage, path
        self._uuid = uuid.uuid4().bytes
        self._rows = bytearray()
        self._at = _IMAGES_AT
        self._undo = self._redo = None
        try:
            self._undo = _anew(storage, partial_path(path))
            self._redo = _anew(storage, redo_path(path))
            self._redo.pwrite(c_undo.pack_redo(self._uuid), 0)
        except BaseException:
            self.close()
            raise

    def add(self, disk: int, file: int, disk_offset: int, file_offset: int, before: bytes, after: bytes) -> None:
        """Keep both images of a range. Ranges come in the order of disk and disk offset; both images have one length."""
        if not 0 < len(before) == len(after) <= c_undo.MAX_IMAGE_BYTES:
            raise ValueError(f"a range of {len(before)} bytes becomes {len(after)}")
        if len(self._rows) // c_undo.ROW_BYTES == c_undo.MAX_ROWS:
            raise BadJournal(self._path, f"more than {c_undo.MAX_ROWS} ranges change")
        assert self._undo is not None
        assert self._redo is not None
        digests = hashlib.sha256(before).digest(), hashlib.sha256(after).digest()
        row = Row(disk, file, disk_offset, file_offset, self._at, len(before), *digests)
        self._undo.pwrite(before, self._at)
        self._redo.pwrite(after, self._at)
        self._rows += c_undo.pack_row(row)
        self._at += len(before)

    def finish(self, header: JournalHeader) -> UndoJournal:
        """Complete both files and give the journal its name. On return they are on stable storage, and it is prepared."""
        assert self._undo is not None
        assert self._redo is not None
        text = jsontext.canonical(jsonio.encode(jsonio.converter(), header))
        header_at = self._at + len(self._rows)
        start = Start(
            c_undo.FORMAT_VERSION, self._uuid, self._at, len(self._rows) // c_undo.ROW_BYTES, header_at, len(text),
            header_at + len(text), hashlib.sha256(self._rows).digest(), hashlib.sha256(text).digest(),
        )  # fmt: skip
        block = c_undo.pack_start(start)
        self._undo.pwrite(bytes(self._rows) + text, self._at)
        self._undo.pwrite(block + hashlib.sha256(block).digest(), 0)
        self._redo.sync()
        self._undo.sync()
        self.close()
        self._storage.rename(partial_path(self._path), self._path)
        self._storage.sync_folder(self._path.parent)
        return open_journal(self._storage, self._path)

    def close(self) -> None:
        """Close both files, whatever is in them."""
        for file in (self._undo, self._redo):
            if file is not None:
                file.close()

    def discard(self) -> None:
        """Remove what was begun."""
        self.close()
        for path in (partial_path(self._path), redo_path(self._path)):
            self._storage.unlink(path)


def _anew(storage: Storage, path: Path) -> StoredFile:
    storage.unlink(path)
    return storage.create(path)


class UndoJournal:
    """An open journal whose start, rows and header were found sound; images are checked when they are read."""

    def __init__(self, file: StoredFile, seal: bytes, start: Start, header: JournalHeader, rows: Rows) -> None:
        self.header = header
        self.rows = rows
        self.start = start
        self._file = file
        self._seal = seal
        self._end = start.records_offset
        self.records = tuple(self._read_records())

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._file.path

    @property
    def state(self) -> State:
        """How far the transaction came."""
        return self.records[-1].state if self.records else State.PREPARED

    def committed_files(self) -> tuple[FileState, ...]:
        """What the files were right after the commit; empty where there was none."""
        return next((r.files for r in reversed(self.records) if r.state is State.COMMITTED), ())

    def before(self, row: Row) -> bytes:
        """The bytes a range had. Raises BadJournal."""
        return self._image(self._file, row, row.before)

    def after(self, row: Row, redo: StoredFile) -> bytes:
        """The bytes a range gets, from the open redo file. Raises BadJournal."""
        return self._image(redo, row, row.after)

    def _image(self, file: StoredFile, row: Row, digest: bytes) -> bytes:
        data = file.pread(row.length, row.image_offset)
        if hashlib.sha256(data).digest() != digest:
            disk = self.header.disks[row.disk].path
            raise BadJournal(
                file.path,
                f"the {row.length} bytes kept for byte {row.disk_offset} of {disk} are damaged (digest differs)",
            )
        return data

    def append(self, record: Record) -> None:
        """Note a step. On return it is on stable storage."""
        if len(self.records) == c_undo.MAX_RECORDS:
            raise BadJournal(self.path, f"has {len(self.records)} records, more than any use of it makes")
        text = jsontext.canonical(jsonio.encode(jsonio.converter(), record))
        head = c_undo.pack_record(len(self.records), len(text))
        packed = head + text + hashlib.sha256(self._seal + head + text).digest()
        # what a torn record left must not stand behind the new one
        self._file.truncate(self._end)
        self._file.pwrite(packed, self._end)
        self._file.sync()
        self._end += len(packed)
        self.records = (*self.records, record)

    def sync(self) -> None:
        """Make sure of the records that were read: whoever wrote the last one may have been killed before it was synced, and to
        act on it and then lose it with the host's memory would leave disks half written and nobody to know."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> UndoJournal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _read_records(self) -> Iterator[Record]:
        for sequence in range(c_undo.MAX_RECORDS):
            head = self._file.pread(c_undo.RECORD_BYTES, self._end)
            found = c_undo.unpack_record(head)
            if found is None or found[0] != sequence or found[1] > c_undo.MAX_RECORD_BYTES:
                return
            rest = self._file.pread(found[1] + c_undo.DIGEST_BYTES, self._end + len(head))
            text, digest = rest[: found[1]], rest[found[1] :]
            if hashlib.sha256(self._seal + head + text).digest() != digest:
                return
            self._end += len(head) + len(rest)
            yield _decoded(self.path, text, Record, "record")


def open_journal(storage: Storage, path: Path) -> UndoJournal:
    """Open a journal and check it. Raises NoSource, NotPermitted, ReadFailed, BadJournal."""
    file = storage.open(path)
    try:
        block = file.pread(c_undo.START_BYTES, 0)
        start = _checked_start(file, block)
        packed = file.pread(start.row_count * c_undo.ROW_BYTES, start.rows_offset)
        _require(hashlib.sha256(packed).digest() == start.rows_sha256, path, "its table of ranges is damaged")
        text = file.pread(start.header_length, start.header_offset)
        _require(hashlib.sha256(text).digest() == start.header_sha256, path, "its header is damaged")
        header = _decoded(path, text, JournalHeader, "header")
        rows = Rows(packed)
        _check_rows(path, rows, header, start)
        return UndoJournal(file, block[-c_undo.DIGEST_BYTES :], start, header, rows)
    except BaseException:
        file.close()
        raise


def write_redo(storage: Storage, journal: UndoJournal, image: Callable[[Row], bytes]) -> None:
    """Make the redo file of a journal anew. On return it is on stable storage."""
    file = _anew(storage, redo_path(journal.path))
    try:
        file.pwrite(c_undo.pack_redo(journal.start.uuid), 0)
        for row in journal.rows:
            file.pwrite(image(row), row.image_offset)
        file.sync()
    finally:
        file.close()
    storage.sync_folder(journal.path.parent)


def open_redo(storage: Storage, journal: UndoJournal) -> StoredFile:
    """The journal's redo file. Raises BadJournal when it is not there, or another's."""
    path = redo_path(journal.path)
    try:
        file = storage.open(path)
    except P2vError as error:
        raise BadJournal(path, "the post-images are not there") from error
    if file.pread(c_undo.START_BYTES, 0) != c_undo.pack_redo(journal.start.uuid):
        file.close()
        raise BadJournal(path, f"does not belong to {journal.path.name}, or is damaged")
    return file


def _checked_start(file: StoredFile, block: bytes) -> Start:
    path = file.path
    try:
        start = c_undo.unpack_start(block)
    except ValueError as error:
        raise BadJournal(path, "is no undo journal, or its beginning is gone") from error
    body, seal = block[: -c_undo.DIGEST_BYTES], block[-c_undo.DIGEST_BYTES :]
    _require(hashlib.sha256(body).digest() == seal, path, "its start block is damaged")
    _require(
        start.version == c_undo.FORMAT_VERSION, path, f"is of version {start.version}, which this one does not read"
    )
    size = file.state().size
    sound = (
        start.row_count <= c_undo.MAX_ROWS
        and start.header_length <= c_undo.MAX_HEADER_BYTES
        and start.rows_offset >= _IMAGES_AT
        and start.rows_offset + start.row_count * c_undo.ROW_BYTES == start.header_offset
        and start.header_offset + start.header_length == start.records_offset <= size
    )
    _require(sound, path, f"its start block names places it cannot have (the file has {size} bytes)")
    return start


def _check_rows(path: Path, rows: Rows, header: JournalHeader, start: Start) -> None:
    image_at, last = _IMAGES_AT, (0, 0)
    for number, row in enumerate(rows):
        wrong = (
            row.disk >= len(header.disks)
            or row.file >= len(header.files)
            or not 0 < row.length <= c_undo.MAX_IMAGE_BYTES
            or row.image_offset != image_at
            or (row.disk, row.disk_offset) < last
            or row.end > header.disks[row.disk].virtual_size
            or row.file_offset + row.length > header.files[row.file].state.size
        )
        _require(not wrong, path, f"its range {number} contradicts the others")
        image_at, last = image_at + row.length, (row.disk, row.end)
    _require(image_at == start.rows_offset, path, "its images and its ranges have different lengths")
    places = array("Q"), array("Q"), array("Q")
    for row in rows:
        for column, value in zip(places, (row.file, row.file_offset, row.length), strict=True):
            column.append(value)
    reach = (0, 0)
    for index in sorted(range(len(rows)), key=lambda i: (places[0][i], places[1][i])):
        at = places[0][index], places[1][index]
        _require(at >= reach, path, f"its range {index} lies over another in {header.files[at[0]].path}")
        reach = at[0], at[1] + places[2][index]


def _decoded(path: Path, text: bytes, kind: type[_T], what: str) -> _T:
    try:
        return jsonio.decode(jsonio.converter(), json.loads(text), kind)
    except (ValueError, RecursionError) as error:
        raise BadJournal(path, f"its {what} cannot be understood: {error}") from error


def _require(holds: bool, path: Path, problem: str) -> None:
    if not holds:
        raise BadJournal(path, problem)
