"""Conversion in place, for who has no room for a copy: the one mode that writes to a source, and only when asked for by name.

Planned as always and rewritten on overlays, nothing of the source is written until everything else is done: the changes are
known, both their images are in the undo journal, the guest has booted from the overlays (where that was asked for), and
definitions and record stand under their partial names. Then all disks change as one transaction (``converters.transaction``),
and the results get their names. An interrupted run is finished by the next one, before anything else.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import p2v
from converters.claims import claimed_as, device_identity
from converters.digest import digest_disk
from converters.image import open_disk
from converters.in_place import (
    data_files,
    first_data_file,
    keep_changes,
    rewritten_disk,
    runs_from,
)
from converters.mapped import MappedDisk
from converters.qemu_img import QemuImg
from converters.storage import HostStorage
from converters.transaction import commit, recover
from converters.undo import file_sha256
from converters.undo_journal import (
    JournalDisk,
    JournalFile,
    JournalHeader,
    JournalWriter,
    open_journal,
)
from drivers.rewrite import RewriteResult
from p2v.core import events
from p2v.core.acceleration import Acceleration
from p2v.core.errors import (
    Interrupted,
    NotCommitted,
    NotPermitted,
    P2vError,
    TargetExists,
)
from p2v.core.events import PhaseTimes, Reporter
from p2v.core.run import SystemRunner
from p2v.core.units import MIB
from p2v.core.workspace import (
    Outputs,
    locked,
    make_folder,
    make_output_folder,
    remove_empty,
    remove_quietly,
    require_space,
    write_synced,
)
from p2v.documents import PlanDocument, SourceDisk, plan_digest
from p2v.inplace_disks import ClaimedDisks, FitDisk, claimed_disks, refuse_unfit, require_same_sizes
from p2v.record import ChangedRange, ConversionRecord, DiskRecord, record_json
from p2v.rewriting import (
    OVERLAY_BYTES,
    boot_checked,
    boot_files,
    check_records,
    host_record,
    open_planned,
    output_files,
    refuse_blocked,
    rewrite_overlays,
    served_overlays,
    verify_package,
    write_definitions,
)
from p2v.settling import InPlaceRequest, journal_path, lasting_name, outputs_of, publish_in_place
from p2v.sources.networks import require_mapped
from p2v.targets.front_ends import DefinitionFile, FrontEnd, Placing, definitions
from p2v.targets.hardware import TargetDisk, TargetHardware, with_sectors_of
from p2v.tools import tool_versions
from p2v.verify import BootEvidence, require_tools

_STORAGE = HostStorage()
_Ranges = tuple[tuple[int, int], ...]
_ELSEWHERE = "Free some space, or keep the journal on another disk with --undo-journal FILE."


@dataclass
class _Job:
    document: PlanDocument
    request: InPlaceRequest
    acceleration: Acceleration
    report: PhaseTimes
    hardware: TargetHardware
    definitions: tuple[DefinitionFile, ...]
    outputs: Outputs
    work: Path
    journal: Path
    qemu_img: QemuImg = field(default_factory=lambda: QemuImg(SystemRunner()))
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    @property
    def overlays(self) -> tuple[Path, ...]:
        return tuple(self.work / f"overlay{index}.qcow2" for index in range(len(self.document.sources)))


def convert_in_place(
    document: PlanDocument, request: InPlaceRequest, acceleration: Callable[[], Acceleration], report: Reporter
) -> ConversionRecord:
    """Carry out a plan where the disks stand. On return they are converted, on stable storage, and the record is published.

    Raises Blocked, PlanStale, NotInPlace, DiskInUse, TargetExists, NoSpace, NotCommitted (the boot check failed), and what the
    steps raise; the disks are untouched then. Interrupted: writing failed, and so did taking it back.
    """
    refuse_blocked(document)
    if request.front_end is not FrontEnd.QEMU:
        require_mapped(document.machine.nics, request.front_end.value)
    if request.boot_check:
        require_tools(document.hardware)
    with ExitStack() as stack:
        readers = [stack.enter_context(open_planned(source)) for source in document.sources]
        for reader in readers:
            refuse_unfit(reader)
        with claimed_disks(readers):
            pass  # told before anything is done; held only later, as qemu-img looks at the disks until then
        # behind the lock's own removal
        stack.callback(remove_empty, make_output_folder(request.folder))
        job = _job(document, request, acceleration(), PhaseTimes(report), readers)
        _refuse_taken(job)
        require_space(request.folder, OVERLAY_BYTES)
        name = document.machine.name
        stack.enter_context(locked(request.folder / f".{name}.p2v-lock", request.folder / name))
        claim = stack.enter_context(claimed_disks(readers))
        verify_package(document, job.report, threading.Event())
        if document.machine.description is not None:
            message = f"{document.machine.description} stays as it is: it tells of the machine as it was, and of its disks too"
            job.report(events.Warned(message))
        return _convert(job, claim)


def _refuse_taken(job: _Job) -> None:
    job.outputs.refuse_existing()
    if _STORAGE.exists(job.journal):
        advice = f"`p2v undo {job.journal}` takes it back; or remove it, or name another with --undo-journal."
        raise TargetExists(job.journal, advice)
    if not os.access(job.journal.parent, os.W_OK | os.X_OK):
        raise NotPermitted(str(job.journal.parent), "write an undo journal to")


def _job(
    document: PlanDocument,
    request: InPlaceRequest,
    acceleration: Acceleration,
    report: PhaseTimes,
    readers: Sequence[MappedDisk],
) -> _Job:
    name = document.machine.name
    run = [runs_from(reader) for reader in readers]
    require_same_sizes(run, readers)
    disks = tuple(
        with_sectors_of(TargetDisk(each.path, each.format, disk.serial, is_device=each.path.is_block_device()), disk)
        for each, disk in zip(run, document.hardware.disks, strict=True)
    )
    hardware = replace(document.hardware, disks=disks)
    placing = Placing(request.folder.absolute(), [reader.virtual_size for reader in readers], acceleration)
    files = definitions(request.front_end, hardware, document.facts.os, placing)
    evidence = [f"{name}.png", f"{name}.boot.log"] if request.boot_check else []
    return _Job(
        document=document,
        request=request,
        acceleration=acceleration,
        report=report,
        hardware=hardware,
        definitions=files,
        outputs=outputs_of(request, name, [*(file.name for file in files), *evidence]),
        work=request.folder / f"{name}.partial.work",
        journal=journal_path(name, request, lasting_name(first_data_file(readers).path)),
    )


def _convert(job: _Job, claim: ClaimedDisks) -> ConversionRecord:
    _withdraw(job)
    make_folder(job.work)
    try:
        record = _written(job, claim)
        return publish_in_place(record, job.outputs, job.report)
    finally:
        remove_quietly([job.work])


def _written(job: _Job, claim: ClaimedDisks) -> ConversionRecord:
    """Everything up to the end of the commit. What fails before that is through leaves the disks as they were, and nothing else."""
    try:
        rewriting, changed, boot = _rewritten(job, claim)
        record = _record(job, claim, rewriting, boot, changed)
    except BaseException:
        _abandon(job)
        raise
    if any(changed):
        try:
            with events.phase(job.report, "commit", "Writing the changes into the disks"):
                with open_journal(_STORAGE, job.journal) as journal:
                    commit(_STORAGE, journal, claim.handles)
        except Interrupted:
            raise  # what stands under partial names is what the next run ends this one with
        except P2vError:
            _abandon(job)
            raise
    return replace(record, seconds=dict(job.report.seconds))


def _abandon(job: _Job) -> None:
    with contextlib.suppress(P2vError):
        recover(_STORAGE, job.journal, claimed_as)  # it was not begun, or was taken back: the journal goes
    _withdraw(job)


def _withdraw(job: _Job) -> None:
    remove_quietly([job.work, *(job.outputs.partial(name) for name in job.outputs.names)])


def _rewritten(job: _Job, claim: ClaimedDisks) -> tuple[RewriteResult, tuple[_Ranges, ...], BootEvidence | None]:
    """The guest on its overlays, what of the disks will change, and whether it booted from the overlays.

    What cannot be changed in place is told before anybody waits for a boot.
    """
    sizes = [disk.reader.virtual_size for disk in claim.disks]
    with served_overlays(job.document, job.overlays, sizes, job.qemu_img, [None] * len(sizes)) as supplements:
        rewriting = rewrite_overlays(
            job.document, job.overlays, supplements, job.acceleration, job.report, keys=job.request.keys
        )
        changed = _kept(job, claim)
        boot = _boot_check(job) if job.request.boot_check else None
    if boot is not None and not boot.booted and not job.request.force:
        _keep_evidence(job)
        raise NotCommitted(job.document.machine.name, boot.verdict.sentence)
    return rewriting, changed, boot


def _keep_evidence(job: _Job) -> None:
    """Under names of its own, which the next try may replace."""
    name = job.document.machine.name
    for made, kept in ((f"{name}.png", f"{name}.failed.png"), (f"{name}.boot.log", f"{name}.failed.log")):
        if job.outputs.partial(made).exists():
            os.replace(job.outputs.partial(made), job.request.folder / kept)


def _boot_check(job: _Job) -> BootEvidence:
    """Boot what the disks will be, while they still are what they were."""
    disks = tuple(
        replace(disk, path=overlay.absolute(), format="qcow2")
        for disk, overlay in zip(job.hardware.disks, job.overlays, strict=True)
    )
    hardware = replace(job.hardware, disks=disks)
    return boot_checked(
        hardware, job.document, job.outputs, job.acceleration, job.report, scratch=job.work, keys=job.request.keys
    )


def _kept(job: _Job, claim: ClaimedDisks) -> tuple[_Ranges, ...]:
    """Prepare the journal of all that will change; the ranges of each disk. Where nothing will, there is no journal."""
    ranges = [job.qemu_img.changed_ranges(overlay) for overlay in job.overlays]
    # for both images of all that changes; the post-images go when they are committed
    require_space(job.journal.parent, 2 * sum(length for each in ranges for _, length in each) + MIB, _ELSEWHERE)
    with events.phase(job.report, "journal", "Keeping what will be overwritten"):
        whole = [file_sha256(handle) if job.request.checksum else None for handle in claim.handles]
        writer = JournalWriter(_STORAGE, job.journal)
        try:
            changed = tuple(
                _keep(job.document.sources[index], writer, index, claim.disks[index], job.overlays[index], each)
                for index, each in enumerate(ranges)
            )
            if any(changed):
                writer.finish(_header(job, claim, whole)).close()
            else:
                writer.discard()
            return changed
        except BaseException:
            writer.discard()
            raise


def _keep(
    source: SourceDisk,
    writer: JournalWriter,
    index: int,
    disk: FitDisk,
    overlay: Path,
    ranges: Sequence[tuple[int, int]],
) -> _Ranges:
    numbers = dict(zip((file.path for file in data_files(disk.reader)), disk.files, strict=True))
    below = open_disk(source.path, source.input_format, source.lookup)
    try:
        after = rewritten_disk(overlay, below)
    except BaseException:
        below.close()
        raise
    with after:
        return keep_changes(writer, index, disk.reader, after, ranges, numbers)


def _header(job: _Job, claim: ClaimedDisks, whole: Sequence[str | None]) -> JournalHeader:
    disks = tuple(
        JournalDisk(
            source.path.absolute(),
            source.image.format,
            source.image.virtual_size,
            source.identity.metadata_sha256,
            source.identity.sample_sha256,
        )
        for source in job.document.sources
    )
    files = tuple(
        JournalFile(path, handle.state(), digest, device_identity(path))
        for path, handle, digest in zip(claim.paths, claim.handles, whole, strict=True)
    )
    return JournalHeader(job.document.machine.name, job.started, p2v.__version__, disks, files)


def _record(
    job: _Job,
    claim: ClaimedDisks,
    rewriting: RewriteResult,
    boot: BootEvidence | None,
    changed: Sequence[_Ranges],
) -> ConversionRecord:
    """Written under its partial name before the commit: a run after a kill needs nothing more to end this one."""
    write_definitions(job.outputs, job.definitions)
    disks = []
    digests = _digests(job, changed)
    for index, source in enumerate(job.document.sources):
        content = None
        if job.request.checksum:
            with events.phase(job.report, "checksum", "Reading the source", source.image.virtual_size):
                reader = claim.disks[index].reader
                content = digest_disk(reader, threads=job.request.threads, report=job.report, phase="checksum")
        disks.append(
            DiskRecord(
                source=str(source.path),
                target=str(job.hardware.disks[index].path),
                virtual_size=source.image.virtual_size,
                read_bytes=0,
                written_bytes=sum(length for _, length in changed[index]),
                resumed_bytes=0,
                changed=digests[index],
                result=source.identity,
                source_content=content,
            )
        )
    outputs = output_files(job.outputs)
    record = ConversionRecord(
        started=job.started,
        plan_digest=plan_digest(job.document),
        document=job.document,
        hardware=job.hardware,
        disks=tuple(disks),
        applied=rewriting.applied,
        checks=check_records(rewriting),
        outputs=outputs,
        seconds=dict(job.report.seconds),
        tools={**tool_versions(arch=job.hardware.arch), **rewriting.versions},
        accelerator=f"{job.acceleration.accelerator.value}: {job.acceleration.evidence}",
        boot=boot,
        boot_files=boot_files(boot, outputs),
        host=host_record(with_name=job.request.host_name),
        timeline=tuple(job.report.moments),
        undo_journal=str(job.journal) if any(changed) else None,
    )
    write_synced(job.outputs.partial(job.outputs.names[-1]), record_json(record))
    return record


def _digests(job: _Job, changed: Sequence[_Ranges]) -> list[tuple[ChangedRange, ...]]:
    """What changes of each disk, with the digests that the journal has."""
    if not any(changed):
        return [() for _ in changed]
    with open_journal(_STORAGE, job.journal) as journal:
        return [
            tuple(
                ChangedRange(row.disk_offset, row.length, row.before.hex(), row.after.hex())
                for row in journal.rows
                if row.disk == index
            )
            for index in range(len(changed))
        ]
