"""Which host clusters of a qcow2 file that is being written are taken, and how many compressed clusters share each.

Plain clusters and tables have host clusters of their own. Compressed ones are streams, packed byte by byte; a host
cluster's refcount is then the number of streams that touch it.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator, Sequence

from converters.free_ranges import FreeRanges

_MOST_REFERENCES = (1 << 16) - 1


class HostClusters:
    """Hands out places in the file; safe for threads. ``first``: the first cluster that can be had.

    Memory: 2 bytes for each host cluster up to the last one with streams, besides the gaps.
    """

    def __init__(self, cluster_bytes: int, first: int = 1) -> None:
        self._cluster_bytes = cluster_bytes
        self._ranges = FreeRanges(first)
        self._streams = array("H")
        # Where the next stream goes, and the end of the clusters that are taken for streams there.
        self._next_stream = self._streams_end = 0
        self._lock = threading.Lock()

    @property
    def end(self) -> int:
        """The first cluster behind all that was ever taken."""
        return self._ranges.end

    def free(self) -> Iterator[tuple[int, int]]:
        """The clusters below ``end`` that nothing is in, as runs (first, count) in order."""
        return iter(self._ranges)

    def take(self, count: int) -> int:
        """Take ``count`` clusters side by side; the first one's number."""
        with self._lock:
            return self._ranges.append(count)

    def give_back(self, first: int, count: int) -> None:
        """Return clusters in which nothing is."""
        with self._lock:
            self._ranges.release(first, count)

    def take_streams(self, lengths: Sequence[int]) -> list[int]:
        """Take bytes for streams, as far as can be one right behind the other; the byte offset of each in the file."""
        with self._lock:
            offsets = [self._take_stream(length) for length in lengths]
            for offset, length in zip(offsets, lengths, strict=True):
                self._count(offset, length)
            return offsets

    def claim(self, first: int, count: int) -> None:
        """Take exactly these clusters, for an earlier run left something there. Raises ValueError when they are taken."""
        self._ranges.take(first, count)

    def claim_stream(self, offset: int, length: int) -> None:
        """Count a stream that an earlier run left. Raises ValueError where something other than streams is."""
        first, last = offset // self._cluster_bytes, (offset + length - 1) // self._cluster_bytes
        for cluster in range(first, last + 1):
            if cluster >= len(self._streams) or not self._streams[cluster]:
                self._ranges.take(cluster, 1)
        self._count(offset, length)

    def give_back_stream(self, offset: int, length: int) -> None:
        """Take back ``claim_stream``."""
        with self._lock:
            for cluster in range(offset // self._cluster_bytes, (offset + length - 1) // self._cluster_bytes + 1):
                self._streams[cluster] -= 1
                if not self._streams[cluster]:
                    self._ranges.release(cluster, 1)

    def refcounts(self, first: int, count: int) -> array[int]:
        """The refcounts of ``count`` clusters from ``first`` on, as 16-bit numbers; 0 from ``end`` on."""
        used = max(0, min(count, self.end - first))
        found = array("H", [1]) * used + array("H", [0]) * (count - used)
        for start, length in self._ranges:
            a, b = max(start, first) - first, min(start + length, first + count) - first
            if a < b:
                found[a:b] = array("H", [0]) * (b - a)
        for at, streams in enumerate(self._streams[first : first + used]):
            if streams > 1:
                found[at] = streams
        return found

    def _take_stream(self, length: int) -> int:
        missing = self._next_stream + length - self._streams_end
        if missing > 0:
            if self._streams_end != self.end * self._cluster_bytes:  # something else stands behind: begin elsewhere
                self._next_stream = self._streams_end = self.end * self._cluster_bytes
                missing = length
            clusters = -(-missing // self._cluster_bytes)
            self._streams_end += clusters * self._cluster_bytes
            self._ranges.append(clusters)
        start = self._next_stream
        self._next_stream += length
        return start

    def _count(self, offset: int, length: int) -> None:
        first, last = offset // self._cluster_bytes, (offset + length - 1) // self._cluster_bytes
        if last >= len(self._streams):
            self._streams.extend(bytes(last + 1 - len(self._streams)))
        for cluster in range(first, last + 1):
            if self._streams[cluster] == _MOST_REFERENCES:
                raise ValueError(f"more than {_MOST_REFERENCES} streams would touch cluster {cluster}")
            self._streams[cluster] += 1
