"""What a program says, read by a thread as it comes and kept within bounds."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

_KEPT_BYTES = 64 * 1024 * 1024
_LONGEST_LINE_BYTES = 64 * 1024
_GRACE_SECONDS = 5.0


@dataclass
class Collector:
    """Reads one stream to its end in a thread, keeping a bounded amount."""

    stream: IO[bytes]
    on_line: Callable[[str], None] | None = None
    keep_lines: int | None = None
    lines: deque[str] = field(default_factory=deque)
    kept_bytes: int = 0
    thread: threading.Thread | None = None

    def start(self) -> Collector:
        """Begin to read."""
        if self.keep_lines is not None:
            self.lines = deque(maxlen=self.keep_lines)
        self.thread = threading.Thread(target=self._drain, daemon=True)
        self.thread.start()
        return self

    def _drain(self) -> None:
        if self.on_line is not None:
            self._drain_told(self.on_line)
            return
        while raw := self.stream.readline(_LONGEST_LINE_BYTES):
            self._keep(raw.decode("utf-8", "replace"))

    def _drain_told(self, on_line: Callable[[str], None]) -> None:
        # progress is written over itself: its lines end with a carriage return
        with io.TextIOWrapper(self.stream, "utf-8", "replace", newline=None) as lines:
            while line := lines.readline(_LONGEST_LINE_BYTES):
                self._keep(line)
                on_line(line.rstrip("\n"))

    def _keep(self, line: str) -> None:
        if self.keep_lines is not None or self.kept_bytes < _KEPT_BYTES:
            self.lines.append(line)
            self.kept_bytes += len(line)

    def text(self) -> str:
        """What it said, once the program has ended; who it left with the stream is waited for a moment only."""
        if self.thread is not None:
            self.thread.join(_GRACE_SECONDS)
        return "".join(self.lines)
