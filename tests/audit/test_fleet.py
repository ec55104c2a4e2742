"""What only several machines together show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import DiskAudit, MachineAudit, Origin, Signs, Verdict
from p2v.audit.fleet import fleet_findings


def machine(name: str, disks: tuple[str, ...] = (), **signs: Any) -> MachineAudit:
    made = tuple(DiskAudit(path, "raw", 1, 1) for path in disks)
    return MachineAudit(name, Origin.DISKS, "", (f"/{name}.vmx",), Verdict.READY, (), disks=made, signs=Signs(**signs))


def rules(*machines: MachineAudit) -> list[str]:
    return [each.rule for each in fleet_findings(machines, catalogue())]


SIGNS: Mapping[str, dict[str, Any]] = {
    "fleet.mac-twice": {"macs": ("00:50:56:00:00:01", "00:50:56:00:00:02")},
    "fleet.address-twice": {"addresses": ("10.0.0.5",)},
    "fleet.uuid-twice": {"uuid": "564d0000-0000-0000-0000-000000000001"},
    "fleet.machine-id-twice": {"machine_id": "0123456789abcdef0123456789abcdef"},
    "fleet.hostname-twice": {"hostname": "web"},
    "fleet.disk-id-twice": {"disk_ids": ("12345678",)},
}


@pytest.mark.parametrize("rule", SIGNS)
def test_one_sign_on_two_machines_is_found_once_for_each_value(rule: str) -> None:
    signs = SIGNS[rule]
    values = next(iter(signs.values()))
    count = len(values) if isinstance(values, tuple) else 1
    assert rules(machine("a", **signs), machine("b", **signs)) == [rule] * count
    assert rules(machine("a", **signs), machine("b")) == []


def test_two_machines_of_one_name() -> None:
    assert rules(machine("a"), machine("a")) == ["fleet.name-twice"]


def test_a_mirror_has_one_signature_twice_and_is_no_clone() -> None:
    assert rules(machine("a", disk_ids=("1", "1")), machine("b")) == []


def test_a_disk_of_two_machines_is_shared_and_a_base_of_two_tips_is_not() -> None:
    one, two = machine("a", ("/d.vmdk",), files=("/d.vmdk",)), machine("b", ("/d.vmdk",), files=("/d.vmdk",))
    assert rules(one, two) == ["fleet.disk-shared"]
    clones = [machine(name, (f"/{name}.qcow2",), files=(f"/{name}.qcow2", "/base.qcow2")) for name in "ab"]
    assert rules(*clones) == ["fleet.base-shared"]


def test_a_finding_names_its_machines_and_where_they_are() -> None:
    (found,) = fleet_findings([machine("a", hostname="web"), machine("b", hostname="web")], catalogue())
    assert found.message == "2 machines have the host name web: a, b"
    assert [each.where for each in found.evidence] == ["/a.vmx", "/b.vmx"]
