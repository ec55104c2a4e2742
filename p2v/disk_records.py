"""What of each disk goes into the record, and whether it is what was copied and committed: the last look before it has a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from converters.care import NO_CARE, Care
from converters.compare import compare_disks
from converters.copy import CopyResult
from converters.digest import digest_disk, digest_range, digest_twofold
from converters.image import identity, open_made
from converters.in_place import rewritten_disk
from converters.mapped import MappedDisk
from converters.patched import PatchedDisk, sorted_apart
from p2v.core import events
from p2v.core.disk import DiskReader
from p2v.core.errors import BadTarget
from p2v.core.events import Reporter
from p2v.record import ChangedRange, DiskRecord
from p2v.targets.hardware import TargetDisk


def committed_ranges(
    overlay: Path, target: Path, disk: TargetDisk, virtual_size: int, ranges: Sequence[tuple[int, int]]
) -> tuple[ChangedRange, ...]:
    """The ranges that an overlay over ``target`` has of its own, with what the target must hold there.

    Raises what reading it raises.
    """
    if not ranges:
        return ()
    # nothing is read of what is below the overlay
    with rewritten_disk(overlay, _opened(target, disk, virtual_size)) as rewritten:
        return tuple(
            ChangedRange(offset, length, after=digest_range(rewritten, offset, length)) for offset, length in ranges
        )


def disk_record(
    target: Path,
    disk: TargetDisk,
    source: DiskReader | None,
    source_path: Path,
    copied: CopyResult,
    changed: Sequence[ChangedRange],
    *,
    threads: int,
    report: Reporter,
    care: Care = NO_CARE,
) -> DiskRecord:
    """The record of a finished disk, which stands at ``target`` and is to become ``disk``.

    ``source``: as it was copied; None for one that others went on writing to, which tells nothing any more.
    The ranges that were committed are read again, and all of it where the copy took a digest. Raises BadTarget when it is not
    what was written to it, and what reading raises.
    """
    with _opened(target, disk, copied.virtual_size) as reader:
        held = tuple(_looked_at(each, source, reader, target) for each in changed)
        content = None
        if copied.digest is not None:
            with events.phase(report, "checksum", "Reading the result", reader.virtual_size):
                content = _checked_content(reader, source, target, copied.digest, changed, threads, report, care)
        return DiskRecord(
            source=str(source_path),
            target=str(disk.path),
            virtual_size=copied.virtual_size,
            read_bytes=copied.read_bytes,
            written_bytes=copied.written_bytes,
            resumed_bytes=copied.resumed_bytes,
            shared_bytes=copied.shared_bytes,
            changed=held,
            result=identity(reader),
            source_content=copied.digest,
            result_content=content,
        )


def _opened(target: Path, disk: TargetDisk, virtual_size: int) -> MappedDisk:
    return open_made(target, disk.format, virtual_size, is_device=disk.is_device)


def _looked_at(changed: ChangedRange, source: DiskReader | None, result: DiskReader, target: Path) -> ChangedRange:
    offset, length = changed.offset, changed.length
    if digest_range(result, offset, length) != changed.after:
        raise BadTarget(target, f"the {length} bytes from {offset} on are not what was committed to it")
    return changed if source is None else replace(changed, before=digest_range(source, offset, length))


def _checked_content(
    result: DiskReader,
    source: DiskReader | None,
    target: Path,
    copied: str,
    changed: Sequence[ChangedRange],
    threads: int,
    report: Reporter,
    care: Care,
) -> str:
    """The content digest of the result, which outside of the changed ranges is that of the copy."""
    if source is None or result.virtual_size != source.virtual_size:
        # qcow2 counts in sectors: then, too, there is nothing to hold it against but the changed ranges
        return digest_disk(result, threads=threads, report=report, phase="checksum", care=care)
    ranges = sorted_apart([_within(each, source.virtual_size) for each in changed], source.virtual_size)
    if ranges is None:
        raise BadTarget(target, "its changed ranges do not lie apart")
    content, unchanged = digest_twofold(result, source, ranges, threads=threads, report=report, phase="checksum", care=care)
    if unchanged != copied:
        at = compare_disks(PatchedDisk(result, source, ranges), source, threads=threads).first_difference
        where = "" if at is None else f", at byte {at} first"
        raise BadTarget(target, f"it is not what was copied to it{where}")
    return content


def _within(changed: ChangedRange, virtual_size: int) -> tuple[int, int]:
    """An overlay counts in sectors and may end behind the disk."""
    return changed.offset, min(changed.offset + changed.length, virtual_size) - changed.offset
