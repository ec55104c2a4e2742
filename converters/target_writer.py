"""What the copy loop and the resume record need of a target format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from converters.reflink import Share, SharedRange


class TargetWriter(Protocol):
    """Takes a disk's pieces (see ``converters.pieces``) in any order."""

    @property
    def path(self) -> Path:
        """The file that is written."""
        ...

    @property
    def starts_empty(self) -> bool:
        """Whether what is not written reads as zero; a block device holds what it held."""
        ...

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as the source has it."""
        ...

    def is_done(self, index: int) -> bool:
        """Whether an earlier run left piece ``index`` complete, so that it need not be written."""
        ...

    def write_piece(self, index: int, data: memoryview, data_map: int) -> int:
        """Write the sub-pieces of piece ``index`` that ``data_map`` has a bit for; called by several threads.

        Returns the piece's place: a number that ``PlacedWriter.restore`` takes. ``data`` is the whole piece.
        Raises NoSpace, NotPermitted, ReadFailed.
        """
        ...

    def share_piece(self, index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
        """Take the blocks of ``ranges``, which are all of piece ``index`` that is not zero, from the source's files.

        Its place, as of ``write_piece``; None where the piece has to be written instead. Called by several threads.
        """
        ...

    def write_zeroes(self, first: int, count: int) -> None:
        """Make ``count`` pieces from ``first`` on read as zero; called by several threads. Not needed where it
        ``starts_empty``. Raises NotPermitted, ReadFailed."""
        ...

    def finish(self) -> None:
        """Make the file a complete image of its format and wait until it is on stable storage."""
        ...

    def close(self) -> None:
        """Give back the file; without ``finish`` it stays incomplete. Closing twice is harmless."""
        ...


class PlacedWriter(TargetWriter, Protocol):
    """A writer that can go on with the file of an interrupted run."""

    def sync(self) -> None:
        """Wait until every piece written so far is on stable storage."""
        ...

    def restore(self, index: int, place: int, data_map: int) -> None:
        """Believe that piece ``index`` is in the file, as an earlier ``write_piece`` returned.

        Raises ValueError when that cannot be.
        """
        ...

    def forget(self, index: int) -> None:
        """Take back ``restore``, if there was one; the file is not touched."""
        ...

    def read_piece(self, index: int, into: memoryview) -> bool:
        """Fill ``into`` (a whole piece) with what the file has of piece ``index``, which was restored.

        Called by several threads. False where the file ends before. Raises ReadFailed.
        """
        ...

    def drop(self, index: int) -> None:
        """Take back ``restore`` while other pieces are being written: the piece reads as zero until it is written again.

        Called by several threads.
        """
        ...

    def tidy(self, erase: Sequence[tuple[int, int]]) -> None:
        """After the last ``restore``: drop whatever else is in the file.

        The runs of pieces in ``erase`` (first, count), which are forgotten, read as zero from now on.

        Raises ValueError when the file cannot hold what was restored.
        """
        ...
