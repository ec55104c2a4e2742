"""A conversion looked at before it begins: all that would stop it, at once, and what it copies and takes. Nothing is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from drivers.plan import Finding
from p2v.conversion_job import Job, Request
from p2v.copy_estimate import CopyEstimate, as_copied, estimated
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import NoSpace, NotPermitted, P2vError, TargetExists
from p2v.core.events import Event, PhaseTimes, Warned, silent
from p2v.core.text import printable
from p2v.core.workspace import existing_parent, require_space
from p2v.delivery import check_delivery
from p2v.device_targets import check_devices
from p2v.documents import PlanDocument
from p2v.migrate import job_of, requirements, room_needed
from p2v.rewriting import OVERLAY_BYTES

_LETTERS_AT_MOST = 2000
_TROUBLES_AT_MOST = 100
# names of results do not hang on it, and nothing is started
_NO_MATTER = Acceleration(Accelerator.TCG, "nothing is run by a plan")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something in the way, or to know of."""

    code: str
    """Its name, which stays the same."""
    message: str
    """What, and where, in one sentence."""
    hint: str = ""
    """What to do about it; may be empty."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a conversion would do and meet.

    ``outputs``: names of files in its folder; ``devices``: block devices that it would write. ``copy``, ``room_bytes``: what is
    copied, and what that takes of the folder's file system at most; None where nobody knows (disks in use, or one of them
    cannot be read, which is in the way then).
    """

    outputs: tuple[str, ...] = ()
    devices: tuple[Path, ...] = ()
    copy: CopyEstimate | None = None
    room_bytes: int | None = None
    in_the_way: tuple[Trouble, ...] = ()
    warnings: tuple[Trouble, ...] = ()


def look_ahead(document: PlanDocument, request: Request) -> Preflight:
    """Look at all that the conversion would look at, blockers of the plan included. Raises nothing of the suite's own."""
    found = [*troubles_of_folder(request.folder), *map(trouble_of_finding, document.plan.blockers)]
    warned = [*map(trouble_of_finding, document.plan.warnings)]

    def hear(event: Event) -> None:
        if isinstance(event, Warned):
            warned.append(Trouble("warned", _safe(event.message)))

    job = _tried(found, lambda: job_of(document, request, _NO_MATTER, PhaseTimes(hear)))
    looked = Preflight() if job is None else _of_job(job, found)
    return Preflight(
        looked.outputs,
        looked.devices,
        looked.copy,
        looked.room_bytes,
        tuple(found[:_TROUBLES_AT_MOST]),
        tuple(dict.fromkeys(warned))[:_TROUBLES_AT_MOST],
    )


def trouble_of(error: P2vError) -> Trouble:
    """What an error says."""
    return Trouble(error.code, _safe(error.sentence()), _safe(error.hint()))


def trouble_of_finding(finding: Finding) -> Trouble:
    """What a plan says."""
    return Trouble(finding.id, _safe(finding.message), _safe(finding.hint))


def troubles_of_folder(folder: Path) -> list[Trouble]:
    """What keeps files from being made in a folder, which need not be there yet."""
    parent = existing_parent(folder)
    if not parent.is_dir():
        what = f"{parent}: is no folder" if parent == folder else f"{folder}: {parent} is no folder"
        return [Trouble("no-folder", _safe(what), "Name another one.")]
    is_writable = os.access(parent, os.W_OK | os.X_OK)
    return [] if is_writable else [trouble_of(NotPermitted(str(parent), "write to"))]


def troubles_of_room(looked: Preflight, folder: Path) -> list[Trouble]:
    """Whether what a conversion takes fits into its folder's file system, as far as that is known."""
    if looked.room_bytes is None:
        return []
    try:
        require_space(folder, looked.room_bytes + OVERLAY_BYTES)
    except NoSpace as error:
        return [trouble_of(error)]
    return []


def _safe(text: str) -> str:
    """Words that may be a guest's: one line, and not too long."""
    return printable(text[:_LETTERS_AT_MOST].replace("\n", " "), keep="")


def _tried(found: list[Trouble], step: Callable[[], _T]) -> _T | None:
    """What a step gives; None where it is refused, which is noted."""
    try:
        return step()
    except P2vError as error:
        found.append(trouble_of(error))
        return None


def _of_job(job: Job, found: list[Trouble]) -> Preflight:
    document, request = job.document, job.request
    for require in requirements(document, request):
        _tried(found, require)
    _tried(found, lambda: check_delivery(request.delivery, job.hardware))
    job.devices = _tried(found, lambda: check_devices(document, job.hardware.disks, silent)) or {}
    _tried(found, lambda: _refuse_existing(job))
    # what is in use is copied another way, and nobody knows how much of it
    sizes = None if document.live else _tried(found, lambda: _sizes(job))
    copy, room = sizes if sizes is not None else (None, None)
    return Preflight(job.outputs.names, tuple(disk.path for disk in job.hardware.disks if disk.is_device), copy, room)


def _refuse_existing(job: Job) -> None:
    # a run before that came to its renames is brought to its end by the next one
    if job.outputs.partial(job.outputs.names[-1]).is_file():
        return
    try:
        job.outputs.refuse_existing()
    except TargetExists as error:
        raise TargetExists(
            error.target,
            "Give the machine another name or target, or remove the file if its conversion is to be made anew.",
        ) from error


def _sizes(job: Job) -> tuple[CopyEstimate, int]:
    """What is copied, and the bytes that this takes at most, media that come along included. Raises what reading raises."""
    with as_copied(job.document, job.request.left_out) as (selection, views):
        return estimated(job.document, selection, views), room_needed(job, views)
