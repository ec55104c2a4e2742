"""What one planner adds to a guest's plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from drivers.changes import Change
from drivers.plan import Finding


@dataclass(frozen=True, slots=True)
class Contribution:
    """Changes and findings about one noun (fstab, boot loader, network, ...), in a stable order."""

    changes: tuple[Change, ...] = ()
    warnings: tuple[Finding, ...] = ()
    blockers: tuple[Finding, ...] = ()


def joined(contributions: Iterable[Contribution]) -> Contribution:
    """All of them as one, in their order."""
    given = tuple(contributions)
    return Contribution(
        tuple(change for part in given for change in part.changes),
        tuple(warning for part in given for warning in part.warnings),
        tuple(blocker for part in given for blocker in part.blockers),
    )
