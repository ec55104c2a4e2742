"""Guests and plans for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from p2v.core.errors.root import P2vError


@dataclass(eq=False)
class GuestNotUnderstood(P2vError):
    """No operating system was found in the disks, or none that can be rewritten."""

    disk: str
    problem: str
    advice: str = "`p2v inspect` shows what was found in it."
    exit_code: ClassVar[int] = 76
    code: ClassVar[str] = "guest-not-understood"

    def sentence(self) -> str:
        return f"{self.disk}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class ReaderCrashed(P2vError):
    """The confined child that reads guest contents died, hung or broke a limit."""

    disk: str
    how: str
    exit_code: ClassVar[int] = 65
    code: ClassVar[str] = "reader-crashed"

    def sentence(self) -> str:
        return f"{self.disk}: reading its contents {self.how}"

    def hint(self) -> str:
        return "The image may be damaged or made to do harm; try --reader appliance."


@dataclass(eq=False)
class Blocked(P2vError):
    """The plan has blockers; all of them are in ``reasons``."""

    disk: str
    reasons: tuple[str, ...]
    exit_code: ClassVar[int] = 4
    code: ClassVar[str] = "blocked"

    def sentence(self) -> str:
        return f"{self.disk}: cannot be converted: " + "; ".join(self.reasons)

    def hint(self) -> str:
        return "`p2v plan` shows every blocker with what to do about it."


@dataclass(eq=False)
class PlanStale(P2vError):
    """What a plan expects to find is not there."""

    where: str
    expected: str
    found: str
    exit_code: ClassVar[int] = 78
    code: ClassVar[str] = "plan-stale"

    def sentence(self) -> str:
        return f"{self.where}: the plan expects {self.expected}, found {self.found}"

    def hint(self) -> str:
        return "The source changed since it was planned; make a new plan."
