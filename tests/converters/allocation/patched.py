"""A disk read from memory with some bytes changed, so that thousands of damages cost nothing to make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from p2v.core.disk import Extent


@dataclass
class PatchedDisk:
    """A ``DiskReader`` over bytes; ``patches`` maps offsets to what stands there instead."""

    data: bytes
    patches: dict[int, bytes] = field(default_factory=dict)
    reads: int = 0
    read_at: dict[tuple[int, int], None] = field(default_factory=dict)
    """Every range that was read, offset and length, in order: where structures are."""

    @property
    def virtual_size(self) -> int:
        return len(self.data)

    @property
    def files(self) -> tuple[Path, ...]:
        return (Path("memory"),)

    def pread(self, length: int, offset: int) -> bytes:
        self.reads += 1
        end = min(offset + length, len(self.data))
        self.read_at[offset, max(1, end - offset)] = None
        found = self.data[offset:end]
        for at, patch in self.patches.items():
            if at < end and at + len(patch) > offset:
                raw = bytearray(found)
                first, last = max(at, offset), min(at + len(patch), end)
                raw[first - offset : last - offset] = patch[first - at : last - at]
                found = bytes(raw)
        return found

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, len(self.data), zero=False, allocated=True)

    def close(self) -> None:
        """Nothing to close."""
