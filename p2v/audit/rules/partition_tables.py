"""Partition tables: a GPT's copies, entries that do not fit the disk or each other, and what a BIOS starts by them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, pairwise

from drivers import ldm
from drivers.disk_sights import DiskSight
from drivers.partitions import BIOS_BOOT_GUID, PREP_GUID, PREP_MBR
from drivers.sights.values import GptSight, PlaceSight, Protection
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Check, Examined
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.rules.disk_places import at, named, starts_by_bios
from p2v.core.text import listed
from p2v.core.units import format_bytes

_CONTAINER_TYPES = frozenset({"05", "0f", "85"})
# nobody writes to these but installers: boot loaders' own, Windows' reserved one and its logical disk manager's
_NEVER_BUSY = _CONTAINER_TYPES | {
    BIOS_BOOT_GUID, PREP_GUID, PREP_MBR, "e3c9e316-0b5c-4db8-817d-f92df00215ae", ldm.TYPE_METADATA,
}  # fmt: skip
# boot code of these starts the active partition, and nothing else; GRUB and LILO know their own place
_NEED_ACTIVE = frozenset({"windows", "syslinux"})
_ALIGNED = 4096
_NAMED_AT_MOST = 8
_NOTE = re.compile(
    r"disk \d+: (the GPT at the start is bad|so is its backup) \(.*\)"
    r"|disk \d+, partition \d+: (lies outside the disk; left out|reaches \d+ bytes past the disk's end)"
)


def is_told_here(note: str) -> bool:
    """Whether a note among a guest's facts says what these rules say with evidence, so that nobody need read it twice."""
    return _NOTE.fullmatch(note) is not None


def gpt_copies(examined: Examined) -> Iterator[AuditFinding]:
    """Copies of a GPT that are broken, missing, or do not say the same."""
    for disk in examined.sights:
        if disk.gpt is not None and disk.gpt.protection is not Protection.NONE:
            yield from _copies(examined, disk, disk.gpt)


def _copies(examined: Examined, disk: DiskSight, gpt: GptSight) -> Iterator[AuditFinding]:
    rules, name = examined.rules, f"disk {disk.index + 1}"
    first = at(examined, disk.index, gpt.primary.offset, gpt.primary.problem)
    last = at(examined, disk.index, gpt.backup.offset, gpt.backup.problem)
    blind = Severity.BLOCKER if _is_linux_on(examined, disk) else None
    if not gpt.primary.is_sound and not gpt.backup.is_sound:
        # an older end of the disk may hold a copy that the layout was read from
        severity = blind or (Severity.WARNING if disk.partitions else None)
        message = f"{name}: the GPT is bad ({gpt.primary.problem}), and so is its backup ({gpt.backup.problem})"
        yield found(rules["disk.gpt-both-bad"], message, first, last, severity=severity)
    elif not gpt.primary.is_sound:
        message = f"{name}: the GPT at its start is bad ({gpt.primary.problem}); its backup at the end holds"
        yield found(rules["disk.gpt-primary-bad"], message, first, last, severity=blind)
    elif not gpt.backup.is_sound:
        yield from _without_backup(examined, disk, gpt)
    elif gpt.differ:
        message = f"{name}: the two copies of its GPT hold, and name other partitions"
        yield found(rules["disk.gpt-copies-differ"], message, first, last)


def _is_linux_on(examined: Examined, disk: DiskSight) -> bool:
    """Whether a Linux has something of its own there: its kernel goes by the primary copy, and by no other unless told to."""
    facts = examined.document.facts
    mounts = (*((facts.root,) if facts.root is not None else ()), *facts.mounts)
    return facts.os is not None and facts.os.kind == "linux" and any(mount.disk == disk.index for mount in mounts)


def _without_backup(examined: Examined, disk: DiskSight, gpt: GptSight) -> Iterator[AuditFinding]:
    rules, name = examined.rules, f"disk {disk.index + 1}"
    last = at(examined, disk.index, gpt.backup.offset, gpt.backup.problem)
    stated = gpt.stated
    if stated is None:
        message = f"{name}: the backup of its GPT in the last sector is bad ({gpt.backup.problem})"
        yield found(rules["disk.gpt-backup-bad"], message, last)
        return
    evidence = (at(examined, disk.index, gpt.primary.offset + 32, f"backup at byte {stated.offset}"), last)
    if stated.offset >= disk.size_bytes:
        was = stated.offset + gpt.sector_bytes
        message = f"{name} has {format_bytes(disk.size_bytes)}, and its GPT was made for one of {format_bytes(was)}"
        yield found(rules["disk.gpt-cut"], message, *evidence)
    elif stated.is_sound:
        message = f"{name} was made larger: the backup of its GPT stands at byte {stated.offset}, and not at its end"
        yield found(rules["disk.gpt-grown"], message, *evidence)
    else:
        message = f"{name}: the backup of its GPT is neither at its end nor at byte {stated.offset} ({stated.problem})"
        yield found(rules["disk.gpt-backup-bad"], message, *evidence)


def gpt_protection(examined: Examined) -> Iterator[AuditFinding]:
    """A GPT that the MBR in front of it does not announce, or announces beside partitions of its own."""
    for disk in examined.sights:
        gpt = disk.gpt
        if gpt is None or gpt.protection is Protection.PROTECTIVE:
            continue
        name, mbr = f"disk {disk.index + 1}", at(examined, disk.index, 446)
        here = at(examined, disk.index, gpt.primary.offset if gpt.primary.is_sound else gpt.backup.offset, "EFI PART")
        if gpt.protection is Protection.HYBRID:
            message = f"{name} has a hybrid MBR: its GPT, and partitions in the MBR beside it"
            yield found(examined.rules["disk.gpt-hybrid"], message, mbr, here)
        elif disk.table != "none" or disk.whole.signatures:
            what = (
                "a partition table of the older kind"
                if disk.table != "none"
                else f"{disk.whole.signatures[0].kind} on all of it"
            )
            message = f"{name} has {what}, and a GPT of before is still there"
            yield found(examined.rules["disk.gpt-leftover"], message, here)
        else:
            message = f"{name}: a GPT is there, and the MBR in front of it does not say so"
            yield found(examined.rules["disk.gpt-unannounced"], message, mbr, here)


def past_the_end(examined: Examined) -> Iterator[AuditFinding]:
    """Partitions that the disk is too short for."""
    for disk in examined.sights:
        short = [place for place in disk.partitions if place.end > disk.size_bytes]
        for place in short[:_NAMED_AT_MOST]:
            missing = place.end - disk.size_bytes
            used = any(place.offset + (each.stated_bytes or 0) > disk.size_bytes for each in place.signatures)
            lost = f"{format_bytes(missing)} of it are" if missing < place.length else "all of it is"
            message = (
                f"{named(disk, place)} ends at byte {place.end}, and the disk at {disk.size_bytes}: {lost} not there"
            )
            evidence = at(
                examined, disk.index, min(place.offset, disk.size_bytes), f"{place.length} bytes from {place.offset} on"
            )
            severity = Severity.BLOCKER if used or place.offset >= disk.size_bytes else None
            yield found(examined.rules["disk.partition-past-end"], message, evidence, severity=severity)


def overlapping(examined: Examined) -> Iterator[AuditFinding]:
    """Partitions that share bytes; the container of logical ones is not meant."""
    for disk in examined.sights:
        plain = sorted((p for p in disk.partitions if p.type_id not in _CONTAINER_TYPES), key=lambda p: p.offset)
        pairs = [(a, b) for a, b in _neighbours(plain) if b.offset < a.end]
        for one, other in pairs[:_NAMED_AT_MOST]:
            shared = min(one.end, other.end) - other.offset
            message = f"{named(disk, one)} and partition {other.number} share {format_bytes(shared)}"
            evidence = at(examined, disk.index, other.offset, f"partition {one.number} ends at byte {one.end}")
            yield found(examined.rules["disk.partitions-overlap"], message, evidence)


def _neighbours(partitions: list[PlaceSight]) -> Iterator[tuple[PlaceSight, PlaceSight]]:
    """Pairs in which one can reach into the other. A table of a thousand entries is looked at in its order alone."""
    yield from combinations(partitions, 2) if len(partitions) <= 128 else pairwise(partitions)


def active(examined: Examined) -> Iterator[AuditFinding]:
    """What boot code that starts the active partition finds on the first disk. Of Windows the plan tells that itself."""
    first = next(iter(examined.sights), None)
    if first is None or first.table != "mbr" or not starts_by_bios(examined):
        return
    marked = [place for place in first.partitions if place.bootable and place.number <= 4]
    evidence = at(examined, first.index, 446, listed(f"partition {place.number}" for place in marked))
    if len(marked) > 1:
        message = f"{len(marked)} partitions of its first disk are marked as active ({evidence.text})"
        yield found(examined.rules["disk.active-several"], message, evidence)
    elif not marked and first.boot_code in _NEED_ACTIVE:
        message = (
            f"no partition of its first disk is active, and its boot code ({first.boot_code}) starts the active one"
        )
        yield found(examined.rules["disk.active-none"], message, evidence)


def unaligned(examined: Examined) -> Iterator[AuditFinding]:
    """Partitions that begin within a block of 4 KiB."""
    for disk in examined.sights:
        odd = [p for p in disk.partitions if p.offset % _ALIGNED and p.type_id not in _NEVER_BUSY]
        if odd:
            which = listed(f"{place.number} (at byte {place.offset})" for place in odd)
            message = f"disk {disk.index + 1}: partitions that begin within a block of 4 KiB: {which}"
            yield found(examined.rules["disk.unaligned"], message, at(examined, disk.index, odd[0].offset))


def too_many(examined: Examined) -> Iterator[AuditFinding]:
    """Partitions that nobody looked into."""
    for disk in examined.sights:
        if disk.not_looked_into:
            message = f"disk {disk.index + 1}: {disk.not_looked_into} of its {len(disk.partitions)} partitions were not looked into"
            yield found(examined.rules["disk.not-looked-into"], message, at(examined, disk.index, 0))


CHECKS: tuple[Check, ...] = (
    gpt_copies, gpt_protection, past_the_end, overlapping, active, unaligned, too_many,
)  # fmt: skip
