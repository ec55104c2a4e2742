"""Giving results their final names: a run that is killed in the middle of that is finished by the next one.

When the record stands under its partial name, everything it names is complete and on stable storage; what is left are
renames. So the record is both the last thing written and the note that tells the next run to go on renaming.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.image import identity
from converters.raw import open_beginning
from converters.target import Target, journal_path
from p2v.core import events
from p2v.core.errors import P2vError
from p2v.core.workspace import Outputs, remove_quietly, write_synced
from p2v.record import ConversionRecord, DiskRecord, load_record, record_json
from p2v.targets.hardware import TargetDisk


def publish(record: ConversionRecord, outputs: Outputs, targets: Sequence[Target], report: events.Reporter) -> None:
    """Give every output its final name, the record last.

    Raises TargetExists when a name was taken meanwhile; what is not renamed then, the next run renames.
    """
    for target in targets:
        target.sync()
    with events.phase(report, "publish", "Giving the results their names"):
        write_synced(outputs.partial(outputs.names[-1]), record_json(record))
        for target in targets:
            # a device has its name already, and what is asked for here is not looked at
            target.publish(outputs.final(target.path.name.removesuffix(".partial")))
        outputs.publish(outputs.names)


def finish_interrupted(
    outputs: Outputs, plan_digest: str, disks: Sequence[TargetDisk], journals: Sequence[Path] = ()
) -> ConversionRecord | None:
    """Finish the renames of a run of the same plan that was killed while it published; None when there was none.

    ``disks``: what it must have made; of a block device, that it still holds it. ``journals``: those of devices, which go then.
    Raises TargetExists when both names of an output are taken.
    """
    record = _left(outputs.partial(outputs.names[-1]))
    if record is None or record.plan_digest != plan_digest or record.hardware.disks != tuple(disks):
        return None
    if not all(_still_there(disk, made) for disk, made in zip(disks, record.disks, strict=True) if disk.is_device):
        return None
    made = [output.name for output in record.outputs]
    sizes = {output.name: output.size for output in record.outputs}
    places = {name: _place(outputs, name) for name in made}
    if not set(made) <= set(outputs.names) or any(
        place is None or place.stat().st_size != sizes[name] for name, place in places.items()
    ):
        return None
    outputs.publish([*made, outputs.names[-1]])
    remove_quietly([*(journal_path(outputs.partial(name)) for name in made), *journals])
    return record


def _still_there(disk: TargetDisk, made: DiskRecord) -> bool:
    """Whether a device has what was written to it, by its sample."""
    try:
        with open_beginning(disk.path, made.virtual_size) as reader:
            return identity(reader).sample_sha256 == made.result.sample_sha256
    except P2vError:
        return False


def _left(partial_record: Path) -> ConversionRecord | None:
    if not partial_record.is_file():
        return None
    try:
        return load_record(partial_record)
    except P2vError:
        return None  # cut short: that run had not come to its renames


def _place(outputs: Outputs, name: str) -> Path | None:
    return next((path for path in (outputs.partial(name), outputs.final(name)) if path.is_file()), None)
