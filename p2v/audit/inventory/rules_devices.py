"""Rules about what else a machine has: USB, CD and floppy drives, screens, devices of the host's. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p2v.audit.findings import AuditFinding
from p2v.audit.inventory.rows import DriveRow
from p2v.audit.inventory.seen import HasLine, Seen


def drives(seen: Seen) -> Iterator[AuditFinding]:
    """USB devices, and media in drives."""
    machine, vm = seen.machine, seen.machine.info.vm
    yield from seen.of_rows(
        "inventory.usb", f"{vm} has USB devices of the host or of somebody's desk: {{}}.", _rows(machine.usbs)
    )
    yield from seen.of_rows(
        "inventory.cd-connected",
        f"CD drives of {vm} have a medium: {{}}.",
        _rows([cd for cd in machine.cds if cd.connected]),
    )
    yield from seen.of_rows(
        "inventory.floppy-connected",
        f"Floppy drives of {vm} have a medium: {{}}.",
        _rows([floppy for floppy in machine.floppies if floppy.connected]),
    )


def others(seen: Seen) -> Iterator[AuditFinding]:
    """Screens, and devices of the host's."""
    info = seen.machine.info
    if (info.monitors or 0) > 1:
        yield seen.of_info("inventory.monitors", f"{info.vm} has {info.monitors} screens.", f"{info.monitors}")
    if info.passthrough_hotplug:
        yield seen.of_info(
            "inventory.passthrough-hotplug",
            f"{info.vm} is set up for devices of the host's that are passed through and exchanged while it runs.",
            "Fixed Passthru HotPlug",
        )


def _rows(drives: Sequence[DriveRow]) -> list[tuple[HasLine, str, str]]:
    return [(each, each.kind or each.node or f"row {each.line}", each.kind) for each in drives]


CHECKS = (drives, others)
