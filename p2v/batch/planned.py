"""What a batch's plan says, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2v.audit.document import Signs
from p2v.audit.sizing.values import Interval, Measured
from p2v.batch.jobs import MachineJob, State
from p2v.batch.json_forms import Count, LocalMinute, Seconds
from p2v.conversion_job import Request
from p2v.documents import PlanDocument
from p2v.preflight import Trouble


@dataclass(frozen=True, slots=True)
class Planned:
    """What ``p2v convert`` would do for a machine: its plan, and how that is to be carried out."""

    document: PlanDocument
    request: Request



Planner = Callable[[MachineJob], Planned]
"""Plans one machine. Raises errors of the suite where it cannot be planned."""


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """What is planned for one machine."""

    name: str
    """As the manifest calls it."""
    line: Count
    """In the manifest; 0: it has none."""
    wave: int
    """All machines of a wave have ended before the next wave begins."""
    folder: Path
    """Where its results go."""
    system: str = ""
    """The guest's system, in words; empty where nobody knows."""
    disks: Count = 0
    """How many it has."""
    virtual_bytes: Count = 0
    """Size of all its disks together, in bytes, as the guest sees them."""
    copy_bytes: Count | None = None
    """Bytes that are to be copied of its disks; null where nobody knows."""
    write_bytes: Count | None = None
    """Bytes that this takes of its target's storage at most; null where nobody knows."""
    outputs: tuple[str, ...] = ()
    """Names of the files that it gets in its folder."""
    devices: tuple[str, ...] = ()
    """Block devices that its disks are written to."""
    sources: tuple[str, ...] = ()
    """Its disks; where it cannot be planned, what the manifest names."""
    blockers: tuple[Trouble, ...] = ()
    """What is in its way: it would be parked at once."""
    warnings: tuple[Trouble, ...] = ()
    """What is to be known of it, and stops nothing."""
    signs: Signs = field(default_factory=Signs)
    """What the machine is told by once it is converted; ids of disks are left out."""
    claims: tuple[str, ...] = ()
    """What it takes for itself where it is defined, in words: no second one can have it."""
    missing_keys: tuple[str, ...] = ()
    """Where passphrases were to be that are not there, as the manifest says it."""
    left_alone: str = ""
    """Why it was not planned; empty where it was."""
    state: State | None = None
    """What became of it, where that is an end; null otherwise."""
    seconds: Seconds = 0.0
    """That planning it took, in seconds."""
    rewritten: bool = True
    """Whether an appliance looks after its guest; of one that stays as it is, none is started."""
    takes_seconds: Seconds | None = None
    """Seconds that its conversion takes when nobody else is under way; null where nobody knows."""

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
    """One storage that results go to."""

    folders: tuple[Path, ...]
    """The folders of results that are on it."""
    machines: Count
    """How many are converted to it."""
    copy_bytes: Count
    """Bytes that are to be copied to it, as far as they are known."""
    needed_bytes: Count
    """Bytes that the results take of it at most, as far as they are known."""
    work_bytes: Count
    """Bytes that machines under way take beside their results."""
    free_bytes: Count
    """Bytes that are free on it now."""
    unknown: Count = 0
    """Machines of which nobody knows what they take."""

    @property
    def fits(self) -> bool:
        """Whether there is room for all that is known of."""
        return self.needed_bytes + self.work_bytes <= self.free_bytes


@dataclass(frozen=True, slots=True)
class SharePlan:
    """What the budget says of one storage or server, and what goes over it."""

    machines: Count
    """How many copy from it or to it."""
    copy_bytes: Count
    """Bytes that go over it, as far as they are known."""
    copies: Count | None = None
    """Machines that may copy over it at the same time; null: it sets no bound."""
    bytes_per_second: Count | None = None
    """Bytes a second that their copies take together at most; null: it sets no bound."""
    path: Path | None = None
    """Of a storage: a path on it, as the manifest has it; null of a server."""
    host: str = ""
    """Of a server: its name, as the manifest has it; empty of a storage."""


@dataclass(frozen=True, slots=True)
class CopyTime:
    """How long copying takes."""

    seconds: Interval | None
    """From the least to the most, in seconds; null where rates were neither measured nor limited."""
    why: str = ""
    """What is missing, or what the time leaves out, in words; may be empty."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A wave's machines in one night."""

    begin: LocalMinute
    """When the first of them begins: ISO 8601, to the minute, local with its offset."""
    end: LocalMinute
    """When the last of them has ended, in the same form."""
    wave: int
    """Which wave they are of."""
    machines: Count
    """How many they are."""
    copy_bytes: Count
    """Bytes that they copy, as far as they are known."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How it would go if the run began at ``begin``."""

    begin: LocalMinute
    """When the run begins that is thought of: ISO 8601, to the minute, local with its offset."""
    end: LocalMinute
    """When it has ended at the longest, in the same form."""
    seconds: Interval
    """How long it takes from its beginning, in seconds, the waiting for windows of time included."""
    idle_seconds: Seconds = 0.0
    """Of the longest time, the seconds in which nothing is under way: machines wait for their windows."""
    later: tuple[str, ...] = ()
    """Names of machines that wait for another run."""
    late: tuple[str, ...] = ()
    """Names of machines that still go on when their window has closed, the longest first."""
    measured: str = ""
    """Where the times come from, in words; empty where nothing was measured."""
    assumed: tuple[str, ...] = ()
    """What was not measured, in words."""
    stretches: tuple[Stretch, ...] = ()
    """Each wave in each night, in their order."""


PLAN_SCHEMA = 1
"""Of the plan as a JSON document."""


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a plan comes to."""

    copy_bytes: Count
    """Bytes that are to be copied, of the machines that are not blocked and of which it is known."""
    copy_unknown: Count
    """Machines that are not blocked, and of which nobody knows what is to be copied."""
    blocked: tuple[str, ...]
    """Names of the machines that would be parked at once."""
    missing_keys: Mapping[str, tuple[str, ...]]
    """Names of the machines that lack a key, by where it was to be."""
    clear: bool
    """Whether nothing is in the way: the exit status is 0 then, and 4 otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHead:
    """What stands before a plan in its JSON document (docs/schema/batch-plan-1.schema.json), beside the plan's own fields."""

    schema: int = PLAN_SCHEMA
    """Which form of the document it is; another number only where a field goes away, or means something else."""
    summary: PlanSummary
    """What the plan comes to."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The plan of a whole batch."""

    manifest: Path
    """The manifest that it is of."""
    machines: tuple[MachinePlan, ...]
    """All of them, in the manifest's order."""
    storages: tuple[StoragePlan, ...]
    """The storages that results go to."""
    time: CopyTime
    """How long all copies take."""
    troubles: tuple[Trouble, ...] = ()
    """What is in the way of all of it."""
    warnings: tuple[Trouble, ...] = ()
    """What is to be known of all of it."""
    shares: tuple[SharePlan, ...] = ()
    """The storages and servers that the budget names, in its order."""
    measured: tuple[Measured, ...] = ()
    """The storages' rates, where `--measure` was asked for."""
    outlook: Outlook | None = None
    """How it would go; null where nothing is to be converted, or nobody knows what there is to copy."""

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

    @property
    def missing_keys(self) -> Mapping[str, tuple[str, ...]]:
        """Names of machines by the keys that they lack."""
        found: dict[str, list[str]] = {}
        for each in self.planned:
            for key in each.missing_keys:
                found.setdefault(key, []).append(each.name)
        return {key: tuple(names) for key, names in found.items()}

    @property
    def summary(self) -> PlanSummary:
        """What it comes to."""
        names = tuple(each.name for each in self.blocked)
        return PlanSummary(self.copy_bytes, self.unknown, names, self.missing_keys, self.is_clear)
