"""What of a disk can be changed where it stands: which formats, which ranges, and where their bytes are in files of the host.

A range can be changed in place when it is stored plainly in the disk's very own file: not compressed, not in a parent, not
unallocated. Such writes change no table of any format. Anything else is refused before the first write.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters import c_qcow2
from converters.extents import part_of
from converters.formats import FORMATS
from converters.image import open_disk
from converters.info import ImageFacts
from converters.layering import chained, links
from converters.mapped import MappedDisk
from converters.qcow2 import Qcow2Layout, read_extensions, read_header
from converters.qcow2_refcounts import check_refcounts
from converters.source_file import SourceFile, open_source
from converters.undo_journal import JournalWriter
from p2v.core.errors import NotInPlace, P2vError
from p2v.core.units import KIB, MIB, SECTOR_BYTES

QEMU_FORMATS: Mapping[str, str] = {
    "raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx", "vdi": "vdi",
}  # fmt: skip
"""What QEMU calls the formats whose disks it can run from."""

# What file systems write in; a smaller change costs its neighbours' bytes in the journal, and no more.
_STEP_BYTES = 4 * KIB
_PIECE_BYTES = MIB
_MAX_NEIGHBOURS = 512
_RANGES_NAMED = 3
_BY_COPY = "Convert it with a copy (without --in-place); nothing was written to it."


@dataclass(frozen=True, slots=True)
class RunsFrom:
    """What QEMU opens to run from a disk: a file, and what it calls its format."""

    path: Path
    format: str


def own_files(disk: MappedDisk) -> tuple[SourceFile, ...]:
    """The files a disk's own bytes stand in, parents apart.

    Raises NotInPlace where they are no plain files of the host (members of archives, files in parts).
    """
    sources = next(links(disk)).sources
    for source in sources:
        if type(source) is not SourceFile:
            raise NotInPlace(source.path, "it is packed, in parts, or has to be put together to be read", _BY_COPY)
    return sources


def data_files(disk: MappedDisk) -> tuple[SourceFile, ...]:
    """Those of ``own_files`` that have bytes of the disk in them: what only describes it is not written to."""
    stored = {extent.stored.file for extent in disk.extents_in(0, disk.virtual_size) if extent.stored is not None}
    return tuple(file for file in own_files(disk) if file.path in stored)


def first_data_file(disks: Sequence[MappedDisk]) -> SourceFile:
    """The first of all their ``data_files``. Raises NotInPlace where there is none: all is compressed, or nothing is there."""
    for disk in disks:
        for file in data_files(disk):
            return file
    raise NotInPlace(disks[0].files[0], "none of its bytes are stored plainly in it", _BY_COPY)


def refuse_unsuitable(disk: MappedDisk) -> None:
    """Raise NotInPlace for a disk that may not be written where it stands, whatever would be written."""
    facts, path = disk.facts, disk.files[0]
    if facts.format not in QEMU_FORMATS:
        raise NotInPlace(path, f"no machine of QEMU's runs from a disk of the format {facts.format}", _BY_COPY)
    if facts.dirty:
        raise NotInPlace(
            path,
            f"its last writer did not finish ({', '.join(facts.dirty)})",
            "Start and shut down the machine where it was, or convert it with a copy.",
        )
    if facts.parent is not None:
        problem = "it holds changes to another disk (a snapshot), which most programs cannot run from here"
        raise NotInPlace(path, problem, "Merge the snapshots where the machine was, or convert it with a copy.")
    own_files(disk)
    if facts.format == "qcow2":
        _refuse_shared_clusters(path)


def _refuse_shared_clusters(path: Path) -> None:
    """Snapshots share clusters with the disk, and bitmaps would not know of what changes."""
    file = open_source(path)
    try:
        header = read_header(file)
        if header.nb_snapshots:
            problem = f"its {header.nb_snapshots} internal snapshots share its clusters"
            raise NotInPlace(path, problem, "Delete them (qemu-img snapshot -d), or convert it with a copy.")
        bitmaps = read_extensions(file, header).get(c_qcow2.EXT_BITMAPS, b"")
        if int.from_bytes(bitmaps[:4], "big"):
            raise NotInPlace(
                path, "its dirty bitmaps would not know of the changes", "Remove them (qemu-img bitmap --remove)."
            )
        found: list[str] = []
        refcounts = check_refcounts(file, lambda error: found.append(error.problem))
        if refcounts.not_checked or refcounts.corruptions:
            problem = refcounts.not_checked or found[0]
            raise NotInPlace(
                path, f"its clusters may not be its alone: {problem}", "Repair a copy: qemu-img check -r all."
            )
    finally:
        file.close()


def dependents(disk: MappedDisk) -> Iterator[Path]:
    """Images in the folders of a disk that hold changes to it; they would be worth nothing once it changes.

    As far as can be seen: of images elsewhere, and of those that cannot be opened, nothing is known.
    """
    own = {(file.path.stat().st_dev, file.path.stat().st_ino) for file in own_files(disk)}
    suffixes = tuple(suffix for known in FORMATS if known.is_container for suffix in known.suffixes)
    for folder in dict.fromkeys(file.path.absolute().parent for file in own_files(disk) if not file.is_block_device):
        names = sorted(entry for entry in folder.iterdir() if entry.name.lower().endswith(suffixes))
        for path in itertools.islice(names, _MAX_NEIGHBOURS):
            try:
                if _is_over(path, own):
                    yield path
            except (P2vError, OSError):
                continue  # no image of ours to judge


def _is_over(path: Path, own: set[tuple[int, int]]) -> bool:
    with open_disk(path) as other:
        parents = [source for link in itertools.islice(links(other), 1, None) for source in link.sources]
        return any((found.st_dev, found.st_ino) in own for found in (p.host_path.stat() for p in parents))


def runs_from(disk: MappedDisk) -> RunsFrom:
    """What QEMU opens: the file whose bytes are the disk's one by one as raw, whatever describes it; else the image."""
    places = {
        e.stored.file if e.stored and e.stored.offset == e.offset else None
        for e in disk.extents_in(0, disk.virtual_size)
    }
    only = places.pop() if len(places) == 1 else None
    if only is not None and next(s.size for s in own_files(disk) if s.path == only) == disk.virtual_size:
        return RunsFrom(only.absolute(), "raw")
    return RunsFrom(disk.files[0].absolute(), QEMU_FORMATS[disk.facts.format])


def rewritten_disk(overlay: Path, below: MappedDisk) -> MappedDisk:
    """The disk that a qcow2 overlay makes of the one ``below`` (which it takes over), whatever the overlay calls its backing."""
    file = open_source(overlay)
    try:
        layout = Qcow2Layout(file, read_header(file), has_backing=True)
        return chained(layout, (file,), ImageFacts("qcow2", "overlay"), below)
    except BaseException:
        file.close()
        raise


@dataclass(slots=True)
class Misplaced:
    """Ranges that would change and cannot where they are."""

    ranges: int = 0
    length: int = 0
    first: tuple[str, ...] = ()

    def add(self, offset: int, length: int, why: str) -> None:
        """One more."""
        self.ranges += 1
        self.length += length
        if len(self.first) < _RANGES_NAMED:
            self.first = (*self.first, f"{length} bytes at {offset} {why}")


def keep_changes(
    writer: JournalWriter,
    number: int,
    before: MappedDisk,
    after: MappedDisk,
    ranges: Sequence[tuple[int, int]],
    files: Mapping[Path, int],
) -> tuple[tuple[int, int], ...]:
    """Put both images of all that differs within ``ranges`` (offset, length) of disk ``number`` into the journal.

    ``files``: numbers of the disk's own files in the journal. Returns what differs, in the order of the disk (offset, length);
    what is the same, as zeroes that stay zeroes, needs no write. Raises NotInPlace with the ranges that are not stored plainly,
    after all were looked at.
    """
    found, misplaced = [], Misplaced()
    for offset, old, new in differing(before, after, ranges):
        for extent in before.extents_in(offset, offset + len(old)):
            extent = part_of(extent, max(extent.offset, offset), min(extent.end, offset + len(old)))
            file = None if extent.stored is None else files.get(extent.stored.file)
            if file is None or extent.stored is None:
                misplaced.add(extent.offset, extent.length, _why(extent.zero, extent.compressed is not None))
                continue
            at = slice(extent.offset - offset, extent.end - offset)
            writer.add(number, file, extent.offset, extent.stored.offset, old[at], new[at])
            found.append((extent.offset, extent.length))
    if misplaced.ranges:
        problem = (
            f"{misplaced.ranges} of the ranges that change ({misplaced.length} bytes) are not stored plainly in it: "
        )
        raise NotInPlace(before.files[0], problem + "; ".join(misplaced.first), _BY_COPY)
    return tuple(found)


def _why(is_zero: bool, is_compressed: bool) -> str:
    return "are compressed" if is_compressed else "have no place in the file" if is_zero else "are in another file"


def differing(
    before: MappedDisk, after: MappedDisk, ranges: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, bytes, bytes]]:
    """What differs within ranges, in steps of 4 KiB joined up to 1 MiB: offset, old bytes, new bytes."""
    size = before.virtual_size
    for start, length in ranges:
        end = min(start + length, size)
        for offset in range(start, end, _PIECE_BYTES):
            count = min(_PIECE_BYTES, end - offset)
            old, new = before.pread(count, offset), after.pread(count, offset)
            if old != new:
                yield from _parts(offset, old, new)


def _parts(offset: int, old: bytes, new: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    step = _STEP_BYTES if offset % _STEP_BYTES == 0 else SECTOR_BYTES
    views = memoryview(old), memoryview(new)
    begin: int | None = None
    for at in range(0, len(old) + step, step):
        differs = at < len(old) and views[0][at : at + step] != views[1][at : at + step]
        if differs and begin is None:
            begin = at
        elif not differs and begin is not None:
            yield offset + begin, old[begin:at], new[begin:at]
            begin = None
