"""How any other guest starts: what can be said of a system that is not read any further."""

from __future__ import annotations

from collections.abc import Iterator

from p2v.audit.chain import Judged, at_disk, finding, findings_of, shown
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding
from p2v.machine import Firmware

_OTHER = "other"


def check(examined: Examined) -> Iterator[AuditFinding]:
    """What could not be seen of a system that planning takes as it is."""
    yield from findings_of(links(examined))


def links(examined: Examined) -> tuple[Judged, ...]:
    """The chain of a guest that is neither Linux nor Windows, or of a machine without a system; empty for others."""
    document = examined.document
    system = document.facts.os
    if document.facts.windows is not None or (system is not None and system.kind == "linux"):
        return ()
    if system is None or system.kind != _OTHER:
        blockers = document.plan.blockers
        return (
            Judged("operating system", "", unseen=blockers[0].message if blockers else "no operating system was found"),
        )
    return (_firmware_link(examined), _system_link(examined, system.name or system.id))


def _firmware_link(examined: Examined) -> Judged:
    document, name = examined.document, "firmware and boot loader"
    first = next(iter(document.facts.disks), None)
    evidence = at_disk(examined, 0, 0)
    if document.hardware.firmware is Firmware.BIOS and document.hardware.machine in ("q35", "pc") and first is not None:
        judged = Judged(
            name, f"the BIOS starts the boot code at the beginning of disk 1 ({first.boot_code})", (evidence,)
        )
        if not first.boot_code:
            message = "there is no boot code in the first sector of disk 1, so a BIOS has nothing to start"
            return judged.with_findings([finding(examined, "start.other.no-boot-code", message, evidence)])
        return judged
    # what is beyond is unseen anyway, and told with the next link
    return Judged(name, "", (evidence,), unseen="what its firmware starts was not looked at")


def _system_link(examined: Examined, system: str) -> Judged:
    message = f"how {shown(system)} starts is not known here: its boot loader, its kernel and what it mounts were not looked at"
    unseen = finding(examined, "start.other.unseen", message, at_disk(examined, 0))
    return Judged("operating system", "", findings=(unseen,))
