"""Exports as RVTools writes them: its headers by version, one machine that no rule has anything to say of, and files with them."""

from __future__ import annotations

import copy
import csv
import functools
import io
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from openpyxl import Workbook

from p2v.audit.catalogue_file import Rule, catalogue
from p2v.audit.document import MachineAudit
from p2v.audit.inventory.audit import audit_machines
from p2v.audit.inventory.machines import Inventory, inventory
from p2v.audit.inventory.rules_fleet import fleet_findings
from p2v.audit.inventory.sheets import project, sheet_named

Export = dict[str, list[dict[str, Any]]]

AS_OF = date(2026, 11, 26)
PATH = Path("export.xlsx")

_TAIL = (
    "Annotation", "Datacenter", "Cluster", "Host", "Folder", "OS according to the configuration file",
    "OS according to the VMware Tools", "VM ID", "VM UUID", "VI SDK Server", "VI SDK UUID",
)  # fmt: skip
_HEAD = ("VM", "Powerstate", "Template", "SRM Placeholder")

HEADERS: Mapping[str, tuple[str, ...]] = {
    "vInfo": (
        *_HEAD, "Config status", "DNS Name", "Connection state", "Guest state", "Heartbeat", "Consolidation Needed", "PowerOn",
        "Suspended To Memory", "Suspend time", "Suspend Interval", "Creation date", "Change Version", "CPUs",
        "Overall Cpu Readiness", "Memory", "Active Memory", "NICs", "Disks", "Total disk capacity MiB", "Fixed Passthru HotPlug",
        "min Required EVC Mode Key", "Latency Sensitivity", "Op Notification Timeout", "EnableUUID", "CBT", "Primary IP Address",
        "Network #1", "Network #2", "Num Monitors", "Video Ram KiB", "Resource pool", "Folder ID", "Folder", "vApp",
        "DAS protection", "FT State", "FT Role", "Provisioned MiB", "In Use MiB", "Unshared MiB", "HA Restart Priority",
        "Cluster rule(s)", "Cluster rule name(s)", "Boot Required", "Boot delay", "Boot BIOS setup", "EFI Secure boot", "Firmware",
        "HW version", "HW upgrade status", "Path", "Log directory", "Annotation", "Datacenter", "Cluster", "Host",
        "OS according to the configuration file", "OS according to the VMware Tools", "Customization Info", "Guest Detailed Data",
        "VM ID", "SMBIOS UUID", "VM UUID", "VI SDK Server type", "VI SDK API Version", "VI SDK Server", "VI SDK UUID",
    ),
    "vCPU": (
        *_HEAD, "CPUs", "Sockets", "Cores p/s", "Max", "Overall", "Level", "Shares", "Reservation", "Entitlement",
        "DRS Entitlement", "Limit", "Hot Add", "Hot Remove", "Numa Hotadd Exposed", *_TAIL,
    ),
    "vMemory": (
        *_HEAD, "Size MiB", "Memory Reservation Locked To Max", "Overhead", "Max", "Consumed", "Private", "Shared", "Swapped",
        "Ballooned", "Active", "Entitlement", "Level", "Shares", "Reservation", "Limit", "Hot Add", *_TAIL,
    ),
    "vDisk": (
        *_HEAD, "Disk", "Disk Key", "Disk UUID", "Disk Path", "Capacity MiB", "Raw", "Disk Mode", "Sharing mode", "Thin",
        "Eagerly Scrub", "Split", "Write Through", "Level", "Shares", "Reservation", "Limit", "Controller", "Label", "SCSI Unit #",
        "Unit #", "Shared Bus", "Path", "Raw LUN ID", "Raw Comp. Mode", "Internal Sort Column", *_TAIL,
    ),
    "vPartition": (
        *_HEAD, "Disk Key", "Disk", "Capacity MiB", "Consumed MiB", "Free MiB", "Free %", "Internal Sort Column", *_TAIL,
    ),
    "vNetwork": (
        *_HEAD, "NIC label", "Adapter", "Network", "Switch", "Connected", "Starts Connected", "Mac Address", "Type",
        "IPv4 Address", "IPv6 Address", "Direct Path IO", "Internal Sort Column", *_TAIL,
    ),
    "vCD": (*_HEAD, "Device Node", "Connected", "Starts Connected", "Device Type", *_TAIL),
    "vUSB": (
        *_HEAD, "Device Node", "Device Type", "Connected", "Family", "Speed", "EHCI enabled", "Auto connect", "Bus number",
        "Unit number", *_TAIL,
    ),
    "vFloppy": ("VM", "Powerstate", "Template", "Connected", "Starts Connected", "Summary", "Label", *_TAIL),
    "vSnapshot": (
        "VM", "Powerstate", "Name", "Description", "Date / time", "Filename", "Size MiB (vmsn)", "Size MiB (total)", "Quiesced",
        "State", *_TAIL,
    ),
    "vTools": (
        *_HEAD, "VM Version", "Tools", "Tools Version", "Required Version", "Upgradeable", "Upgrade Policy", "Sync time",
        "App status", "Heartbeat status", "Kernel Crash state", "Operation Ready", "State change support", *_TAIL,
    ),
    "vHost": (
        "Host", "Datacenter", "Cluster", "Config status", "in Maintenance Mode", "CPU Model", "Speed", "HT Available",
        "HT Active", "# CPU", "Cores per CPU", "# Cores", "CPU usage %", "# Memory", "Memory usage %", "Console", "# NICs",
        "# HBAs", "# VMs total", "# VMs", "VMs per Core", "# vCPUs", "vCPUs per Core", "vRAM", "ESX Version", "Vendor", "Model",
        "VI SDK Server", "VI SDK UUID",
    ),
    "vDatastore": (
        "Name", "Config status", "Address", "Accessible", "Type", "# VMs total", "# VMs", "Capacity MiB", "Provisioned MiB",
        "In Use MiB", "Free MiB", "Free %", "SIOC enabled", "# Hosts", "Hosts", "Cluster name", "Cluster capacity MiB",
        "Cluster free space MiB", "Block size", "Major Version", "Version", "URL", "VI SDK Server", "VI SDK UUID",
    ),
    "vCluster": (
        "Name", "Config status", "OverallStatus", "NumHosts", "numEffectiveHosts", "TotalCpu", "NumCpuCores", "NumCpuThreads",
        "Effective Cpu", "TotalMemory", "Effective Memory", "HA enabled", "DRS enabled", "DPM enabled", "VI SDK Server",
        "VI SDK UUID",
    ),
    "vPort": (
        "Host", "Datacenter", "Cluster", "Port Group", "Switch", "VLAN", "Promiscuous Mode", "Mac Changes", "Forged Transmits",
        "Policy", "VI SDK Server", "VI SDK UUID",
    ),
    "dvPort": (
        "Port", "Switch", "Type", "# Ports", "VLAN", "Speed", "Full Duplex", "Blocked", "Allow Promiscuous", "Mac Changes",
        "Active Uplink", "Forged Transmits", "VI SDK Server", "VI SDK UUID",
    ),
    "vHealth": ("Name", "Message", "Message type", "VI SDK Server", "VI SDK UUID"),
    "vMetaData": ("RVTools major version", "RVTools version", "xlsx creation datetime", "Server"),
}  # fmt: skip
"""RVTools 4.7's, without the columns that say nothing new; vFloppy is 3.x's."""

_BASE = {
    "VM": "web-1", "Powerstate": "poweredOn", "Template": "False", "SRM Placeholder": "False", "Cluster": "Prod",
    "Datacenter": "DC", "Host": "esx-1.example.org",
    "OS according to the configuration file": "Red Hat Enterprise Linux 8 (64-bit)",
    "OS according to the VMware Tools": "Red Hat Enterprise Linux 8 (64-bit)", "VM ID": "vm-101",
    "VM UUID": "50081111-0000-4000-8000-000000000001", "VI SDK Server": "vc.example.org",
    "VI SDK UUID": "aaaaaaaa-0000-4000-8000-00000000000a",
}  # fmt: skip

CLEAN: Export = {
    "vInfo": [
        _BASE
        | {
            "Config status": "green", "DNS Name": "web-1.example.org", "Connection state": "connected",
            "Consolidation Needed": "False", "Change Version": "2026-11-20T10:00:00.000000Z", "CPUs": 2,
            "Overall Cpu Readiness": 0.25, "Memory": 4096, "NICs": 1, "Disks": 1, "Total disk capacity MiB": 40960,
            "Fixed Passthru HotPlug": "False", "Latency Sensitivity": "normal", "EnableUUID": "False", "CBT": "True",
            "Primary IP Address": "192.0.2.11", "Network #1": "prod", "Num Monitors": 1, "FT State": "notConfigured",
            "Provisioned MiB": 45056, "In Use MiB": 20480, "Boot BIOS setup": "False", "EFI Secure boot": "False",
            "Firmware": "efi", "HW version": 19, "Path": "[fast] web-1/web-1.vmx",
            "SMBIOS UUID": "42081111-0000-4000-8000-000000000001", "VI SDK API Version": "8.0.2.0",
        }
    ],
    "vCPU": [
        _BASE
        | {
            "CPUs": 2, "Sockets": 1, "Cores p/s": 2, "Level": "normal", "Shares": 2000, "Reservation": 0, "Limit": -1,
            "Hot Add": "False", "Hot Remove": "False", "Numa Hotadd Exposed": "False",
        }
    ],
    "vMemory": [
        _BASE
        | {
            "Size MiB": 4096, "Memory Reservation Locked To Max": "False", "Swapped": 0, "Ballooned": 0, "Level": "normal",
            "Shares": 40960, "Reservation": 0, "Limit": -1, "Hot Add": "False",
        }
    ],
    "vDisk": [
        _BASE
        | {
            "Disk": "Hard disk 1", "Disk Key": 2000, "Disk UUID": "6000C290-0000-0000-0000-000000000001",
            "Disk Path": "[fast] web-1/web-1.vmdk", "Capacity MiB": 40960, "Raw": "False", "Disk Mode": "persistent",
            "Sharing mode": "sharingNone", "Thin": "True", "Level": "normal", "Limit": -1, "Controller": "SCSI controller 0",
            "Shared Bus": "noSharing", "Path": "[fast] web-1/web-1.vmdk",
        }
    ],
    "vPartition": [
        _BASE | {"Disk Key": 2000, "Disk": "/", "Capacity MiB": 38912, "Consumed MiB": 10240, "Free MiB": 28672, "Free %": 74},
        _BASE | {"Disk Key": 2000, "Disk": "/boot", "Capacity MiB": 1024, "Consumed MiB": 256, "Free MiB": 768, "Free %": 75},
    ],
    "vNetwork": [
        _BASE
        | {
            "NIC label": "Network adapter 1", "Adapter": "Vmxnet3", "Network": "prod", "Switch": "dvs-1", "Connected": "True",
            "Starts Connected": "True", "Mac Address": "00:50:56:AA:00:01", "Type": "assigned", "IPv4 Address": "192.0.2.11",
            "Direct Path IO": "False",
        }
    ],
    "vCD": [
        _BASE
        | {"Device Node": "CD/DVD drive 1", "Connected": "False", "Starts Connected": "False", "Device Type": "Client Device"}
    ],
    "vUSB": [],
    "vSnapshot": [],
    "vTools": [
        _BASE
        | {
            "Tools": "toolsOk", "Tools Version": 12352, "Required Version": 12352, "Upgradeable": "No", "Sync time": "False",
            "Kernel Crash state": "False",
        }
    ],
    "vHost": [
        {
            "Host": "esx-1.example.org", "Datacenter": "DC", "Cluster": "Prod", "CPU Model": "Intel Xeon Gold 6338", "# CPU": 2,
            "Cores per CPU": 16, "# Cores": 32, "CPU usage %": 23, "# Memory": 524288, "Memory usage %": 60,
        }
    ],
    "vDatastore": [
        {
            "Name": "fast", "Accessible": "True", "Type": "VMFS", "Capacity MiB": 1048576, "Provisioned MiB": 800000,
            "In Use MiB": 524288, "Free MiB": 524288, "Free %": 50,
        }
    ],
    "vCluster": [
        {
            "Name": "Prod", "NumHosts": 1, "NumCpuCores": 32, "TotalMemory": 524288, "HA enabled": "False",
            "DRS enabled": "False", "DPM enabled": "False",
        }
    ],
    "vPort": [],
    "dvPort": [
        {"Port": "prod", "VLAN": "20", "Allow Promiscuous": "False", "Mac Changes": "False", "Forged Transmits": "False"}
    ],
    "vHealth": [],
    "vMetaData": [{"RVTools major version": "4.7", "RVTools version": "4.7.1", "Server": "vc.example.org"}],
}  # fmt: skip


@functools.cache
def known_rules() -> Mapping[str, Rule]:
    """The catalogue, read once."""
    return catalogue()


def clean() -> Export:
    """An export of one machine that only ``inventory.not-looked-inside`` is said of."""
    return copy.deepcopy(CLEAN)


def another(export: Export, sheet: str, **cells: Any) -> dict[str, Any]:
    """A further row of a sheet about the machine."""
    row = _BASE | cells
    export[sheet].append(row)
    return row


def fleet(count: int) -> Export:
    """An export of many machines, each with its own names and ids."""
    export: Export = {sheet: [] for sheet in CLEAN}
    for number in range(count):
        for sheet, rows in CLEAN.items():
            export[sheet] += [numbered(row, number) for row in rows if "VM" in row]
    for sheet, rows in CLEAN.items():
        export[sheet] += [copy.deepcopy(row) for row in rows if "VM" not in row]
    return export


def numbered(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A row of another machine."""
    address = f"10.0.{number // 250}.{number % 250 + 1}"
    own = {
        "VM": f"web-{number}", "VM ID": f"vm-{number}", "VM UUID": f"50081111-0000-4000-8000-{number:012d}",
        "SMBIOS UUID": f"42081111-0000-4000-8000-{number:012d}", "DNS Name": f"web-{number}.example.org",
        "Primary IP Address": address, "IPv4 Address": address,
        "Mac Address": f"00:50:56:aa:{number // 256:02x}:{number % 256:02x}", "Disk Path": f"[fast] web-{number}/web-{number}.vmdk",
        "Path": f"[fast] web-{number}/web-{number}.vmdk",
    }  # fmt: skip
    return {**row, **{key: value for key, value in own.items() if key in row}}


def inventory_of(export: Export, path: Path = PATH, headers: Mapping[str, Sequence[str]] = HEADERS) -> Inventory:
    """The inventory of an export, without a file."""
    tables = {}
    for name, rows in export.items():
        sheet = sheet_named(name)
        assert sheet is not None
        tables[sheet.name] = project(sheet, _grid(headers[name], rows), f"{path.name}: {name}")
    return inventory(path, tables)


def audited(export: Export, as_of: date = AS_OF) -> tuple[MachineAudit, ...]:
    """Its machines, audited."""
    return audit_machines(inventory_of(export), known_rules(), as_of)


def rules_of(export: Export, as_of: date = AS_OF) -> set[str]:
    """The rules about inventories that fire for an export, for any machine of it or for the whole."""
    whole = inventory_of(export)
    machines = audit_machines(whole, known_rules(), as_of)
    found = [finding for machine in machines for finding in machine.findings]
    every = {finding.rule for finding in (*found, *fleet_findings(whole, known_rules()))}
    return {rule for rule in every if rule.startswith("inventory.")}


def write_workbook(
    path: Path, export: Export, headers: Mapping[str, Sequence[str]] = HEADERS, prefix: str = ""
) -> Path:
    """The export as a workbook."""
    book = Workbook(write_only=True)
    for name, rows in export.items():
        sheet = book.create_sheet(prefix + name)
        for row in _grid(headers[name], rows):
            sheet.append(row)
    book.save(path)
    return path


def write_folder(
    folder: Path,
    export: Export,
    headers: Mapping[str, Sequence[str]] = HEADERS,
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> Path:
    """The export as a folder of CSV files."""
    folder.mkdir()
    for name, rows in export.items():
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter).writerows(_grid(headers[name], rows))
        (folder / f"RVTools_tab{name}.csv").write_bytes(text.getvalue().encode(encoding))
    return folder


def _grid(
    headers: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[list[str | int | float | bool | datetime | None]]:
    return [list(headers), *([row.get(header) for header in headers] for row in rows)]
