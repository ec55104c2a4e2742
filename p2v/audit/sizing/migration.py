"""How long copying a fleet takes at measured rates, as an interval; without a measurement there is no number."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from p2v.audit.sizing.disks import after_copy
from p2v.audit.sizing.inputs import Policy, SizingInput
from p2v.audit.sizing.values import Assumption, AssumptionSource, ByteInterval, Interval, Measured, MigrationTime, Rate

_MEGA = 1_000_000


@dataclass(frozen=True, slots=True)
class _Job:
    """One disk to copy. ``seconds``: what its machine takes beside copying, with one of its disks."""

    size: ByteInterval
    seconds: float


def migration_time(given: SizingInput) -> MigrationTime:
    """From the quickest and slowest measured rates, with so many disks at a time.

    The low end is what the bytes take at least: all streams busy to the end. The high end is a schedule that can be followed:
    whichever stream is free takes the longest disk that is left.
    """
    policy, measured = given.policy, given.measured
    jobs = _jobs(given)
    if measured is None:
        return MigrationTime(
            None, policy.concurrent, "not measured: --measure FOLDER finds the rates of this storage", ()
        )
    if measured.write is None:
        missing = f"not measured: nothing could be written in {measured.folder}"
        return MigrationTime(None, policy.concurrent, missing, ())
    slowest = None if measured.read is None else min(measured.read.low, measured.write.low)
    quickest = measured.write.high if measured.read is None else min(measured.read.high, measured.write.high)
    why = "" if measured.read is not None else "reading the sources was not measured: it takes at least so long"
    low = _at_least(jobs, quickest, policy.concurrent)
    high = None if slowest is None else _scheduled(jobs, slowest / policy.concurrent, policy.concurrent)
    seconds = Interval(low, None if high is None else max(low, high))
    return MigrationTime(seconds, policy.concurrent, why, _assumptions(policy, measured))


def _jobs(given: SizingInput) -> list[_Job]:
    jobs = []
    for machine in given.machines:
        sizes = [after_copy(machine.origin, disk) for disk in machine.disks] or [ByteInterval(0, 0)]
        jobs += [
            _Job(size, 0.0 if number else given.policy.machine_overhead_seconds) for number, size in enumerate(sizes)
        ]
    return jobs


def _at_least(jobs: Sequence[_Job], rate: float, streams: int) -> float:
    copying = sum(each.size.low for each in jobs) / rate
    # a machine's own time cannot be shared out, and one stream alone may go as fast as all together
    longest = max((each.size.low / rate + each.seconds for each in jobs), default=0.0)
    return max(copying, sum(each.seconds for each in jobs) / streams, longest)


def _scheduled(jobs: Sequence[_Job], rate: float, streams: int) -> float:
    ends = [0.0] * streams
    for seconds in sorted((each.size.high / rate + each.seconds for each in jobs), reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def _assumptions(policy: Policy, measured: Measured) -> tuple[Assumption, ...]:
    rates = [("write", measured.write), ("read", measured.read)]
    made = [
        Assumption(f"{what} rate, {measured.streams} streams together", rate_words(rate), AssumptionSource.MEASURED)
        for what, rate in rates
        if rate is not None
    ]
    together = "go on at the same time; the slower of the two decides"
    return (
        *made,
        policy.assume("concurrent", "disks copied at a time", str(policy.concurrent)),
        policy.assume(
            "machine_overhead_seconds", "each machine beside copying", f"{policy.machine_overhead_seconds:g} s"
        ),
        Assumption("reading and writing", together, AssumptionSource.DEFAULT),
        Assumption("all sources and targets", "are as quick as those that were measured", AssumptionSource.DEFAULT),
    )


def rate_words(rate: Rate) -> str:
    """``median 210 MB/s (180 to 230, 5 repeats)``, a MB being 1,000,000 bytes."""
    low, median, high = (f"{each / _MEGA:.1f}" for each in (rate.low, rate.median, rate.high))
    return f"median {median} MB/s ({low} to {high}, {rate.repeats} repeats)"
