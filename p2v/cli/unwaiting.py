"""Text for whoever watches, who may stop reading: Ctrl-S in a terminal, a pager that is stopped, a collector of logs that is busy.

Whoever writes to such a stream waits in the kernel until it is read again: a run over night would renew no lease meanwhile, and a
copy would stand still. Here what is not taken at once is kept and written later.
"""

from __future__ import annotations

import io
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TextIO

from p2v.core.units import MIB

KEPT_BYTES_AT_MOST = MIB


def lines_left_out(pieces: int) -> str:
    """What is said in place of lines that nobody took."""
    return f"({pieces} lines were left out: nobody took what was written here for a while)\n"


class Unwaiting(io.TextIOBase):
    """A text stream over another one's file; ``flush`` and the end of a line write what is taken now. Any thread may use it.

    ``left_out``: what is written in place of the oldest pieces, which go where more than ``KEPT_BYTES_AT_MOST`` are kept; it gets
    how many. A piece is what stands between two calls of ``flush``.
    """

    def __init__(self, stream: TextIO, taker: _Taker, left_out: Callable[[int], str]) -> None:
        self._stream = stream
        self._left_out = left_out
        self._taker: _Taker | None = taker
        self._unflushed: list[str] = []
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._lost = 0
        self._lock = threading.Lock()

    @classmethod
    def over(cls, stream: TextIO, left_out: Callable[[int], str] = lines_left_out) -> Unwaiting | None:
        """None where nobody waits: over a file, which takes all that is written, and where there is no file that it could be."""
        taker = _taker(stream)
        return None if taker is None else cls(stream, taker, left_out)

    @property
    def encoding(self) -> str:  # type: ignore[override] # as of a TextIO
        """The other stream's, by which bars choose their letters."""
        return self._stream.encoding

    @property
    def is_behind(self) -> bool:
        """Whether something is kept that was not taken: what need not be said is better left unsaid."""
        return bool(self._kept)

    def fileno(self) -> int:
        """The other stream's file."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether that is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """It is for nothing else."""
        return True

    def write(self, text: str) -> int:
        """Keep it until the next ``flush``, or the end of a line."""
        with self._lock:
            self._unflushed.append(text)
        if text.endswith("\n"):
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write what is taken now. Raises OSError; what was kept is gone then."""
        with self._lock:
            self._keep()
            try:
                if self._taker is not None:
                    self._write(self._taker)
            except OSError:
                self._forget()
                raise

    def settle(self) -> None:
        """Wait until all of it is taken, as every other program does. Raises OSError."""
        self.flush()
        with self._lock:
            left = b"".join((*list(self._kept)[:1], self._told_of_loss(), *list(self._kept)[1:]))
            self._forget()
            while left:
                left = left[os.write(self._stream.fileno(), left) :]

    def close(self) -> None:
        """Let go of the file; the other stream stays open. What was not taken is gone."""
        with self._lock:
            self._forget()
            taker, self._taker = self._taker, None
        if taker is not None:
            taker.close()

    def _keep(self) -> None:
        piece, self._unflushed = "".join(self._unflushed), []
        if piece:
            self._append(piece.encode(self.encoding, self._stream.errors or "strict"))
        # the oldest may be written in part, and is finished first
        while self._kept_bytes > KEPT_BYTES_AT_MOST and len(self._kept) > 2:
            self._kept_bytes -= len(self._kept[1])
            del self._kept[1]
            self._lost += 1

    def _append(self, piece: bytes) -> None:
        self._kept.append(piece)
        self._kept_bytes += len(piece)

    def _write(self, taker: _Taker) -> None:
        while self._kept:
            piece = self._kept[0]
            taken = taker.take(piece)
            if not taken:
                return
            self._kept_bytes -= taken
            if taken < len(piece):
                self._kept[0] = piece[taken:]
                continue
            self._kept.popleft()
            if told := self._told_of_loss():
                self._kept.appendleft(told)
                self._kept_bytes += len(told)

    def _told_of_loss(self) -> bytes:
        """Stands behind the oldest piece, which was not lost; empty for no loss."""
        lost, self._lost = self._lost, 0
        return self._left_out(lost).encode(self.encoding, "replace") if lost else b""

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0


def _taker(stream: TextIO) -> _Taker | None:
    """How to write to a stream's file without waiting; None where nothing is waited for, or it cannot be helped."""
    try:
        fd = stream.fileno()
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            return _SocketTaker(fd)
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            # opened once more, for its flags are this process' alone then: those of what was handed over are its givers' too
            return _FileTaker(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except (OSError, ValueError):
        pass  # no file (a test's), or one that may not be opened again
    return None


class _Taker(Protocol):
    def take(self, data: bytes) -> int:
        """Write as much as is taken without waiting: its bytes, 0 for none now. Raises OSError."""

    def close(self) -> None:
        """Let go of what was opened."""


@dataclass(frozen=True, slots=True)
class _FileTaker:
    fd: int

    def take(self, data: bytes) -> int:
        with suppress(BlockingIOError):
            return os.write(self.fd, data)
        return 0

    def close(self) -> None:
        os.close(self.fd)


class _SocketTaker:
    """For systemd's journal, and whoever else gives a socket."""

    def __init__(self, fd: int) -> None:
        # a part of every start otherwise
        import socket

        self._connection = socket.socket(fileno=os.dup(fd))
        self._flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

    def take(self, data: bytes) -> int:
        with suppress(BlockingIOError):
            return self._connection.send(data, self._flags)
        return 0

    def close(self) -> None:
        self._connection.close()
