"""How a Linux guest starts: firmware, boot loader and its configuration; the further links are in the modules beside.

The chain is proven for the machine that it will be on KVM. What planning blocks is the plan's finding, and only a link here.

Sources: the boot loaders' own documents (GRUB's manual, "BIOS installation"; syslinux' "mbr.bin"), UEFI specification, "Boot
Manager"; PowerPC's PReP boot partition as GRUB's manual has it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from drivers.changes import CopyFile
from drivers.facts import Disk, GuestFacts, Partition, ReadBy
from drivers.layout import is_esp, partition_place
from drivers.linux.efi_programs import FALLBACK_NAMES
from drivers.partitions import BIOS_BOOT_GUID, PREP_GUID, PREP_MBR
from p2v.audit.chain import Judged, at_disk, at_file, finding, findings_of, shown, told_by_plan
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding
from p2v.audit.rules.start_linux_files import (
    initramfs_link,
    kernel_link,
    program_link,
    starting_entry,
    unread,
)
from p2v.audit.rules.start_linux_mounts import mounts_link, root_link
from p2v.machine import Firmware

_PC = frozenset({"q35", "pc"})
_BIOS_BOOT_TYPES = frozenset({BIOS_BOOT_GUID})
_PREP_TYPES = frozenset({PREP_GUID, PREP_MBR})
_GRUB = frozenset({"grub2", "grub1"})
# what starts the active partition, whatever stands there
_HANDS_ON = frozenset({"syslinux", "windows"})
# whose boot code reads which configuration
_CONFIGURATIONS = {"grub2": "grub2", "grub1": "grub1", "lilo": "lilo"}
_NOT_STARTED = (
    "linux.ppc64le.no-prep",
    "linux.aarch64.no-uefi",
    "linux.boot-loader.not-here",
    "linux.arch-unsupported",
)
_NOT_CONFIGURED = ("linux.boot-loader.missing", "linux.boot-loader.unreadable", "linux.boot-loader.no-entries")


def check(examined: Examined) -> Iterator[AuditFinding]:
    """Everything that keeps a Linux guest from starting, or that nobody could see."""
    yield from findings_of(links(examined))


def links(examined: Examined) -> tuple[Judged, ...]:
    """The chain of a Linux guest; empty for other guests."""
    facts = examined.document.facts
    if facts.os is None or facts.os.kind != "linux":
        return ()
    return (
        firmware_link(examined),
        configuration_link(examined),
        kernel_link(examined),
        initramfs_link(examined),
        root_link(examined),
        mounts_link(examined),
        program_link(examined),
    )


# --- from the firmware to the boot loader ------------------------------------------------------------------


def firmware_link(examined: Examined) -> Judged:
    """What the firmware finds on the disks to start."""
    hardware = examined.document.hardware
    if hardware.firmware is Firmware.UEFI:
        return _by_uefi(examined)
    if hardware.machine in _PC:
        return _by_bios(examined)
    return _by_prep(examined) if hardware.machine == "pseries" else _by_mainframe(examined)


def _judged(examined: Examined, proven: str, findings: Iterator[AuditFinding]) -> Judged:
    told = told_by_plan(examined, *_NOT_STARTED)
    return Judged("firmware and boot loader", proven, (at_disk(examined, 0, 0),), () if told else tuple(findings), told)


def _by_bios(examined: Examined) -> Judged:
    first = next(iter(examined.document.facts.disks), None)
    if first is None:
        return Judged("firmware and boot loader", "", unseen="it has no disk")
    proven = f"the BIOS starts the boot code of {first.boot_code} at the beginning of disk 1"
    if first.boot_code in _HANDS_ON:
        proven += ", which starts its active partition"
    return _judged(examined, proven, _bios_findings(examined, first))


def _bios_findings(examined: Examined, first: Disk) -> Iterator[AuditFinding]:
    facts = examined.document.facts
    code, start = first.boot_code, at_disk(examined, first.index, 0)
    if not code:
        others = [disk for disk in facts.disks if disk.boot_code]
        if others:
            other = others[0]
            message = f"a BIOS starts the first disk, which has no boot code; disk {other.index + 1} has that of {other.boot_code}"
            evidence = (start, at_disk(examined, other.index, 0))
            yield finding(examined, "start.linux.boot-code-on-other-disk", message, *evidence)
        else:
            message = "there is no boot code in the first sector of disk 1, so a BIOS has nothing to start"
            yield finding(examined, "start.linux.no-boot-code", message, start)
    elif code in _GRUB:
        yield from _next_stage_findings(examined, first)
    elif code == "lilo":
        message = "LILO loads the sectors that its map names; whether those are still the kernel's was not looked at"
        yield finding(examined, "start.linux.map-unseen", message, start)
    elif code in _HANDS_ON:
        yield from _active_findings(examined, first)
    else:
        message = "what the boot code in the first sector of disk 1 starts is not known"
        yield finding(examined, "start.linux.boot-code-unknown", message, start)


def _next_stage_findings(examined: Examined, first: Disk) -> Iterator[AuditFinding]:
    where = {"zeroes": "where nothing but zeroes stand", "outside": "past the end of the disk"}.get(first.next_stage)
    parts = [part for part in examined.document.facts.partitions if part.disk == first.index]
    if where is not None:
        message = f"the boot code of disk 1 loads GRUB's core image from a place {where}"
        yield finding(examined, "start.linux.no-core-image", message, at_disk(examined, first.index, 0))
    elif not first.next_stage and first.table == "gpt" and not _of_types(parts, _BIOS_BOOT_TYPES):
        message = "disk 1 has a GPT and no BIOS boot partition, where GRUB's core image would be"
        yield finding(examined, "start.linux.no-core-image", message, at_disk(examined, first.index, 0))


def _of_types(partitions: list[Partition], types: frozenset[str]) -> list[Partition]:
    return [partition for partition in partitions if partition.type_id in types]


def _active_findings(examined: Examined, first: Disk) -> Iterator[AuditFinding]:
    active = [part for part in examined.document.facts.partitions if part.disk == first.index and part.bootable]
    if len(active) != 1:
        which = f"{len(active)} partitions are active" if active else "no partition is active"
        message = f"the boot code of disk 1 starts its active partition, and {which}"
        yield finding(examined, "start.linux.no-active-partition", message, at_disk(examined, first.index, 446))
        return
    place, evidence = partition_place(first.index, active[0].number), at_disk(examined, first.index, active[0].offset)
    if not active[0].boot_code:
        message = f"the boot code of disk 1 starts {place}, whose first sector holds no boot code"
        yield finding(examined, "start.linux.no-active-partition", message, evidence)
    elif active[0].boot_code in ("unknown", "windows"):
        message = f"the boot code of disk 1 starts {place}, and what that starts is not known"
        yield finding(examined, "start.linux.boot-code-unknown", message, evidence)


def _by_prep(examined: Examined) -> Judged:
    found = _of_types(list(examined.document.facts.partitions), _PREP_TYPES)
    return _judged(examined, "the firmware starts what is in the PReP boot partition", _prep_findings(examined, found))


def _prep_findings(examined: Examined, found: list[Partition]) -> Iterator[AuditFinding]:
    if found and all(part.filesystem is not None and "zeroes" in part.filesystem.why_not_host for part in found):
        place = partition_place(found[0].disk, found[0].number)
        message = f"the PReP boot partition ({place}) begins with nothing but zeroes"
        yield finding(examined, "start.linux.prep-empty", message, at_disk(examined, found[0].disk, found[0].offset))


def _by_mainframe(examined: Examined) -> Judged:
    first = next(iter(examined.document.facts.disks), None)
    proven = "the firmware starts zipl's boot record at the beginning of disk 1"
    if first is not None and first.boot_code == "zipl":
        return _judged(examined, proven, iter(()))
    message = (
        "zipl's boot record was not found at the beginning of disk 1; how the firmware would start it is not known"
    )
    return _judged(
        examined, proven, iter([finding(examined, "start.linux.boot-code-unknown", message, at_disk(examined, 0, 0))])
    )


def _by_uefi(examined: Examined) -> Judged:
    facts = examined.document.facts
    programs = ", ".join(program.path for program in facts.efi_programs[:3])
    return _judged(examined, f"UEFI finds {shown(programs)} on the EFI system partition", _uefi_findings(examined))


def _uefi_findings(examined: Examined) -> Iterator[AuditFinding]:
    facts = examined.document.facts
    esps = [part for part in facts.partitions if is_esp(part)]
    if not esps:
        message = "the machine starts by UEFI, and no EFI system partition is on its disks"
        yield finding(examined, "start.linux.no-esp", message, at_disk(examined, 0, 0))
        return
    evidence = at_disk(examined, esps[0].disk, esps[0].offset)
    if problem := _esp_unseen(facts, esps):
        yield finding(examined, "start.linux.esp-unseen", problem, evidence)
    elif not facts.efi_programs:
        yield from _no_program(examined, esps[0])
    else:
        yield from _without_entries(examined)


def _esp_unseen(facts: GuestFacts, esps: list[Partition]) -> str:
    place = partition_place(esps[0].disk, esps[0].number)
    mounted = [
        m for m in facts.mounts if not m.volume and any((m.disk, m.partition) == (p.disk, p.number) for p in esps)
    ]
    if not mounted:
        which = place if len(esps) == 1 else f"{len(esps)} partitions"
        return f"the EFI system partition ({which}) has no place in the guest's tree, so it was not looked into"
    system = facts.filesystem_of(mounted[0])
    if facts.read_by is ReadBy.HOST and system is not None and system.why_not_host:
        return f"the EFI system partition ({place}) was not read: {shown(system.why_not_host)}"
    return ""


def _no_program(examined: Examined, esp: Partition) -> Iterator[AuditFinding]:
    entry, place = starting_entry(examined.document.facts), partition_place(esp.disk, esp.number)
    evidence = at_disk(examined, esp.disk, esp.offset)
    # a unified kernel image in the place of a boot loader is larger than what is taken for one
    if entry is not None and entry.source and entry.source == entry.kernel:
        message = f"no boot loader was found on the EFI system partition ({place}); whether UEFI starts the image is not known"
        yield finding(examined, "start.linux.esp-unseen", message, evidence)
    else:
        message = f"no boot loader is on the EFI system partition ({place})"
        yield finding(examined, "start.linux.no-efi-loader", message, evidence)


def _without_entries(examined: Examined) -> Iterator[AuditFinding]:
    """What a machine starts whose firmware has no boot entries."""
    document = examined.document
    warned = next((each for each in document.plan.warnings if each.id == "linux.firmware.uefi"), None)
    if warned is not None and not document.machine.variables:
        evidence = [at_file(program.path) for program in document.facts.efi_programs[:3]]
        yield finding(examined, "start.linux.no-removable-loader", shown(warned.message, 500), *evidence)
        return
    name = FALLBACK_NAMES.get(document.facts.os.arch if document.facts.os else "", "").lower()
    for change in document.plan.changes:
        if isinstance(change, CopyFile) and name and posixpath.basename(change.target).lower() == name:
            message = f"{shown(change.target)} is missing, which firmware without boot entries starts; the conversion puts it there"
            yield finding(examined, "start.linux.removable-loader-made", message, at_file(change.source))


# --- the boot loader's configuration -----------------------------------------------------------------------


def configuration_link(examined: Examined) -> Judged:
    """What the boot loader is told, and what starts when nobody chooses."""
    facts = examined.document.facts
    loader, entry = facts.boot_loader, starting_entry(facts)
    told, problem = told_by_plan(examined, *_NOT_CONFIGURED), unread(facts, "/boot")
    proven = f"{shown(loader.config)} starts {shown(entry.title)}" if entry is not None else ""
    evidence = (at_file(loader.config),) if loader.config else ()
    name = "boot loader's configuration"
    if told and problem:
        return Judged(name, proven, evidence, unseen=problem)
    if told or entry is None:
        return Judged(name, proven, evidence, told=told or "no entry starts a kernel")
    return Judged(name, proven, evidence, tuple(_configuration_findings(examined)))


def _configuration_findings(examined: Examined) -> Iterator[AuditFinding]:
    facts, hardware = examined.document.facts, examined.document.hardware
    loader, first = facts.boot_loader, next(iter(facts.disks), None)
    if loader.default_entry is None:
        what = f"{shown(loader.default)}, in which no kernel was found" if loader.default else "not told"
        message = f"{shown(loader.config)}: what starts when nobody chooses is {what}"
        yield finding(examined, "start.linux.default-starts-no-kernel", message, at_file(loader.config))
    by_bios = hardware.firmware is Firmware.BIOS and hardware.machine in _PC
    reads = _CONFIGURATIONS.get(first.boot_code, "") if first is not None and by_bios else ""
    if first is not None and reads and reads != loader.kind:
        where = shown(loader.config)
        message = (
            f"the boot code of disk 1 is that of {first.boot_code}, and the configuration ({where}) is {loader.kind}'s"
        )
        yield finding(examined, "start.linux.loader-differs", message, at_disk(examined, 0, 0), at_file(loader.config))
