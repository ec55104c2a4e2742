"""Copy, rewrite and commit: the two orders in which that is done, and what is recorded of each disk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from converters.allocation.left_out import LeftOut, LeftOutRange
from converters.copy import CopyResult, copy_disk
from converters.digest import ContentDigest
from converters.faults import BadRanges
from converters.sparse_view import SparseView
from converters.target import Target, TargetFormat
from drivers.appliance_values import ApplianceStopped
from drivers.rewrite import RewriteResult
from p2v.conversion_job import Job, Moved
from p2v.core import events
from p2v.core.disk import DiskReader
from p2v.core.errors import BadTarget
from p2v.disk_records import committed_ranges, disk_record
from p2v.left_out import left_out_records
from p2v.live_copy import copied_document, digested_before, overlays_over
from p2v.live_sources import StillSources
from p2v.record import ChangedRange, DiskRecord
from p2v.record.as_copied import UNREADABLE
from p2v.rewriting import rewrite_overlays, served_overlays
from p2v.supplements import Supplements, building
from p2v.unreadable import unreadable_records


def move(
    job: Job, readers: Sequence[DiskReader], targets: Sequence[Target], still: StillSources | None
) -> Moved:
    """Copy and rewrite at the same time, then commit the overlays into the targets."""
    if still is not None or job.request.reading.skip_bad_sectors:
        return _move_one_after_the_other(job, readers, targets, still)
    sizes = [reader.virtual_size for reader in readers]
    with served_overlays(job.document, job.overlays, sizes, job.qemu_img, job.selection.disks) as supplements:
        copies, rewriting = _both(job, readers, targets, supplements)
    return Moved(copies, rewriting, _commit_all(job, targets))


def _move_one_after_the_other(
    job: Job, readers: Sequence[DiskReader], targets: Sequence[Target], still: StillSources | None
) -> Moved:
    """Copy, then rewrite on overlays over the copies.

    A disk in use can back no overlay; what is zeroes for a bad sector is so for the guest, and no bad sector is met twice.
    """
    copies = _copy_all(job, readers, targets)
    document, keys = job.document, job.request.keys
    made = [(target.path.absolute(), target.format.value) for target in targets]
    if still is not None:
        for reader in readers:
            reader.close()
        job.live = still.release()
        document = copied_document(document, made, job.acceleration, job.report, keys)
    job.unreadable = unreadable_records(targets, job.report)
    overlays_over(job.overlays, made, [reader.virtual_size for reader in readers], job.qemu_img)
    # what could not be read may be a part of a file system, and there is no better copy of it
    damage = any(job.unreadable)
    with building(document) as supplements:
        rewriting = rewrite_overlays(
            document, job.overlays, supplements, job.acceleration, job.report,
            keys=keys, accept_damage=damage, check_all=still is not None,
        )
    return Moved(copies, rewriting, _commit_all(job, targets))


def as_copied(reader: DiskReader, lost: BadRanges) -> DiskReader:
    """A source with zeroes for what could not be read of it."""
    return SparseView(reader, LeftOut(LeftOutRange(*each, UNREADABLE) for each in lost.ranges)) if len(lost) else reader


def _both(
    job: Job, readers: Sequence[DiskReader], targets: Sequence[Target], supplements: Supplements
) -> tuple[tuple[CopyResult, ...], RewriteResult]:
    """The copy in a thread of its own, the rewriting in this one, where an interrupt is noticed at once.

    Whichever fails first ends the other: its error is the one to tell.
    """
    copy_failed = threading.Event()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="p2v-copy") as pool:
        copying = pool.submit(_copy_all, job, readers, targets)
        copying.add_done_callback(lambda done: copy_failed.set() if done.exception() else None)
        try:
            rewriting = rewrite_overlays(
                job.document, job.overlays, supplements, job.acceleration, job.report, keys=job.request.keys, stop=copy_failed
            )
            return copying.result(), rewriting
        except ApplianceStopped:
            copying.result()
            raise
        except BaseException:
            job.cancelled.set()
            raise


def _copy_all(job: Job, readers: Sequence[DiskReader], targets: Sequence[Target]) -> tuple[CopyResult, ...]:
    total = sum(reader.virtual_size for reader in readers)
    with events.phase(job.report, "copy", "Copying", total):
        results = []
        for index, (reader, target) in enumerate(zip(readers, targets, strict=True)):
            digest = ContentDigest(reader.virtual_size) if job.request.checksum else None
            results.append(
                copy_disk(
                    reader,
                    target.writer,
                    report=job.report,
                    threads=job.request.threads,
                    digest=digest,
                    cancelled=job.cancelled,
                    care=job.care,
                    faults=target.faults(index, skip=job.request.reading.skip_bad_sectors),
                    share=job.shares,
                )
            )
            target.finish_copy()
            for remark in target.remarks:
                job.report(events.Warned(remark))
        return tuple(results)


def _commit_all(job: Job, targets: Sequence[Target]) -> tuple[tuple[ChangedRange, ...], ...]:
    with events.phase(job.report, "commit", "Committing the changes"):
        return tuple(_commit(job, index, target) for index, target in enumerate(targets))


def _commit(job: Job, index: int, target: Target) -> tuple[ChangedRange, ...]:
    overlay = job.overlay(index)
    ranges = job.qemu_img.changed_ranges(overlay)
    before = digested_before((target.path, target.format.value), ranges) if job.document.live else None
    if ranges:
        target.note_committing(ranges)
        job.qemu_img.rebase_unsafe(overlay, target.path, target.format.value)
        job.qemu_img.commit(overlay, target.path, target.format.value)
    if target.format is TargetFormat.QCOW2:
        result = job.qemu_img.check(target.path, "qcow2")
        if not result.clean:
            raise BadTarget(target.path, f"qemu-img check finds {result.corruptions} errors and {result.leaks} leaks")
    changed = committed_ranges(overlay, target.path, job.hardware.disks[index], target.writer.virtual_size, ranges)
    overlay.unlink()
    # of a disk in use only the copy can tell what it was
    return tuple(replace(r, before=b.before) for r, b in zip(changed, before, strict=True)) if before is not None else changed


def record_of_disk(job: Job, index: int, moved: Moved, source: DiskReader) -> DiskRecord:
    record = disk_record(
        job.partial_disk(index), job.hardware.disks[index], None if job.document.live else source,
        job.document.sources[index].path, moved.copies[index], moved.changed[index],
        # the limit is the source's
        threads=job.request.threads, report=job.report, care=replace(job.care, limit=None),
    )  # fmt: skip
    return replace(
        record,
        compression=_compression(job, index),
        left_out=left_out_records(job.selection.disks[index]),
        left_out_digest=job.selection.disks[index].digest(),
        unreadable=job.unreadable[index] if job.unreadable else (),
    )


def _compression(job: Job, index: int) -> str:
    codec = None if job.hardware.disks[index].is_device else job.request.layout.compression
    return "" if codec is None else codec.value
