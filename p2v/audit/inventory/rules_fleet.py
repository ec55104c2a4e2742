"""Rules about an inventory as a whole: what it lacks, files of no machine, full datastores, what clusters do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from p2v.audit.catalogue_file import Rule, found
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind
from p2v.audit.inventory.hosts import ClusterRow
from p2v.audit.inventory.machines import Inventory
from p2v.audit.inventory.seen import listed
from p2v.core.units import format_bytes

DATASTORE_LOW = 0.1
_SHOWN_AT_MOST = 20


def fleet_findings(inventory: Inventory, rules: Mapping[str, Rule]) -> tuple[AuditFinding, ...]:
    """What an inventory shows that is no single machine's."""
    return (
        *_gaps(inventory, rules),
        *_zombies(inventory, rules),
        *_datastores(inventory, rules),
        *_clusters(inventory, rules),
    )


def _gaps(inventory: Inventory, rules: Mapping[str, Rule]) -> Iterator[AuditFinding]:
    sheets = [gap.sheet for gap in inventory.gaps if not gap.columns]
    if sheets:
        message = (
            f"{inventory.path.name} has no sheet {', '.join(sheets)}: what they would say of its machines is unknown."
        )
        yield found(rules["inventory.sheet-missing"], message, _at(inventory, "vInfo"))
    columns = [gap for gap in inventory.gaps if gap.columns]
    if columns:
        parts = "; ".join(f"{gap.sheet}: {', '.join(gap.columns)}" for gap in columns)
        message = f"Sheets of {inventory.path.name} lack columns ({parts}): what they would say is unknown."
        evidence = [_at(inventory, gap.sheet, text=", ".join(gap.columns)) for gap in columns]
        yield found(rules["inventory.column-missing"], message, *evidence)
    if inventory.strays:
        parts = ", ".join(f"{number} of {sheet}" for sheet, number in inventory.strays.items())
        message = f"Rows of {inventory.path.name} name no machine of it, or one of several of a name, and were left out: {parts}."
        yield found(
            rules["inventory.row-without-machine"], message, *(_at(inventory, sheet) for sheet in inventory.strays)
        )


def _zombies(inventory: Inventory, rules: Mapping[str, Rule]) -> Iterator[AuditFinding]:
    zombies = [row for row in inventory.health if row.kind.casefold() == "zombie" or "zombie" in row.message.casefold()]
    if zombies:
        message = f"{len(zombies)} files in datastores belong to no machine: {listed([row.name for row in zombies])}."
        evidence = [_at(inventory, "vHealth", row.line, row.name) for row in zombies[:_SHOWN_AT_MOST]]
        yield found(rules["inventory.zombie"], message, *evidence)


def _datastores(inventory: Inventory, rules: Mapping[str, Rule]) -> Iterator[AuditFinding]:
    full = [
        each
        for each in inventory.datastores
        if each.capacity_bytes and each.free_bytes is not None and each.free_bytes < DATASTORE_LOW * each.capacity_bytes
    ]
    if full:
        names = [f"{each.name} ({format_bytes(each.free_bytes or 0)} free)" for each in full]
        evidence = [_at(inventory, "vDatastore", each.line, each.name) for each in full[:_SHOWN_AT_MOST]]
        yield found(rules["inventory.datastore-full"], f"Datastores are nearly full: {listed(names)}.", *evidence)


def _clusters(inventory: Inventory, rules: Mapping[str, Rule]) -> Iterator[AuditFinding]:
    for rule, does, having in (
        ("inventory.drs", "move machines between their hosts by themselves (DRS)", _balances),
        ("inventory.dpm", "switch hosts off that are not needed (DPM)", _powers_off),
        ("inventory.ha", "start the machines of a failed host elsewhere (HA)", _restarts),
    ):
        those = [each for each in inventory.clusters if having(each)]
        if those:
            message = f"Clusters {does}: {listed([each.name for each in those])}."
            evidence = [_at(inventory, "vCluster", each.line, each.name) for each in those[:_SHOWN_AT_MOST]]
            yield found(rules[rule], message, *evidence)


def _balances(cluster: ClusterRow) -> bool:
    return cluster.balances_load is True


def _powers_off(cluster: ClusterRow) -> bool:
    return cluster.powers_hosts_off is True


def _restarts(cluster: ClusterRow) -> bool:
    return cluster.restarts_machines is True


def _at(inventory: Inventory, sheet: str, line: int | None = None, text: str = "") -> Evidence:
    place = f"{inventory.path.name}: {sheet}"
    return Evidence(EvidenceKind.DESCRIPTION, inventory.places.get(sheet, place), line=line, text=text)
