"""Exports in all their forms give one inventory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from openpyxl import Workbook

from p2v.audit.document import Origin
from p2v.audit.fleet import fleet_findings as across_machines
from p2v.audit.inventory.audit import audit_inventory, audit_machines
from p2v.audit.inventory.hosts import HostRow
from p2v.audit.inventory.reading import read_inventory, recognises
from p2v.audit.inventory.rules_fleet import fleet_findings
from p2v.core.errors import BadDescription
from p2v.core.units import MIB
from tests.audit.inventory.exports import (
    AS_OF,
    HEADERS,
    Export,
    another,
    audited,
    clean,
    fleet,
    inventory_of,
    known_rules,
    numbered,
    rules_of,
    write_folder,
    write_workbook,
)

# RVTools 3 said MB and had fewer columns
_OLD_NAMES = {
    "Capacity MiB": "Capacity MB", "Consumed MiB": "Consumed MB", "Free MiB": "Free MB", "Provisioned MiB": "Provisioned MB",
    "In Use MiB": "In Use MB", "Unshared MiB": "Unshared MB", "Size MiB": "Size MB", "Video Ram KiB": "Video Ram KB",
    "Size MiB (total)": "Size MB (total)",
}  # fmt: skip
_NOT_YET = {
    "SRM Placeholder", "CBT", "EnableUUID", "Sharing mode", "Shared Bus", "Guest Detailed Data", "SMBIOS UUID", "EFI Secure boot",
    "Latency Sensitivity", "Fixed Passthru HotPlug", "Overall Cpu Readiness", "Disk Key", "Disk UUID", "Disk Path", "VM UUID",
    "Direct Path IO", "NIC label", "Kernel Crash state", "Upgradeable", "Memory Reservation Locked To Max",
}  # fmt: skip


_SYSTEM = ("OS according to the configuration file", "OS according to the VMware Tools")


def _old_headers() -> dict[str, tuple[str, ...]]:
    return {
        sheet: tuple(_OLD_NAMES.get(header, header) for header in headers if header not in _NOT_YET)
        for sheet, headers in HEADERS.items()
    }


def _old(export: Export) -> Export:
    return {
        sheet: [{_OLD_NAMES.get(key, key): value for key, value in row.items()} for row in rows]
        for sheet, rows in export.items()
    }


def test_a_workbook_is_read(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "all.xlsx", clean())
    inventory = read_inventory(path)
    assert inventory.machines == inventory_of(clean(), path).machines
    assert inventory.made_by == "RVTools 4.7.1"
    assert inventory.places["vDisk"] == "all.xlsx: vDisk"
    assert not inventory.gaps


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_a_folder_of_csv_files_is_read(tmp_path: Path, delimiter: str, encoding: str) -> None:
    export = clean()
    export["vInfo"][0]["Annotation"] = 'Büro; Straße 3, "links"'
    export["vInfo"][0]["Cluster"] = "Zürich"
    folder = write_folder(tmp_path / "csv", export, delimiter=delimiter, encoding=encoding)
    assert recognises(folder)
    inventory = read_inventory(folder)
    assert inventory.machines == inventory_of(export).machines
    assert inventory.machines[0].cluster == "Zürich"
    assert inventory.places["vInfo"] == "RVTools_tabvInfo.csv"


def test_the_csv_of_machines_stands_for_its_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "csv", clean())
    assert recognises(folder / "RVTools_tabvInfo.csv")
    assert read_inventory(folder / "RVTools_tabvInfo.csv").machines == read_inventory(folder).machines


def test_numbers_with_decimal_commas_are_numbers(tmp_path: Path) -> None:
    export = clean()
    export["vInfo"][0] |= {"Memory": "4.096", "Overall Cpu Readiness": "7,25"}
    export["vDisk"][0]["Capacity MiB"] = "40.960"
    machine = read_inventory(write_folder(tmp_path / "csv", export, delimiter=";")).machines[0]
    assert machine.info.memory == 4096 * MIB
    assert machine.info.readiness == 7.25
    assert machine.disks[0].capacity == 40960 * MIB


def test_the_export_of_an_old_version_is_read(tmp_path: Path) -> None:
    export = _old(clean())
    path = write_workbook(tmp_path / "old.xlsx", export, _old_headers(), prefix="tab")
    assert recognises(path)
    inventory = read_inventory(path)
    new = inventory_of(clean()).machines[0]
    machine = inventory.machines[0]
    assert (machine.info.memory, machine.info.in_use) == (new.info.memory, new.info.in_use)
    assert [disk.capacity for disk in machine.disks] == [disk.capacity for disk in new.disks]
    assert [disk.file for disk in machine.disks] == ["[fast] web-1/web-1.vmdk"]
    assert [part.free for part in machine.partitions] == [part.free for part in new.partitions]
    # what version 3 never had is not missed
    assert not inventory.gaps


def test_the_names_of_data_fields_are_headers_too() -> None:
    export: Export = {
        "vInfo": [
            {
                "vInfoVMName": "web-1", "vInfoPowerstate": "poweredOn", "vInfoCPUs": 2, "vInfoMemory": 4096, "VInfoVersion": 19,
                "vInfoOS": "CentOS 7 (64-bit)", "vInfoGuestHostName": "web-1.example.org", "vInfoInUse": 100,
                "vInfoNumVirtualDisks": 1,
            }
        ],
        "vDisk": [{"vDiskVMName": "web-1", "vDiskName": "Hard disk 1", "vDiskCapacityMiB": 100, "vDiskDiskMode": "persistent"}],
        "vHost": [{"vHostName": "esx-1", "vHostNumCpu": 2, "vHostCoresPerCPU": 8, "vHostMemorySize": 274877906944}],
    }  # fmt: skip
    headers = {sheet: tuple(rows[0]) for sheet, rows in export.items()}
    inventory = inventory_of(export, headers=headers)
    machine = inventory.machines[0]
    assert (machine.info.vm, machine.info.cpus, machine.info.hw_version, machine.info.disk_count) == (
        "web-1",
        2,
        "19",
        1,
    )
    assert machine.info.dns_name == "web-1.example.org"
    assert [(disk.label, disk.capacity) for disk in machine.disks] == [("Hard disk 1", 100 * MIB)]
    assert inventory.hosts == (HostRow("esx-1", 16, 2, 256 * 1024 * MIB),)


def test_a_missing_column_is_a_finding() -> None:
    headers = dict(HEADERS) | {"vDisk": tuple(each for each in HEADERS["vDisk"] if each != "Thin")}
    inventory = inventory_of(clean(), headers=headers)
    assert [(gap.sheet, gap.columns) for gap in inventory.gaps] == [("vDisk", ("Thin",))]
    found = _fleet_rules(headers)
    assert "inventory.column-missing" in found
    assert "inventory.column-missing" not in _fleet_rules(HEADERS)


def _fleet_rules(headers: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {each.rule for each in fleet_findings(inventory_of(clean(), headers=headers), known_rules())}


def test_only_the_sheet_of_machines_is_needed(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "small.xlsx", {"vInfo": clean()["vInfo"]})
    machines = audit_inventory(path, known_rules(), AS_OF)
    assert [machine.name for machine in machines] == ["web-1"]
    assert {"inventory.incomplete", "inventory.disks-unknown"} <= {each.rule for each in machines[0].findings}


def test_an_export_without_machines_is_refused(tmp_path: Path) -> None:
    export = clean()
    del export["vInfo"]
    path = write_workbook(tmp_path / "hosts.xlsx", export)
    assert not recognises(path)
    with pytest.raises(BadDescription, match="vInfo"):
        read_inventory(path)


def test_headers_under_a_title_are_found_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.create_sheet("vInfo")
    for row in ([], ["Our machines"], [], ["VM", "Powerstate", "CPUs"], ["web-1", "suspended", 2]):
        sheet.append(row)
    book.save(tmp_path / "titled.xlsx")
    inventory = read_inventory(tmp_path / "titled.xlsx")
    assert [(machine.info.vm, machine.info.line) for machine in inventory.machines] == [("web-1", 5)]


def test_a_file_that_is_no_export_is_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "text.xlsx").write_text("VM;Powerstate")
    (tmp_path / "vInfo.csv").write_text("some,thing\n1,2\n")
    (tmp_path / "empty").mkdir()
    for name in ("text.xlsx", "vInfo.csv", "empty", "gone.xlsx"):
        assert not recognises(tmp_path / name), name


def test_rows_find_their_machine_by_id_where_names_are_shared() -> None:
    export = clean()
    twin = {"VM ID": "vm-202", "VM UUID": "50081111-0000-4000-8000-000000000002"}
    another(export, "vInfo", **{**export["vInfo"][0], **twin})
    another(export, "vDisk", **{**export["vDisk"][0], **twin, "Disk Path": "[fast] web-1_1/web-1.vmdk"})
    first, second = inventory_of(export).machines
    assert [disk.file for disk in first.disks] == ["[fast] web-1/web-1.vmdk"]
    assert [disk.file for disk in second.disks] == ["[fast] web-1_1/web-1.vmdk"]


def test_the_id_in_its_vcenter_is_enough() -> None:
    """RVTools 3 has no UUID of machines in its other sheets."""
    export = clean()
    another(export, "vInfo", **{**export["vInfo"][0], "VM ID": "vm-202", "VM UUID": ""})
    another(export, "vDisk", **{**export["vDisk"][0], "VM ID": "vm-202", "VM UUID": "", "Disk": "Hard disk 7"})
    second = inventory_of(export).machines[1]
    assert [disk.label for disk in second.disks] == ["Hard disk 7"]


def test_a_row_with_no_more_than_a_name_that_two_machines_have_is_nobodys() -> None:
    bare = {"VM ID": "", "VM UUID": ""}
    export = clean()
    export["vInfo"] = [{**export["vInfo"][0], **bare}, {**export["vInfo"][0], **bare}]
    export["vDisk"][0] |= bare
    inventory = inventory_of(export)
    assert [machine.disks for machine in inventory.machines] == [(), ()]
    assert inventory.strays["vDisk"] == 1


def test_ids_of_two_vcenters_are_not_mixed_up() -> None:
    other = {"VI SDK UUID": "bbbbbbbb-0000-4000-8000-00000000000b", "VM UUID": ""}
    export = clean()
    for sheet in ("vInfo", "vDisk"):
        export[sheet][0]["VM UUID"] = ""
    another(export, "vInfo", **{**export["vInfo"][0], **other})
    another(export, "vDisk", **{**export["vDisk"][0], **other, "Disk": "Hard disk 7"})
    first, second = inventory_of(export).machines
    assert [disk.label for disk in first.disks] == ["Hard disk 1"]
    assert [disk.label for disk in second.disks] == ["Hard disk 7"]


def test_a_machine_has_what_sizing_needs() -> None:
    machine = audited(clean())[0]
    assert machine.origin is Origin.INVENTORY
    assert (machine.cpus, machine.memory_bytes, machine.powered_on) == (2, 4096 * MIB, True)
    assert (machine.host, machine.cluster, machine.firmware, machine.nics) == ("esx-1.example.org", "Prod", "uefi", 1)
    assert [(disk.virtual_bytes, disk.allocated_bytes, disk.used_bytes) for disk in machine.disks] == [
        (40960 * MIB, 20480 * MIB, 10496 * MIB)
    ]
    assert machine.system is not None
    assert (machine.system.id, machine.system.version, machine.system.family) == ("rhel", "8", "redhat")


def test_a_machine_is_told_who_supports_its_system() -> None:
    export = clean()
    export["vInfo"][0] |= dict.fromkeys(_SYSTEM, "CentOS 7 (64-bit)")
    machine = audited(export)[0]
    assert machine.support is not None
    assert machine.support.state == "ended"
    assert "support.ended" in {each.rule for each in machine.findings}
    assert "support.ended" not in {each.rule for each in audited(clean())[0].findings}


def test_support_of_a_release_that_is_not_told_is_unknown() -> None:
    export = clean()
    export["vInfo"][0] |= dict.fromkeys(_SYSTEM, "Ubuntu Linux (64-bit)")
    machine = audited(export)[0]
    assert machine.support is not None
    assert machine.support.state == "unknown"


def test_hosts_datastores_and_clusters_are_values() -> None:
    inventory = inventory_of(clean())
    assert inventory.hosts == (HostRow("esx-1.example.org", 32, 2, 524288 * MIB, "Intel Xeon Gold 6338", "Prod", 0.23),)
    assert [(each.name, each.kind, each.free_bytes, each.accessible) for each in inventory.datastores] == [
        ("fast", "VMFS", 524288 * MIB, True)
    ]
    assert [(each.name, each.cores, each.memory_bytes) for each in inventory.clusters] == [("Prod", 32, 524288 * MIB)]


def test_thin_disks_share_what_is_in_use_by_their_sizes() -> None:
    export = clean()
    export["vInfo"][0] |= {"In Use MiB": 50000, "Disks": 3}
    another(export, "vDisk", **{**export["vDisk"][0], "Thin": "False", "Capacity MiB": 20000, "Disk Key": 2001})
    another(export, "vDisk", **{**export["vDisk"][0], "Capacity MiB": 10240, "Disk Key": 2002})
    sizes = [disk.allocated_bytes // MIB for disk in audited(export)[0].disks]
    assert sizes == [24000, 20000, 6000]


def test_what_file_systems_use_is_told_of_the_disk_they_are_on() -> None:
    export = clean()
    export["vInfo"][0]["Disks"] = 2
    another(export, "vDisk", **{**export["vDisk"][0], "Disk Key": 2001, "Disk": "Hard disk 2"})
    export["vPartition"][1]["Disk Key"] = 2001
    assert [disk.used_bytes for disk in audited(export)[0].disks] == [10240 * MIB, 256 * MIB]


def test_a_fleet_is_compared_by_what_exports_say() -> None:
    export = fleet(2)
    assert not _shared(export)
    for sheet in ("vInfo", "vNetwork", "vDisk"):
        own = {key: value for key, value in export[sheet][0].items() if key not in ("VM", "VM ID", "VM UUID")}
        export[sheet][1] |= own
    assert _shared(export) == {
        "fleet.mac-twice", "fleet.address-twice", "fleet.uuid-twice", "fleet.hostname-twice", "fleet.disk-shared",
    }  # fmt: skip


def _shared(export: Export) -> set[str]:
    machines = audit_machines(inventory_of(export), known_rules(), AS_OF)
    return {each.rule for each in across_machines(machines, known_rules())}


def test_a_template_is_compared_with_nobody() -> None:
    export = fleet(2)
    export["vInfo"][1] |= {"Template": "True", "SMBIOS UUID": export["vInfo"][0]["SMBIOS UUID"]}
    assert not _shared(export)


def test_a_thousand_machines_are_read_and_audited(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "fleet.xlsx", fleet(1000))
    machines = audit_inventory(path, known_rules(), AS_OF)
    assert len(machines) == 1000
    rules = {each.rule for machine in machines for each in machine.findings}
    assert {rule for rule in rules if rule.startswith("inventory.")} == {"inventory.not-looked-inside"}
    assert [len(machine.disks) for machine in machines] == [1] * 1000


def test_rows_of_machines_that_are_not_listed_are_counted() -> None:
    export = clean()
    export["vDisk"].append(numbered(export["vDisk"][0], 99))
    inventory = inventory_of(export)
    assert inventory.strays == {"vDisk": 1}
    assert "inventory.row-without-machine" in rules_of(export)
