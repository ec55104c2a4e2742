"""Disks as images and as a set: how they were left, what belongs to them, which of them starts the machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from p2v.audit.catalogue_file import found
from p2v.audit.examined import Check, Examined
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.audit.rules import disk_members, free_space, partition_tables, volume_claims
from p2v.audit.rules.disk_places import at, path_of, starts_by_bios
from p2v.core.text import listed, printable
from p2v.core.units import MIB, SECTOR_BYTES, format_bytes

_NAME_AT_MOST = 120
# what a VMware snapshot's files are called, and Hyper-V's: the disk's own name, then what tells the state
_VMWARE_DELTA = re.compile(r"(?P<base>.{1,200})-[0-9]{6}(-(delta|sesparse|s[0-9]{3}))?\.vmdk", re.IGNORECASE)
_HYPERV_DELTA = re.compile(r"(?P<base>.{1,200}?)(_[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12})?\.avhdx?", re.IGNORECASE)
_DELTAS_AT_MOST = 1000


def empty(examined: Examined) -> Iterator[AuditFinding]:
    """Disks without a single sector."""
    for index, source in enumerate(examined.document.sources):
        if source.image.virtual_size < SECTOR_BYTES:
            message = f"disk {index + 1} has {source.image.virtual_size} bytes"
            yield found(examined.rules["disk.empty"], message, at(examined, index, 0))


def odd_sizes(examined: Examined) -> Iterator[AuditFinding]:
    """Disks that end within a sector."""
    for index, source in enumerate(examined.document.sources):
        image = source.image
        sector = max(SECTOR_BYTES, image.logical_sector_size)
        # a raw file's last sector is filled up with zeroes when it is read
        size = image.file_size if image.format == "raw" and len(image.files) == 1 else image.virtual_size
        if size % sector and image.virtual_size >= SECTOR_BYTES:
            message = f"disk {index + 1} has {size} bytes, which end within a sector of {sector}"
            yield found(examined.rules["disk.odd-size"], message, at(examined, index, size // sector * sector))


def unfinished(examined: Examined) -> Iterator[AuditFinding]:
    """Images that a writer did not close."""
    for index, source in enumerate(examined.document.sources):
        signs = [printable(sign, keep="")[:_NAME_AT_MOST] for sign in source.image.dirty]
        if signs:
            message = f"disk {index + 1}: its image ({source.image.format}) was not closed: {listed(signs)}"
            yield found(examined.rules["disk.image-unfinished"], message, at(examined, index, 0, listed(signs)))


def chains(examined: Examined) -> Iterator[AuditFinding]:
    """Disks that are the newest of several states."""
    for index, source in enumerate(examined.document.sources):
        parents = source.image.parents
        if parents:
            message = (
                f"disk {index + 1} holds changes to {len(parents)} image{'s' if len(parents) > 1 else ''} below it"
            )
            yield found(examined.rules["disk.chain"], message, at(examined, index, 0, listed(parents)))


def stated_sizes(examined: Examined) -> Iterator[AuditFinding]:
    """Disks that are a little shorter than their description says; far from it is a blocker of the plan."""
    if any(each.id == "source.disk-size" for each in examined.document.plan.blockers):
        return
    machine = examined.document.machine
    for index, (disk, source) in enumerate(zip(machine.disks, examined.document.sources, strict=False)):
        stated, size = disk.stated_bytes, source.image.virtual_size
        # descriptions round, to MiB or to whole cylinders
        if stated is not None and stated - size >= MIB:
            message = f"disk {index + 1} has {size} bytes, {stated - size} fewer than its description says"
            described = printable(str(machine.description or machine.described_by), keep="")[:400]
            evidence = Evidence(EvidenceKind.DESCRIPTION, described, text=format_bytes(stated))
            yield found(examined.rules["disk.shorter-than-stated"], message, evidence)


def newer_states(examined: Examined) -> Iterator[AuditFinding]:
    """Files beside the machine that by their names hold newer states of its disks."""
    document = examined.document
    used = {Path(file).name.lower() for source in document.sources for file in source.image.files}
    names = {path.name for path in document.machine.beside[:_DELTAS_AT_MOST]}
    newer = sorted(name for name in names if name.lower() not in used and _base_of(name) in used)
    if newer:
        shown = listed(printable(name, keep="")[:_NAME_AT_MOST] for name in newer)
        folder = printable(str(document.machine.beside[0].parent), keep="")[:400]
        message = f"by their names these hold what was written to its disks after what is converted: {shown}"
        evidence = Evidence(EvidenceKind.DESCRIPTION, folder, text=shown)
        yield found(examined.rules["disk.newer-state-beside"], message, evidence)


def _base_of(name: str) -> str:
    """The file, in lower case, that a snapshot's file of this name holds changes to; empty where it is no such name."""
    if (match := _VMWARE_DELTA.fullmatch(name)) is not None:
        return match["base"].lower() + ".vmdk"
    if (match := _HYPERV_DELTA.fullmatch(name)) is not None:
        return match["base"].lower() + (".vhdx" if name.lower().endswith("x") else ".vhd")
    return ""


def given_twice(examined: Examined) -> Iterator[AuditFinding]:
    """One image in the places of two disks."""
    first: dict[str, int] = {}
    for index, source in enumerate(examined.document.sources):
        key = source.image.files[0] if source.image.files else str(source.path)
        if key in first:
            message = f"disks {first[key] + 1} and {index + 1} are one and the same file"
            yield found(examined.rules["disk.given-twice"], message, at(examined, index, 0))
        first.setdefault(key, index)


def same_identity(examined: Examined) -> Iterator[AuditFinding]:
    """Disks with one identifier; of Windows the plan tells that itself."""
    facts = examined.document.facts
    if facts.windows is not None:
        return
    known: dict[str, int] = {}
    for disk in facts.disks:
        name = (disk.disk_id or "").lower()
        if not name.strip("0-"):
            continue
        if name in known:
            message = f"disks {known[name] + 1} and {disk.index + 1} have the same identifier ({name})"
            offset = 440 if disk.table == "mbr" else disk.sector_bytes + 56
            yield found(examined.rules["disk.same-identity"], message, at(examined, disk.index, offset, name))
        known.setdefault(name, disk.index)


def order(examined: Examined) -> Iterator[AuditFinding]:
    """A BIOS starts the first disk: one that holds no boot code, while another does. Of Windows the plan tells that itself."""
    facts = examined.document.facts
    if not starts_by_bios(examined) or len(facts.disks) < 2 or facts.disks[0].boot_code:
        return
    starting = next((disk for disk in facts.disks if disk.boot_code), None)
    if starting is not None:
        message = f"the first disk has no boot code, and disk {starting.index + 1} has that of {starting.boot_code}"
        evidence = at(examined, starting.index, 0, path_of(examined, starting.index))
        yield found(examined.rules["disk.order"], message, at(examined, 0, 0), evidence)


CHECKS: tuple[Check, ...] = (
    empty, odd_sizes, unfinished, chains, stated_sizes, newer_states, given_twice, same_identity, order,
    *partition_tables.CHECKS, *disk_members.CHECKS, *volume_claims.CHECKS, *free_space.CHECKS,
)  # fmt: skip
