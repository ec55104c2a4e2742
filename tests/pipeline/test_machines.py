"""Whole machines from other hypervisors: what their description says, converted, booted, and asked what came up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from p2v.core.units import MIB
from p2v.record import load_record
from tests.fixtures.described import FIRST_CARD, SECOND_ADDRESS, SECOND_CARD
from tests.fixtures.guests import guest_disks
from tests.fixtures.trees import ADDRESS
from tests.pipeline.machine_folders import CPUS, KINDS, MACS, MEMORY_MIB, UUID, Wrapped, hyperv
from tests.pipeline.running import p2v, proven, state

# One of every test run: a snapshot's chain, and a description of which every field is used.
OFTEN = ("vmx-snapshot",)
MAPPED = ("--map", "VM Network=user", "--map", "dmz=user")

ALL = [pytest.param(name, id=name, marks=() if name in OFTEN else pytest.mark.matrix) for name in KINDS]


@pytest.mark.boots
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ALL)
def test_a_machine_comes_over_whole(kind: str, tmp_path: Path) -> None:
    folder, results = tmp_path / "source", tmp_path / "results"
    folder.mkdir()
    wrapped = KINDS[kind](folder, guest_disks("two-cards"))
    before = {file: state(file) for file in wrapped.files}
    ran = p2v("convert", wrapped.source, "-o", results, *MAPPED, "--format", "qcow2", "--verify")
    assert ran.status == 0, ran.err
    proven(results / "Web-server.json")
    assert {file: state(file) for file in wrapped.files} == before

    record = load_record(results / "Web-server.json")
    hardware = record.hardware
    assert [nic.mac for nic in hardware.nics] == list(MACS)
    assert hardware.memory_bytes == MEMORY_MIB * MIB
    # Virtual Server machines have one CPU
    assert hardware.cpus == (1 if kind.startswith("vmc") else CPUS)
    # an OVF of VMware's says no UUID
    assert (hardware.uuid == UUID) is (kind != "ova")
    assert len(hardware.disks) == 2

    assert record.boot is not None
    report = record.boot.report
    assert report is not None
    addresses = {each.name: each.addresses for each in report.interfaces}
    assert ADDRESS in addresses[FIRST_CARD]
    assert SECOND_ADDRESS in addresses[SECOND_CARD]
    assert report.failed_units == ()
    assert report.root_device == "/dev/vda1"


@pytest.mark.boots
@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_a_second_generation_hyperv_machine_comes_over_with_uefi(tmp_path: Path) -> None:
    folder, results = tmp_path / "source", tmp_path / "results"
    folder.mkdir()
    wrapped = hyperv(folder, guest_disks("uefi"), generation=2)
    ran = p2v("convert", wrapped.source, "-o", results, *MAPPED, "--verify")
    assert ran.status == 0, ran.err
    proven(results / "Web-server.json")
    record = load_record(results / "Web-server.json")
    assert record.hardware.firmware.value == "uefi"
    assert record.boot is not None
    assert record.boot.report is not None
    assert ADDRESS in {a for each in record.boot.report.interfaces for a in each.addresses}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Wrapped:
    """An OVA, which takes longest to make; not to be written."""
    return KINDS["ova"](tmp_path_factory.mktemp("package"), guest_disks("two-cards"))


@pytest.mark.parametrize("kind", ["vmx-snapshot", "ova", "vmc-differencing", "hyperv-export", "vbox"])
def test_a_machine_is_planned_with_what_its_description_says(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wrapped: Wrapped
    wrapped = request.getfixturevalue("package") if kind == "ova" else KINDS[kind](tmp_path, guest_disks("two-cards"))
    ran = p2v("plan", wrapped.source, "--json")
    assert ran.status == 0, ran.err
    document = json.loads(ran.out)
    assert [nic["mac"] for nic in document["hardware"]["nics"]] == list(MACS)
    ids = [finding["id"] for finding in document["plan"]["warnings"]]
    assert ids.count("source.network") == 2
    changed = [change.get("path", "") for change in document["plan"]["changes"]]
    assert "/etc/fstab" in changed


def test_a_package_with_a_changed_disk_is_not_copied(tmp_path: Path, package: Wrapped) -> None:
    source = tmp_path / package.source.name
    shutil.copy(package.source, source)
    with source.open("r+b") as file:
        # inside the second disk, behind everything that planning reads
        file.seek(-64 * 1024, 2)
        file.write(b"x")
    ran = p2v("convert", source, "-o", tmp_path / "results")
    assert ran.status == 65, ran.err
    assert "web-disk2.vmdk" in ran.err
    assert not (tmp_path / "results").exists()
