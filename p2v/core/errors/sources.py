"""Sources that are not there, in use, or cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2v.core.errors.root import P2vError


@dataclass(eq=False)
class NoSource(P2vError):
    """The named source does not exist, or is no disk at all."""

    source: str
    problem: str
    advice: str = "Name a disk image or a block device."
    exit_code: ClassVar[int] = 66
    code: ClassVar[str] = "no-source"

    def sentence(self) -> str:
        return f"{self.source}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class SourceInUse(P2vError):
    """A block device that was to be copied may be written meanwhile; each of ``users`` says by whom in words."""

    device: Path
    users: tuple[str, ...]
    advice: str = "Shut down or unmount what uses it; or say --live for the best copy of a running system that can be had."
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "source-in-use"

    def sentence(self) -> str:
        return f"{self.device}: is in use, and a copy of it would not be of one moment: " + "; ".join(self.users)

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class NotHeldStill(P2vError):
    """A source in use that could not be kept still, or not for long enough: what was copied is not of one moment."""

    what: str
    problem: str
    advice: str = "Nothing was made of it. Try again at a quieter time; docs/live.md has the ways, and how to choose one."
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "not-held-still"

    def sentence(self) -> str:
        return f"{self.what}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class ReadFailed(P2vError):
    """The host could not read or write a file."""

    file: str
    problem: str
    exit_code: ClassVar[int] = 74
    code: ClassVar[str] = "io"

    def sentence(self) -> str:
        return f"{self.file}: {self.problem}"


@dataclass(eq=False)
class Unreadable(ReadFailed):
    """The storage under a file says that it cannot read a range of it (bytes of the file), and might others."""

    offset: int = 0
    length: int = 0
    reason: str = ""
    """In the host's words."""
    code: ClassVar[str] = "unreadable"


@dataclass(eq=False)
class BadSectors(ReadFailed):
    """A range of a source cannot be read, also not in small pieces; ``offset`` and ``length`` in bytes of ``file``.

    ``at``: where in the disk, as its guest sees it. ``known``: all such ranges that are known by now (offset and length in the
    disk). ``holds``: what of the guest stands there, where that was found out.
    """

    offset: int
    length: int
    disk: int
    at: int
    known: tuple[tuple[int, int], ...]
    holds: tuple[str, ...] = ()
    code: ClassVar[str] = "bad-sectors"

    def sentence(self) -> str:
        total = sum(length for _, length in self.known)
        count = f"; known so far: {len(self.known)} such ranges, {total} bytes" if len(self.known) > 1 else ""
        holds = f"; it holds {', '.join(self.holds)}" if self.holds else ""
        where = "" if self.at == self.offset else f" (byte {self.at} of the disk)"
        return f"{self.file}: {self.length} bytes at byte {self.offset}{where} cannot be read: {self.problem}{holds}{count}"

    def hint(self) -> str:
        return (
            "--skip-bad-sectors goes on with zeroes in such places and tells which files they hit. Of a disk that is dying, "
            "make an image with GNU ddrescue first and convert that."
        )


@dataclass(eq=False)
class SourceGone(ReadFailed):
    """A source that was there does not answer any more: unplugged, unmounted, or its server went away."""

    code: ClassVar[str] = "source-gone"

    def hint(self) -> str:
        return "Look at its cable, its mount or its server; the same command goes on where this one ended."


@dataclass(eq=False)
class SourceFailing(ReadFailed):
    """So much of a source cannot be read that going on would take forever."""

    code: ClassVar[str] = "source-failing"

    def hint(self) -> str:
        return (
            "GNU ddrescue gets what can be got of such a disk into an image; convert that. The same command goes on where "
            "this one ended."
        )
