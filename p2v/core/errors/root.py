"""What every error is, and those that any verb can meet."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(eq=False)
class P2vError(Exception):
    """Root of the suite's errors; subclasses add fields and say them in ``sentence``."""

    exit_code: ClassVar[int] = 70
    code: ClassVar[str] = "bug"

    def sentence(self) -> str:
        """One sentence: what, where."""
        return type(self).__name__

    def hint(self) -> str:
        """What to do next; empty when there is nothing to say."""
        return ""

    def __str__(self) -> str:
        return self.sentence()

    # Exception's own pickling hands ``args`` to the constructor, which a dataclass leaves empty.
    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), tuple(getattr(self, f.name) for f in dataclasses.fields(self)))


@dataclass(eq=False)
class Usage(P2vError):
    """The command line (or a document it names) asks for something that makes no sense."""

    message: str
    advice: str = ""
    exit_code: ClassVar[int] = 64
    code: ClassVar[str] = "usage"

    def sentence(self) -> str:
        return self.message

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class ToolMissing(P2vError):
    """A program or library the step needs is not on this host."""

    tool: str
    package: str
    exit_code: ClassVar[int] = 69
    code: ClassVar[str] = "tool-missing"

    def sentence(self) -> str:
        return f"{self.tool} is not available on this host"

    def hint(self) -> str:
        return f"Install {self.package}, then run `p2v doctor`."


@dataclass(eq=False)
class ProgramFailed(P2vError):
    """A program the suite started failed."""

    program: str
    exit_status: int
    stderr_tail: str
    exit_code: ClassVar[int] = 74
    code: ClassVar[str] = "program-failed"

    def sentence(self) -> str:
        last = self.stderr_tail.strip().splitlines()
        reason = f": {last[-1]}" if last else ""
        return f"{self.program} failed with exit status {self.exit_status}{reason}"


@dataclass(eq=False)
class ProgramTimedOut(P2vError):
    """A program the suite started did not end in its time; its process group was ended."""

    program: str
    seconds: float
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "program-timed-out"

    def sentence(self) -> str:
        return f"{self.program} did not end within {self.seconds:g} seconds"


@dataclass(eq=False)
class NotPermitted(P2vError):
    """The user may not read or write something."""

    file: str
    action: str
    exit_code: ClassVar[int] = 77
    code: ClassVar[str] = "permission"

    def sentence(self) -> str:
        return f"{self.file}: no permission to {self.action} it"

    def hint(self) -> str:
        mounted = "" if self.action in ("read", "open", "look at") else ", and whether its storage is mounted read-only"
        return f"Check the owner and mode of the file and of its folder{mounted}; or run as a user who may."
