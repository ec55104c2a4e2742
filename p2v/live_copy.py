"""A conversion of disks in use: they are copied first, and the guest is rewritten on overlays over the copies.

A device that changes can back no overlay, and what was read of it for the plan may be gone. So the copy is read again, the way any
disk is; where it says anything else of the guest than the plan was made from, the plan is stale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from converters.digest import digest_range
from converters.image import open_disk
from converters.mapped import MappedDisk
from converters.qemu_img import QemuImg
from drivers.facts import FileSystem, GuestFacts
from drivers.keys import Key
from p2v.consistency import LiveSource, LiveWish
from p2v.core.acceleration import Acceleration
from p2v.core.errors import PlanStale, Usage
from p2v.core.events import Reporter
from p2v.core.run import Runner
from p2v.documents import PlanDocument, SourceDisk
from p2v.inspection import Reading, inspect
from p2v.live_sources import look_over, require_same_ways
from p2v.machine import MachineDisk
from p2v.record import ChangedRange
from p2v.rewriting import open_planned

# What says how something was read, and not what it is.
_OF_READING = frozenset({"read_by", "notes"})


def require_ways(document: PlanDocument, wish: LiveWish, runner: Runner) -> None:
    """The disks are used as they were when they were planned. Raises SourceInUse, PlanStale, Usage (a live plan without --live)."""
    paths = [source.path for source in document.sources]
    if document.live and not wish.allowed:
        raise Usage("the plan is for disks in use, and only --live allows that", "Say --live, as `p2v plan` was told.")
    found = look_over(paths, wish if document.live else LiveWish(), runner)
    require_same_ways(document.live, found.live, paths)


@contextmanager
def open_live(source: SourceDisk, live: LiveSource, path: Path) -> Iterator[MappedDisk]:
    """A disk in use, or what stands for it. Raises PlanStale where it has another size, and what opening a disk raises.

    Its identity cannot be what it was: ``require_ways`` has seen that it is the same device, and ``copied_document`` looks at
    what was copied.
    """
    with open_disk(path, source.input_format or "raw") as reader:
        if reader.virtual_size != live.size:
            raise PlanStale(str(source.path), f"a disk of {live.size} bytes", f"{reader.virtual_size} bytes")
        yield reader


@contextmanager
def open_source_of(document: PlanDocument, disk: int, live_path: Path | None) -> Iterator[MappedDisk]:
    """A disk of the plan; ``live_path``: from where to read it, if it is one in use. Raises as the two ways of opening do."""
    live = next((each for each in document.live if each.disk == disk), None)
    source = document.sources[disk]
    opened = open_planned(source) if live is None else open_live(source, live, live_path or source.path)
    with opened as reader:
        yield reader


def copied_document(
    document: PlanDocument,
    copies: Sequence[tuple[Path, str]],
    acceleration: Acceleration,
    report: Reporter,
    keys: Sequence[Key],
) -> PlanDocument:
    """The plan for the copies (path and format of each disk), once they are seen to hold the guest that was planned.

    Raises PlanStale where they do not, and what ``inspect`` raises.
    """
    disks = [MachineDisk(path, disk_format) for path, disk_format in copies]
    found = inspect(disks, Reading.AUTO, lambda: acceleration, report, keys)
    _require_same(document.facts, found.facts, str(document.sources[0].path))
    return replace(document, sources=found.sources, facts=found.facts)


def overlays_over(overlays: Sequence[Path], copies: Sequence[tuple[Path, str]], sizes: Sequence[int], qemu_img: QemuImg) -> None:
    """Make an overlay over each copy, which is ours and finished."""
    for overlay, (path, disk_format), size in zip(overlays, copies, sizes, strict=True):
        qemu_img.create_overlay(overlay, path, disk_format, size)


def digested_before(copy: tuple[Path, str], ranges: Sequence[tuple[int, int]]) -> tuple[ChangedRange, ...]:
    """Ranges of a copy that are about to change, as they were copied; the source's may have changed since."""
    with open_disk(*copy) as reader:
        return tuple(ChangedRange(offset, length, digest_range(reader, offset, length)) for offset, length in ranges)


def _require_same(planned: GuestFacts, copied: GuestFacts, where: str) -> None:
    before, after = _settled(planned), _settled(copied)
    differing = [
        field.name
        for field in fields(GuestFacts)
        if field.name not in _OF_READING and getattr(before, field.name) != getattr(after, field.name)
    ]
    if differing:
        named = ", ".join(name.replace("_", " ") for name in differing)
        raise PlanStale(where, "the guest that was planned", f"one in the copy that differs from it ({named})")


def _settled(facts: GuestFacts) -> GuestFacts:
    """Without what changes by mere use of the guest, and is nothing that a plan rests on."""

    def still(system: FileSystem | None) -> FileSystem | None:
        if system is None:
            return None
        return replace(system, free_bytes=None, free_inodes=None, why_not_host="", dirty=False)

    return replace(
        facts,
        partitions=tuple(replace(each, filesystem=still(each.filesystem)) for each in facts.partitions),
        volumes=tuple(replace(each, filesystem=still(each.filesystem)) for each in facts.volumes),
    )
