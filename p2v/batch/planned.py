"""What a batch's plan says, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2v.audit.document import Signs
from p2v.audit.sizing.values import Interval, Measured
from p2v.batch.jobs import MachineJob, State
from p2v.conversion_job import Request
from p2v.documents import PlanDocument
from p2v.preflight import Trouble


@dataclass(frozen=True, slots=True)
class Planned:
    """What ``p2v convert`` would do for a machine: its plan, and how that is to be carried out."""

    document: PlanDocument
    request: Request


_NAMED_AT_MOST = 6

Planner = Callable[[MachineJob], Planned]
"""Plans one machine. Raises errors of the suite where it cannot be planned."""


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """What is planned for one machine.

    ``copy_bytes``: what is to be copied of its disks; ``write_bytes``: what that takes of its target's storage at most (None where
    nobody knows). ``outputs``: names of files in its folder, ``devices`` of block devices that it is written to. ``sources``: its
    disks. ``left_alone``: why it was not planned; empty where it was. ``state``: what had become of it, where that is an end.
    """

    name: str
    line: int
    wave: int
    folder: Path
    system: str = ""
    disks: int = 0
    virtual_bytes: int = 0
    copy_bytes: int | None = None
    write_bytes: int | None = None
    outputs: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    blockers: tuple[Trouble, ...] = ()
    warnings: tuple[Trouble, ...] = ()
    signs: Signs = field(default_factory=Signs)
    """What the machine is told by once it is converted."""
    claims: tuple[str, ...] = ()
    """What it takes for itself where it is defined, in words: no second one can have it."""
    missing_keys: tuple[str, ...] = ()
    """Where passphrases were to be that are not there, as the manifest says it."""
    left_alone: str = ""
    state: State | None = None
    seconds: float = 0.0
    """That planning it took."""
    rewritten: bool = True
    """Whether an appliance looks after its guest; of one that stays as it is, none is started."""
    takes_seconds: float | None = None
    """That its conversion takes when nobody else is under way; None where nobody knows."""

    @classmethod
    def of(cls, machine: MachineJob) -> MachinePlan:
        """Of a machine of which nothing is known yet."""
        return cls(machine.name, machine.line, machine.wave, machine.folder)

    @property
    def called(self) -> str:
        """Its name, with its line in the manifest where it has one."""
        return f"{self.name} (line {self.line})" if self.line else self.name

    @property
    def is_blocked(self) -> bool:
        """Whether it would be parked at once."""
        return bool(self.blockers)


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """One storage that results go to, by the folders that are on it. ``unknown``: machines of which nobody knows what they take.

    ``work_bytes``: what machines under way take beside their results.
    """

    folders: tuple[Path, ...]
    machines: int
    copy_bytes: int
    needed_bytes: int
    work_bytes: int
    free_bytes: int
    unknown: int = 0

    @property
    def fits(self) -> bool:
        """Whether there is room for all that is known of."""
        return self.needed_bytes + self.work_bytes <= self.free_bytes


@dataclass(frozen=True, slots=True)
class SharePlan:
    """What the budget says of one storage (``path``) or server (``host``), and what goes over it: machines, and bytes to copy."""

    machines: int
    copy_bytes: int
    copies: int | None = None
    bytes_per_second: int | None = None
    path: Path | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class CopyTime:
    """How long copying takes; None where it was not measured, and ``why`` says what is missing. An end of None is not bounded."""

    seconds: Interval | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A wave's machines in one night: when the first begins and the last ends (ISO 8601, local), how many, and what they copy."""

    begin: str
    end: str
    wave: int
    machines: int
    copy_bytes: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """How it would go if the run began at ``begin`` (ISO 8601, local): until ``end`` at the longest.

    ``seconds``: all of it, the waiting for windows of time (``idle_seconds``) included. ``later``: names of machines that wait for
    another run. ``late``: of those that still go on when their window has closed. ``measured``, ``assumed``: where the times come
    from, in words.
    """

    begin: str
    end: str
    seconds: Interval
    idle_seconds: float = 0.0
    later: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    measured: str = ""
    assumed: tuple[str, ...] = ()
    stretches: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The plan of a whole batch. ``troubles``: what is in the way of all of it; ``warnings``: what to know of all of it.

    ``measured``: the storages' rates, where they were. ``outlook``: None where it was not asked for, or nothing is known.
    """

    manifest: Path
    machines: tuple[MachinePlan, ...]
    storages: tuple[StoragePlan, ...]
    time: CopyTime
    troubles: tuple[Trouble, ...] = ()
    warnings: tuple[Trouble, ...] = ()
    shares: tuple[SharePlan, ...] = ()
    measured: tuple[Measured, ...] = ()
    outlook: Outlook | None = None

    @property
    def planned(self) -> Sequence[MachinePlan]:
        """The machines that nobody left alone."""
        return [each for each in self.machines if not each.left_alone]

    @property
    def blocked(self) -> Sequence[MachinePlan]:
        """The machines that would be parked at once."""
        return [each for each in self.planned if each.is_blocked]

    @property
    def copy_bytes(self) -> int:
        """What is to be copied, of the machines that are not blocked and of which it is known."""
        return sum(each.copy_bytes or 0 for each in self.planned if not each.is_blocked)

    @property
    def unknown(self) -> int:
        """Machines that are not blocked, and of which nobody knows what is to be copied."""
        return sum(each.copy_bytes is None for each in self.planned if not each.is_blocked)

    @property
    def is_clear(self) -> bool:
        """Whether nothing is in the way."""
        return not self.blocked and not self.troubles


def some_names(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
