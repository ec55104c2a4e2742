"""What the machines of an inventory run on and stand in, as values; sizing starts from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostRow:
    """One hypervisor host of an inventory. A number is None where the export does not tell it.

    ``cores``: of all sockets together, without hyper-threading. ``utilisation``: the share of its processors that was busy
    when the export was made, 0 to 1: one moment's, no average.
    """

    name: str
    cores: int | None = None
    sockets: int | None = None
    memory_bytes: int | None = None
    cpu_model: str = ""
    cluster: str = ""
    utilisation: float | None = None


@dataclass(frozen=True, slots=True)
class DatastoreRow:
    """One datastore of an inventory. ``kind``: VMware's word (``VMFS``, ``NFS``, ``vsan``); ``line``: its row, from 1."""

    name: str
    kind: str = ""
    capacity_bytes: int | None = None
    provisioned_bytes: int | None = None
    in_use_bytes: int | None = None
    free_bytes: int | None = None
    accessible: bool | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """One cluster of hosts. ``line``: its row, from 1."""

    name: str
    hosts: int | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    balances_load: bool | None = None
    """Machines move between hosts by themselves (DRS)."""
    powers_hosts_off: bool | None = None
    """Hosts are switched off when they are not needed (DPM)."""
    restarts_machines: bool | None = None
    """Machines of a failed host are started elsewhere (HA)."""
    line: int = 0
