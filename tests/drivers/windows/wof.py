"""Files as Windows' overlay filter and its deduplication leave them on NTFS, written through ntfs-3g."""

from __future__ import annotations

import os
import struct
from pathlib import Path

WOF, DEDUP = 0x80000017, 0x80000013
_CHUNK = 4096
_XPRESS4K = 0


def compressed(path: Path, data: bytes) -> None:
    """A file of CompactOS: its own data a hole, the chunks (each stored as it is, as for what does not get smaller) in a stream."""
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    ends = [sum(map(len, chunks[: n + 1])) for n in range(len(chunks) - 1)]
    with path.open("wb") as file:
        file.truncate(len(data))
    Path(f"{path}:WofCompressedData").write_bytes(struct.pack(f"<{len(ends)}I", *ends) + data)
    # version and provider (2: this file), then the provider's version and the algorithm
    reparsed(path, WOF, struct.pack("<4I", 1, 2, 1, _XPRESS4K))


def reparsed(path: Path, tag: int, data: bytes = bytes(16)) -> None:
    """Make a reparse point of a file."""
    os.setxattr(path, "system.ntfs_reparse_data", struct.pack("<IHH", tag, len(data), 0) + data)
