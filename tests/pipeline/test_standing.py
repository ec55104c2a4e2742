"""Machines booted as they stand: by a conversion's record, by a libvirt definition."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from converters.image import identity, open_disk, open_made
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import NoSource, Usage
from p2v.core.events import silent
from p2v.core.firmware import installed_firmware
from p2v.core.units import MIB
from p2v.documents import plan_digest
from p2v.inspection import Reading, inspect
from p2v.machine import Firmware, Machine, MachineDisk, UefiVariable
from p2v.nvram.edk2 import read_store, write_store
from p2v.planning import plan_found
from p2v.record import ConversionRecord, DiskRecord, load_record, record_json
from p2v.standing import Look, is_record, of_record
from p2v.targets.hardware import TargetDisk, TargetHardware
from tests.fixtures.guests import guest_disks
from tests.fixtures.trees import ADDRESS
from tests.nvram import writer
from tests.pipeline.running import p2v, state

LOOK = Look(Reading.HOST, lambda: Acceleration(Accelerator.TCG, "in a test"), silent)


def partitioned(disk: Path, count: int) -> None:
    """A disk of 4 MiB with so many partitions of 1 MiB, and nothing in them."""
    entries = (struct.pack("<B3xB3xII", 0, 0x83, 2048 * number, 2048) for number in range(1, count + 1))
    disk.write_bytes((bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa").ljust(4 * MIB, b"\0"))


def converted(folder: Path) -> Path:
    """A result as a conversion leaves it: a disk (with no system in it) and the record."""
    disk = folder / "web.img"
    partitioned(disk, 1)
    machine = Machine("web", (MachineDisk(disk, "raw"),), cpus=3, firmware=Firmware.UEFI, tpm=True)
    document = plan_found(machine, inspect(machine.disks, Reading.HOST, LOOK.acceleration, silent))
    with open_disk(disk, "raw") as reader:
        made = DiskRecord("web.vmdk", "web.img", reader.virtual_size, 0, 0, 0, (), identity(reader))
    hardware = replace(document.hardware, disks=(TargetDisk(Path("web.img"), "raw", "S-1"),))
    record = ConversionRecord("", plan_digest(document), document, hardware, (made,), (), (), (), {}, {}, "")
    path = folder / "web.json"
    path.write_text(record_json(record), "utf-8")
    return path


def forged(record: Path, change: Callable[[TargetHardware], TargetHardware]) -> Path:
    """The record with other hardware and digests that fit."""
    made = load_record(record)
    record.write_text(record_json(replace(made, hardware=change(made.hardware))), "utf-8")
    return record


def with_disk(path: str = "web.img", disk_format: str = "raw") -> Callable[[TargetHardware], TargetHardware]:
    return lambda hardware: replace(hardware, disks=(TargetDisk(Path(path), disk_format, "S-1"),))


def test_a_record_stands_for_exactly_the_machine_that_was_converted(tmp_path: Path) -> None:
    record = converted(tmp_path)
    assert is_record(record)
    standing = of_record(record, LOOK)
    hardware = standing.hardware
    assert hardware.disks == (TargetDisk(tmp_path / "web.img", "raw", "S-1"),)
    assert (hardware.cpus, hardware.firmware, hardware.tpm) == (3, Firmware.UEFI, True)
    assert standing.remarks == ()


def test_a_folder_that_was_moved_is_as_good(tmp_path: Path) -> None:
    folder = tmp_path / "before"
    folder.mkdir()
    converted(folder)
    moved = folder.rename(tmp_path / "after")
    standing = of_record(moved / "web.json", LOOK)
    assert (standing.hardware.disks[0].path, standing.remarks) == (moved / "web.img", ())


def test_a_disk_that_was_written_to_is_told_and_read_anew(tmp_path: Path) -> None:
    record = converted(tmp_path)
    partitioned(tmp_path / "web.img", 2)
    standing = of_record(record, LOOK)
    assert [remark for remark in standing.remarks if "written to since" in remark and "web.img" in remark]
    assert len(standing.facts.partitions) == 2


def test_a_disk_with_another_time_alone_is_told_too(tmp_path: Path) -> None:
    record = converted(tmp_path)
    os.utime(tmp_path / "web.img", (1, 1))
    assert [remark for remark in of_record(record, LOOK).remarks if "copied or written to" in remark]


def test_a_device_that_is_larger_than_what_was_written_to_it_was_not_written_to_since(tmp_path: Path) -> None:
    record = converted(tmp_path)
    device = tmp_path / "web.img"  # root alone could make a real one; only its length matters here
    os.truncate(device, 6 * MIB)
    made = load_record(record)
    with open_made(device, "raw", 4 * MIB, is_device=True) as reader:
        disk = replace(made.disks[0], result=identity(reader))
    hardware = replace(made.hardware, disks=(replace(made.hardware.disks[0], is_device=True),))
    record.write_text(record_json(replace(made, hardware=hardware, disks=(disk,))), "utf-8")
    assert of_record(record, LOOK).remarks == ()


def test_a_record_without_its_disk_says_which_one_is_gone(tmp_path: Path) -> None:
    record = converted(tmp_path)
    (tmp_path / "web.img").unlink()
    with pytest.raises(NoSource) as caught:
        of_record(record, LOOK)
    assert "web.img" in caught.value.sentence()


@pytest.mark.parametrize("path", ["/etc/passwd", "../web.img", "sub/web.img", "..", "/dev/null"])
def test_a_record_leads_to_no_file_outside_its_folder(tmp_path: Path, path: str) -> None:
    record = forged(converted(tmp_path), with_disk(path))
    with pytest.raises(Usage) as caught:
        of_record(record, LOOK)
    assert "does not stand beside it" in caught.value.sentence()


def test_a_record_leads_to_no_other_variables(tmp_path: Path) -> None:
    record = forged(converted(tmp_path), lambda hardware: replace(hardware, variables=Path("/etc/passwd")))
    with pytest.raises(Usage) as caught:
        of_record(record, LOOK)
    assert "/etc/passwd" in caught.value.sentence()
    forged(record, lambda hardware: replace(hardware, variables=Path("web_VARS.fd")))
    with pytest.raises(NoSource):
        of_record(record, LOOK)
    (tmp_path / "web_VARS.fd").write_bytes(b"")
    assert of_record(record, LOOK).hardware.variables == tmp_path / "web_VARS.fd"


def test_a_record_hands_qemu_no_other_format(tmp_path: Path) -> None:
    record = forged(converted(tmp_path), with_disk(disk_format="vmdk"))
    with pytest.raises(Usage) as caught:
        of_record(record, LOOK)
    assert "vmdk" in caught.value.sentence()


def test_a_disk_is_no_record(tmp_path: Path) -> None:
    partitioned(tmp_path / "disk.img", 1)
    assert not is_record(tmp_path / "disk.img")
    assert not is_record(tmp_path)
    assert not is_record(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--memory", "4G"), "--memory"),
        (("--firmware", "bios"), "--firmware"),
        (("web.img",), "Name it alone"),
    ],
)
def test_what_a_record_says_is_not_said_otherwise(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ran = p2v("verify", converted(tmp_path), *words)
    assert ran.status == 64
    assert said in ran.err


def test_a_record_that_was_changed_is_refused(tmp_path: Path) -> None:
    record = converted(tmp_path)
    record.write_text(record.read_text("utf-8").replace('"cpus": 3', '"cpus": 4'), "utf-8")
    ran = p2v("verify", record)
    assert ran.status == 65
    assert "digest" in ran.err


SECURE = """\
<domain type="kvm"><name>web</name><memory unit="MiB">1024</memory><vcpu>1</vcpu>
<sysinfo type="smbios"><system><entry name="serial">7J0P6, Z1</entry></system></sysinfo>
<os firmware="efi"><type arch="x86_64" machine="q35">hvm</type><firmware><feature enabled="yes" name="secure-boot"/></firmware>
<smbios mode="sysinfo"/><nvram>/var/lib/libvirt/qemu/nvram/uefi_VARS.fd</nvram></os>
<devices><disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="uefi.img"/>
<target dev="sda" bus="sata"/></disk>
<interface type="network"><mac address="00:0c:29:4a:00:01"/><source network="default"/><model type="e1000e"/></interface>
<tpm model="tpm-crb"><backend type="emulator" version="2.0"/></tpm></devices></domain>
"""


@pytest.mark.boots
@pytest.mark.matrix
@pytest.mark.skipif(installed_firmware(secure_boot=True) is None, reason="no UEFI firmware with keys is installed")
@pytest.mark.timeout(1800)
def test_a_machine_with_a_tpm_and_secure_boot_boots_by_its_record_and_by_its_definition(tmp_path: Path) -> None:
    shutil.copyfile(guest_disks("uefi")[0], tmp_path / "uefi.img")
    (tmp_path / "web.xml").write_text(SECURE, "utf-8")
    path = writer.PCI_DISK + writer.partition() + writer.loader("\\EFI\\gone\\shimx64.efi") + writer.END
    # a store as libvirt made it, with an entry that the old machine's controllers are part of
    files = installed_firmware(secure_boot=True)
    assert files is not None
    entry = UefiVariable("Boot0007", writer.GLOBAL, 7, writer.entry("gone", path).hex())
    (tmp_path / "uefi_VARS.fd").write_bytes(write_store(files.variables.read_bytes(), (entry,)))
    results = tmp_path / "results"
    ran = p2v("convert", tmp_path / "web.xml", "-o", results, "--map", "default=user")
    assert ran.status == 0, ran.err
    disk = state(results / "web.qcow2")
    made = {each.name: each.value for each in read_store((results / "web_VARS.fd").read_bytes())}
    assert {"PK", "db", "SecureBootEnable"} <= set(made)
    assert bytes.fromhex(made["Boot0007"]) == writer.entry("gone", path.removeprefix(writer.PCI_DISK))
    assert [each.name for each in load_record(results / "web.json").document.machine.variables] == [
        "Boot0007", "PK", "KEK", "db", "dbx", "SecureBootEnable",
    ]  # fmt: skip
    for named in ("web.json", "web.xml"):
        ran = p2v("verify", results / named, "--json")
        assert ran.status == 0, ran.err
        report = json.loads(ran.out)["report"]
        assert (report["tpms"], report["secure_boot"]) == (["/dev/tpm0 2"], True)
        assert report["serial_number"] == "7J0P6, Z1"
        assert report["root_device"] == "/dev/vda2"
        assert ADDRESS in {address for each in report["interfaces"] for address in each["addresses"]}
        assert "written to" not in ran.err
    assert state(results / "web.qcow2") == disk
