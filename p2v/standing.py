"""Machines as they stand in a folder, to be booted as they are: a conversion's result by its record, a libvirt definition, disks.

Nothing here writes anything. A record is checked against its disks: one that was written to since still boots (the boot
check works on a throw-away overlay), and is told.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from converters.image import identity, open_made
from converters.info import SourceIdentity
from converters.source_file import shown
from drivers.facts import GuestFacts
from drivers.keys import Key
from p2v.core.acceleration import Acceleration
from p2v.core.errors import NoSource, Usage
from p2v.core.events import Reporter
from p2v.core.firmware import installed_firmware
from p2v.inspection import Reading, inspect
from p2v.machine import Machine, MachineDisk
from p2v.nvram.edk2 import is_store
from p2v.planning import plan_machine
from p2v.record import ConversionRecord, DiskRecord, load_record
from p2v.targets.as_defined import as_defined
from p2v.targets.hardware import TargetDisk, TargetHardware, media_images, with_files

# QEMU opens these itself; any other format is read by our own readers only.
_BOOTABLE = ("qcow2", "raw")
_HEAD_BYTES = 256
# A record's digest is its first key. So is a plan's, which is told apart by load_record.
# before its second schema a record began with its digest
_RECORD = re.compile(rb'\s*\{\s*"(?:schema|digest)"\s*:')


@dataclass(frozen=True, slots=True)
class Standing:
    """A machine that can be booted: its hardware with absolute paths of disks, the facts of its guest, and remarks in sentences."""

    hardware: TargetHardware
    facts: GuestFacts
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """How a guest is looked at where that is needed: which way, with what, and the keys of its disks."""

    reading: Reading
    acceleration: Callable[[], Acceleration]
    report: Reporter
    keys: Sequence[Key] = ()


def is_record(path: Path) -> bool:
    """Whether a file begins as a conversion record does; no disk does."""
    try:
        with path.open("rb") as file:
            return stat.S_ISREG(path.stat().st_mode) and _RECORD.match(file.read(_HEAD_BYTES)) is not None
    except (OSError, ValueError):
        return False  # whoever opens it says what is wrong


def of_record(path: Path, look: Look) -> Standing:
    """The machine that a conversion made, from its record and the disks beside it.

    The facts are the record's, or read anew where a disk was written to since. Raises Usage (no record, or one that names
    disks elsewhere), NoSource (a disk is gone) and what opening and reading disks raises.
    """
    record = load_record(path)
    hardware = _placed(record, path)
    remarks = tuple(_changes(record, hardware))
    facts = record.document.facts
    if remarks:
        disks = tuple(MachineDisk(disk.path, disk.format) for disk in hardware.disks)
        facts = inspect(disks, look.reading, look.acceleration, look.report, look.keys).facts
    return Standing(hardware, facts, remarks)


def of_machine(machine: Machine, look: Look) -> Standing:
    """The machine that disks alone, or a description of them, stand for. Raises Usage (a format that QEMU is not handed),
    and as ``plan_machine``.

    A definition of QEMU's own machines (libvirt) is taken by its word for buses, cards and machine type.
    """
    document = plan_machine(machine, look.reading, look.acceleration, look.report, look.keys)
    for source in document.sources:
        if source.image.format not in _BOOTABLE:
            raise Usage(
                f"{source.path}: QEMU is not handed a {source.image.format} image of unknown origin",
                "Convert it first; `p2v convert --verify` boots the result.",
            )
    images = zip(document.hardware.media, media_images(machine, document.hardware), strict=True)
    media = tuple(replace(each, path=image.path) for each, image in images if image.path.is_file())
    hardware, remarks = as_defined(machine, replace(document.hardware, media=media))
    disks = tuple(
        replace(made, path=source.path, format=source.image.format, serial=disk.serial)
        for made, source, disk in zip(hardware.disks, document.sources, document.machine.disks, strict=True)
    )
    hardware = replace(hardware, disks=disks, variables=_own_variables(machine, hardware))
    return Standing(hardware, document.facts, remarks)


def _placed(record: ConversionRecord, path: Path) -> TargetHardware:
    folder = path.absolute().parent
    disks = tuple(replace(disk, path=_place(disk, path, folder)) for disk in record.hardware.disks)
    if len(disks) != len(record.disks):
        raise Usage(f"{path}: the record speaks of {len(record.disks)} disks, and its machine has {len(disks)}")
    return replace(with_files(record.hardware, lambda name: _beside(Path(name), "file", path, folder)), disks=disks)


def _place(disk: TargetDisk, record: Path, folder: Path) -> Path:
    """Where a record's disk is: beside it, or a device. A record that someone hands on must not lead to other files."""
    if disk.format not in _BOOTABLE:
        raise Usage(f"{record}: names a disk of the format {shown(disk.format)}, which no conversion makes")
    if disk.path.is_absolute() and disk.path.is_block_device():
        return disk.path
    return _beside(disk.path, "disk", record, folder)


def _beside(name: Path, what: str, record: Path, folder: Path) -> Path:
    if name.is_absolute() or len(name.parts) != 1 or name.name in ("", ".."):
        problem = f"{record}: names the {what} {shown(str(name))}, which does not stand beside it"
        raise Usage(problem, "Verify the disks by themselves.")
    found = folder / name
    if not found.is_file():
        advice = "A record is verified beside the files it speaks of; where the disks went, name them alone."
        raise NoSource(str(found), f"is not there, and {record.name} speaks of it", advice)
    return found


def _own_variables(machine: Machine, hardware: TargetHardware) -> Path | None:
    """The machine's own file of UEFI variables, where a firmware of this host takes it as it is."""
    if machine.nvram is None or not machine.chipset or not machine.nvram.is_file():
        return None
    size = machine.nvram.stat().st_size
    with machine.nvram.open("rb") as file:
        fits = is_store(file.read(_HEAD_BYTES))
    firmware = installed_firmware(secure_boot=hardware.secure_boot, arch=hardware.arch, store_bytes=size)
    return machine.nvram if fits and firmware is not None else None


def _changes(record: ConversionRecord, hardware: TargetHardware) -> Iterator[str]:
    for made, disk in zip(record.disks, hardware.disks, strict=True):
        with open_made(disk.path, disk.format, made.virtual_size, is_device=disk.is_device) as reader:
            found = identity(reader)
        if remark := _change(made, found):
            yield f"{disk.path.name}: {remark}"


def _change(made: DiskRecord, found: SourceIdentity) -> str:
    """How a disk differs from what was converted; empty where it does not. Names are no difference: results are renamed."""

    def bare(known: SourceIdentity, *, with_times: bool) -> SourceIdentity:
        files = tuple(replace(f, path="", mtime_ns=f.mtime_ns if with_times else 0) for f in known.files)
        return replace(known, files=files)

    if bare(found, with_times=False) != bare(made.result, with_times=False):
        return "it was written to since it was converted; its guest is read anew"
    if bare(found, with_times=True) != bare(made.result, with_times=True):
        return "its time of writing is not the record's, so it was copied or written to; its guest is read anew"
    return ""
