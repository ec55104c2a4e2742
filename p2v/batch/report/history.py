"""What is told of a batch, as values: of each machine its attempts, their phases, its warnings (``chronicle`` makes them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2v.batch.jobs import Job


@dataclass(frozen=True, slots=True)
class Span:
    """A phase of one attempt, in seconds since 1970. ``bytes_done``: of the disks' whole size, holes included."""

    phase: str
    begin: float
    end: float
    bytes_done: int = 0
    failed: bool = False
    is_open: bool = False

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return max(self.end - self.begin, 0.0)


@dataclass(frozen=True, slots=True)
class Attempt:
    """From a lease to what ended it; ``kind``: of that event, empty while it runs. ``limit``: bytes per second, None: none.

    ``worker``: the runner's name; ``host``: where in a cluster it was carried out, empty: by the runner's host.
    """

    fence: int
    begin: float
    end: float
    kind: str
    worker: str = ""
    message: str = ""
    limit: int | None = None
    spans: tuple[Span, ...] = ()
    host: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """All that is told of one machine. ``attempts_left_out``: earlier ones, for there were very many.

    ``failed``: attempts that were to be tried again, also of those left out; ``failed_seconds``: what they took together.
    """

    attempts: tuple[Attempt, ...] = ()
    warnings: tuple[str, ...] = ()
    warnings_left_out: int = 0
    attempts_left_out: int = 0
    failed: int = 0
    failed_seconds: float = 0.0

    @property
    def last(self) -> Attempt | None:
        """The attempt that runs, or ended it."""
        return self.attempts[-1] if self.attempts else None

    @property
    def open_phases(self) -> tuple[str, ...]:
        """Phases that are under way."""
        return tuple(span.phase for span in self.last.spans if span.is_open) if self.last is not None else ()


@dataclass(frozen=True, slots=True)
class History:
    """What is told of the batch. ``moved``: when, and how many bytes were copied. ``pauses``: from, to."""

    machines: Mapping[str, Told]
    begin: float
    end: float
    moved: tuple[tuple[float, int], ...] = ()
    pauses: tuple[tuple[float, float], ...] = ()
    is_paused: bool = False
    is_run: bool = False
    """Whether a runner has the batch in hand, as far as events say."""
    chosen: frozenset[str] | None = None
    """Machines that the last run is of; None: all."""
    is_late: bool = False
    """Whether the last run begins nothing more."""

    def of(self, name: str) -> Told:
        """What is told of a machine; nothing where no event is."""
        return self.machines.get(name, _NOTHING)

    def worker(self, job: Job) -> str:
        """Who runs it, or ran it last; the store forgets that when a job ends."""
        last = self.of(job.machine.name).last
        return job.worker or (last.worker if last is not None else "")

    def host(self, job: Job) -> str:
        """The host that converts it, or did last; where there is no cluster, the runner's name."""
        last = self.of(job.machine.name).last
        return (last.host if last is not None else "") or job.host or self.worker(job)

    def copy_rate(self, name: str) -> float | None:
        """Bytes per second of a copy that is under way, since it began; None where none is."""
        last = self.of(name).last
        copies = [span for span in last.spans if span.is_open and span.phase == "copy"] if last is not None else []
        return copies[-1].bytes_done / copies[-1].seconds if copies and copies[-1].seconds > 0 else None


_NOTHING = Told()
