"""Rules about what state a machine was in when the export was made: off, suspended, lost, a template; its snapshots. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from p2v.audit.findings import AuditFinding
from p2v.audit.inventory.rows import SnapshotRow
from p2v.audit.inventory.seen import HasLine, Seen
from p2v.core.units import format_bytes

OFF_LONG_DAYS = 180
SNAPSHOT_OLD_DAYS = 30
SNAPSHOTS_MANY = 3
_LOST = frozenset({"orphaned", "inaccessible", "invalid", "disconnected"})
_FT_OFF = frozenset({"", "notconfigured"})
_UNWELL = frozenset({"red", "yellow"})


def not_looked_inside(seen: Seen) -> Iterator[AuditFinding]:
    """Every machine of an inventory; a placeholder has no inside."""
    if not seen.machine.info.placeholder:
        yield seen.of_info(
            "inventory.not-looked-inside",
            f"{seen.machine.info.vm} is known by its row of an export alone: whether it starts on KVM is decided by what is on its "
            "disks, and nobody looked there.",
        )


def incomplete(seen: Seen) -> Iterator[AuditFinding]:
    """What could not be judged for want of sheets."""
    missing = [
        gap.sheet
        for gap in seen.inventory.gaps
        if not gap.columns and gap.sheet not in ("vHost", "vDatastore", "vHealth")
    ]
    if missing:
        yield seen.of_info(
            "inventory.incomplete",
            f"The export has no sheet {', '.join(missing)}: what it would say of {seen.machine.info.vm} could not be judged.",
        )


def power(seen: Seen) -> Iterator[AuditFinding]:
    """Off, off for long, suspended."""
    info = seen.machine.info
    state = info.powerstate.casefold()
    if state == "suspended":
        yield seen.of_info(
            "inventory.suspended",
            f"{info.vm} is suspended: what it has in memory does not come along.",
            info.powerstate,
        )
    if state != "poweredoff" or info.template or info.placeholder:
        return
    days = _age(info.changed, seen.as_of)
    if days is not None and days > OFF_LONG_DAYS:
        yield seen.of_info(
            "inventory.powered-off-long",
            f"{info.vm} is switched off, and its configuration was changed last on {info.changed}, {days} days ago.",
            f"{info.changed}",
        )
    else:
        yield seen.of_info("inventory.powered-off", f"{info.vm} is switched off.", info.powerstate)


def kind(seen: Seen) -> Iterator[AuditFinding]:
    """Templates, placeholders, vSphere's own."""
    info = seen.machine.info
    if info.template:
        yield seen.of_info("inventory.template", f"{info.vm} is a template.", "Template")
    if info.placeholder:
        yield seen.of_info(
            "inventory.placeholder",
            f"{info.vm} is a placeholder of Site Recovery Manager for a machine at another site: it has no disks.",
            "SRM Placeholder",
        )
    if info.vm.casefold().startswith("vcls"):
        yield seen.of_info("inventory.vmware-own", f"{info.vm} is one of vSphere's own helpers (vCLS).", info.vm)


def connection(seen: Seen) -> Iterator[AuditFinding]:
    """What vCenter cannot reach, or shows a problem of."""
    info = seen.machine.info
    if info.connection.casefold() in _LOST:
        yield seen.of_info(
            "inventory.connection", f"vCenter cannot reach {info.vm}: it is {info.connection}.", info.connection
        )
    if info.config_status.casefold() in _UNWELL:
        yield seen.of_info(
            "inventory.config-status",
            f"vCenter shows {info.vm} with the status {info.config_status}.",
            info.config_status,
        )


def availability(seen: Seen) -> Iterator[AuditFinding]:
    """Fault Tolerance, rules of the cluster, vApps, a start that stops in the setup."""
    info = seen.machine.info
    if info.ft_state.casefold() not in _FT_OFF:
        yield seen.of_info(
            "inventory.fault-tolerance",
            f"{info.vm} has Fault Tolerance ({info.ft_state}), which KVM has not.",
            info.ft_state,
        )
    rules = info.cluster_rule_names or info.cluster_rules
    if rules:
        yield seen.of_info(
            "inventory.cluster-rule", f"Rules of the cluster say where {info.vm} may run ({rules}).", rules
        )
    if info.vapp:
        yield seen.of_info("inventory.vapp", f"{info.vm} belongs to the vApp {info.vapp}.", info.vapp)
    if info.enters_setup:
        yield seen.of_info(
            "inventory.enters-setup",
            f"{info.vm} is set to stop in its firmware's setup at the next start.",
            "Boot BIOS setup",
        )


def snapshots(seen: Seen) -> Iterator[AuditFinding]:
    """Snapshots: that there are some, many, old ones, ones with memory; leftovers of deleted ones."""
    info, found = seen.machine.info, seen.machine.snapshots
    total = sum(each.size or 0 for each in found)
    volume = f", {format_bytes(total)} together" if total else ""
    yield from seen.of_rows("inventory.snapshot", f"{info.vm} has {len(found)} snapshots ({{}}){volume}.", _rows(found))
    if len(found) > SNAPSHOTS_MANY:
        yield seen.says(
            "inventory.snapshot-many",
            f"{info.vm} has {len(found)} snapshots, a long chain of disks.",
            seen.at(found[0]),
        )
    old = [each for each in found if (_age(each.made, seen.as_of) or 0) > SNAPSHOT_OLD_DAYS]
    yield from seen.of_rows(
        "inventory.snapshot-old", f"Snapshots of {info.vm} are older than {SNAPSHOT_OLD_DAYS} days: {{}}.", _rows(old)
    )
    with_memory = [each for each in found if each.state.casefold() == "poweredon"]
    yield from seen.of_rows(
        "inventory.snapshot-memory",
        f"Snapshots of {info.vm} hold its memory too, which KVM cannot go back to: {{}}.",
        _rows(with_memory),
    )
    if info.consolidation:
        yield seen.of_info(
            "inventory.consolidation",
            f"The disks of {info.vm} need to be consolidated: files of deleted snapshots are still in use.",
            "Consolidation Needed",
        )


def _rows(snapshots: list[SnapshotRow] | tuple[SnapshotRow, ...]) -> list[tuple[HasLine, str, str]]:
    return [(each, each.name or f"row {each.line}", f"{each.name} {each.made or ''}".strip()) for each in snapshots]


def _age(then: date | None, now: date) -> int | None:
    return (now - then).days if then is not None else None


CHECKS = (not_looked_inside, incomplete, power, kind, connection, availability, snapshots)
