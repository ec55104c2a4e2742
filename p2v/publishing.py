"""Giving results their final names: a run that is killed in the middle of that is finished by the next one.

When the record stands under its partial name, everything it names is complete and on stable storage; what is left are
renames. So the record is both the last thing written and the note that tells the next run to go on renaming. It gets its
final name last, when all others are on stable storage: where it stands, everything does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from converters.image import identity, open_made
from converters.target import Target
from p2v.core import events
from p2v.core.errors import P2vError
from p2v.core.interrupts import held_back
from p2v.core.workspace import Outputs, remove_quietly, sha256_of, sync_folder, write_synced
from p2v.record import ConversionRecord, DiskRecord, load_record, record_json
from p2v.targets.hardware import TargetDisk

Naming = Callable[[], AbstractContextManager[None]]
"""What to be in while names are given; it may refuse (LeaseLost)."""


def publish(
    record: ConversionRecord,
    outputs: Outputs,
    targets: Sequence[Target],
    report: events.Reporter,
    naming: Naming = nullcontext,
) -> None:
    """Give every output its final name, the record last.

    Raises TargetExists when a name was taken meanwhile, LeaseLost when another has come to make them, NoSpace and its kin: then
    none has its final name, and the next run renames them all.
    """
    for target in targets:
        target.sync()
    # the record is a part of that: under its partial name it tells the next run to go on with the names
    with events.phase(report, "publish", "Giving the results their names"), naming():
        write_synced(outputs.partial(outputs.names[-1]), record_json(record))
        # no name may become final that the host could remember without the record's
        sync_folder(outputs.folder)
        with held_back():
            outputs.publish(outputs.names)
            for target in targets:
                target.release()


def finish_interrupted(
    outputs: Outputs,
    plan_digest: str,
    disks: Sequence[TargetDisk],
    journals: Sequence[Path] = (),
    *,
    notes: Sequence[Path] = (),
    fresh: bool = False,
    naming: Naming = nullcontext,
) -> ConversionRecord | None:
    """Finish the renames of a run that was killed while it published; its record when it was one of the same plan.

    ``disks``: what it must have made; of a block device, that it still holds it. ``journals``: of the disks, which go last: they
    tell a run that was killed at its very end from one that had ended.
    ``notes`` tell the same, and stay. ``fresh``: what has no final name yet is not wanted.
    Names that were given are finished in any case: half a machine is nobody's wish.

    Raises TargetExists when both names of an output are taken, LeaseLost when another has come to make them.
    """
    if not is_interrupted(outputs, [*journals, *notes]):
        return None
    place = _place(outputs, outputs.names[-1])
    record = _left(place) if place is not None else None
    if record is None:
        return None
    made = [output.name for output in record.outputs]
    wanted = not fresh and record.plan_digest == plan_digest and record.hardware.disks == tuple(disks)
    # names are joined to the folder: those of a record that somebody else made, too
    named = {*made, *(str(disk.path) for disk in record.hardware.disks if not disk.is_device)} == set(made)
    if not named or any(Path(name).name != name for name in made):
        return None
    if not (wanted or any(os.path.lexists(outputs.final(name)) for name in made)) or not _is_complete(record, outputs):
        return None
    with naming(), held_back():
        outputs.publish([*made, outputs.names[-1]])
        if wanted:
            remove_quietly(journals)
    return record if wanted else None


def is_interrupted(outputs: Outputs, journals: Sequence[Path]) -> bool:
    """Whether a run before this one came to its renames and not to its end."""
    name = outputs.names[-1]
    return outputs.partial(name).is_file() or (outputs.final(name).is_file() and any(path.exists() for path in journals))


def _is_complete(record: ConversionRecord, outputs: Outputs) -> bool:
    """Whether everything that a record names is there under one of its names, by digests and by samples of the disks."""
    for output in record.outputs:
        place = _place(outputs, output.name)
        if place is None or place.stat().st_size != output.size:
            return False
        if output.sha256 is not None and sha256_of(place) != output.sha256:
            return False
    return all(_still_there(disk, made, outputs) for disk, made in zip(record.hardware.disks, record.disks, strict=True))


def _still_there(disk: TargetDisk, made: DiskRecord, outputs: Outputs) -> bool:
    """Whether a disk is what was made, by its sample."""
    place = disk.path if disk.is_device else _place(outputs, str(disk.path))
    if place is None:
        return False
    try:
        with open_made(place, disk.format, made.virtual_size, is_device=disk.is_device) as reader:
            return identity(reader).sample_sha256 == made.result.sample_sha256
    except P2vError:
        return False


def _left(place: Path) -> ConversionRecord | None:
    try:
        return load_record(place)
    except P2vError:
        return None  # cut short: that run had not come to its renames


def _place(outputs: Outputs, name: str) -> Path | None:
    return next((path for path in (outputs.partial(name), outputs.final(name)) if path.is_file()), None)
