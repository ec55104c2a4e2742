"""The main job, end to end: a VMware guest's disk goes in, a disk that boots on KVM's hardware comes out."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

from drivers.facts import ReadBy
from p2v.core.events import MomentKind
from p2v.documents import load_plan, plan_digest
from p2v.record import load_record
from tests.fixtures import guest, packed
from tests.pipeline.running import compare_outside, names, p2v, programs_with, proven, state

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"

# one worker, so that the one conversion serves all
_GROUP = pytest.mark.xdist_group("convert")


@dataclass(frozen=True)
class Converted:
    source: Path
    before: tuple[str, int, int, int]
    folder: Path
    out: str
    err: str

    @property
    def disk(self) -> Path:
        return self.folder / "vmguest.qcow2"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converted]:
    """One conversion with everything on: the boot check and the content digests."""
    folder = tmp_path_factory.mktemp("converted")
    source = folder / "vmguest.vmdk"
    shutil.copy(packed("vmware", "vmdk-stream"), source)
    source.chmod(0o444)
    before = state(source)
    ran = p2v("convert", source, "-o", folder / "out", "--verify", "--checksum", "--progress", "plain")
    assert ran.status == 0, ran.err
    yield Converted(source, before, folder / "out", ran.out, ran.err)
    assert programs_with(str(folder)) == []


@_GROUP
@pytest.mark.boots
class TestConvertedGuest:
    def test_source_is_the_same_to_the_byte_and_to_the_time(self, converted: Converted) -> None:
        assert state(converted.source) == converted.before

    def test_results_stand_under_final_names_and_nothing_else(self, converted: Converted) -> None:
        made = {"vmguest.qcow2", "vmguest.xml", "vmguest.sh", "vmguest.json", "vmguest.png", "vmguest.boot.log"}
        assert names(converted.folder) == made

    def test_disk_is_a_sound_qcow2_without_a_backing_file(self, converted: Converted) -> None:
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", converted.disk], check=True)
        info = subprocess.run(
            ["qemu-img", "info", "--output=json", "-f", "qcow2", converted.disk], check=True, capture_output=True
        )
        assert "backing-filename" not in json.loads(info.stdout)

    def test_guest_reached_multi_user_from_virtio_with_its_network_up(self, converted: Converted) -> None:
        boot = load_record(converted.folder / "vmguest.json").boot
        assert boot is not None
        assert boot.booted
        assert boot.report is not None
        assert boot.report.root_device == "/dev/vda1"
        assert "multi-user.target" in boot.report.active
        assert boot.report.failed_units == ()
        addresses = {i.name: i.addresses for i in boot.report.interfaces}
        assert any(a.startswith("10.0.2.") for a in addresses["ens33"])

    def test_screenshot_is_a_picture_of_a_console(self, converted: Converted) -> None:
        picture = (converted.folder / "vmguest.png").read_bytes()
        assert picture.startswith(b"\x89PNG\r\n")
        assert len(picture) > 2000

    def test_definition_is_valid_for_libvirt(self, converted: Converted) -> None:
        subprocess.run(["virt-xml-validate", converted.folder / "vmguest.xml", "domain"], check=True)

    def test_script_is_runnable_shell(self, converted: Converted) -> None:
        script = converted.folder / "vmguest.sh"
        assert script.stat().st_mode & 0o111
        subprocess.run(["sh", "-n", script], check=True)

    def test_record_holds_the_plan_and_the_digests(self, converted: Converted) -> None:
        record = load_record(converted.folder / "vmguest.json")
        assert record.plan_digest == plan_digest(record.document)
        (disk,) = record.disks
        assert disk.source_content
        assert disk.result_content
        assert disk.source_content != disk.result_content
        assert disk.changed
        assert len(record.applied) == len(record.document.plan.changes)
        assert all(check.clean for check in record.checks)
        assert {check.when for check in record.checks} == {"before", "after"}

    def test_record_fits_the_published_schema_and_tells_when_with_what_and_what_was_seen(self, converted: Converted) -> None:
        path = converted.folder / "vmguest.json"
        jsonschema.validate(json.loads(path.read_text()), json.loads((SCHEMAS / "record-2.schema.json").read_text()))
        record = load_record(path)
        assert set(record.boot_files) == {"vmguest.png", "vmguest.boot.log"}
        assert {"p2v", "qemu", "qemu-img", "libguestfs", "appliance kernel", "libvmdk-python"} <= set(record.tools)
        phases = [m.text for m in record.timeline if m.kind is MomentKind.FINISHED]
        assert {"copy", "rewrite", "commit", "boot"} <= set(phases)
        assert [m.at for m in record.timeline] == sorted(m.at for m in record.timeline)
        assert record.host is not None
        assert record.host.name is None

    def test_record_proves_with_its_files_that_it_was_copied_right_and_boots(self, converted: Converted) -> None:
        required = ("--require", "copied", "--require", "boots")
        ran = p2v("record", "verify", converted.folder / "vmguest.json", "--files", *required, "--progress", "none")
        assert ran.status == 0, ran.out + ran.err

    def test_outside_the_recorded_ranges_the_result_is_the_source(self, converted: Converted) -> None:
        record = load_record(converted.folder / "vmguest.json")
        raw = converted.folder.parent / "result.raw"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", converted.disk, raw], check=True)
        try:
            compare_outside(guest("vmware"), raw, [(r.offset, r.length) for r in record.disks[0].changed])
        finally:
            raw.unlink()

    def test_the_result_is_proven_to_be_the_source_but_for_the_plan(self, converted: Converted) -> None:
        proven(converted.folder / "vmguest.json")
        proof = json.loads((converted.folder / "vmguest.proof.json").read_text())
        jsonschema.validate(proof, json.loads((SCHEMAS / "proof-1.schema.json").read_text()))
        required = ("--require", "copied", "--require", "planned", "--require", "boots")
        ran = p2v("record", "verify", converted.folder / "vmguest.json", *required)
        assert ran.status == 0, ran.out + ran.err
        (converted.folder / "vmguest.proof.json").unlink()
        assert proof["verdict"] == "proven"
        (system,) = proof["file_systems"]
        plan = load_record(converted.folder / "vmguest.json").document.plan
        assert {change.path for change in plan.changes} <= {each["path"] for each in system["explained"]}
        assert not system["unexplained"]
        assert sum(system["kinds"].values()) >= proof["disks"][0]["different_bytes"] > 0

    def test_report_can_be_read_again_and_tells_every_change(self, converted: Converted) -> None:
        ran = p2v("report", converted.folder / "vmguest.json")
        assert ran.status == 0
        assert ran.out == converted.out
        record = load_record(converted.folder / "vmguest.json")
        for change in record.document.plan.changes:
            assert change.path in ran.out

    def test_existing_results_are_not_replaced(self, converted: Converted) -> None:
        before = state(converted.disk)
        ran = p2v("convert", converted.source, "-o", converted.folder)
        assert ran.status == 73
        assert "exists already" in ran.err
        assert state(converted.disk) == before

    def test_converted_guest_needs_no_further_change(self, converted: Converted) -> None:
        """Planning the result again finds nothing to do: everything that was planned is there."""
        ran = p2v("plan", converted.disk, "--json")
        assert ran.status == 0, ran.err
        document = json.loads(ran.out)
        assert document["facts"]["read_by"] == ReadBy.HOST.value
        assert document["plan"]["changes"] == []
        assert document["plan"]["blockers"] == []


@pytest.mark.appliance
def test_a_plan_is_the_same_twice_and_is_carried_out_as_a_document(tmp_path: Path) -> None:
    source = packed("vmware", "vhdx")
    first, second = p2v("plan", source, "--json", "--name", "vm"), p2v("plan", source, "--json", "--name", "vm")
    assert first.status == 0, first.err
    assert first.out == second.out
    plan = tmp_path / "plan.json"
    plan.write_text(first.out, "utf-8")
    ran = p2v("convert", "--plan", plan, "-o", tmp_path / "out", "--format", "raw")
    assert ran.status == 0, ran.err
    record = load_record(tmp_path / "out" / "vm.json")
    assert record.plan_digest == plan_digest(load_plan(plan))
    assert (tmp_path / "out" / "vm.img").stat().st_size == record.disks[0].virtual_size
    # sparse: what the guest does not use takes no room
    assert (tmp_path / "out" / "vm.img").stat().st_blocks * 512 < record.disks[0].virtual_size // 2


def test_a_plan_for_a_source_that_changed_since_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "vm.vmdk"
    shutil.copy(packed("vmware", "vmdk-sparse"), source)
    plan = tmp_path / "plan.json"
    plan.write_text(p2v("plan", source, "--json").out, "utf-8")
    with source.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"written to since")
    ran = p2v("convert", "--plan", plan, "-o", tmp_path / "out")
    assert ran.status == 78, ran.err
    assert names(tmp_path) == {"vm.vmdk", "plan.json"}


def test_a_plan_that_was_edited_by_hand_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    text = p2v("plan", packed("vmware", "vmdk-sparse"), "--json").out
    plan.write_text(text.replace("/etc/fstab", "/etc/shadow"), "utf-8")
    ran = p2v("convert", "--plan", plan, "-o", tmp_path / "out")
    assert ran.status == 64, ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.appliance
def test_a_dirty_file_system_is_read_through_an_appliance_and_its_journal_counts(tmp_path: Path) -> None:
    """The host's readers would see the old contents; the appliance replays the journal in an overlay."""
    source = guest("dirty-ext4")
    before = state(source)
    ran = p2v("inspect", source, "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)["facts"]
    assert found["read_by"] == "appliance"
    assert found["os"]["id"] == "debian"
    assert state(source) == before


@pytest.mark.appliance
def test_a_damaged_file_system_blocks_with_the_checkers_words(tmp_path: Path) -> None:
    source = guest("damaged-ext4")
    before = state(source)
    ran = p2v("convert", source, "-o", tmp_path / "out", "--progress", "none")
    assert ran.status == 4, ran.err
    assert "damaged" in ran.err
    assert state(source) == before
    assert not (tmp_path / "out").exists()
