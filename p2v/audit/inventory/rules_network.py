"""Rules about a machine's network cards, addresses and what they hang on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from p2v.audit.findings import AuditFinding
from p2v.audit.inventory.rows import NicRow
from p2v.audit.inventory.seen import Seen, addresses_of

# VLAN 4095 of a standard switch, and ranges of a distributed one, hand the tags through to the guest
_TRUNK = re.compile(r"4095|.*\d\s*-\s*\d.*|.*trunk.*", re.IGNORECASE)


def cards(seen: Seen) -> Iterator[AuditFinding]:
    """Cards of a kind that does not come along, or on no known network."""
    machine, vm = seen.machine, seen.machine.info.vm
    if (
        seen.inventory.has("vNetwork")
        and not machine.nics
        and not machine.info.template
        and not machine.info.placeholder
    ):
        yield seen.of_info("inventory.nic-none", f"{vm} has no network card.")
    sriov = [nic for nic in machine.nics if "sriov" in nic.adapter.casefold()]
    yield from seen.of_rows(
        "inventory.nic-sriov",
        f"Network cards of {vm} are parts of a host's own (SR-IOV): {{}}.",
        [(nic, _name(nic), nic.adapter) for nic in sriov],
    )
    direct = [nic for nic in machine.nics if nic.direct_path and nic not in sriov]
    yield from seen.of_rows(
        "inventory.nic-direct-path",
        f"Network cards of {vm} may use DirectPath I/O: {{}}.",
        [(nic, _name(nic), "Direct Path IO: True") for nic in direct],
    )
    nowhere = [nic for nic in machine.nics if not nic.network]
    yield from seen.of_rows(
        "inventory.nic-no-network",
        f"The export does not say what network cards of {vm} hang on: {{}}.",
        [(nic, _name(nic), nic.mac) for nic in nowhere],
    )


def connections(seen: Seen) -> Iterator[AuditFinding]:
    """Cables that are out, cards that do not come up by themselves, addresses that nobody knows."""
    machine, vm = seen.machine, seen.machine.info.vm
    if not machine.runs:
        return
    loose = [nic for nic in machine.nics if nic.connected is False]
    yield from seen.of_rows(
        "inventory.nic-disconnected",
        f"Network cards of {vm} are not connected: {{}}.",
        [(nic, _name(nic), "Connected: False") for nic in loose],
    )
    by_hand = [nic for nic in machine.nics if nic.connected and nic.starts_connected is False]
    yield from seen.of_rows(
        "inventory.nic-connected-by-hand",
        f"Network cards of {vm} were connected by hand and are not connected when it starts: {{}}.",
        [(nic, _name(nic), "Starts Connected: False") for nic in by_hand],
    )
    tools = machine.tools.state.casefold() if machine.tools else ""
    if not addresses_of(machine) and machine.nics:
        because = ", as VMware Tools do not run in it" if tools in ("toolsnotrunning", "toolsnotinstalled") else ""
        yield seen.of_info(
            "inventory.no-address", f"{vm} runs, and no address of it is known{because}.", "Primary IP Address"
        )


def ports(seen: Seen) -> Iterator[AuditFinding]:
    """What its networks allow and hand through."""
    vm = seen.machine.info.vm
    known = [(nic, port) for nic in seen.machine.nics if (port := seen.neighbours.ports.get(nic.network)) is not None]
    trunks = [(nic, port) for nic, port in known if _TRUNK.fullmatch(port.vlan)]
    yield from seen.of_rows(
        "inventory.vlan-trunk",
        f"Networks of {vm} hand VLAN tags through to it: {{}}.",
        [(port, port.name, f"VLAN {port.vlan}") for _, port in trunks],
    )
    open_ones = [port for _, port in known if port.promiscuous or port.forged or port.mac_changes]
    yield from seen.of_rows(
        "inventory.port-open",
        f"Networks of {vm} let it send as other machines, or see their traffic: {{}}.",
        [(port, port.name, _freedoms(port.promiscuous, port.forged, port.mac_changes)) for port in open_ones],
    )


def _name(nic: NicRow) -> str:
    return nic.label or nic.mac or f"row {nic.line}"


def _freedoms(promiscuous: bool | None, forged: bool | None, changes: bool | None) -> str:
    told = (("promiscuous mode", promiscuous), ("forged transmits", forged), ("MAC changes", changes))
    return ", ".join(word for word, is_on in told if is_on)


CHECKS = (cards, connections, ports)
