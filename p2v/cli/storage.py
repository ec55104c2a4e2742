"""The options that say where a machine's disks go: one for each kind of front end, for all disks or by a disk's number."""

from __future__ import annotations

import argparse
import re

from p2v.core.errors import Usage
from p2v.targets.front_ends import FrontEnd
from p2v.targets.storage import DEFAULT, Storage

_DISK = re.compile(r"(?P<disk>[0-9]{1,3})=(?P<name>.*)", re.DOTALL)
# What a place for disks is called, and the names it may have.
_OPTIONS = {
    FrontEnd.LIBVIRT: ("pool", "POOL", "with --connect: copy the disks into this storage pool", re.compile(r"[^/\s][^/\n]*")),
    FrontEnd.PROXMOX: ("storage", "STORAGE", "with --to proxmox: the storage of the disks", re.compile(r"[A-Za-z][A-Za-z0-9._-]*")),
    FrontEnd.KUBEVIRT: (
        "storage_class", "CLASS", "with --to kubevirt: the storage class of the disks",
        re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"),
    ),
    FrontEnd.OPENSTACK: (
        "volume_type", "TYPE", "with --to openstack: the type of volumes made from the images", re.compile(r"[^\s=][^\n=]{0,254}")
    ),
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    for name, metavar, help_, _ in _OPTIONS.values():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            action="append",
            default=[],
            metavar=f"[DISK=]{metavar}",
            help=f"{help_}; 2=NAME is for the second disk alone; repeat for more disks",
        )


def storage_of(arguments: argparse.Namespace, front_end: FrontEnd) -> Storage:
    """What the options say for a front end. Raises Usage; also for the option of another front end."""
    for owner, (name, _, _, _) in _OPTIONS.items():
        if getattr(arguments, name) and owner is not front_end:
            raise Usage(f"--{name.replace('_', '-')} is for --to {owner.value}")
    if front_end not in _OPTIONS:
        return DEFAULT
    name, _, _, allowed = _OPTIONS[front_end]
    option, every, single = f"--{name.replace('_', '-')}", None, dict[int, str]()
    for text in getattr(arguments, name):
        match = _DISK.fullmatch(text)
        place = match["name"] if match is not None else text
        if not allowed.fullmatch(place):
            raise Usage(f"{option} {text!a}: {place!a} cannot be its name", f"As in {option} fast, or {option} 2=slow.")
        if match is None and every is not None:
            raise Usage(f"{option} {text}: {option} {every} is for all disks already", f"Name the disk: {option} 2={text}")
        if match is None:
            every = place
            continue
        index = int(match["disk"]) - 1
        if index < 0 or index in single:
            reason = f"it was given twice for disk {index + 1}" if index in single else "disks are counted from 1"
            raise Usage(f"{option} {text}: {reason}")
        single[index] = place
    return Storage(every, single)


def require_disks(storage: Storage, count: int) -> None:
    """See that every disk that is named is there. Raises Usage."""
    missing = [index + 1 for index in sorted(storage.single) if index >= count]
    if missing:
        what = "one disk" if count == 1 else f"{count} disks"
        raise Usage(f"the machine has no disk {missing[0]}: it has {what}", "`p2v inspect` shows its disks in their order.")
