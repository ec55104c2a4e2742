"""The copy loop: a disk's extents to a target, by several threads, zeroes left out."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from converters.care import NO_CARE, Care, WriteBehind
from converters.digest import ContentDigest, add_piece
from converters.faults import Faults
from converters.piece_walk import walk_pieces
from converters.pieces import SUBPIECE_BYTES, DataPiece, PieceBuffer, ZeroPieces, cut_pieces, in_short_runs
from converters.reflink import Sharing
from converters.target_writer import TargetWriter
from p2v.core.disk import DiskReader
from p2v.core.errors import BadImage
from p2v.core.events import Reporter

# More than most hosts have cores to spare: while some wait for the target's disk, others read, inflate and hash. On two cores, four
# took 0.75 (with a digest), 0.85 (plain) and 0.9 (inflating) of the time of two.
COPY_THREADS = 4


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did, in bytes of the virtual disk.

    ``read_bytes`` were read from the source, ``written_bytes`` were not zero and went to the target (whole
    64 KiB sub-pieces), ``resumed_bytes`` were there from an earlier run, ``shared_bytes`` are the source's own
    blocks (reflink), which were neither read (but for a digest) nor written. ``digest`` is the content digest, where
    one was asked for.
    """

    virtual_size: int
    read_bytes: int
    written_bytes: int
    resumed_bytes: int
    seconds: float
    digest: str | None
    shared_bytes: int = 0


@dataclass
class _CopySink:
    """Writes what is not zero and gathers the digest; see ``PieceSink``."""

    writer: TargetWriter
    digest: ContentDigest | None
    behind: WriteBehind | None = None
    sharing: Sharing | None = None
    read_bytes: int = 0
    written_bytes: int = 0
    resumed_bytes: int = 0
    shared_bytes: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def zeroes(self, run: ZeroPieces) -> None:
        if not self.writer.starts_empty:
            self.writer.write_zeroes(run.first, run.count)
        if self.digest is not None:
            self.digest.zero_leaves(run.first, run.count)

    def wants(self, piece: DataPiece) -> bool:
        """Pieces that are in the target already, or whose blocks are shared, are read only for their digest."""
        if not self.writer.is_done(piece.index):
            return self.digest is not None or not self._shared(piece)
        with self._counting:
            self.resumed_bytes += piece.length
        return self.digest is not None

    def data(self, piece: DataPiece, buffer: PieceBuffer) -> None:
        data_map = buffer.data_map(piece.length)
        written = 0
        if not self.writer.is_done(piece.index) and not (data_map and self.digest is not None and self._shared(piece)):
            self.writer.write_piece(piece.index, buffer.view[: piece.length], data_map)
            written = min(data_map.bit_count() * SUBPIECE_BYTES, piece.length)
            if self.behind is not None:
                self.behind.written(written)
        if self.digest is not None:
            add_piece(self.digest, piece, buffer, data_map)
        with self._counting:
            self.read_bytes += sum(segment.length for segment in piece.segments)
            self.written_bytes += written

    def _shared(self, piece: DataPiece) -> bool:
        """Give the target the source's own blocks for all of a piece, where that can be."""
        if self.sharing is None:
            return False
        ranges = self.sharing.ranges_of(piece, self.writer.virtual_size)
        if ranges is None or self.writer.share_piece(piece.index, ranges, self.sharing.share) is None:
            return False
        with self._counting:
            self.shared_bytes += sum(each.length for each in ranges)
        return True


def copy_disk(
    reader: DiskReader,
    writer: TargetWriter,
    *,
    report: Reporter,
    threads: int = 2,
    digest: ContentDigest | None = None,
    cancelled: threading.Event | None = None,
    phase: str = "copy",
    care: Care = NO_CARE,
    faults: Faults | None = None,
    share: bool = False,
) -> CopyResult:
    """Copy a whole disk into ``writer``; the caller finishes (or discards) the target.

    Extents that read as zero are not read, stored ones are read straight from their files, compressed ones
    are inflated here. BytesDone events of ``phase`` sum up to the virtual size; the caller brackets the phase.
    Setting ``cancelled`` ends the copy after the pieces at hand. ``care``: how gently source and target are treated;
    ``faults``: what becomes of what cannot be read, and, afterwards, what that was. ``share``: blocks are shared with the
    source where the file system can; with a digest, they are read all the same.

    Raises BadImage (also for a writer of another size), BadSectors, SourceGone, SourceFailing, ReadFailed, NotPermitted,
    NoSpace, CopyCancelled and what the reader raises: the first error of any thread, when all have stopped.
    """
    if writer.virtual_size != reader.virtual_size:
        raise BadImage(writer.path, f"made for {writer.virtual_size} bytes, the disk has {reader.virtual_size}")
    started = time.monotonic()
    parts = None if writer.starts_empty else in_short_runs(cut_pieces(reader), reader.virtual_size)
    with ExitStack() as stack:
        behind = stack.enter_context(WriteBehind(writer.path)) if care.spare_cache else None
        # a device is no file of a file system that could share
        sharing = stack.enter_context(Sharing(writer.path.parent)) if share and writer.starts_empty else None
        sink = _CopySink(writer, digest, behind, sharing)
        walk_pieces(
            reader, sink, report=report, phase=phase, threads=threads, cancelled=cancelled, parts=parts, care=care, faults=faults
        )
    return CopyResult(
        virtual_size=reader.virtual_size,
        read_bytes=sink.read_bytes,
        written_bytes=sink.written_bytes,
        resumed_bytes=sink.resumed_bytes,
        seconds=time.monotonic() - started,
        digest=digest.text() if digest is not None else None,
        shared_bytes=sink.shared_bytes,
    )
