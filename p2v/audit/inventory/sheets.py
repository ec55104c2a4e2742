"""The sheets and columns of RVTools exports, 3.x to 4.7, by all the names they have had.

RVTools names its sheets ``vInfo`` (3.x: ``tabvInfo``) and its CSV files ``RVTools_tabvInfo.csv``. Column headers changed over
its versions (``Provisioned MB``, ``Provisioned MiB``), and some exports have the names of its data fields instead
(``vInfoProvisioned``). So headers are compared by their letters and digits alone, with and without the sheet's name before them
and a unit behind them. What RVTools called MB was always 2**20 bytes.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from p2v.audit.inventory import cells
from p2v.audit.inventory.cells import TEXT_AT_MOST, Cell
from p2v.core.units import GIB, KIB, MIB, TIB

_HEADER_AMONG_FIRST = 20
"""Rows that people have put above the headers are passed over, up to here."""
_UNITS = {
    "": MIB,
    "kib": KIB,
    "kb": KIB,
    "mib": MIB,
    "mb": MIB,
    "gib": GIB,
    "gb": GIB,
    "tib": TIB,
    "tb": TIB,
    "inbytes": 1,
}
_UNIT = re.compile(r"(kib|kb|mib|mb|gib|gb|tib|tb|inbytes)$")
_NOT_COMPARED = re.compile(r"[^\w#%]|_")


class Kind(enum.Enum):
    """What a column holds; see ``cells``."""

    TEXT = "text"
    NUMBER = "number"
    COUNT = "count"
    SIGNED = "signed"
    SIZE = "size"
    FLAG = "flag"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the field that it fills, and its headers, the newest first.

    ``old_enough``: RVTools 3 had it, so that it is missed where it is not there.
    """

    field: str
    kind: Kind
    headers: tuple[str, ...]
    old_enough: bool = True


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet. ``key``: the field without which a row says nothing. ``by_header``: columns by ``plain`` header."""

    name: str
    key: str
    columns: tuple[Column, ...]
    by_header: Mapping[str, Column] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """A sheet as it was found: its known columns, and the rows that say something.

    ``units``: what numbers of a SIZE column count, in bytes. ``lines``: the row's number from 1, then its cells by ``fields``.
    """

    sheet: str
    where: str
    fields: tuple[str, ...]
    units: tuple[int, ...]
    lines: tuple[tuple[int, tuple[Cell, ...]], ...] = ()


def plain(header: str) -> str:
    """A header with nothing but what tells it from others."""
    return _NOT_COMPARED.sub("", header.casefold())


def sheet_named(name: str) -> Sheet | None:
    """The sheet that a name stands for: ``vInfo``, ``tabvInfo``, ``RVTools_tabvInfo.csv``; None for others."""
    words = plain(name.rpartition("/")[2].removesuffix(".csv").removesuffix(".CSV")).removeprefix("rvtools")
    return SHEETS.get(words.removeprefix("tab"))


def project(sheet: Sheet, rows: Iterable[Sequence[object]], where: str) -> Table:
    """The known columns of a sheet's rows (a sheet with none of them has no fields). ``rows`` begin with its first line."""
    numbered = enumerate(rows, 1)
    places = _places(sheet, numbered)
    columns = tuple(places.values())
    lines = []
    for line, row in numbered:
        found = tuple(_cell(row[at]) if at < len(row) else None for at in places)
        if any(each is not None for each in found):
            lines.append((line, found))
    return Table(
        sheet.name,
        where,
        tuple(column.field for column, _ in columns),
        tuple(unit for _, unit in columns),
        tuple(lines),
    )


def _places(sheet: Sheet, rows: Iterator[tuple[int, Sequence[object]]]) -> dict[int, tuple[Column, int]]:
    """Where each known column stands and what its numbers count; ``rows`` is then at the first row under the headers."""
    for line, row in rows:
        found: dict[int, tuple[Column, int]] = {}
        taken: set[str] = set()
        for at, header in enumerate(row):
            known = _column(sheet, header) if isinstance(header, str) else None
            if known is not None and known[0].field not in taken:
                taken.add(known[0].field)
                found[at] = known
        if len(found) > 1 and sheet.key in taken:
            return found
        if line >= _HEADER_AMONG_FIRST:
            break
    return {}


def _column(sheet: Sheet, header: str) -> tuple[Column, int] | None:
    words = plain(header[:TEXT_AT_MOST])
    for each in (words, words.removeprefix(sheet.name.casefold())):
        if each in sheet.by_header:
            return sheet.by_header[each], MIB
        without = _UNIT.sub("", each)
        column = sheet.by_header.get(without)
        if column is not None and column.kind is Kind.SIZE:
            return column, _UNITS[each[len(without) :]]
    return None


def _cell(value: object) -> Cell:
    """A cell of a reader's as ours; dates as ISO texts, other types as None."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 1e300 else None
    if isinstance(value, str):
        return value[:TEXT_AT_MOST] or None
    written = getattr(value, "isoformat", None)
    return str(written()) if written is not None else None


def value(column: Column, cell: Cell, unit: int) -> object:
    """What a cell of a column says."""
    if column.kind is Kind.SIZE:
        return cells.size(cell, unit)
    if column.kind is Kind.TEXT:
        return cells.text(cell)
    return _READERS[column.kind](cell)


_READERS = {
    Kind.NUMBER: cells.number, Kind.COUNT: cells.count, Kind.SIGNED: cells.signed, Kind.FLAG: cells.flag, Kind.DAY: cells.day,
}  # fmt: skip


def _text(name: str, *headers: str, old: bool = True) -> Column:
    return Column(name, Kind.TEXT, headers, old)


def _flag(name: str, *headers: str, old: bool = True) -> Column:
    return Column(name, Kind.FLAG, headers, old)


def _size(name: str, *headers: str, old: bool = True) -> Column:
    return Column(name, Kind.SIZE, headers, old)


def _number(name: str, kind: Kind, *headers: str, old: bool = True) -> Column:
    return Column(name, kind, headers, old)


def _sheet(name: str, key: str, *columns: Column) -> Sheet:
    return Sheet(name, key, columns, {plain(header): column for column in columns for header in column.headers})


_MACHINE = (
    _text("vm", "VM", "VMName", "VM Name"),
    _text("vm_id", "VM ID", "Object ID", "VMRef", old=False),
    _text("vm_uuid", "VM UUID", "Instance UUID", old=False),
    _text("server", "VI SDK UUID", "VISDKUUID", old=False),
    _text("server_name", "VI SDK Server", old=False),
)
_PLACED = (_text("cluster", "Cluster"), _text("host", "Host"))
_DRIVE = (
    _flag("connected", "Connected"),
    _flag("starts_connected", "Starts Connected", "Auto connect", "Start Connected"),
    _text("kind", "Device Type", "Summary", "Type"),
    _text("node", "Device Node", "Label", "Device"),
)
_PORT = (_text("vlan", "VLAN", "VLAN ID"), _flag("mac_changes", "Mac Changes"), _flag("forged", "Forged Transmits"))

_INFO = _sheet(
    "vInfo", "vm", *_MACHINE, *_PLACED,
    _text("powerstate", "Powerstate"),
    _flag("template", "Template"),
    _flag("placeholder", "SRM Placeholder", old=False),
    _text("config_status", "Config status"),
    _text("dns_name", "DNS Name", "GuestHostName"),
    _text("connection", "Connection state"),
    _flag("consolidation", "Consolidation Needed", old=False),
    _number("changed", Kind.DAY, "Change Version", old=False),
    _number("cpus", Kind.COUNT, "CPUs"),
    _number("readiness", Kind.NUMBER, "Overall Cpu Readiness", old=False),
    _size("memory", "Memory", "Memory Size"),
    _number("nic_count", Kind.COUNT, "NICs"),
    _number("disk_count", Kind.COUNT, "Disks", "NumVirtualDisks"),
    _flag("passthrough_hotplug", "Fixed Passthru HotPlug", old=False),
    _text("latency", "Latency Sensitivity", old=False),
    _flag("disk_uuids", "EnableUUID", old=False),
    _flag("cbt", "CBT", "Changed Block Tracking", old=False),
    _text("address", "Primary IP Address", "IP Address", old=False),
    _number("monitors", Kind.COUNT, "Num Monitors"),
    _text("vapp", "vApp"),
    _text("ft_state", "FT State"),
    _size("in_use", "In Use"),
    _text("cluster_rules", "Cluster rule(s)", "ClusterRules", old=False),
    _text("cluster_rule_names", "Cluster rule name(s)", "ClusterRuleNames", old=False),
    _flag("enters_setup", "Boot BIOS setup"),
    _flag("secure_boot", "EFI Secure boot", old=False),
    _text("firmware", "Firmware"),
    _text("hw_version", "HW version", "HWVersion", "VM Version", "Version"),
    _text("path", "Path"),
    _text("os_configured", "OS according to the configuration file", "OS"),
    _text("os_tools", "OS according to the VMware Tools", "OSTools"),
    _text("detail", "Guest Detailed Data", old=False),
    _text("smbios_uuid", "SMBIOS UUID", "UUID", old=False),
)  # fmt: skip
_CPU = _sheet(
    "vCPU", "vm", *_MACHINE, *_PLACED,
    _number("cpus", Kind.COUNT, "CPUs"),
    _number("sockets", Kind.COUNT, "Sockets"),
    _text("level", "Level"),
    _number("reservation", Kind.SIGNED, "Reservation"),
    _number("limit", Kind.SIGNED, "Limit"),
    _flag("hot_add", "Hot Add"),
    _flag("hot_remove", "Hot Remove"),
    _flag("numa_hot_add", "Numa Hotadd Exposed", old=False),
)  # fmt: skip
_MEMORY = _sheet(
    "vMemory", "vm", *_MACHINE, *_PLACED,
    _size("size", "Size"),
    _flag("locked", "Memory Reservation Locked To Max", "ReservationLockedToMax", old=False),
    _text("level", "Level"),
    _size("reservation", "Reservation"),
    _number("limit", Kind.SIGNED, "Limit"),
    _size("swapped", "Swapped"),
    _size("ballooned", "Ballooned"),
    _flag("hot_add", "Hot Add"),
)  # fmt: skip
_DISK = _sheet(
    "vDisk", "vm", *_MACHINE,
    _text("label", "Disk", "Disk Name", "Name"),
    _number("key", Kind.COUNT, "Disk Key", old=False),
    _text("uuid", "Disk UUID", old=False),
    _text("path", "Disk Path", old=False),
    _text("other_path", "Path"),
    _size("capacity", "Capacity"),
    _flag("raw", "Raw"),
    _text("raw_mode", "Raw Comp. Mode", "RawCompatibilityMode"),
    _text("mode", "Disk Mode", "Mode", "Persistence"),
    _text("sharing", "Sharing mode", old=False),
    _text("bus_sharing", "Shared Bus", old=False),
    _flag("thin", "Thin"),
    _number("limit", Kind.SIGNED, "Limit"),
    _text("controller", "Controller"),
)  # fmt: skip
_PARTITION = _sheet(
    "vPartition", "vm", *_MACHINE,
    _text("place", "Disk"),
    _number("disk_key", Kind.COUNT, "Disk Key", old=False),
    _size("capacity", "Capacity"),
    _size("consumed", "Consumed"),
    _size("free", "Free", "Free Space"),
)  # fmt: skip
_NETWORK = _sheet(
    "vNetwork", "vm", *_MACHINE,
    _text("label", "NIC label", "Label", old=False),
    _text("adapter", "Adapter"),
    _text("network", "Network", "Name"),
    _text("switch", "Switch"),
    _flag("connected", "Connected"),
    _flag("starts_connected", "Starts Connected", "Start Connected"),
    _text("mac", "Mac Address", "MAC"),
    _text("address", "IPv4 Address", "IP4 Address", "IP Address"),
    _flag("direct_path", "Direct Path IO", old=False),
)  # fmt: skip
_SNAPSHOT = _sheet(
    "vSnapshot", "vm", *_MACHINE,
    _text("name", "Name"),
    _number("made", Kind.DAY, "Date / time", "Date", "Created"),
    _size("size", "Size MiB (total)", "Size MB (total)", "Size", old=False),
    _text("state", "State", old=False),
)  # fmt: skip
_TOOLS = _sheet(
    "vTools", "vm", *_MACHINE,
    _text("state", "Tools", "Status"),
    _text("version", "Tools Version"),
    _text("required", "Required Version"),
    _flag("upgradeable", "Upgradeable", old=False),
    _flag("sync_time", "Sync time"),
    _flag("crashed", "Kernel Crash state", old=False),
)  # fmt: skip
_HOST = _sheet(
    "vHost", "name",
    _text("name", "Host", "Name"),
    _text("cluster", "Cluster"),
    _text("cpu_model", "CPU Model"),
    _number("sockets", Kind.COUNT, "# CPU", "NumCPU"),
    _number("cores_each", Kind.COUNT, "Cores per CPU"),
    _number("cores", Kind.COUNT, "# Cores", "NumCpuCores"),
    _number("busy", Kind.NUMBER, "CPU usage %", "OverallCpuUsage"),
    _size("memory_bytes", "# Memory", "MemorySize"),
)  # fmt: skip
_DATASTORE = _sheet(
    "vDatastore", "name",
    _text("name", "Name"),
    _text("kind", "Type"),
    _size("capacity_bytes", "Capacity"),
    _size("provisioned_bytes", "Provisioned"),
    _size("in_use_bytes", "In Use"),
    _size("free_bytes", "Free", "Free Space"),
    _flag("accessible", "Accessible"),
)  # fmt: skip
_CLUSTER = _sheet(
    "vCluster", "name",
    _text("name", "Name"),
    _number("hosts", Kind.COUNT, "NumHosts"),
    _number("cores", Kind.COUNT, "NumCpuCores"),
    _size("memory_bytes", "TotalMemory"),
    _flag("balances_load", "DRS enabled"),
    _flag("powers_hosts_off", "DPM enabled"),
    _flag("restarts_machines", "HA enabled"),
)  # fmt: skip
_ALL = (
    _INFO, _CPU, _MEMORY, _DISK, _PARTITION, _NETWORK, _SNAPSHOT, _TOOLS, _HOST, _DATASTORE, _CLUSTER,
    _sheet("vCD", "vm", *_MACHINE, *_DRIVE),
    _sheet("vUSB", "vm", *_MACHINE, *_DRIVE),
    _sheet("vFloppy", "vm", *_MACHINE, *_DRIVE),
    _sheet(
        "vHealth", "name", _text("name", "Name"), _text("message", "Message"), _text("kind", "Message type", "MessageType")
    ),
    _sheet("vPort", "name", _text("name", "Port Group"), _flag("promiscuous", "Promiscuous Mode"), *_PORT),
    _sheet("dvPort", "name", _text("name", "Port"), _flag("promiscuous", "Allow Promiscuous"), *_PORT),
    _sheet("vMetaData", "version", _text("version", "RVTools version"), _text("server", "Server")),
)  # fmt: skip
SHEETS: Mapping[str, Sheet] = {plain(sheet.name): sheet for sheet in _ALL}
"""Those that anything is taken from, by ``plain`` name."""

EXPECTED = (
    "vCPU",
    "vMemory",
    "vDisk",
    "vPartition",
    "vNetwork",
    "vCD",
    "vSnapshot",
    "vTools",
    "vHost",
    "vDatastore",
    "vHealth",
)
"""What every full export has, all versions from 3 on."""
