"""What else is signed on disks: arrays that they are members of, signatures that are left over, containers and what opens them."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.disk_sights import DiskSight
from drivers.sights.values import LuksToken, PlaceSight
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Check, Examined
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.rules.disk_places import at, named, places
from p2v.core.text import listed

_REPLICATED = "drbd"
_CACHED = "bcache"
# the last of what is at a place decides nothing about these, which stand beside what they carry
_BESIDE = frozenset({_REPLICATED})
_FIRST = frozenset({"md", "lvm2", "luks", "bitlocker"})
# opened by what is typed in, whatever the token says besides
_TYPED = frozenset({"systemd-recovery", "luks2-keyring"})
# a server of the network, or so many of several answers
_REMOTE = frozenset({"tang", "sss"})
_TPM = "tpm2"
_PLACES_AT_MOST = 16


def raid_members(examined: Examined) -> Iterator[AuditFinding]:
    """Metadata of arrays that firmware or a controller puts together, which KVM's machine has not."""
    for disk in examined.sights:
        for mark in disk.raids:
            told = f" ({mark.text})" if mark.text else ""
            message = f"disk {disk.index + 1} is marked as a member of an array of {mark.maker}{told}"
            yield found(examined.rules["disk.raid-member"], message, at(examined, disk.index, mark.offset, mark.text))


def whole_disk(examined: Examined) -> Iterator[AuditFinding]:
    """Signatures of the disk itself beside its partitions."""
    for disk in examined.sights:
        if not disk.partitions:
            continue
        for signature in disk.whole.signatures:
            evidence = at(examined, disk.index, signature.offset, signature.kind)
            if signature.kind == "md":
                message = f"disk {disk.index + 1} has partitions, and is itself a member of a Linux RAID of whole disks"
                yield found(examined.rules["disk.array-of-disks"], message, evidence)
            elif signature.kind not in _BESIDE:
                message = f"disk {disk.index + 1} has partitions, and is itself signed as {signature.kind}"
                yield found(examined.rules["disk.signed-whole"], message, evidence)


def several_signatures(examined: Examined) -> Iterator[AuditFinding]:
    """Places that are signed as two things at once."""
    for disk, place in places(examined):
        kinds = list(dict.fromkeys(each.kind for each in place.signatures if each.kind not in _BESIDE))
        if len(kinds) > 1:
            message = f"{named(disk, place)} is signed as {' and as '.join(kinds)}"
            evidence = (at(examined, disk.index, each.offset, each.kind) for each in place.signatures)
            # libblkid stops at the first member of an array or encrypted container, and looks for no file system then
            severity = Severity.INFORMATION if _FIRST & set(kinds) else None
            yield found(examined.rules["disk.signed-twice"], message, *evidence, severity=severity)


def layers(examined: Examined) -> Iterator[AuditFinding]:
    """Block devices that need more than the disk: a peer, a cache, a pool."""
    for kind, rule in ((_REPLICATED, "disk.drbd"), (_CACHED, "disk.bcache")):
        for disk, place in _signed(examined, kind):
            offset = next(each.offset for each in place.signatures if each.kind == kind)
            what = "has metadata of DRBD at its end" if kind == _REPLICATED else "belongs to a bcache"
            yield found(examined.rules[rule], f"{named(disk, place)} {what}", at(examined, disk.index, offset, kind))
    for partition in examined.document.facts.partitions:
        if partition.filesystem is not None and partition.filesystem.kind == "zfs":
            where = f"disk {partition.disk + 1}" + (f", partition {partition.number}" if partition.number else "")
            message = f"{where} is part of a ZFS pool: it is copied byte by byte, and nobody looked into it"
            evidence = at(examined, partition.disk, partition.offset, "zfs")
            yield found(examined.rules["disk.zfs"], message, evidence)


def _signed(examined: Examined, kind: str) -> list[tuple[DiskSight, PlaceSight]]:
    found_there = [(d, p) for d, p in places(examined) if any(each.kind == kind for each in p.signatures)]
    return found_there[:_PLACES_AT_MOST]


def luks_keys(examined: Examined) -> Iterator[AuditFinding]:
    """Encrypted containers whose keys hang on the old machine, or on its network."""
    for disk, place in places(examined):
        luks = place.luks
        if luks is None:
            continue
        if luks.problem:
            message = f"{named(disk, place)}: the header of its encryption cannot be understood ({luks.problem})"
            yield found(examined.rules["disk.luks-header"], message, at(examined, disk.index, place.offset, "LUKS"))
        local = [token for token in luks.tokens if _is_local(token)]
        if local:
            yield _bound(examined, disk, place, local)
        elif pins := listed(dict.fromkeys(token.pin for token in luks.tokens if token.pin in _REMOTE)):
            message = f"{named(disk, place)} is opened by what clevis asks for at its start ({pins})"
            yield found(examined.rules["disk.luks-network"], message, at(examined, disk.index, place.offset, "clevis"))


def _is_local(token: LuksToken) -> bool:
    """Whether it is opened by a part of the machine, or something plugged into it."""
    return token.pin == _TPM or (token.kind.startswith("systemd-") and token.kind not in _TYPED)


def _bound(examined: Examined, disk: DiskSight, place: PlaceSight, tokens: list[LuksToken]) -> AuditFinding:
    bound = {slot for token in tokens for slot in token.keyslots}
    every = set(place.luks.keyslots) if place.luks is not None else set()
    what = listed(dict.fromkeys(f"clevis ({t.pin})" if t.kind == "clevis" else t.kind for t in tokens))
    evidence = at(examined, disk.index, place.offset + 4096, f"tokens: {what}; keys: {listed(sorted(every))}")
    if every and every <= bound:
        message = (
            f"{named(disk, place)} is opened by the old machine alone ({what}): it has no key that can be typed in"
        )
        return found(examined.rules["disk.luks-machine-only"], message, evidence)
    message = f"{named(disk, place)} is opened by a part of the old machine ({what}), which the new one has not"
    return found(examined.rules["disk.luks-machine"], message, evidence)


def bitlocker(examined: Examined) -> Iterator[AuditFinding]:
    """A volume of BitLocker's beside another system than Windows; of Windows, and of no system at all, the plan tells it."""
    facts = examined.document.facts
    if facts.os is None or facts.os.kind == "windows":
        return
    for partition in facts.partitions:
        if partition.filesystem is not None and partition.filesystem.kind == "bitlocker":
            state = partition.filesystem.bitlocker
            message = f"disk {partition.disk + 1}, partition {partition.number} is a volume of BitLocker's ({state or 'unknown'})"
            evidence = at(examined, partition.disk, partition.offset, "-FVE-FS-")
            severity = Severity.INFORMATION if state is not None and state.is_suspended else None
            yield found(examined.rules["disk.bitlocker"], message, evidence, severity=severity)


CHECKS: tuple[Check, ...] = (raid_members, whole_disk, several_signatures, layers, luks_keys, bitlocker)
