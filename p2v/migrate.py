"""The one pipeline: copy and rewrite at the same time, commit, check, boot, publish, record.

The guest is rewritten in the appliance on an overlay over the source (served read-only by our own reader)
while the copy threads fill the target. When both are done the overlay's clusters go into the target. The
source is only ever read; nothing stands under a final name before everything is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

from converters.qemu_img import QemuImg
from converters.target import Target, TargetFormat, journal_path, open_target
from p2v.consistency import Way
from p2v.conversion_job import Job, Request
from p2v.core import events
from p2v.core.acceleration import Acceleration
from p2v.core.disk import DiskReader
from p2v.core.errors import BadImage, BadSectors, Blocked, PlanStale, Usage
from p2v.core.events import PhaseTimes, Reporter
from p2v.core.fence import raise_fence
from p2v.core.run import SystemRunner
from p2v.core.workspace import (
    Outputs,
    locked,
    make_folder,
    make_output_folder,
    remove_empty,
    remove_files,
    remove_quietly,
    require_space,
)
from p2v.delivery import check_delivery, deliver_machine
from p2v.device_targets import check_devices, claim_devices, record_of, refuse_layout, start_device, tell_unfinished
from p2v.documents import PlanDocument, plan_digest
from p2v.left_out import Wanted, select
from p2v.live_copy import open_source_of, require_ways
from p2v.live_sources import StillSources, held_still
from p2v.media import copy_media, media_copies, require_unchanged, told_of_media
from p2v.moving import as_copied, move, record_of_disk
from p2v.planning import disk_names
from p2v.publishing import finish_interrupted, is_interrupted, publish
from p2v.record import ConversionRecord
from p2v.rewriting import (
    OVERLAY_BYTES,
    boot_checked,
    boot_files,
    check_records,
    host_record,
    open_planned,
    output_files,
    refuse_blocked,
    verify_package,
    write_definitions,
)
from p2v.source_care import care_of
from p2v.sources.networks import require_mapped
from p2v.target_room import still_to_write
from p2v.targets.front_ends import FrontEnd, Placing, definitions
from p2v.targets.hardware import with_files, with_sectors_of
from p2v.targets.sectors import sectors_lost
from p2v.targets.smbios import smbios_lost
from p2v.targets.unsaid import hardware_lost
from p2v.tools import tool_versions
from p2v.unreadable import explained
from p2v.variable_store import variable_store
from p2v.verify import BootEvidence, require_tools


def convert(
    document: PlanDocument, request: Request, acceleration: Callable[[], Acceleration], report: Reporter
) -> ConversionRecord:
    """Carry out a plan. On return everything stands under its final name in ``request.folder``.

    Raises Blocked when the plan has blockers, PlanStale when the source is not what was planned, TargetExists,
    TargetBusy, LeaseLost, NoSpace, ToolMissing (nothing to boot the result with), and what the steps raise. The copied part
    of an interrupted run is kept for the next one; a source that cannot be converted leaves nothing.
    """
    refuse_blocked(document)
    for require in requirements(document, request):
        require()
    job = job_of(document, request, acceleration(), PhaseTimes(report))
    if request.fence is not None:
        # before libvirt is looked at: from here on nobody with a lower number tells it of this machine
        make_output_folder(request.folder)
        raise_fence(request.folder, document.machine.name, request.fence)
    was_told = _was_told(job)
    pools = {} if was_told else check_delivery(request.delivery, job.hardware)
    job.devices = check_devices(document, job.hardware.disks, job.report)
    record = _finish_interrupted(job) or _converted(job)
    if request.delivery is not None and not was_told:
        with events.phase(job.report, "deliver", "Telling libvirt"):
            sizes = [source.image.virtual_size for source in document.sources]
            deliver_machine(
                request.delivery, pools, job.hardware, sizes, job.outputs, job.acceleration, document.facts.os,
                note=job.undelivered, telling=job.naming,
            )  # fmt: skip
    remove_quietly([job.undelivered.path])
    return record


def _was_told(job: Job) -> bool:
    """Whether a run before this one came to its end but for noting that libvirt knows the machine."""
    delivery, note = job.request.delivery, job.undelivered.path
    return delivery is not None and note.is_file() and delivery.host.has(job.hardware.name, job.hardware.uuid)


def requirements(document: PlanDocument, request: Request) -> Iterator[Callable[[], None]]:
    """What a plan and a request must meet before anything is begun, blockers aside; each raises where it is not met.

    One by one, for who wants to hear of all of them.
    """
    if request.front_end is not FrontEnd.QEMU:
        yield lambda: require_mapped(document.machine.nics, request.front_end.value)
    if request.boot_check:
        yield lambda: require_tools(document.hardware)
    yield lambda: require_ways(document, request.live, SystemRunner())
    if request.devices.devices:
        yield lambda: _refuse_live(document)


def _refuse_live(document: PlanDocument) -> None:
    if document.live:
        raise Usage("disks in use are copied to files only, not with --to-device")


def _converted(job: Job) -> ConversionRecord:
    document, request = job.document, job.request
    job.outputs.refuse_existing()
    require_unchanged(job.media)
    with ExitStack() as stack:
        readers = [] if document.live else [stack.enter_context(open_planned(s, job.report)) for s in document.sources]
        made = make_output_folder(request.folder)
        try:
            views = [] if document.live else _selected(job, readers)
            verify_package(document, job.report, job.cancelled)
            with _locked(job) as held:
                _tell_of_lock(job, held)
                if not document.live:
                    return _convert_locked(job, views, None)
                # as late as can be: others may be waiting for the end of it
                still = stack.enter_context(_held(job))
                for index in range(len(document.sources)):
                    readers.append(stack.enter_context(open_source_of(document, index, still.paths.get(index))))
                return _convert_locked(job, _selected(job, readers), still)
        finally:
            remove_empty(made)


def _selected(job: Job, readers: Sequence[DiskReader]) -> list[DiskReader]:
    """What of the disks is copied, when there is room for it: from here on the source is that."""
    # what is free now may be in use when it is copied
    changing = any(each.way is Way.AS_IT_RUNS for each in job.document.live)
    wanted = Wanted(all_blocks=True) if changing else job.request.left_out
    job.selection = select(readers, job.document.facts, job.report, wanted)
    views = job.selection.views(readers)
    _require_space(job, views)
    return views


def _held(job: Job) -> AbstractContextManager[StillSources]:
    paths = [source.path for source in job.document.sources]
    return held_still(job.document.live, paths, job.request.live, SystemRunner(), job.report, job.cancelled.set)


def _finish_interrupted(job: Job) -> ConversionRecord | None:
    """What a run before this one had done but for some renames."""
    journals = [journal_path(record_of(job.outputs, job.document.machine.name, index)) for index in job.devices]
    journals += [journal_path(job.outputs.partial(str(disk.path))) for disk in job.hardware.disks if not disk.is_device]
    notes = [] if job.request.delivery is None else [job.undelivered.path]
    if not is_interrupted(job.outputs, [*journals, *notes]):
        return None
    with _locked(job):
        plan, fresh = plan_digest(job.document), job.request.fresh
        disks = job.hardware.disks
        record = finish_interrupted(job.outputs, plan, disks, journals, notes=notes, fresh=fresh, naming=job.naming)
        if record is not None:
            remove_quietly([job.work])
            said = "an earlier run had done everything but giving the results their names, telling libvirt, or tidying up"
            job.report(events.Warned(said))
        return record


def _locked(job: Job) -> AbstractContextManager[bool]:
    name = job.document.machine.name
    return locked(job.request.folder / f".{name}.p2v-lock", job.request.folder / name)


def _tell_of_lock(job: Job, held: bool) -> None:
    if not held:
        job.report(events.Warned(f"{job.request.folder}: its file system has no locks; see to it that no other run writes there"))


def job_of(document: PlanDocument, request: Request, acceleration: Acceleration, report: PhaseTimes) -> Job:
    """The conversion that a plan and a wish make, with the names of everything that it would give; nothing is done yet."""
    name = document.machine.name
    disks = disk_names(name, len(document.sources), request.disk_format)
    disks = tuple(replace(d, serial=m.serial) for d, m in zip(disks, document.machine.disks, strict=True))
    disks = tuple(with_sectors_of(d, planned) for d, planned in zip(disks, document.hardware.disks, strict=True))
    disks = request.devices.placed(disks)
    refuse_layout(disks, request.layout)
    store = variable_store(document.machine, replace(document.hardware, disks=disks), request.front_end, report)
    hardware = store.hardware
    sizes = [source.image.virtual_size for source in document.sources]
    placing = Placing(request.folder.absolute(), sizes, acceleration, request.storage)
    files = (*definitions(request.front_end, hardware, document.facts.os, placing), *store.files)
    media = media_copies(document.machine, hardware)
    names = [str(d.path) for d in disks if not d.is_device]
    names += [*(copy.name for copy in media), *(file.name for file in files)]
    for event in told_of_media(hardware, request.front_end):
        report(event)
    front_end = request.front_end
    unsaid = hardware_lost(hardware, front_end, document.facts.os)
    for lost in (smbios_lost(hardware, front_end), sectors_lost(hardware, front_end), *unsaid):
        if lost:
            report(events.Warned(lost))
    names += [f"{name}.png", f"{name}.boot.log"] if request.boot_check else []
    return Job(
        document=document,
        request=request,
        acceleration=acceleration,
        report=report,
        hardware=hardware,
        definitions=files,
        media=media,
        outputs=Outputs(request.folder, (*names, f"{name}.json")),
        work=request.folder / f"{name}.partial.work",
        qemu_img=QemuImg(SystemRunner()),
    )


def _require_space(job: Job, readers: Sequence[DiskReader]) -> None:
    require_space(job.request.folder, room_needed(job, readers) + OVERLAY_BYTES)


def room_needed(job: Job, readers: Sequence[DiskReader]) -> int:
    """What is still to be written at most: what is copied of the disks, less what a run before left, and what else there is.

    ``readers``: the disks as far as they are copied. Raises what they raise.
    """
    files = [(reader, job.partial_disk(index)) for index, reader in enumerate(readers) if index not in job.devices]
    data = still_to_write(files, job.request.layout, shares=job.shares, fresh=job.request.fresh)
    return data + sum(copy.image.size for copy in job.media)


def _convert_locked(job: Job, readers: Sequence[DiskReader], still: StillSources | None) -> ConversionRecord:
    job.outputs.refuse_existing()
    # A record that an earlier run of another plan left must not speak about what is written now.
    remove_files([*_texts(job), job.undelivered.path])
    remove_files([job.work])
    make_folder(job.work)
    try:
        job.care = care_of(job.request.reading, readers, job.report)
        with ExitStack() as stack:
            targets = _targets(job, readers, stack)
            try:
                record = _run(job, readers, targets, still)
            except BaseException as error:
                at_fault = isinstance(error, BadImage | PlanStale | Blocked) and not any(job.unreadable)
                if job.document.live or at_fault:
                    # The source itself is at fault, or another one by then: there is nothing a next run could go on with.
                    for target in targets:
                        target.discard()
                tell_unfinished(targets, job.report)
                remove_quietly(_texts(job))
                if isinstance(error, BadSectors):
                    raise explained(error, readers) from error
                raise
            if job.request.delivery is not None:
                job.undelivered.make()
            publish(record, job.outputs, targets, job.report, job.naming)
            return record
    finally:
        remove_quietly([job.work])


def _texts(job: Job) -> list[Path]:
    return [job.outputs.partial(name) for name in job.outputs.names if name not in job.disk_files]


def _targets(job: Job, readers: Sequence[DiskReader], stack: ExitStack) -> list[Target]:
    # all devices before the first byte: what one of them is refused for leaves the others as they are
    wish, fresh = job.request.devices, job.request.fresh
    skip = job.request.reading.skip_bad_sectors
    claimed = claim_devices(
        stack, job.devices, wish, job.document, job.outputs, job.target_key, fresh=fresh, skip_unreadable=skip
    )
    return [
        stack.enter_context(start_device(claimed[i], wish, job.report) if i in claimed else _target(job, i, reader))
        for i, reader in enumerate(readers)
    ]


def _target(job: Job, index: int, reader: DiskReader) -> Target:
    if job.request.fresh:
        remove_files([job.partial_disk(index), journal_path(job.partial_disk(index))])
    target_format = TargetFormat(job.hardware.disks[index].format)
    key, layout, skip = job.target_key(index), job.request.layout, job.request.reading.skip_bad_sectors
    target = open_target(
        job.partial_disk(index), target_format, reader.virtual_size, key, options=layout, skip_unreadable=skip
    )
    if target.restart_reason:
        job.report(events.Warned(f"{target.path.name}: begun anew: {target.restart_reason}"))
    return target


def _run(
    job: Job, readers: Sequence[DiskReader], targets: Sequence[Target], still: StillSources | None
) -> ConversionRecord:
    moved = move(job, readers, targets, still)
    copy_media(job.media, job.outputs.partial, job.report)
    write_definitions(job.outputs, job.definitions)
    boot = _boot_check(job) if job.request.boot_check else None
    readers = [as_copied(reader, target.lost) for reader, target in zip(readers, targets, strict=True)]
    disks = tuple(record_of_disk(job, i, moved, reader) for i, reader in enumerate(readers))
    outputs = output_files(job.outputs, job.disk_files)
    return ConversionRecord(
        started=job.started,
        plan_digest=plan_digest(job.document),
        document=job.document,
        hardware=job.hardware,
        disks=disks,
        applied=moved.rewriting.applied,
        checks=check_records(moved.rewriting),
        outputs=outputs,
        seconds=dict(job.report.seconds),
        tools={**tool_versions(arch=job.hardware.arch), **moved.rewriting.versions},
        accelerator=f"{job.acceleration.accelerator.value}: {job.acceleration.evidence}",
        boot=boot,
        boot_files=boot_files(boot, outputs),
        host=host_record(with_name=job.request.host_name),
        timeline=tuple(job.report.moments),
        allocation=job.selection.volumes,
        unneeded=job.selection.files,
        live=job.live,
    )


def _boot_check(job: Job) -> BootEvidence:
    """Boot the result as it will be, before anything has its final name; the verdict does not stop publishing."""
    partial = tuple(replace(d, path=job.partial_disk(i).absolute()) for i, d in enumerate(job.hardware.disks))
    hardware = with_files(replace(job.hardware, disks=partial), lambda file: job.outputs.partial(file).absolute())
    return boot_checked(
        hardware, job.document, job.outputs, job.acceleration, job.report, scratch=job.work, keys=job.request.keys
    )
