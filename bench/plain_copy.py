"""The least a copy can do here: ``python -m bench.plain_copy MAP TARGET SIZE [direct]``.

MAP has lines ``file offset-in-file offset-of-disk length``. Two threads read into reused buffers and write what is not zero,
in pieces of 2 MiB; no digest, no journal, no format. Waits until it is on stable storage. ``direct``: writes around the page
cache, with four threads. Which of the two is quicker depends on the host.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

from converters.pieces import PIECE_BYTES, PieceBuffer

_UNIT_BYTES = 4096


def main() -> int:
    """Copy every range of the map."""
    with open(sys.argv[1], encoding="utf-8") as lines:
        ranges = [(name, int(a), int(b), int(c)) for name, a, b, c in (line.rsplit(" ", 3) for line in lines)]
    files = {name: os.open(name, os.O_RDONLY) for name, *_ in ranges}
    is_direct = sys.argv[4:] == ["direct"]
    target = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    os.ftruncate(target, int(sys.argv[3]))
    direct = os.open(sys.argv[2], os.O_WRONLY | os.O_DIRECT) if is_direct else target
    pieces = _pieces(ranges)
    lock = threading.Lock()

    def work() -> None:
        buffer = PieceBuffer()
        while True:
            with lock:
                piece = next(pieces, None)
            if piece is None:
                return
            name, start, at, length = piece
            got = os.preadv(files[name], [buffer.view[:length]], start)
            if buffer.data_map(got):
                os.pwrite(target if (at | got) % _UNIT_BYTES else direct, buffer.view[:got], at)

    threads = [threading.Thread(target=work) for _ in range(4 if is_direct else 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.fsync(target)
    return 0


def _pieces(ranges: list[tuple[str, int, int, int]]) -> Iterator[tuple[str, int, int, int]]:
    for name, start, at, length in ranges:
        for done in range(0, length, PIECE_BYTES):
            yield name, start + done, at + done, min(PIECE_BYTES, length - done)


if __name__ == "__main__":
    sys.exit(main())
