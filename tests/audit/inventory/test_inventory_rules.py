"""Every rule about an inventory: a row that it is said of, and a clean machine that it is not said of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pytest

from p2v.audit.document import Verdict
from p2v.audit.findings import EvidenceKind, Severity
from tests.audit.inventory.exports import Export, another, audited, clean, inventory_of, known_rules, numbered, rules_of

_INSIDE = "inventory.not-looked-inside"

# rule; sheet; what a row of it says instead
_CELLS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("inventory.suspended", "vInfo", {"Powerstate": "suspended"}),
    ("inventory.powered-off", "vInfo", {"Powerstate": "poweredOff"}),
    ("inventory.powered-off-long", "vInfo", {"Powerstate": "poweredOff", "Change Version": "2024-01-31T08:00:00.0Z"}),
    ("inventory.template", "vInfo", {"Template": "True"}),
    ("inventory.placeholder", "vInfo", {"SRM Placeholder": True}),
    ("inventory.vmware-own", "vInfo", {"VM": "vCLS-4c2b"}),
    ("inventory.connection", "vInfo", {"Connection state": "orphaned"}),
    ("inventory.config-status", "vInfo", {"Config status": "yellow"}),
    ("inventory.fault-tolerance", "vInfo", {"FT State": "running"}),
    ("inventory.cluster-rule", "vInfo", {"Cluster rule name(s)": "keep databases apart"}),
    ("inventory.cluster-rule", "vInfo", {"Cluster rule(s)": "AntiAffinity"}),
    ("inventory.vapp", "vInfo", {"vApp": "shop"}),
    ("inventory.enters-setup", "vInfo", {"Boot BIOS setup": "True"}),
    ("inventory.consolidation", "vInfo", {"Consolidation Needed": "True"}),
    ("inventory.cbt-off", "vInfo", {"CBT": "False"}),
    ("inventory.disk-uuid", "vInfo", {"EnableUUID": "True"}),
    ("inventory.disks-unknown", "vInfo", {"Disks": 2}),
    ("inventory.disk-count", "vInfo", {"Disks": 166}),
    ("inventory.passthrough-hotplug", "vInfo", {"Fixed Passthru HotPlug": "True"}),
    ("inventory.monitors", "vInfo", {"Num Monitors": 2}),
    ("inventory.latency-sensitivity", "vInfo", {"Latency Sensitivity": "high"}),
    ("inventory.cpu-ready", "vInfo", {"Overall Cpu Readiness": 7.5}),
    ("inventory.numa-wide", "vInfo", {"CPUs": 17}),
    ("inventory.hardware-old", "vInfo", {"HW version": "vmx-07"}),
    ("inventory.secure-boot", "vInfo", {"EFI Secure boot": "True"}),
    ("inventory.name-invalid", "vInfo", {"VM": "Web Server 1"}),
    ("inventory.hostname-default", "vInfo", {"DNS Name": "localhost.localdomain"}),
    ("inventory.hostname-empty", "vInfo", {"DNS Name": None}),
    (
        "inventory.system-unknown",
        "vInfo",
        {"OS according to the configuration file": "Other (64-bit)", "OS according to the VMware Tools": None},
    ),
    (
        "inventory.release-unknown",
        "vInfo",
        {
            "OS according to the configuration file": "CentOS 4/5/6/7 (64-bit)",
            "OS according to the VMware Tools": "CentOS 4/5/6/7 (64-bit)",
        },
    ),
    ("inventory.system-mismatch", "vInfo", {"OS according to the configuration file": "CentOS 7 (64-bit)"}),
    (
        "inventory.system-not-rewritten",
        "vInfo",
        {"OS according to the configuration file": "FreeBSD 13 (64-bit)", "OS according to the VMware Tools": ""},
    ),
    (
        "inventory.nested",
        "vInfo",
        {"OS according to the configuration file": "VMware ESXi 7.x", "OS according to the VMware Tools": ""},
    ),
    ("inventory.tpm-unseen", "vInfo", {"OS according to the VMware Tools": "Microsoft Windows 11 (64-bit)"}),
    (
        "inventory.windows-memory",
        "vInfo",
        {"OS according to the VMware Tools": "Microsoft Windows Server 2003 Standard (32-bit)", "Memory": 8192},
    ),
    ("inventory.cpu-reservation", "vCPU", {"Reservation": 2000}),
    ("inventory.cpu-limit", "vCPU", {"Limit": 1000}),
    ("inventory.cpu-shares", "vCPU", {"Level": "high"}),
    ("inventory.hot-add", "vCPU", {"Hot Add": "True"}),
    ("inventory.hot-add", "vMemory", {"Hot Add": "True"}),
    ("inventory.numa-hot-add", "vCPU", {"Numa Hotadd Exposed": "True"}),
    ("inventory.memory-locked", "vMemory", {"Memory Reservation Locked To Max": "True", "Reservation": 4096}),
    ("inventory.memory-reservation", "vMemory", {"Reservation": 1024}),
    ("inventory.memory-limit", "vMemory", {"Limit": 2048}),
    ("inventory.memory-shares", "vMemory", {"Level": "custom"}),
    ("inventory.memory-pressure", "vMemory", {"Ballooned": 512}),
    ("inventory.memory-pressure", "vMemory", {"Swapped": 512}),
    ("inventory.disk-independent", "vDisk", {"Disk Mode": "independent_persistent"}),
    ("inventory.disk-nonpersistent", "vDisk", {"Disk Mode": "independent_nonpersistent"}),
    ("inventory.disk-rdm", "vDisk", {"Raw": "True", "Raw Comp. Mode": "virtualMode"}),
    ("inventory.disk-rdm-physical", "vDisk", {"Raw": "True", "Raw Comp. Mode": "physicalMode"}),
    ("inventory.disk-limit", "vDisk", {"Limit": 500}),
    ("inventory.disk-shared", "vDisk", {"Sharing mode": "sharingMultiWriter"}),
    ("inventory.bus-sharing", "vDisk", {"Shared Bus": "physicalSharing"}),
    ("inventory.disk-empty", "vDisk", {"Capacity MiB": 0}),
    ("inventory.disk-without-datastore", "vDisk", {"Path": "", "Disk Path": None}),
    ("inventory.disk-thick", "vDisk", {"Thin": "False"}),
    ("inventory.datastore-lost", "vDatastore", {"Accessible": "False"}),
    ("inventory.datastore-objects", "vDatastore", {"Type": "vsan"}),
    ("inventory.datastore-full", "vDatastore", {"Free MiB": 51200}),
    ("inventory.free-space", "vPartition", {"Free MiB": 60}),
    ("inventory.free-space-low", "vPartition", {"Free MiB": 1500}),
    ("inventory.nic-sriov", "vNetwork", {"Adapter": "SriovEthernetCard"}),
    ("inventory.nic-direct-path", "vNetwork", {"Direct Path IO": "True"}),
    ("inventory.nic-no-network", "vNetwork", {"Network": ""}),
    ("inventory.nic-disconnected", "vNetwork", {"Connected": "False"}),
    ("inventory.nic-connected-by-hand", "vNetwork", {"Starts Connected": "False"}),
    ("inventory.vlan-trunk", "dvPort", {"VLAN": "0-4094"}),
    ("inventory.port-open", "dvPort", {"Allow Promiscuous": "True"}),
    ("inventory.port-open", "dvPort", {"Forged Transmits": "True"}),
    ("inventory.cd-connected", "vCD", {"Connected": "True", "Device Type": "ISO [fast] tools.iso"}),
    ("inventory.tools-none", "vTools", {"Tools": "toolsNotInstalled"}),
    ("inventory.tools-not-running", "vTools", {"Tools": "toolsNotRunning"}),
    ("inventory.tools-old", "vTools", {"Tools": "toolsOld"}),
    ("inventory.clock-by-tools", "vTools", {"Sync time": "True"}),
    ("inventory.guest-crashed", "vTools", {"Kernel Crash state": "True"}),
    ("inventory.drs", "vCluster", {"DRS enabled": "True"}),
    ("inventory.dpm", "vCluster", {"DPM enabled": "True"}),
    ("inventory.ha", "vCluster", {"HA enabled": "True"}),
)  # fmt: skip


def _with_cells(sheet: str, cells: Mapping[str, Any]) -> Export:
    export = clean()
    export[sheet][0] |= cells
    return export


def _snapshots(*rows: Mapping[str, Any]) -> Export:
    export = clean()
    for row in rows:
        another(
            export,
            "vSnapshot",
            **{"Name": "before update", "Date / time": "2026-11-25 10:00:00", "State": "poweredOff", **row},
        )
    return export


def _usb() -> Export:
    export = clean()
    another(export, "vUSB", **{"Device Node": "USB 1", "Device Type": "SafeNet Token", "Connected": "True"})
    return export


def _floppy() -> Export:
    export = clean()
    export["vFloppy"] = []
    another(export, "vFloppy", Connected="True", Summary="boot.flp")
    return export


def _health(message: str, kind: str, name: str = "web-1") -> Export:
    export = clean()
    export["vHealth"].append({"Name": name, "Message": message, "Message type": kind})
    return export


def _emptied(*sheets: str) -> Export:
    export = clean()
    for sheet in sheets:
        export[sheet] = []
    return export


def _without(sheet: str) -> Export:
    export = clean()
    del export[sheet]
    return export


def _unaddressed() -> Export:
    export = clean()
    export["vInfo"][0]["Primary IP Address"] = None
    export["vNetwork"][0]["IPv4 Address"] = "169.254.3.4"
    return export


def _sockets() -> Export:
    export = clean()
    export["vInfo"][0]["OS according to the VMware Tools"] = "Microsoft Windows 10 (64-bit)"
    export["vCPU"][0] |= {"CPUs": 8, "Sockets": 8}
    return export


def _stray() -> Export:
    export = clean()
    export["vDisk"].append(numbered(export["vDisk"][0], 99))
    return export


_EXPORTS: tuple[tuple[str, Callable[[], Export]], ...] = (
    (_INSIDE, clean),
    ("inventory.snapshot", lambda: _snapshots({})),
    ("inventory.snapshot-many", lambda: _snapshots({}, {}, {}, {})),
    ("inventory.snapshot-old", lambda: _snapshots({"Date / time": "2026-09-01 10:00:00"})),
    ("inventory.snapshot-memory", lambda: _snapshots({"State": "poweredOn"})),
    ("inventory.usb", _usb),
    ("inventory.floppy-connected", _floppy),
    (
        "inventory.folder-name",
        lambda: _health("Inconsistent Foldername! VMname = web-1 Foldername = old", "Foldername"),
    ),
    ("inventory.health", lambda: _health("On disk C:\\ is 3% disk space available!", "Storage")),
    (
        "inventory.zombie",
        lambda: _health("Possibly a Zombie vmdk file! Please check.", "Zombie", "[fast] old/old.vmdk"),
    ),
    ("inventory.nic-none", lambda: _emptied("vNetwork")),
    ("inventory.partitions-unseen", lambda: _emptied("vPartition")),
    ("inventory.disks-unknown", lambda: _without("vDisk")),
    ("inventory.incomplete", lambda: _without("vSnapshot")),
    ("inventory.sheet-missing", lambda: _without("vHost")),
    ("inventory.no-address", _unaddressed),
    ("inventory.windows-sockets", _sockets),
    ("inventory.row-without-machine", _stray),
)
_TESTED_WITH_OTHER_HEADERS = {"inventory.column-missing"}


@pytest.mark.parametrize("rule, sheet, cells", _CELLS, ids=[f"{rule}-{at}" for at, (rule, _, _) in enumerate(_CELLS)])
def test_a_cell_makes_a_rule_fire(rule: str, sheet: str, cells: Mapping[str, Any]) -> None:
    assert rule in rules_of(_with_cells(sheet, cells))


@pytest.mark.parametrize("rule, export", _EXPORTS, ids=[rule for rule, _ in _EXPORTS])
def test_rows_make_a_rule_fire(rule: str, export: Callable[[], Export]) -> None:
    assert rule in rules_of(export())


def test_a_clean_machine_is_told_only_that_nobody_looked_inside() -> None:
    assert rules_of(clean()) == {_INSIDE}


def test_a_placeholder_has_no_inside() -> None:
    assert _INSIDE not in rules_of(_with_cells("vInfo", {"SRM Placeholder": "True"}))


def test_every_rule_of_the_catalogue_has_a_row_that_it_is_said_of() -> None:
    ours = {name for name in known_rules() if name.startswith("inventory.")}
    assert len(ours) >= 40
    assert {rule for rule, *_ in (*_CELLS, *_EXPORTS)} | _TESTED_WITH_OTHER_HEADERS == ours


@pytest.mark.parametrize("rule, sheet, cells", _CELLS, ids=[f"{rule}-{at}" for at, (rule, _, _) in enumerate(_CELLS)])
def test_a_finding_points_at_its_sheet_and_row(rule: str, sheet: str, cells: Mapping[str, Any]) -> None:
    findings = [
        each for machine in audited(_with_cells(sheet, cells)) for each in machine.findings if each.rule == rule
    ]
    for finding in findings:
        assert finding.evidence
        for evidence in finding.evidence:
            assert evidence.kind is EvidenceKind.DESCRIPTION
            assert evidence.where.startswith("export.xlsx: ")
            # the headers are the first row
            assert evidence.line is not None
            assert evidence.line >= 2


def test_a_machine_nobody_looked_into_is_unknown_at_best() -> None:
    assert [machine.verdict for machine in audited(clean())] == [Verdict.UNKNOWN]


def test_a_suspended_machine_is_blocked() -> None:
    assert [machine.verdict for machine in audited(_with_cells("vInfo", {"Powerstate": "suspended"}))] == [
        Verdict.BLOCKED
    ]


@pytest.mark.parametrize(
    "sheet, cells, rule",
    [
        ("vMemory", {"Limit": 4096}, "inventory.memory-limit"),
        ("vInfo", {"CPUs": 16}, "inventory.numa-wide"),
        ("vInfo", {"HW version": "vmx-08"}, "inventory.hardware-old"),
        ("vInfo", {"Disks": 165}, "inventory.disk-count"),
        ("vPartition", {"Free MiB": 101}, "inventory.free-space"),
        ("vPartition", {"Disk": "/data", "Free MiB": 11}, "inventory.free-space"),
        ("vPartition", {"Disk": "/snap/core/1", "Free MiB": 0}, "inventory.free-space"),
        ("vDatastore", {"Free MiB": 104858}, "inventory.datastore-full"),
        ("dvPort", {"VLAN": "4094"}, "inventory.vlan-trunk"),
        ("vInfo", {"VM": "a" * 63}, "inventory.name-invalid"),
        ("vNetwork", {"Connected": "False", "Starts Connected": "False"}, "inventory.nic-connected-by-hand"),
        (
            "vInfo",
            {"OS according to the VMware Tools": "Microsoft Windows Server 2003 Standard (32-bit)", "Memory": 4096},
            "inventory.windows-memory",
        ),
        (
            "vInfo",
            {"OS according to the VMware Tools": "Microsoft Windows Server 2003 (32-bit)", "Memory": 8192},
            "inventory.windows-memory",
        ),
    ],
)
def test_what_is_just_within_is_not_told(sheet: str, cells: Mapping[str, Any], rule: str) -> None:
    assert rule not in rules_of(_with_cells(sheet, cells))


def test_space_is_measured_by_the_place_in_the_guest() -> None:
    for place, free, is_short in (("C:\\", 99, True), ("/boot", 51, False), ("/boot", 49, True), ("D:\\", 20, False)):
        found = rules_of(_with_cells("vPartition", {"Disk": place, "Capacity MiB": 200, "Free MiB": free}))
        assert ("inventory.free-space" in found) is is_short, place


def test_a_date_that_may_be_young_makes_nothing_old() -> None:
    """10 December or 12 October: the export's language is unknown."""
    as_of = date(2026, 12, 15)
    assert "inventory.snapshot-old" not in rules_of(_snapshots({"Date / time": "10/12/2026 09:00"}), as_of)
    assert "inventory.snapshot-old" in rules_of(_snapshots({"Date / time": "13/10/2026 09:00"}), as_of)


def test_many_rows_are_one_finding_with_the_first_of_them() -> None:
    export = clean()
    export["vInfo"][0]["Disks"] = 31
    for number in range(30):
        disk = another(export, "vDisk", **{**export["vDisk"][0], "Disk": f"Hard disk {number + 2}"})
        disk["Disk Mode"] = "independent_persistent"
    findings = [each for each in audited(export)[0].findings if each.rule == "inventory.disk-independent"]
    assert len(findings) == 1
    assert len(findings[0].evidence) == 5
    assert "25 more" in findings[0].message


def test_severities_are_the_catalogues() -> None:
    found = {
        each.rule: each.severity
        for each in audited(_with_cells("vDisk", {"Raw": "True", "Raw Comp. Mode": "physicalMode"}))[0].findings
    }
    assert found["inventory.disk-rdm-physical"] is Severity.BLOCKER
    assert found[_INSIDE] is Severity.UNKNOWN


def test_what_is_missing_is_said_of_the_whole_and_of_each_machine() -> None:
    inventory = inventory_of(_without("vSnapshot"))
    assert [(gap.sheet, gap.columns) for gap in inventory.gaps] == [("vSnapshot", ())]
