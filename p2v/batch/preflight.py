"""One machine of a batch before its conversion: all that would stop it, at once, and what it takes. Nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

from drivers.keys import parse_key
from p2v.audit.document import Signs
from p2v.audit.portrait import signs_of
from p2v.batch.jobs import MachineJob
from p2v.batch.planned import MachinePlan, Planned, Planner
from p2v.core.errors import P2vError
from p2v.core.text import printable
from p2v.documents import PlanDocument
from p2v.preflight import Trouble, look_ahead, trouble_of, troubles_of_folder
from p2v.targets.front_ends import FrontEnd
from p2v.targets.kubevirt import object_name

_SYSTEM_LETTERS = 100
NO_KEY = "no-key"
"""The code of a passphrase that is not there."""


def preflight(machine: MachineJob, planner: Planner) -> MachinePlan:
    """Plan a machine and look at all that its conversion would look at. Raises nothing of the suite's own: that is a blocker."""
    bare = MachinePlan.of(machine)
    keys = dict(_missing_keys(machine))
    hooks = (*keys.values(), *_of_hooks(machine))
    bare = replace(bare, missing_keys=tuple(keys))
    try:
        # what else is in the way is told at once with the keys that are not there
        planned = planner(replace(machine, keys=tuple(key for key in machine.keys if key not in keys)))
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
        signs=_signs(machine, document),
        # the file systems of what was copied while it was in use are checked in any case
        rewritten=not document.plan.is_idle or bool(document.live),
        claims=tuple(_claims(planned)),
    )


def _missing_keys(machine: MachineJob) -> Iterator[tuple[str, Trouble]]:
    for key in machine.keys:
        try:
            parse_key(key)
        except P2vError as error:
            found = trouble_of(error)
            message = f"keys: {found.message.removeprefix('--key: ')}"
            yield key, Trouble(NO_KEY, message, "Put the passphrase there before the run, whose environment counts.")


def _signs(machine: MachineJob, document: PlanDocument) -> Signs:
    """Of the machine as it will be: with the addresses that are given to it, and without what it makes anew."""
    found, hardware = signs_of(document), document.hardware
    is_new = "--new-identity" in machine.options
    given = [nic.addressing for nic in document.machine.nics if nic.addressing is not None]
    return replace(
        found,
        macs=tuple(dict.fromkeys(nic.mac.lower() for nic in hardware.nics)),
        uuid=hardware.uuid.lower(),
        machine_id="" if is_new else found.machine_id,
        addresses=tuple(each.address.partition("/")[0] for each in given if each.address) if given else found.addresses,
        # harmless until both hang on one machine, which a batch does not do
        disk_ids=(),
    )


def _claims(planned: Planned) -> Iterator[str]:
    """Names where only one thing can be called so, and which the plan of a folder does not tell of."""
    hardware, request = planned.document.hardware, planned.request
    if request.front_end is FrontEnd.KUBEVIRT:
        yield f"the name {object_name(hardware)} in Kubernetes"
    delivery = request.delivery
    if delivery is None:
        return
    where = f"libvirt ({printable(delivery.host.uri, keep='')})" if delivery.host.uri else "libvirt"
    yield f"the UUID {hardware.uuid.lower()} in {where}"
    for index, disk in enumerate(hardware.disks):
        pool = delivery.pools.of(index)
        if pool is not None and not disk.is_device:
            yield printable(f"the volume {disk.path.name} of the pool {pool} in {where}", keep="")


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
