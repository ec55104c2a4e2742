"""The rows of an export's sheets, as values. ``line``: the row in its sheet, from 1; None and empty: the export does not say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Row:
    """What every row about a machine has: the machine, by name and by the ids that it has in its vCenter."""

    sheet: ClassVar[str]
    line: int = 0
    vm: str = ""
    vm_id: str = ""
    vm_uuid: str = ""
    server: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class InfoRow(Row):
    """A machine. Sizes in bytes."""

    sheet: ClassVar[str] = "vInfo"
    powerstate: str = ""
    template: bool | None = None
    placeholder: bool | None = None
    config_status: str = ""
    dns_name: str = ""
    connection: str = ""
    consolidation: bool | None = None
    changed: date | None = None
    """When its configuration was changed last."""
    cpus: int | None = None
    readiness: float | None = None
    memory: int | None = None
    nic_count: int | None = None
    disk_count: int | None = None
    passthrough_hotplug: bool | None = None
    latency: str = ""
    disk_uuids: bool | None = None
    cbt: bool | None = None
    address: str = ""
    monitors: int | None = None
    vapp: str = ""
    ft_state: str = ""
    in_use: int | None = None
    cluster_rules: str = ""
    cluster_rule_names: str = ""
    enters_setup: bool | None = None
    secure_boot: bool | None = None
    firmware: str = ""
    hw_version: str = ""
    path: str = ""
    cluster: str = ""
    host: str = ""
    os_configured: str = ""
    os_tools: str = ""
    detail: str = ""
    smbios_uuid: str = ""


@dataclass(frozen=True, slots=True)
class CpuRow(Row):
    """Processors of a machine; MHz. A limit of -1 is none."""

    sheet: ClassVar[str] = "vCPU"
    cpus: int | None = None
    sockets: int | None = None
    level: str = ""
    reservation: int | None = None
    limit: int | None = None
    hot_add: bool | None = None
    hot_remove: bool | None = None
    numa_hot_add: bool | None = None
    host: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class MemoryRow(Row):
    """Memory of a machine, in bytes; ``limit`` in MiB, -1 for none."""

    sheet: ClassVar[str] = "vMemory"
    size: int | None = None
    locked: bool | None = None
    level: str = ""
    reservation: int | None = None
    limit: int | None = None
    swapped: int | None = None
    ballooned: int | None = None
    hot_add: bool | None = None
    host: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class DiskRow(Row):
    """A disk; bytes. ``path``: ``[datastore] folder/name.vmdk``; ``other_path``: the same, from older versions' column."""

    sheet: ClassVar[str] = "vDisk"
    label: str = ""
    key: int | None = None
    uuid: str = ""
    path: str = ""
    other_path: str = ""
    capacity: int | None = None
    raw: bool | None = None
    raw_mode: str = ""
    mode: str = ""
    sharing: str = ""
    bus_sharing: str = ""
    thin: bool | None = None
    limit: int | None = None
    controller: str = ""

    @property
    def file(self) -> str:
        """Where it stands: ``[datastore] folder/name.vmdk``."""
        return self.path or self.other_path

    @property
    def name(self) -> str:
        """What to call it."""
        return self.label or self.file or f"row {self.line}"


@dataclass(frozen=True, slots=True)
class PartitionRow(Row):
    """A file system that VMware Tools told of, by its place in the guest (``C:\\``, ``/boot``); bytes."""

    sheet: ClassVar[str] = "vPartition"
    place: str = ""
    disk_key: int | None = None
    capacity: int | None = None
    consumed: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True)
class NicRow(Row):
    """A network card."""

    sheet: ClassVar[str] = "vNetwork"
    label: str = ""
    adapter: str = ""
    network: str = ""
    switch: str = ""
    connected: bool | None = None
    starts_connected: bool | None = None
    mac: str = ""
    address: str = ""
    direct_path: bool | None = None


@dataclass(frozen=True, slots=True)
class DriveRow(Row):
    """A drive of media that can be taken out, or a USB device."""

    node: str = ""
    kind: str = ""
    connected: bool | None = None
    starts_connected: bool | None = None


@dataclass(frozen=True, slots=True)
class CdRow(DriveRow):
    """A CD drive."""

    sheet: ClassVar[str] = "vCD"


@dataclass(frozen=True, slots=True)
class FloppyRow(DriveRow):
    """A floppy drive (RVTools 3)."""

    sheet: ClassVar[str] = "vFloppy"


@dataclass(frozen=True, slots=True)
class UsbRow(DriveRow):
    """A USB device."""

    sheet: ClassVar[str] = "vUSB"


@dataclass(frozen=True, slots=True)
class SnapshotRow(Row):
    """A snapshot; bytes. ``state``: whether the machine ran, so that its memory is in it."""

    sheet: ClassVar[str] = "vSnapshot"
    name: str = ""
    made: date | None = None
    size: int | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class ToolsRow(Row):
    """VMware Tools in a machine."""

    sheet: ClassVar[str] = "vTools"
    state: str = ""
    version: str = ""
    required: str = ""
    upgradeable: bool | None = None
    sync_time: bool | None = None
    crashed: bool | None = None


@dataclass(frozen=True, slots=True)
class HealthRow:
    """What RVTools itself found. ``name``: a machine, a host, or a file of a datastore."""

    sheet: ClassVar[str] = "vHealth"
    line: int = 0
    name: str = ""
    message: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class PortRow:
    """A port group: what a machine's network hangs on."""

    sheet: ClassVar[str] = "vPort"
    line: int = 0
    name: str = ""
    vlan: str = ""
    promiscuous: bool | None = None
    mac_changes: bool | None = None
    forged: bool | None = None


@dataclass(frozen=True, slots=True)
class DistributedPortRow(PortRow):
    """A port group of a distributed switch."""

    sheet: ClassVar[str] = "dvPort"


@dataclass(frozen=True, slots=True)
class MetaRow:
    """What made the export."""

    sheet: ClassVar[str] = "vMetaData"
    line: int = 0
    version: str = ""
    server: str = ""


def datastore_of(path: str) -> str:
    """The datastore of ``[datastore] folder/name.vmdk``; empty where there is none."""
    return path[1 : path.index("]")] if path.startswith("[") and "]" in path else ""
