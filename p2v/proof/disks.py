"""Bytes of source and target side by side: outside of what was changed they are equal, inside they are as recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converters.compare import Comparison, compare_disks
from converters.digest import digest_range
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter
from p2v.record import ChangedRange, DiskRecord
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
    source: DiskReader, target: DiskReader, record: DiskRecord, threads: int, report: Reporter, phase: str
) -> Compared:
    """Compare a disk with its source. Raises what the readers raise."""
    found = compare_disks(
        source, target, report=report, threads=threads, phase=phase, ranges_kept=_RUNS_AT_MOST
    )
    problems = [*_sizes(found, record), *_outside(found, record), *_changed_since(source, target, record)]
    inside = tuple(_cut(found.ranges, record.changed))
    proof = DiskProof(
        record.source, record.target, target.virtual_size, found.read_bytes, len(record.changed),
        sum(changed.length for changed in record.changed), found.different_bytes,
    )  # fmt: skip
    return Compared(proof, inside, tuple(problems))


def _sizes(found: Comparison, record: DiskRecord) -> Iterator[Problem]:
    for name, size in ((record.source, found.first_size), (record.target, found.second_size)):
        if size != record.virtual_size:
            yield Problem(name, f"has {size} bytes, and had {record.virtual_size} when it was converted")
    if not found.ranges_complete:
        yield Problem(record.target, f"differs from its source in more than {_RUNS_AT_MOST} places")


def _outside(found: Comparison, record: DiskRecord) -> Iterator[Problem]:
    outside = list(_left(found.ranges, record.changed))
    for offset, length in outside[:_TOLD_AT_MOST]:
        problem = f"differs from {record.source} at byte {offset} ({length} bytes), where nothing was changed"
        yield Problem(record.target, problem)
    if len(outside) > _TOLD_AT_MOST:
        yield Problem(record.target, f"differs in {len(outside) - _TOLD_AT_MOST} more places where nothing was changed")


def _changed_since(source: DiskReader, target: DiskReader, record: DiskRecord) -> Iterator[Problem]:
    for changed in record.changed:
        for name, reader, digest in ((record.source, source, changed.before), (record.target, target, changed.after)):
            if digest is not None and digest != digest_range(reader, changed.offset, changed.length):
                where = f"its bytes {changed.offset} to {changed.offset + changed.length - 1}"
                yield Problem(name, f"was written to since it was converted: {where} are not those of the record")


def _cut(runs: Sequence[Run], changed: Sequence[ChangedRange]) -> Iterator[Run]:
    """The parts of runs that lie in changed ranges; both are in order."""
    at = 0
    for offset, length in runs:
        while at < len(changed) and changed[at].offset + changed[at].length <= offset:
            at += 1
        here = at
        while here < len(changed) and changed[here].offset < offset + length:
            start = max(offset, changed[here].offset)
            end = min(offset + length, changed[here].offset + changed[here].length)
            yield start, end - start
            here += 1


def _left(runs: Sequence[Run], changed: Sequence[ChangedRange]) -> Iterator[Run]:
    """The parts of runs that lie in no changed range."""
    gaps = []
    end = 0
    for each in changed:
        gaps.append(ChangedRange(end, each.offset - end))
        end = each.offset + each.length
    gaps.append(ChangedRange(end, max(0, (runs[-1][0] + runs[-1][1] if runs else 0) - end)))
    return _cut(runs, [gap for gap in gaps if gap.length > 0])
