"""Streams that read sources as a copy does: their data in order, piece by piece, around the page cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from converters.care import Care, is_cached
from converters.image import open_disk
from converters.kept_open import KeptOpen
from converters.piece_reader import Manner, PieceReader
from converters.pieces import DataPiece, PieceBuffer, cut_pieces
from converters.source_file import open_source
from p2v.core.disk import DiskReader
from p2v.core.errors import P2vError
from p2v.core.units import format_bytes

Stopped = Callable[[], bool]
_NAMED = 8
# for each stream, disks that are tried to be opened
_TRIED = 4


@dataclass
class Source:
    """One disk, whose data pieces go to whoever asks next; its first failure ends it and becomes a note."""

    path: Path
    reader: DiskReader
    problem: str = ""
    read_bytes: int = 0
    cached_bytes: int = 0
    _pieces: Iterator[DataPiece] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_piece(self) -> DataPiece | None:
        """The next piece with data; None at the end, and after a failure."""
        with self._lock:
            if self._pieces is None:
                self._pieces = (each for each in cut_pieces(self.reader) if isinstance(each, DataPiece))
            if self.problem:
                return None
            try:
                return next(self._pieces, None)
            except P2vError as error:
                self.problem = error.sentence()
                return None

    def failed(self, error: P2vError) -> None:
        """Read no more of it."""
        with self._lock:
            self.problem = self.problem or error.sentence()

    def count(self, read: int, cached: int) -> None:
        """So much more was read, or passed over because it is in the page cache."""
        with self._lock:
            self.read_bytes += read
            self.cached_bytes += cached


class SourceStream:
    """One of several that read at a time; it owns what it opens and its buffer, and goes on where it stopped."""

    def __init__(self, source: Source) -> None:
        self._source = source
        # as conversions of a live machine read: what is in the page cache tells nothing about the storage
        self._reader = PieceReader(source.reader, manner=Manner(Care(spare_cache=True)))
        self._looked_at = KeptOpen(open_source)
        self._buffer = PieceBuffer()

    def close(self) -> None:
        """Close its files."""
        self._reader.close()
        self._looked_at.close()

    def up_to(self, limit: int) -> Callable[[Stopped], int]:
        """A run that reads so many bytes at most."""
        return lambda stopped: self._run(limit, stopped)

    def _run(self, limit: int, stopped: Stopped) -> int:
        done = 0
        while done < limit and not stopped():
            piece = self._source.next_piece()
            if piece is None:
                break
            try:
                done += self._read(piece)
            except P2vError as error:
                self._source.failed(error)
                break
        return done

    def _read(self, piece: DataPiece) -> int:
        length = sum(segment.length for segment in piece.segments)
        if self._is_cached(piece):
            self._source.count(0, length)
            return 0
        self._reader.fill(piece, self._buffer)
        self._source.count(length, 0)
        return length

    def _is_cached(self, piece: DataPiece) -> bool:
        """Whether any of a piece's bytes are in the page cache. A device is read around it in any case."""
        for segment in piece.segments:
            compressed = segment.extent.compressed
            where = segment.stored or compressed
            if where is None:
                continue
            file = self._looked_at.get(where.file)
            length = compressed.length if segment.stored is None and compressed is not None else segment.length
            if not file.is_block_device and is_cached(file.fd, where.offset, length):
                return True
        return False


@dataclass
class Sources:
    """Disks that are open for measuring, one stream for each that reads at a time."""

    disks: tuple[Source, ...]
    streams: tuple[SourceStream, ...]
    said: list[str] = field(default_factory=list)

    @property
    def read_disks(self) -> tuple[str, ...]:
        """Those that something was read of."""
        return tuple(str(disk.path) for disk in self.disks if disk.read_bytes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be measured, and why."""
        return tuple(self.said)

    def tell(self, *, measured: bool) -> None:
        """Note what happened to the disks, after the last repeat."""
        self.said += [f"{disk.path}: not read on: {disk.problem}" for disk in self.disks if disk.problem]
        cached = sum(disk.cached_bytes for disk in self.disks)
        if cached:
            self.said.append(f"{format_bytes(cached)} of the sources are in this host's memory, and were passed over")
        if not measured:
            read = sum(disk.read_bytes for disk in self.disks)
            self.said.append(
                f"the sources: {format_bytes(read)} could be read from storage, too little to measure a rate"
            )


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """The same paths, so that the first ones come from all over: neighbours tend to stand on one storage."""
    step = max(1, len(paths) // count)
    return [path for first in range(step) for path in paths[first::step]]


@contextmanager
def open_sources(paths: Sequence[Path], streams: int) -> Iterator[Sources]:
    """Some of the disks, one for each stream; fewer disks than streams are read by several streams each."""
    said: list[str] = []
    with ExitStack() as stack:
        disks: list[Source] = []
        for path in _spread(list(dict.fromkeys(paths)), streams)[: _TRIED * streams]:
            if len(disks) == streams:
                break
            try:
                disks.append(Source(path, stack.enter_context(open_disk(path))))
            except P2vError as error:
                if len(said) < _NAMED:
                    said.append(f"not read: {error.sentence()}")
        made = []
        for number in range(streams if disks else 0):
            stream = SourceStream(disks[number % len(disks)])
            stack.callback(stream.close)
            made.append(stream)
        yield Sources(tuple(disks), tuple(made), said)
