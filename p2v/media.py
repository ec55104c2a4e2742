"""Copies the images of media beside the disks; they are as they were, so the copy is a plain one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from converters.source_file import SourceFile
from p2v.core.errors import PlanStale
from p2v.core.events import BytesDone, Reporter, Warned, phase
from p2v.core.io_errors import write_problem
from p2v.core.units import MIB
from p2v.machine import Machine, MediumImage
from p2v.sources.description import opened
from p2v.targets.front_ends import FrontEnd
from p2v.targets.hardware import TargetHardware, media_images

_PIECE_BYTES = 2 * MIB
_PHASE = "media"
# These take no medium from a file beside the disks.
_BY_HAND = {FrontEnd.PROXMOX: "Proxmox VE", FrontEnd.KUBEVIRT: "KubeVirt", FrontEnd.OPENSTACK: "OpenStack"}


@dataclass(frozen=True, slots=True)
class MediumCopy:
    """An image, and what its copy is called."""

    image: MediumImage
    name: str


def media_copies(machine: Machine, hardware: TargetHardware) -> tuple[MediumCopy, ...]:
    """What is to be copied, in the order of the hardware's media."""
    return tuple(
        MediumCopy(image, str(medium.path))
        for image, medium in zip(media_images(machine, hardware), hardware.media, strict=True)
    )


def require_unchanged(copies: Sequence[MediumCopy]) -> None:
    """See that all images are there and those that were planned. Raises PlanStale, NoSource and what opening raises."""
    for copy in copies:
        with closing(opened(copy.image.path)) as source:
            _require_planned(source, copy.image)


def copy_media(copies: Sequence[MediumCopy], place: Callable[[str], Path], report: Reporter) -> None:
    """Copy and sync all images; ``place`` says where a file of that name is written.

    Raises PlanStale for an image that is not the one that was planned, NoSpace and its kin, and what reading raises.
    """
    if not copies:
        return
    with phase(report, _PHASE, "Copying media", sum(copy.image.size for copy in copies)):
        for copy in copies:
            _copy(copy.image, place(copy.name), report)


def told_of_media(hardware: TargetHardware, front_end: FrontEnd) -> Iterator[Warned]:
    """What a front end leaves to its users of the media."""
    if front_end in _BY_HAND:
        for medium in hardware.media:
            yield Warned(f"{_BY_HAND[front_end]} is not told of {medium.path}: put it into the {medium.kind.value} drive there")


def _require_planned(source: SourceFile, image: MediumImage) -> None:
    if (source.size, source.mtime_ns) != (image.size, image.mtime_ns):
        raise PlanStale(str(image.path), "the medium that was planned", "another one, or it was written to since")


def _copy(image: MediumImage, target: Path, report: Reporter) -> None:
    with closing(opened(image.path)) as source:
        _require_planned(source, image)
        try:
            with target.open("wb") as file:
                for offset in range(0, image.size, _PIECE_BYTES):
                    piece = source.pread(min(_PIECE_BYTES, image.size - offset), offset)
                    file.write(piece)
                    report(BytesDone(_PHASE, len(piece)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_problem(error, target) from error
