"""What a program says, in a file without a name: unlike a pipe, it takes words also when nobody listens any more.

A program that writes to a pipe whose reader was killed is killed by that; one that writes to a file is not.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

from converters.host_file import punch_hole
from p2v.core.units import KIB, MIB

_READ_BYTES, _KEPT_BYTES = 256 * KIB, 4 * MIB
_MOST_BYTES = 64 * MIB
"""What the file may hold where a file system makes no holes."""


@dataclass
class SaidFile:
    """``writer``: what the program gets. What was read of the file takes no room any more: it holds some MiB at most, as long as
    somebody reads. Of more than that, said at once, the last is read."""

    writer: int
    _reader: int
    _emptied: int = 0

    @classmethod
    def made(cls) -> SaidFile:
        """In the folder for temporary files. Raises OSError."""
        with tempfile.TemporaryFile() as file:
            place = f"/proc/self/fd/{file.fileno()}"
            writer = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                return cls(writer, os.open(place, os.O_RDWR | os.O_CLOEXEC))
            except BaseException:
                os.close(writer)
                raise

    def read(self) -> bytes:
        """More of what was said; nothing: no more yet."""
        size, at = os.fstat(self._reader).st_size, os.lseek(self._reader, 0, os.SEEK_CUR)
        if size - at > _KEPT_BYTES:
            at = os.lseek(self._reader, size - _READ_BYTES, os.SEEK_SET)
        piece = os.read(self._reader, _READ_BYTES)
        at += len(piece)
        if at - self._emptied > _KEPT_BYTES:
            self._empty(at)
        return piece

    def _empty(self, at: int) -> None:
        """Free what stands before a place; who appends goes on behind it."""
        # a file that is cut loses what is said meanwhile, and who writes much holds that up: the last words, once in twenty times
        if punch_hole(self._reader, self._emptied, at - self._emptied):
            self._emptied = at
        elif os.fstat(self._reader).st_size <= at or at > _MOST_BYTES:
            # who appends goes on at the beginning then
            os.ftruncate(self._reader, 0)
            os.lseek(self._reader, 0, os.SEEK_SET)

    def close(self) -> None:
        """Our ends of it; the program keeps its own."""
        for each in (self.writer, self._reader):
            os.close(each)
