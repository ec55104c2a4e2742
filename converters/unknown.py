"""What a file has in places where every piece has its own, and nobody recorded: it is no part of the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from converters.host_file import stored_ranges
from converters.pieces import PIECE_BYTES, PieceSet, piece_count


def unknown_runs(handle: int, path: Path, restored: PieceSet, base: int = 0) -> Iterator[tuple[int, int]]:
    """Runs of pieces (first, count) that have something stored and were not restored; piece 0 begins at byte ``base``.

    Raises ReadFailed.
    """
    begin = stop = 0
    for offset, length in stored_ranges(handle, path):
        for index in range(max((offset - base) // PIECE_BYTES, stop), piece_count(max(offset + length - base, 0))):
            if index in restored:
                continue
            if index > stop and stop > begin:
                yield begin, stop - begin
                begin = index
            begin = begin if stop > begin else index
            stop = index + 1
    if stop > begin:
        yield begin, stop - begin
