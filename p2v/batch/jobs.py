"""A batch, as values: machines with what is wished for each, and what became of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time
from pathlib import Path
from typing import Any

MANIFEST_SCHEMA = 1


class State(enum.Enum):
    """Where a job stands. ``DONE``, ``PARKED`` and ``CANCELLED`` are ends; the others go on at the next run."""

    WAITING = "waiting"
    """Not begun, or to be tried again (``Job.not_before``)."""
    RUNNING = "running"
    """A worker has the lease."""
    DONE = "done"
    """Converted, and verified where that was wished."""
    PARKED = "parked"
    """Given up until somebody looks: the reason and a failure bundle are there; ``retry`` sets it waiting again."""
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in (State.DONE, State.PARKED, State.CANCELLED)


class Verify(enum.Enum):
    """How a result is proven before it gets its name."""

    NONE = "none"
    BOOT = "boot"


@dataclass(frozen=True, slots=True)
class Window:
    """A time of day in which jobs may begin, local; over midnight where ``end`` is before ``begin``. A job that runs goes on."""

    begin: time
    end: time

    def holds(self, now: time) -> bool:
        """Whether a time of day is inside."""
        if self.begin <= self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end


@dataclass(frozen=True, slots=True)
class Hook:
    """A command with its arguments, without a shell; a JSON document about the job comes on its standard input.

    ``seconds``: it is ended after that time. One before the job that fails parks it; one after it is told of.
    """

    argv: tuple[str, ...]
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class MachineJob:
    """One machine of a batch. Paths are absolute.

    ``sources``: a description, or disks in boot order. ``folder``: where its results go. ``options``: further options of
    ``p2v convert``, each as the command line has it (``--map``, ``VM Network=user``). ``keys``: as ``--key`` takes them, file: or
    env: only. ``wave``: all of a wave have ended before the next begins. ``priority``: the larger first. ``line``: in the manifest.
    """

    name: str
    sources: tuple[Path, ...]
    folder: Path
    disk_format: str = "qcow2"
    options: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    wave: int = 0
    priority: int = 0
    window: Window | None = None
    before: Hook | None = None
    after: Hook | None = None
    verify: Verify = Verify.NONE
    attempts: int = 3
    host: str = ""
    """The host that alone can reach its disks; empty: any."""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What may go to or from one storage or server at a time: machines that copy, and bytes a second of all of them; None: any."""

    copies: int | None = None
    bytes_per_second: int | None = None

    def otherwise(self, usual: Share) -> Share:
        """With what is usual where nothing is said."""
        copies = usual.copies if self.copies is None else self.copies
        rate = usual.bytes_per_second if self.bytes_per_second is None else self.bytes_per_second
        return Share(copies, rate)

    def and_also(self, other: Share) -> Share:
        """What both allow."""
        return Share(
            _least(self.copies, other.copies), _least(self.bytes_per_second, other.bytes_per_second)
        )


def _least(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else min(one, other)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may run at the same time. ``bytes_per_second``: of all copies to (or from) one storage together; None: no limit.

    ``storages``: what counts instead for the storage that a path is on; ``hosts``: for all that goes to or from a server, by its
    name as it was mounted, over whichever of its mounts.
    """

    copies: int = 2
    """Jobs that copy; one that has copied gives its place back while it rewrites and boots."""
    appliances: int = 1
    boots: int = 1
    jobs: int = 8
    """All that are under way."""
    bytes_per_second: int | None = None
    copies_per_storage: int | None = None
    """Copies to one target storage, and from one source storage (by the device that a path is on)."""
    memory_bytes: int | None = None
    storages: Mapping[Path, Share] = field(default_factory=dict)
    hosts: Mapping[str, Share] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """A manifest as it was read. ``store``: the SQLite file, beside the results. ``end``: a command that hears how a run ended."""

    machines: tuple[MachineJob, ...]
    budget: Budget
    store: Path
    manifest: Path
    schema: int = MANIFEST_SCHEMA
    end: Hook | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt ended without a result."""

    code: str
    """The error's name, which stays the same."""
    exit_code: int
    """As `p2v convert` ends with it."""
    message: str
    """What, and where."""
    hint: str = ""
    """What to do; may be empty."""
    may_help: bool = False
    """Whether trying again may help."""
    bundle: Path | None = None
    """The failure bundle's folder; null: there is none."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store has it. ``fence``: counts its leases; ``not_before``: seconds since 1970, for the next attempt.

    ``seconds``: by phase, of the attempt that ended it. ``bytes_copied``: of the attempt that runs or ended. ``host``: where in a
    cluster that is or was carried out; empty where nobody told of another than the runner's.
    """

    machine: MachineJob
    state: State
    attempts: int = 0
    fence: int = 0
    worker: str = ""
    lease_until: float = 0.0
    not_before: float = 0.0
    phase: str = ""
    bytes_copied: int = 0
    bytes_total: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    verified: bool | None = None
    record: Path | None = None
    began: float = 0.0
    ended: float = 0.0
    host: str = ""
    cancel_wished: bool = False
    """It runs, and its worker was told to give it up."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened."""

    number: int
    """The number of the event, which grows with the time; events of other machines have the ones between. 0 in a failure bundle."""
    at: float
    """When, in seconds since 1970."""
    job: str
    """The machine that it is of, as the manifest calls it."""
    fence: int
    """The number of the lease that the machine was under; 0: it never had one."""
    kind: str
    """What has happened."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The event's own fields."""
