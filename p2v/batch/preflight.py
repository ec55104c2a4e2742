"""One machine of a batch before its conversion: all that would stop it, at once, and what it takes. Nothing is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from converters.pieces import stored_bytes
from drivers.plan import Finding
from p2v.batch.jobs import MachineJob
from p2v.batch.planned import MachinePlan, Planned, Planner, Trouble
from p2v.conversion_job import Job
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import NotPermitted, P2vError, TargetExists
from p2v.core.events import Event, PhaseTimes, Warned, silent
from p2v.core.text import printable
from p2v.core.workspace import existing_parent
from p2v.delivery import check_delivery
from p2v.device_targets import check_devices
from p2v.left_out import select
from p2v.migrate import job_of, requirements, room_needed
from p2v.rewriting import open_planned

_LETTERS_AT_MOST = 2000
_TROUBLES_AT_MOST = 100
# names of results do not hang on it, and nothing is started
_NO_MATTER = Acceleration(Accelerator.TCG, "nothing is run by a plan")


def preflight(machine: MachineJob, planner: Planner) -> MachinePlan:
    """Plan a machine and look at all that its conversion would look at. Raises nothing of the suite's own: that is a blocker."""
    bare = MachinePlan.of(machine)
    first = [*_of_folder(machine), *_of_hooks(machine)]
    try:
        planned = planner(machine)
    except P2vError as error:
        return replace(bare, blockers=(*first, trouble_of(error)), sources=tuple(map(str, machine.sources)))
    looked = _of_document(bare, planned)
    warned: list[Trouble] = []
    blockers = [*first, *looked.blockers]

    def hear(event: Event) -> None:
        if isinstance(event, Warned):
            warned.append(Trouble("warned", _safe(event.message)))

    job = _tried(blockers, lambda: job_of(planned.document, planned.request, _NO_MATTER, PhaseTimes(hear)))
    if job is not None:
        looked = _of_job(looked, job, blockers)
    warnings = tuple(dict.fromkeys([*looked.warnings, *warned]))
    return replace(looked, blockers=tuple(blockers[:_TROUBLES_AT_MOST]), warnings=warnings[:_TROUBLES_AT_MOST])


def trouble_of(error: P2vError) -> Trouble:
    """What an error says."""
    return Trouble(error.code, _safe(error.sentence()), _safe(error.hint()))


def _safe(text: str) -> str:
    """Words that may be a guest's: one line, and not too long."""
    return printable(text[:_LETTERS_AT_MOST].replace("\n", " "), keep="")


def _tried(blockers: list[Trouble], step: Callable[[], Any]) -> Any:
    """What a step gives; None where it is refused, which is noted."""
    try:
        return step()
    except P2vError as error:
        blockers.append(trouble_of(error))
        return None


def _of_folder(machine: MachineJob) -> Iterator[Trouble]:
    parent = existing_parent(machine.folder)
    if not parent.is_dir():
        yield Trouble("no-folder", f"{machine.folder}: {parent} is no folder", "Name another `target`.")
    elif not os.access(parent, os.W_OK | os.X_OK):
        yield trouble_of(NotPermitted(str(parent), "write to"))


def _of_hooks(machine: MachineJob) -> Iterator[Trouble]:
    for name, hook in (("before", machine.before), ("after", machine.after)):
        if hook is not None and shutil.which(hook.argv[0]) is None:
            message = f"{name}: there is no program {_safe(hook.argv[0])} that may be run"
            yield Trouble("no-hook", message, "Name it by its whole path, and see that it may be run (chmod +x).")


def _of_document(bare: MachinePlan, planned: Planned) -> MachinePlan:
    document = planned.document
    system = document.facts.os
    return replace(
        bare,
        system=_safe((system.name or system.id) if system is not None else "")[:100],
        disks=len(document.sources),
        virtual_bytes=sum(source.image.virtual_size for source in document.sources),
        sources=tuple(str(source.path) for source in document.sources),
        blockers=tuple(map(_found, document.plan.blockers)),
        warnings=tuple(map(_found, document.plan.warnings)),
    )


def _found(finding: Finding) -> Trouble:
    return Trouble(finding.id, _safe(finding.message), _safe(finding.hint))


def _of_job(looked: MachinePlan, job: Job, blockers: list[Trouble]) -> MachinePlan:
    document, request = job.document, job.request
    for require in requirements(document, request):
        _tried(blockers, require)
    _tried(blockers, lambda: check_delivery(request.delivery, job.hardware))
    found = _tried(blockers, lambda: check_devices(document, job.hardware.disks, silent))
    job.devices = found or {}
    _tried(blockers, lambda: _refuse_existing(job))
    looked = replace(
        looked,
        outputs=job.outputs.names,
        devices=tuple(str(disk.path) for disk in job.hardware.disks if disk.is_device),
    )
    # what is in use is copied another way, and nobody knows how much of it
    if document.live:
        return looked
    sizes = _tried(blockers, lambda: _sizes(job))
    return looked if sizes is None else replace(looked, copy_bytes=sizes[0], write_bytes=sizes[1])


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


def _sizes(job: Job) -> tuple[int, int]:
    """Bytes to copy, and bytes that this takes at most, media that come along included. Raises what reading raises."""
    with ExitStack() as stack:
        readers = [stack.enter_context(open_planned(source)) for source in job.document.sources]
        selection = select(readers, job.document.facts, silent, job.request.left_out)
        views = selection.views(readers)
        return sum(map(stored_bytes, views)), room_needed(job, views)
