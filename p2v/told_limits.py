"""What a conversion may use, told to it while it goes on: lines of JSON on its standard input, ``{"limit": BYTES}``, a second.

Only a batch does so, whose copies share what a storage may give (p2v.batch.rates). Each limit that counts from now on is reported,
for only then another copy may have what this one gives back.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator

from p2v.core.events import LimitHeard, Reporter

_STDIN = 0
_READ_BYTES = 4096
_LONGEST_LINE = 256
_LARGEST = 2**62


def told(limit: int) -> bytes:
    """The line that tells a limit."""
    return json.dumps({"limit": limit}).encode("ascii") + b"\n"


def heed(change: Callable[[int], None], report: Reporter, descriptor: int = _STDIN) -> threading.Thread:
    """Have ``change`` called with every limit that is told, until nobody can tell any more; beside everything else."""

    def listen() -> None:
        for limit in _limits(descriptor):
            change(limit)
            report(LimitHeard(limit))

    # it waits for a pipe that may stay open as long as we are there
    thread = threading.Thread(target=listen, name="limits", daemon=True)
    thread.start()
    return thread


def _limits(descriptor: int) -> Iterator[int]:
    """What stands in the lines; one that makes no sense is passed over, and one without end is the last."""
    rest = b""
    # the descriptor itself: a buffered file has a lock, which must not be held when a process is forked
    while len(rest) <= _LONGEST_LINE and (piece := _read(descriptor)):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (limit for line in lines if (limit := limit_of(line)) is not None)


def limit_of(line: bytes) -> int | None:
    """What a line tells; None: nothing that makes sense."""
    try:
        found = json.loads(line[:_LONGEST_LINE])
    except (ValueError, RecursionError):
        return None
    limit = found.get("limit") if isinstance(found, dict) else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and 0 < limit < _LARGEST else None


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_BYTES)
    except OSError:
        return b""
