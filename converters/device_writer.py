"""Block devices as targets: what is zero on the disk must be made zero, for a device holds what it held before.

Whole ranges of zeroes are left to the kernel: first as holes, with which thin volumes and SSDs store nothing, then as
zeroes that the device makes by itself, at last as written ones. Source: Linux block/fops.c (fallocate of a device: a hole
surely reads as zero, or is refused), block/ioctl.c (BLKZEROOUT, which keeps the place, and BLKDISCARD, after which nothing is
sure to read as zero; both take two 64-bit numbers, start and length, in bytes).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from converters.device_contents import END_BYTES
from converters.direct_file import DirectFile
from converters.host_file import punch_hole, read_into, sync_data, write_all
from converters.pieces import PIECE_BYTES, SUBPIECE_BYTES, map_runs, piece_count
from converters.reflink import Share, SharedRange
from p2v.core.io_errors import write_problem
from p2v.core.units import KIB, MIB, round_up

_BLKDISCARD, _BLKZEROOUT = 0x1277, 0x127F
# One call cannot be interrupted: at 100 MB/s this is less than a second.
_STEP_BYTES = 64 * MIB
_ALIGNMENT = 4 * KIB
# Shorter gaps in a piece are written with what is around them: a call for each would take longer than the bytes.
_SHORTEST_GAP = 4
_ZEROES = bytes(MIB)
# What these devices do not do, they say in one of these ways.
_UNABLE = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EREMOTEIO})


class DeviceWriter:
    """A ``PlacedWriter`` on an open device, which it owns; places are always 0."""

    starts_empty = False

    def __init__(self, handle: int, path: Path, virtual_size: int) -> None:
        self.path = path
        self.virtual_size = virtual_size
        self._handle: int | None = handle
        self._direct = DirectFile(handle, path)
        self._ways: list[Callable[[int, int, int], bool]] = [punch_hole, self._zero_out]

    def is_done(self, index: int) -> bool:
        """Never: what was restored is the caller's to know."""
        return False

    def write_piece(self, index: int, data: memoryview, data_map: int) -> int:
        """See ``TargetWriter.write_piece``."""
        base, written = index * PIECE_BYTES, 0
        for first, count in _joined(map_runs(data_map)):
            start, end = first * SUBPIECE_BYTES, min((first + count) * SUBPIECE_BYTES, len(data))
            self.zero_range(base + written, start - written)
            self._direct.write(self._open(), [data[start:end]], base + start)
            written = end
        self.zero_range(base + written, len(data) - written)
        return 0

    def share_piece(self, index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
        """See ``TargetWriter.share_piece``: a device has no blocks in common with a file."""
        return None

    def write_zeroes(self, first: int, count: int) -> None:
        """See ``TargetWriter.write_zeroes``."""
        start = first * PIECE_BYTES
        self.zero_range(start, min(start + count * PIECE_BYTES, self.virtual_size) - start)

    def sync(self) -> None:
        """See ``PlacedWriter.sync``."""
        sync_data(self._open(), self.path)

    def restore(self, index: int, place: int, data_map: int) -> None:
        """See ``PlacedWriter.restore``; the piece is where it always is."""
        if place != 0:
            raise ValueError(f"piece {index} of a device cannot be at {place}")

    def forget(self, index: int) -> None:
        """See ``PlacedWriter.forget``."""

    def read_piece(self, index: int, into: memoryview) -> bool:
        """See ``PlacedWriter.read_piece``."""
        return read_into(self._open(), self.path, into, index * PIECE_BYTES)

    def drop(self, index: int) -> None:
        """See ``PlacedWriter.drop``."""
        self.write_zeroes(index, 1)

    def tidy(self, erase: Sequence[tuple[int, int]]) -> None:
        """See ``PlacedWriter.tidy``."""
        for first, count in erase:
            self.write_zeroes(first, count)

    def end_pieces(self, device_bytes: int) -> frozenset[int]:
        """The first piece, the last one, and what else there is in the device's last MiB."""
        count = piece_count(self.virtual_size)
        return frozenset((0, *range(min(max(0, device_bytes - END_BYTES) // PIECE_BYTES, count - 1), count)))

    def clear_ends(self, device_bytes: int) -> None:
        """Make the pieces at the ends and the device's last MiB zero: an unfinished disk must not look like one."""
        for index in self.end_pieces(device_bytes):
            self.write_zeroes(index, 1)
        behind = max(self.virtual_size, device_bytes - END_BYTES)
        self.zero_range(behind, device_bytes - behind)
        self.sync()

    def discard(self, length: int) -> bool:
        """Tell the device that nothing of its first ``length`` bytes is needed; False where it takes no such word."""
        starts = range(0, length, _STEP_BYTES)
        return all(self._asked(_BLKDISCARD, start, min(_STEP_BYTES, length - start)) for start in starts)

    def zero_range(self, offset: int, length: int) -> None:
        """Make a range read as zero. Raises ReadFailed, NotPermitted."""
        end = offset + length
        begin = min(round_up(offset, _ALIGNMENT), end)
        stop = max(end // _ALIGNMENT * _ALIGNMENT, begin)
        self._write_zeroes(offset, begin)
        for start in range(begin, stop, _STEP_BYTES):
            self._zero_step(start, min(_STEP_BYTES, stop - start))
        self._write_zeroes(stop, end)

    def finish(self) -> None:
        """See ``TargetWriter.finish``."""
        self.sync()

    def close(self) -> None:
        """Close the device."""
        self._direct.close()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _zero_step(self, start: int, length: int) -> None:
        for way in tuple(self._ways):
            if way(self._open(), start, length):
                return
            # what a device cannot do once it cannot do later; other threads may find out too
            with contextlib.suppress(ValueError):
                self._ways.remove(way)
        self._write_zeroes(start, start + length)

    def _zero_out(self, _handle: int, start: int, length: int) -> bool:
        return self._asked(_BLKZEROOUT, start, length)

    def _asked(self, request: int, start: int, length: int) -> bool:
        try:
            fcntl.ioctl(self._open(), request, struct.pack("=QQ", start, length))
        except OSError as error:
            if error.errno in _UNABLE:
                return False
            raise write_problem(error, self.path, start) from error
        return True

    def _write_zeroes(self, start: int, end: int) -> None:
        for offset in range(start, end, len(_ZEROES)):
            part = memoryview(_ZEROES)[: min(len(_ZEROES), end - offset)]
            write_all(self._open(), self.path, [part], offset)

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError(f"{self.path} is closed")
        return self._handle


def _joined(runs: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Runs of sub-pieces with the short gaps between them."""
    held: tuple[int, int] | None = None
    for first, count in runs:
        if held is not None and first - sum(held) < _SHORTEST_GAP:
            held = (held[0], first + count - held[0])
            continue
        if held is not None:
            yield held
        held = (first, count)
    if held is not None:
        yield held
