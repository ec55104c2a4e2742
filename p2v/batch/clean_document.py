"""What ``p2v batch clean --json`` prints, as values: what a crash left, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from p2v.batch.cleaning import Left, LeftKind, Removed
from p2v.batch.json_forms import Count

CLEAN_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class LeftThing:
    """A thing that a crash left."""

    kind: LeftKind
    """What it is."""
    machine: str
    """The machine that it is of; empty where it is no single one's."""
    host: str | None
    """The host of a cluster on whose own disk it is; null: this one."""
    said: str
    """What it is, in words."""
    path: Path | None
    """Where it is; null: it is no file or folder."""
    pid: Count | None
    """Of a process, its number; null of all else."""
    allocated: Count
    """Bytes that it takes on its disk."""
    kept: str
    """Why it is not removed unless everything is to go, in words; empty: nobody needs it."""
    refused: str | None
    """Of what was to be removed, why it is still there, in words; empty: it is gone. Null in `left`."""

    @classmethod
    def of(cls, left: Left, refused: str | None = None) -> LeftThing:
        """As it was found, or as it was to be removed."""
        pid = None if left.process is None else left.process.pid
        return cls(
            left.kind, left.machine, left.host or None, left.said, left.path, pid, left.allocated, left.kept, refused
        )


@dataclass(frozen=True, slots=True)
class UnaskedHost:
    """A host of which not all was seen that was left on its own disks."""

    host: str
    """Its name."""
    why: str
    """Why, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanDocument:
    """What was left of a batch."""

    schema: int = CLEAN_SCHEMA
    """Which form of the document it is; another number only where a field goes away, or means something else."""
    left: tuple[LeftThing, ...]
    """All that was found."""
    removed: tuple[LeftThing, ...]
    """What was to be removed, in that order; nothing without `--remove`."""
    unasked: tuple[UnaskedHost, ...]
    """Hosts of a cluster of which not all was seen; nothing without `--engine`."""

    @classmethod
    def of(cls, left: Iterable[Left], removed: Iterable[Removed], unasked: Mapping[str, str]) -> CleanDocument:
        """Of what was found and removed, and of hosts with the reason that they were not asked."""
        return cls(
            left=tuple(map(LeftThing.of, left)),
            removed=tuple(LeftThing.of(each.left, each.refused) for each in removed),
            unasked=tuple(UnaskedHost(host, why) for host, why in unasked.items()),
        )
