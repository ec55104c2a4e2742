"""Media in the drives of a description: images of CDs, DVDs and floppies that are at hand, and may come along.

What is a drive of the old host, and what is somewhere else, stays an empty drive. An image is copied as it is, so it has to be
what QEMU reads as a raw one: an ISO 9660 or UDF file system from its first sector on, or a floppy's sectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from converters.source_file import SourceFile, shown
from drivers.plan import Finding
from p2v.core.errors import ForbiddenReference, P2vError
from p2v.core.units import GIB, KIB, format_bytes
from p2v.machine import DriveKind, Machine, MediumImage, RemovableDrive
from p2v.sources.description import Description, opened
from p2v.sources.windows_files import WindowsFiles

# The largest discs (BD-XL) have 128 GB.
_LARGEST_DISC_BYTES = 128 * GIB
# Of 2.88 MB, the largest that floppy controllers of PCs know.
_LARGEST_FLOPPY_BYTES = 2880 * KIB
_SECTOR_BYTES = 2048
# Volume descriptors begin there (ECMA-119, 6.2.1; ECMA-167, 2/8.3).
_DESCRIPTORS_AT, _DESCRIPTORS = 16 * _SECTOR_BYTES, 16
_DESCRIPTOR_NAMES = (b"CD001", b"BEA01", b"NSR02", b"NSR03")


def medium_path(description: Description, drive: RemovableDrive) -> Path | None:
    """The file of a drive's medium below the folders that may be looked into; None where it is not there."""
    if not drive.medium.strip():
        return None
    files = WindowsFiles(description)
    # Proxmox VE's volumes have their storage's name before them
    names = (drive.medium, drive.medium.rpartition(":")[2]) if ":" in drive.medium[2:] else (drive.medium,)
    try:
        return description.disk(files.named(*names)) if files.has(*names) else None
    except ForbiddenReference:
        return None


def with_media(machine: Machine) -> Machine:
    """The machine with every medium that can come along marked so; for the others a warning says why not."""
    made = tuple(_looked_at(drive) for drive in machine.removable)
    warnings = tuple(finding for _, finding in made if finding is not None)
    return replace(machine, removable=tuple(drive for drive, _ in made), warnings=(*machine.warnings, *warnings))


def _looked_at(drive: RemovableDrive) -> tuple[RemovableDrive, Finding | None]:
    if drive.path is None:
        return drive, _not_here(drive) if drive.medium else None
    try:
        with closing(opened(drive.path)) as file:
            reason = next(_reasons(file, drive.kind), "")
            image = MediumImage(drive.path.absolute(), file.size, file.mtime_ns)
    except P2vError as error:
        reason = error.sentence()
    if reason:
        return drive, Finding("source.medium", f"the medium {shown(drive.path.name)} cannot come along: {reason}")
    return replace(drive, image=image), None


def _not_here(drive: RemovableDrive) -> Finding:
    message = f"the medium {shown(drive.medium)} is a drive of the old host's, or not in a folder that may be looked into"
    return Finding("source.medium", message, "Put its image beside the description, or say where it is with --extent-dir DIR.")


def _reasons(file: SourceFile, kind: DriveKind) -> Iterator[str]:
    """Why an image cannot come along."""
    if file.is_block_device:
        yield "it is a device of this host"
    if kind is DriveKind.FLOPPY:
        if not 0 < file.size <= _LARGEST_FLOPPY_BYTES or file.size % 512:
            yield f"it has {file.size} bytes, which no floppy has"
        return
    if file.size > _LARGEST_DISC_BYTES:
        yield f"it has {format_bytes(file.size)}, more than any disc"
    if not _is_disc(file):
        yield "it is no image of a disc with ISO 9660 or UDF on it"


def _is_disc(file: SourceFile) -> bool:
    area = file.pread(_DESCRIPTORS * _SECTOR_BYTES, _DESCRIPTORS_AT) if file.size > _DESCRIPTORS_AT else b""
    return any(area[at + 1 : at + 6] in _DESCRIPTOR_NAMES for at in range(0, len(area), _SECTOR_BYTES))
