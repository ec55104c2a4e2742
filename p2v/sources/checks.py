"""What a description says of its disks, against the disks themselves; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from converters.info import ImageInfo
from drivers.plan import Finding
from p2v.core.text import printable
from p2v.core.units import MIB, format_bytes
from p2v.machine import Machine

_NAMED_AT_MOST = 8


def blockers(machine: Machine, images: Sequence[ImageInfo]) -> Iterator[Finding]:
    """Disks that are not the ones the description means: of another size than it says."""
    for disk, image in zip(machine.disks, images, strict=False):
        stated = disk.stated_bytes
        # descriptions round: to MiB, to whole cylinders
        if stated is not None and abs(stated - image.virtual_size) > max(8 * MIB, stated // 200):
            yield Finding(
                "source.disk-size",
                printable(
                    f"{disk.path.name} has {format_bytes(image.virtual_size)}, and its description says {format_bytes(stated)}",
                    keep="",
                ),
                "The copy may be incomplete or of another machine. Where the disk is right, name the disks themselves.",
            )


def warnings(machine: Machine, images: Sequence[ImageInfo]) -> Iterator[Finding]:
    """Disks that lie in the machine's folder and belong to none of its disks' chains."""
    # names alone tell: what was opened was opened below the machine's folder, whose path was resolved
    used = {Path(file).absolute() for image in images for file in image.files}
    used |= {drive.path.absolute() for drive in machine.removable if drive.path is not None}
    used |= {machine.nvram.absolute()} if machine.nvram is not None else set()
    extra = [path.name for path in machine.beside if path.absolute() not in used]
    if extra:
        names = ", ".join(printable(name, keep="") for name in extra[:_NAMED_AT_MOST])
        names += " ..." if len(extra) > _NAMED_AT_MOST else ""
        yield Finding(
            "source.disks-beside",
            f"in the machine's folder and not part of it as it is now: {names}",
            "Snapshots and disks that were taken out do not travel. Name a disk by itself to convert it.",
        )

