"""Bytes of source and target side by side: outside of what was changed they are equal, inside they are as recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from converters.compare import Comparison, compare_disks
from converters.digest import digest_range
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter
from p2v.record import DiskRecord
from p2v.record.proof import DiskProof, Problem

# a gigabyte of single sectors with unchanged ones between
_RUNS_AT_MOST = 1_000_000
_TOLD_AT_MOST = 20

Run = tuple[int, int]
"""A range of a disk: offset and length in bytes."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing one disk found. ``runs``: where it differs inside of what was changed, in whole sectors."""

    proof: DiskProof
    runs: tuple[Run, ...]
    problems: tuple[Problem, ...]


def compare(
    source: DiskReader,
    target: DiskReader,
    record: DiskRecord,
    threads: int,
    report: Reporter,
    phase: str,
    cancelled: threading.Event | None = None,
) -> Compared:
    """Compare a disk with its source. Raises what the readers raise, and CopyCancelled."""
    found = compare_disks(
        source, target, report=report, threads=threads, phase=phase, ranges_kept=_RUNS_AT_MOST,
        cancelled=cancelled,
    )
    problems = [*_sizes(found, record), *_outside(found, record), *_changed_since(source, target, record)]
    differing = tuple(inside(found.ranges, _spans(record)))
    proof = DiskProof(
        record.source, record.target, target.virtual_size, found.read_bytes, len(record.changed),
        sum(changed.length for changed in record.changed), found.different_bytes,
    )  # fmt: skip
    return Compared(proof, differing, tuple(problems))


def _sizes(found: Comparison, record: DiskRecord) -> Iterator[Problem]:
    for name, size in ((record.source, found.first_size), (record.target, found.second_size)):
        if size != record.virtual_size:
            yield Problem(name, f"has {size} bytes, and had {record.virtual_size} when it was converted")
    if not found.ranges_complete:
        yield Problem(record.target, f"differs from its source in more than {_RUNS_AT_MOST} places")


def _outside(found: Comparison, record: DiskRecord) -> Iterator[Problem]:
    others = list(outside(found.ranges, _spans(record)))
    for offset, length in others[:_TOLD_AT_MOST]:
        problem = f"differs from {record.source} at byte {offset} ({length} bytes), where nothing was changed"
        yield Problem(record.target, problem)
    if len(others) > _TOLD_AT_MOST:
        yield Problem(record.target, f"differs in {len(others) - _TOLD_AT_MOST} more places where nothing was changed")


def _changed_since(source: DiskReader, target: DiskReader, record: DiskRecord) -> Iterator[Problem]:
    for changed in record.changed:
        for name, reader, digest in ((record.source, source, changed.before), (record.target, target, changed.after)):
            if digest is not None and digest != digest_range(reader, changed.offset, changed.length):
                where = f"its bytes {changed.offset} to {changed.offset + changed.length - 1}"
                yield Problem(name, f"was written to since it was converted: {where} are not those of the record")


def _spans(record: DiskRecord) -> list[Run]:
    return [(changed.offset, changed.length) for changed in record.changed]


def inside(runs: Iterable[Run], spans: Sequence[Run]) -> Iterator[Run]:
    """The parts of runs that lie in spans; both are in order, and the spans apart."""
    at = 0
    for offset, length in runs:
        while at < len(spans) and sum(spans[at]) <= offset:
            at += 1
        here = at
        while here < len(spans) and spans[here][0] < offset + length:
            start = max(offset, spans[here][0])
            yield start, min(offset + length, sum(spans[here])) - start
            here += 1


def outside(runs: Sequence[Run], spans: Sequence[Run]) -> Iterator[Run]:
    """The parts of runs that lie in no span; both are in order."""
    gaps, end = [], 0
    for start, length in spans:
        if start > end:
            gaps.append((end, start - end))
        end = max(end, start + length)
    if runs and sum(runs[-1]) > end:
        gaps.append((end, sum(runs[-1]) - end))
    return inside(runs, gaps)
