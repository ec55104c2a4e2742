"""The steps that every conversion takes, whatever becomes of the rewritten disks: the source as it was planned, served
read-only below overlays, rewritten in an appliance."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from converters.allocation.left_out import LeftOut
from converters.image import identity, open_disk
from converters.mapped import MappedDisk
from converters.qemu_img import QemuImg
from converters.served_overlay import served_overlay
from drivers.appliance_values import ApplianceDisk, ApplianceStopped
from drivers.keys import Key
from drivers.rewrite import RewriteResult, rewrite
from p2v.core import events
from p2v.core.acceleration import Acceleration
from p2v.core.errors import Blocked, GuestNotUnderstood, NoSpace, PlanStale
from p2v.core.events import Reporter
from p2v.core.room import room_watched
from p2v.core.turns import boot_turn
from p2v.core.units import MIB
from p2v.core.waiting import told_when_slow
from p2v.core.workspace import Outputs, sha256_of, socket_folder, write_synced
from p2v.documents import PlanDocument, SourceDisk
from p2v.record import CheckRecord, HostRecord, OutputFile
from p2v.sources.description import is_file
from p2v.sources.recognition import verify_files
from p2v.supplements import Supplements, building
from p2v.targets.front_ends import DefinitionFile
from p2v.targets.hardware import TargetHardware
from p2v.verify import BootEvidence, EvidenceFiles, verify

OVERLAY_BYTES = 256 * MIB
"""What the overlays and the appliance's journals may take."""


def refuse_blocked(document: PlanDocument) -> None:
    """Raises Blocked with all of the plan's blockers, GuestNotUnderstood where the guest itself is one."""
    blockers = document.plan.blockers
    disks = ", ".join(str(s.path) for s in document.sources)
    for blocker in blockers:
        if blocker.id.startswith("guest."):
            raise GuestNotUnderstood(
                disks, blocker.message, blocker.hint or "`p2v inspect` shows what was found in it."
            )
    if blockers:
        raise Blocked(disks, tuple(b.message for b in blockers))


def verify_package(document: PlanDocument, report: Reporter, cancelled: threading.Event) -> None:
    """A package whose manifest does not fit its files is not converted. Raises BadDescription."""
    machine = document.machine
    if machine.description is None:
        return
    if not machine.description.exists() and not any(map(is_file, machine.description.parents)):
        # the plan is carried out elsewhere, on disks that were named
        report(events.Warned(f"{machine.description} is not here: its files are not held against its manifest"))
        return
    verify_files(machine.description, machine.disks[0].lookup, report, cancelled)


@contextmanager
def open_planned(source: SourceDisk, report: Reporter = events.silent) -> Iterator[MappedDisk]:
    """The source, if it is still what was planned. Raises PlanStale and what opening a disk raises."""
    with ExitStack() as stack:
        with told_when_slow(report, str(source.path)):
            reader = stack.enter_context(open_disk(source.path, source.input_format, source.lookup))
            found = identity(reader)
        planned = source.identity
        if [f.path for f in found.files] != [f.path for f in planned.files]:
            # The user named another place for the same disk: copies do not keep times or folders.
            bare = tuple(replace(f, path="", mtime_ns=0) for f in found.files)
            found = replace(found, files=bare)
            planned = replace(planned, files=tuple(replace(f, path="", mtime_ns=0) for f in planned.files))
        if found != planned:
            raise PlanStale(str(source.path), "the disk that was planned", "another one, or it was written to since")
        yield reader


@contextmanager
def served_overlays(
    document: PlanDocument,
    overlays: Sequence[Path],
    sizes: Sequence[int],
    qemu_img: QemuImg,
    left_out: Sequence[LeftOut | None],
) -> Iterator[Supplements]:
    """Make an overlay over each source, which our own reader serves read-only while the context lasts.

    ``sizes``: the disks' virtual sizes in bytes; ``left_out``: what of each is not copied, and reads as zero.

    What initramfs files need is built meanwhile, and handed out.
    """
    with ExitStack() as stack:
        sockets = stack.enter_context(socket_folder())
        for source, overlay, size, gone in zip(document.sources, overlays, sizes, left_out, strict=True):
            stack.enter_context(served_overlay(source.spec, overlay, size, sockets, qemu_img, gone))
        yield stack.enter_context(building(document))


def rewrite_overlays(
    document: PlanDocument,
    overlays: Sequence[Path],
    supplements: Supplements,
    acceleration: Acceleration,
    report: Reporter,
    *,
    keys: Sequence[Key],
    stop: threading.Event | None = None,
    accept_damage: bool = False,
    check_all: bool = False,
) -> RewriteResult:
    """Carry the plan out on the overlays, in an appliance. Setting ``stop`` ends it with ApplianceStopped.

    ``accept_damage``, ``check_all``, and what is raised: see ``drivers.rewrite``; and NoSpace when the overlays' file system
    fills up meanwhile.
    """
    folder = overlays[0].parent
    with events.phase(report, "rewrite", "Rewriting the guest in an appliance"):
        facts, plan = document.facts, document.plan
        disks = [
            ApplianceDisk(overlay, "qcow2", read_only=False, sector_bytes=facts.sector_bytes(index))
            for index, overlay in enumerate(overlays)
        ]
        with room_watched(folder, stop or threading.Event()) as room:
            try:
                return rewrite(
                    disks, facts, plan, supplements.get, acceleration, report,
                    stop=room.stop, keys=tuple(keys), accept_damage=accept_damage, check_all=check_all,
                )
            except ApplianceStopped:
                if room.full:
                    raise NoSpace(folder.parent, OVERLAY_BYTES, room.free()) from None
                raise


def boot_checked(
    hardware: TargetHardware,
    document: PlanDocument,
    outputs: Outputs,
    acceleration: Acceleration,
    report: Reporter,
    *,
    scratch: Path,
    keys: Sequence[Key],
) -> BootEvidence:
    """Boot a machine whose files still have partial names; screenshot and log are outputs, the evidence has their final names."""
    name = document.machine.name
    with boot_turn(report):
        evidence = verify(
            hardware,
            outputs.folder,
            document.facts,
            acceleration,
            files=EvidenceFiles(outputs.partial(f"{name}.png"), outputs.partial(f"{name}.boot.log")),
            report=report,
            scratch=scratch,
            keys=keys,
        )
    return replace(
        evidence,
        screenshot=f"{name}.png" if evidence.screenshot else None,
        log=f"{name}.boot.log" if evidence.log else None,
    )


def host_record(*, with_name: bool) -> HostRecord:
    """The machine that converts."""
    return HostRecord(os.cpu_count() or 1, platform.machine(), platform.node() if with_name else None)


def boot_files(boot: BootEvidence | None, outputs: Iterable[OutputFile]) -> Mapping[str, str]:
    """SHA-256 of the boot check's screenshot and log, by their names."""
    names = (boot.screenshot, boot.log) if boot is not None else ()
    return {output.name: output.sha256 for output in outputs if output.sha256 and output.name in names}


def write_definitions(outputs: Outputs, files: Iterable[DefinitionFile]) -> None:
    """Write what tells of the machine, under partial names."""
    for file in files:
        write_synced(outputs.partial(file.name), file.text, 0o755 if file.is_program else 0o644)


def output_files(outputs: Outputs, disks: Sequence[str] = ()) -> tuple[OutputFile, ...]:
    """What is about to be published, without the record itself; of ``disks`` among it the digests stand elsewhere."""
    files = []
    for name in outputs.names[:-1]:
        path = outputs.partial(name)
        if path.exists():  # else no screenshot could be taken
            files.append(OutputFile(name, path.stat().st_size, None if name in disks else sha256_of(path)))
    return tuple(files)


def check_records(rewriting: RewriteResult) -> tuple[CheckRecord, ...]:
    """The file system checks before and after the rewriting, as the record has them."""
    both = (("before", rewriting.checks_before), ("after", rewriting.checks_after))
    return tuple(CheckRecord(when, c.device, c.kind, c.clean, c.output, c.checked) for when, checks in both for c in checks)
