"""One machine of a batch before its conversion: all that would stop it, at once, and what it takes. Nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

from p2v.batch.jobs import MachineJob
from p2v.batch.planned import MachinePlan, Planner
from p2v.core.errors import P2vError
from p2v.core.text import printable
from p2v.documents import PlanDocument
from p2v.preflight import Trouble, look_ahead, trouble_of, troubles_of_folder

_SYSTEM_LETTERS = 100


def preflight(machine: MachineJob, planner: Planner) -> MachinePlan:
    """Plan a machine and look at all that its conversion would look at. Raises nothing of the suite's own: that is a blocker."""
    bare = MachinePlan.of(machine)
    hooks = tuple(_of_hooks(machine))
    try:
        planned = planner(machine)
    except P2vError as error:
        blockers = (*troubles_of_folder(machine.folder), *hooks, trouble_of(error))
        return replace(bare, blockers=blockers, sources=tuple(map(str, machine.sources)))
    document = planned.document
    looked = look_ahead(document, planned.request)
    return replace(
        bare,
        system=_system(document),
        disks=len(document.sources),
        virtual_bytes=sum(source.image.virtual_size for source in document.sources),
        sources=tuple(str(source.path) for source in document.sources),
        outputs=looked.outputs,
        devices=tuple(map(str, looked.devices)),
        copy_bytes=None if looked.copy is None else looked.copy.copy_bytes,
        write_bytes=looked.room_bytes,
        blockers=(*hooks, *looked.in_the_way),
        warnings=looked.warnings,
    )


def _of_hooks(machine: MachineJob) -> Iterator[Trouble]:
    for name, hook in (("before", machine.before), ("after", machine.after)):
        if hook is not None and shutil.which(hook.argv[0]) is None:
            program = printable(hook.argv[0].replace("\n", " "), keep="")
            message = f"{name}: there is no program {program} that may be run"
            yield Trouble("no-hook", message, "Name it by its whole path, and see that it may be run (chmod +x).")


def _system(document: PlanDocument) -> str:
    system = document.facts.os
    name = "" if system is None else system.name or system.id
    return printable(name.replace("\n", " "), keep="")[:_SYSTEM_LETTERS]
