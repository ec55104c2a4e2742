"""What is wrong with an image: every table of every image of its chain is looked through, and every finding listed.

A reader stops at the first thing it cannot believe. Here the look-up goes on behind it, so that one damaged block
does not hide the next. ``check_data`` then reads what the tables lead to. Findings are the readers' own sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from converters.check_copies import damaged_copies, uncompared_copies
from converters.extents import Occupancy, clip, part_of
from converters.layering import Link, links
from converters.mapped import Layout, MappedDisk
from converters.qcow2_refcounts import check_refcounts
from converters.source_file import SourceFile
from p2v.core.disk import Extent
from p2v.core.errors import BadImage

FINDINGS_KEPT = 1000
# The smallest part that a look-up is retried with, where a format does not say how large its blocks are.
_DEFAULT_STEP_BYTES = 64 * 1024
# Of a damaged table every entry gives the same sentence: after so many of them the steps grow.
_SAME_BEFORE_LEAPS = 16
_READ_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``offset`` is where in the image's disk it was met, None for the image as a whole."""

    image: Path
    problem: str
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know that is not wrong: what does no harm, or could not be checked."""

    image: Path
    note: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found; ``complete`` is False where it ended at ``FINDINGS_KEPT`` findings."""

    findings: tuple[Finding, ...]
    complete: bool = True
    notes: tuple[Note, ...] = ()


class _Enough(Exception):
    """So many findings that more of them tell nobody anything."""


@dataclass
class _Gathered:
    findings: dict[tuple[Path, str], Finding] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def add(self, error: BadImage, offset: int | None) -> None:
        self.findings.setdefault((error.file, error.problem), Finding(error.file, error.problem, offset))
        if len(self.findings) == FINDINGS_KEPT:
            raise _Enough

    def checked(self, *, complete: bool) -> Checked:
        return Checked(tuple(self.findings.values()), complete, tuple(self.notes))


def check_tables(disk: MappedDisk) -> Checked:
    """Look through the tables of the image and of its parents; the parents are told apart. Raises ReadFailed."""
    gathered = _Gathered()
    try:
        for link in links(disk):
            for error in damaged_copies(link):
                gathered.add(error, None)
            gathered.notes += [Note(image, note) for image, note in uncompared_copies(link)]
            _check_layout(link, gathered)
            if link.facts.format == "qcow2":
                _check_refcounts(link.sources[0], gathered)
    except _Enough:
        return gathered.checked(complete=False)
    return gathered.checked(complete=True)


def check_data(disk: MappedDisk, progress: Callable[[int], None]) -> Checked:
    """Read the whole disk, so that every compressed block is inflated and every stored byte is there; findings of
    tables come again.

    ``progress`` is told the bytes that are done.
    """
    gathered = _Gathered()
    position = 0
    try:
        for piece in _every_piece(disk.layout, gathered):
            for start in () if piece.zero else range(piece.offset, piece.end, _READ_BYTES):
                end = min(start + _READ_BYTES, piece.end)
                _read(disk, start, end, gathered)
                progress(end - position)
                position = end
            progress(piece.end - position)
            position = piece.end
    except _Enough:
        return gathered.checked(complete=False)
    progress(disk.virtual_size - position)
    return gathered.checked(complete=True)


def _check_layout(link: Link, gathered: _Gathered) -> None:
    layout = link.layout
    shared = _Shared(layout.block_bytes, gathered)
    for piece in _every_piece(layout, gathered):
        if layout.block_bytes:
            shared.add(piece)
    if not layout.block_bytes:
        # such a layout looks for blocks that share their bytes itself, when it is walked
        try:
            for _ in layout.walk():
                pass
        except BadImage as error:
            gathered.add(error, None)


def _check_refcounts(file: SourceFile, gathered: _Gathered) -> None:
    found = check_refcounts(file, lambda error: gathered.add(error, None))
    if found.not_checked:
        gathered.notes.append(Note(file.path, f"its refcounts were not checked: {found.not_checked}"))
    if found.leaks:
        those = "a cluster that is" if found.leaks == 1 else f"{found.leaks} clusters that are"
        note = f"its refcounts keep {those} not in use, the first at byte {found.first_leak_offset}: lost space, no harm"
        gathered.notes.append(Note(file.path, note))


def _every_piece(layout: Layout, gathered: _Gathered) -> Iterator[Extent]:
    """All pieces there are; what cannot be looked up is a finding, and the look-up goes on behind it."""
    size, step = layout.virtual_size, layout.block_bytes or _DEFAULT_STEP_BYTES
    position, leap, repeated, last = 0, step, 0, ""
    while position < size:
        try:
            for piece in clip(layout.lookup(position, size), size):
                if piece.end > position:
                    yield part_of(piece, max(position, piece.offset), piece.end)
                    position = piece.end
            return
        except BadImage as error:
            gathered.add(error, position)
            repeated = repeated + 1 if error.problem == last else 0
            last = error.problem
        leap = min(leap * 2, size) if repeated >= _SAME_BEFORE_LEAPS else step
        behind = (position // step + 1) * step
        position = behind if leap == step else _last_of_same(layout, behind, min(position + leap, size), step, last)


def _last_of_same(layout: Layout, low: int, high: int, step: int, problem: str) -> int:
    """Where to go on between two places: behind the last of the steps from ``low`` on that have the same problem.

    A damaged table spoils one stretch of the disk, so the end of that stretch is looked for by halves.
    """
    while high - low > step:
        middle = (low + high) // 2 // step * step
        if _problem_at(layout, middle) == problem:
            low = middle + step
        else:
            high = middle
    return high if low < high and _problem_at(layout, low) == problem else min(low, high)


def _problem_at(layout: Layout, offset: int) -> str:
    try:
        for _ in layout.lookup(offset, offset + 1):
            pass
    except BadImage as error:
        return error.problem
    return ""


@dataclass
class _Shared:
    """Looks for blocks that share their stored bytes: halves a stretch until one block is to blame."""

    block_bytes: int
    gathered: _Gathered
    seen: Occupancy = field(init=False)

    def __post_init__(self) -> None:
        self.seen = Occupancy(self.block_bytes or 1)

    def add(self, piece: Extent) -> None:
        try:
            self.seen.add(piece)
        except BadImage as error:
            middle = piece.offset + piece.length // 2 // self.block_bytes * self.block_bytes
            if piece.offset < middle < piece.end:
                self.add(part_of(piece, piece.offset, middle))
                self.add(part_of(piece, middle, piece.end))
            else:
                self.gathered.add(error, piece.offset)


def _read(disk: MappedDisk, start: int, end: int, gathered: _Gathered) -> None:
    try:
        disk.pread(end - start, start)
    except BadImage as error:
        middle = (start + end) // 2 // _DEFAULT_STEP_BYTES * _DEFAULT_STEP_BYTES
        if start < middle < end:
            _read(disk, start, middle, gathered)
            _read(disk, middle, end, gathered)
        else:
            gathered.add(error, start)
