"""Disks that are converted where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2v.core.errors.root import P2vError


@dataclass(eq=False)
class NotInPlace(P2vError):
    """A disk that can be converted, but not where it stands."""

    file: Path
    problem: str
    advice: str = "Convert it with a copy (without --in-place); nothing was written to it."
    exit_code: ClassVar[int] = 4
    code: ClassVar[str] = "not-in-place"

    def sentence(self) -> str:
        return f"{self.file}: cannot be converted in place: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class DiskInUse(P2vError):
    """A disk that would be written to is open elsewhere."""

    file: Path
    how: str
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "disk-in-use"

    def sentence(self) -> str:
        return f"{self.file}: is in use: {self.how}"

    def hint(self) -> str:
        return "Shut the machine down, or unmount the disk, and try again. Nothing was written to it."


@dataclass(eq=False)
class BadJournal(P2vError):
    """An undo journal that is damaged, or not one."""

    file: Path
    problem: str
    exit_code: ClassVar[int] = 65
    code: ClassVar[str] = "bad-journal"

    def sentence(self) -> str:
        return f"{self.file}: {self.problem}"

    def hint(self) -> str:
        return "Nothing was written to any disk. Look for a sound copy of the journal."


@dataclass(eq=False)
class UsedSince(P2vError):
    """A disk is not as an in-place conversion left it: to put old bytes into it could damage it."""

    file: Path
    what: str
    exit_code: ClassVar[int] = 78
    code: ClassVar[str] = "used-since"

    def sentence(self) -> str:
        return f"{self.file}: is not as the conversion left it: {self.what}"

    def hint(self) -> str:
        return (
            "What was written since and what would be put back do not belong together; nothing was written. "
            "`p2v undo --force` puts it back all the same."
        )


@dataclass(eq=False)
class Interrupted(P2vError):
    """A disk between two states: a conversion in place was killed while it wrote."""

    file: Path
    journal: Path
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "interrupted"

    def sentence(self) -> str:
        return f"{self.file}: an in-place conversion of it was interrupted while it wrote (journal: {self.journal})"

    def hint(self) -> str:
        return f"The same `p2v convert --in-place` finishes it; `p2v undo {self.journal}` takes it back."


@dataclass(eq=False)
class NotCommitted(P2vError):
    """The boot check of a conversion in place failed before anything was written to the disks."""

    disk: str
    reason: str
    exit_code: ClassVar[int] = 3
    code: ClassVar[str] = "not-committed"

    def sentence(self) -> str:
        return f"{self.disk}: the boot check failed, so nothing was written: {self.reason}"

    def hint(self) -> str:
        return "The disks are as they were; NAME.failed.png and .log show the boot. --force writes the changes all the same."
