"""Conversions that other hosts do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from p2v.core.errors.root import P2vError


@dataclass(eq=False)
class ClusterRefused(P2vError):
    """The cluster could be used by anybody, or by nobody: what is asked for is not safe, or contradicts itself."""

    address: str
    problem: str
    advice: str = "docs/cluster.md shows how a scheduler and workers with certificates are set up."
    exit_code: ClassVar[int] = 77
    code: ClassVar[str] = "cluster-refused"

    def sentence(self) -> str:
        return f"{self.address}: {self.problem}"

    def hint(self) -> str:
        return self.advice


@dataclass(eq=False)
class ClusterGone(P2vError):
    """No scheduler answers."""

    address: str
    problem: str
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "cluster-gone"

    def sentence(self) -> str:
        return f"{self.address}: {self.problem}"

    def hint(self) -> str:
        return "Start the scheduler (docs/cluster.md), then run the batch again: it goes on from its store."
