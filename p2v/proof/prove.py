"""Proves a conversion: reads both sides, changes nothing, and believes neither the record nor the plan more than the bytes."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from converters.image import open_made
from converters.references import DiskSpec
from converters.undo_view import open_spec
from drivers.facts import GuestFacts, Partition
from drivers.keys import Key
from drivers.listing import BadListing
from drivers.planned import Unexplained
from p2v.core import events
from p2v.core.acceleration import Acceleration
from p2v.core.disk import DiskReader
from p2v.core.errors import Usage
from p2v.core.events import PhaseTimes, Reporter
from p2v.core.units import format_bytes
from p2v.proof.disks import Compared, Run, compare, outside
from p2v.proof.guest import GuestProof, System, sides, systems_of
from p2v.record import ConversionRecord, record_digest
from p2v.record.as_copied import sources_as_copied, unreadable_of
from p2v.record.files import State, look_at_output
from p2v.record.proof import FileSystemProof, Problem, ProofDocument, ProofVerdict


@dataclass(frozen=True, slots=True)
class Pair:
    """Both sides of a machine's disks, in order: how to open each."""

    sources: tuple[DiskSpec, ...]
    targets: tuple[DiskSpec, ...]


def pair_of(record: ConversionRecord, folder: Path, sources: Sequence[Path] = ()) -> Pair:
    """Where a record's disks are: results beside it, sources where they were or at other places that are named.

    Of a conversion in place both sides are the same disks, one of them as its undo journal has it.
    """
    planned = tuple(source.spec for source in record.document.sources)
    if sources:
        planned = tuple(replace(spec, path=path) for spec, path in zip(planned, sources, strict=True))
    if record.undo_journal is not None:
        journal = folder / record.undo_journal
        before = tuple(replace(spec, undo_journal=journal, undo_disk=index) for index, spec in enumerate(planned))
        return Pair(before, planned)
    # what a record calls a file beside it is looked for nowhere else; a device has its path
    targets = tuple(
        DiskSpec(Path(made.target) if disk.is_device else folder / Path(made.target).name, made.result.format)
        for made, disk in zip(record.disks, record.hardware.disks, strict=True)
    )
    return Pair(planned, targets)


def prove(
    record: ConversionRecord,
    pair: Pair,
    folder: Path,
    acceleration: Acceleration,
    report: Reporter = events.silent,
    *,
    keys: Sequence[Key] = (),
    threads: int = 2,
    digest: str | None = None,
) -> ProofDocument:
    """Prove one conversion. ``folder``: where its other files are. ``digest``: what the record's file says its digest is.

    Raises what opening and reading the disks raise, and ApplianceFailed; Usage where the source was in use when it was copied.
    """
    if record.document.live:
        in_use = ", ".join(record.disks[each.disk].source for each in record.document.live)
        message = f"{in_use}: was in use while it was copied, so what it holds now is not what was copied"
        raise Usage(message, "There is nothing to hold the result against; `p2v verify` boots it.")
    times = PhaseTimes(report)
    systems = systems_of(record.document.facts, record.document.plan)
    with ExitStack() as stack:
        opened = [stack.enter_context(open_spec(spec)) for spec in pair.sources]
        copied = sources_as_copied(opened, record, times)
        sources = copied.views(opened)
        targets = [
            stack.enter_context(
                open_made(spec.path, made.result.format, made.virtual_size, is_device=True)
                if disk.is_device
                else open_spec(spec)
            )
            for spec, disk, made in zip(pair.targets, record.hardware.disks, record.disks, strict=True)
        ]
        compared, found = _both(record, pair, (sources, targets), systems, acceleration, times, keys, threads)
    problems = [problem for disk in compared for problem in disk.problems]
    problems += [
        Problem(record.disks[index].source, "was written to since it was converted: other blocks are free in it now")
        for index in copied.changed
    ]
    problems += _elsewhere(record, systems, [disk.runs for disk in compared])
    problems += _outputs(record, folder)
    in_guest = [
        Problem(_in_guest(system, each.path), each.problem) for system in found for each in system.unexplained
    ]
    by_programs = in_guest if record.document.plan.programs else []
    problems += [] if by_programs else in_guest
    verdict = ProofVerdict.FAILED if problems else ProofVerdict.GUEST_PROGRAM if by_programs else ProofVerdict.PROVEN
    return ProofDocument(
        record_digest=digest or record_digest(record),
        machine=record.document.machine.name,
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        verdict=verdict,
        disks=tuple(disk.proof for disk in compared),
        file_systems=tuple(found),
        problems=tuple(problems),
        notes=(*_notes(record), *_not_compared(record, systems)),
        by_programs=tuple(by_programs),
        seconds=dict(times.seconds),
        load=os.getloadavg()[0],
    )


def _both(
    record: ConversionRecord,
    pair: Pair,
    readers: tuple[Sequence[DiskReader], Sequence[DiskReader]],
    systems: Sequence[System],
    acceleration: Acceleration,
    report: PhaseTimes,
    keys: Sequence[Key],
    threads: int,
) -> tuple[list[Compared], list[FileSystemProof]]:
    """The bytes are compared while the appliance starts. Whatever ends the one ends the other."""
    cancelled = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="p2v-prove") as pool:
        comparing = pool.submit(_compare_all, record, readers, threads, report, cancelled)
        try:
            if not systems:
                return comparing.result(), []
            specs = (pair.sources, pair.targets)
            gone = tuple(map(unreadable_of, record.disks))
            with sides(record.document, specs, systems, acceleration, keys, report, gone) as walked:
                compared = comparing.result()
                guest = GuestProof(
                    record.document.facts, record.document.plan, walked, [disk.runs for disk in compared], readers, gone
                )
                with events.phase(report, "walk", "Walking the file systems of both sides"):
                    return compared, [_walked(guest, system) for system in systems]
        except BaseException:
            cancelled.set()
            raise


def _walked(guest: GuestProof, system: System) -> FileSystemProof:
    try:
        return guest.prove(system)
    except BadListing as error:
        return _unreadable(system, error)


def _compare_all(
    record: ConversionRecord,
    readers: tuple[Sequence[DiskReader], Sequence[DiskReader]],
    threads: int,
    report: Reporter,
    cancelled: threading.Event,
) -> list[Compared]:
    total = sum(max(s.virtual_size, t.virtual_size) for s, t in zip(*readers, strict=True))
    with events.phase(report, "compare", "Comparing every byte", total):
        return [
            compare(source, target, disk, threads, report, "compare", cancelled)
            for source, target, disk in zip(*readers, record.disks, strict=True)
        ]


def _unreadable(system: System, error: BadListing) -> FileSystemProof:
    return FileSystemProof(
        system.device, system.kind, tuple(m.mountpoint for m in system.mounts), 0, 0, False, (),
        (Unexplained("/", f"what is in it cannot be told: {error}"),), {},
    )  # fmt: skip


def _in_guest(system: FileSystemProof, path: str) -> str:
    if not path:
        return system.device
    return path if system.mountpoints == ("/",) else f"{path} of {system.device} ({', '.join(system.mountpoints)})"


def _elsewhere(
    record: ConversionRecord, systems: Sequence[System], runs: Sequence[Sequence[Run]]
) -> Iterator[Problem]:
    """Bytes that differ in what belongs to no file system that the plan writes to: tables, boot sectors, gaps, other partitions."""
    facts = record.document.facts
    for index, disk in enumerate(runs):
        for offset, length in _split(facts, index, outside(disk, _spans(systems, index))):
            part = _partition_at(facts, index, offset)
            if not _below_a_volume(record, systems, part):
                place = f"in partition {part.number}" if part is not None and part.number else "outside of all partitions"
                problem = f"differs at byte {offset} ({length} bytes), {place}, where nothing was planned"
                yield Problem(record.disks[index].target, problem)


def _split(facts: GuestFacts, disk: int, runs: Iterable[Run]) -> Iterator[Run]:
    """The runs, cut where partitions begin and end: each part belongs to one place."""
    edges = sorted({edge for p in facts.partitions if p.disk == disk for edge in (p.offset, p.offset + p.length)})
    for offset, length in runs:
        end = offset + length
        for edge in edges[bisect_right(edges, offset) :]:
            if edge >= end:
                break
            yield offset, edge - offset
            offset = edge
        yield offset, end - offset


def _partition_at(facts: GuestFacts, disk: int, offset: int) -> Partition | None:
    """The partition that a byte is in; of one inside of an extended one, the inner."""
    found = (p for p in facts.partitions if p.disk == disk and p.offset <= offset < p.offset + p.length)
    return max(found, key=lambda part: part.offset, default=None)


def _spans(systems: Sequence[System], disk: int) -> list[Run]:
    """Where the file systems that were walked stand on a disk."""
    return sorted((s.disk_offset, s.length) for system in systems for s in system.segments if s.disk == disk)


def _below_a_volume(record: ConversionRecord, systems: Sequence[System], part: Partition | None) -> bool:
    """Whether volumes that only the appliance can map stand on a partition: there the names were compared alone."""
    facts = record.document.facts
    if part is None:
        return False
    if any(not system.segments for system in systems):
        # a volume in what only the appliance opened says no more of what it stands on than that
        return any((part.disk, part.number) in v.carriers for v in facts.volumes if not v.segments)
    for system in systems:
        volume = next((v for v in facts.volumes if v.device == system.mounts[0].volume), None)
        if volume is not None and (part.disk, part.number) in volume.carriers and _is_array(record, volume.device):
            return True
    return False


def _is_array(record: ConversionRecord, device: str) -> bool:
    """Whether an array is below a volume: its superblock counts what happens to it, and all its members are written."""
    carriers = {c for v in record.document.facts.volumes if v.device == device for c in v.carriers}
    return any(v.kind == "md" and set(v.carriers) & carriers for v in record.document.facts.volumes)


def _not_compared(record: ConversionRecord, systems: Sequence[System]) -> Iterator[str]:
    """Volumes beside those that were walked, on partitions whose bytes cannot be told apart from here."""
    facts = record.document.facts
    walked = {system.mounts[0].volume for system in systems}
    if all(system.segments and not _is_array(record, system.mounts[0].volume) for system in systems):
        return
    for volume in facts.volumes:
        if volume.device not in walked and volume.kind == "lvm" and not volume.segments:
            yield f"{volume.device} was not compared: only the appliance can tell where it stands, and nothing was planned in it"


def _outputs(record: ConversionRecord, folder: Path) -> Iterator[Problem]:
    """Small files beside the disks, against the digests of the record."""
    for output in record.outputs:
        if output.sha256 is not None and (looked := look_at_output(folder, output)).state is not State.SAME:
            yield Problem(output.name, looked.said)


def _notes(record: ConversionRecord) -> Iterator[str]:
    if any(changed.after is None for disk in record.disks for changed in disk.changed):
        yield "the record is of a version that kept no digests of what was changed: whether that was written to since is not known"
    for disk in record.disks:
        if disk.unreadable:
            lost = unreadable_of(disk).total
            yield f"{lost} bytes of {disk.source} could not be read when it was converted: they count as zeroes on both sides"
    kinds = {each.kind: 0 for disk in record.disks for each in disk.left_out}
    for disk in record.disks:
        for each in disk.left_out:
            kinds[each.kind] += each.length
    for kind, length in kinds.items():
        yield f"{format_bytes(length)} were not copied ({kind}): they read as zero in the result"
    if record.document.plan.is_idle:
        yield "nothing in the guest was to be changed"
