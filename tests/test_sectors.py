"""Disks with large sectors (512e, 4Kn), from the device or image to the hardware that the guest gets."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from converters.allocation.unused import find_unused
from converters.image import describe, identity, open_disk
from drivers.layout import lay_out
from p2v.core.block_devices import look_at
from p2v.core.run import find_program
from p2v.core.units import MIB
from p2v.documents import Inspection, SourceDisk
from p2v.machine import DiskBus, Firmware, Machine, MachineDisk
from p2v.planning import plan_found
from p2v.targets import kubevirt
from p2v.targets.front_ends import FrontEnd
from p2v.targets.hardware import TargetHardware, losses, sector_blockers
from p2v.targets.libvirt import domain_xml
from p2v.targets.qemu import Wiring, hardware_options
from p2v.targets.sectors import sectors_lost
from tests.drivers.linux.guest import facts_of, files
from tests.fake_host import FakeHost
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device
from tests.targets.samples import hardware

GPT = "label: gpt\nstart=256, size=2048, type=U\nstart=2560, size=4096, type=L\n"
MBR = "label: dos\nstart=256, size=2048, type=83, bootable\nstart=2560, size=5000, type=5\nstart=2816, size=2048, type=83\n"
SIZE = 32 * MIB


@contextmanager
def disk_of(folder: Path, script: str) -> Iterator[tuple[Path, list[tuple[int, int]]]]:
    """A device with sectors of 4096 bytes, a table on it, ext4 in the last partition; and where sfdisk sees its partitions."""
    with loop_device(folder / "disk", SIZE, options=("--sector-size", "4096")) as device:
        subprocess.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", device], input=script, text=True, check=True)
        seen = json.loads(subprocess.run(["sfdisk", "-J", device], capture_output=True, text=True, check=True).stdout)
        places = [(part["start"] * 4096, part["size"] * 4096) for part in seen["partitiontable"]["partitions"]]
        offset, length = places[-1]
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-E", f"offset={offset}", device, f"{length >> 10}k"],
                       check=True)  # fmt: skip
        subprocess.run(["sync", device], check=True)
        yield device, places


@NEEDS_LOOP_DEVICES
@pytest.mark.parametrize("script", [GPT, MBR], ids=["gpt", "mbr"])
def test_tables_of_a_device_with_large_sectors_are_read_as_the_system_reads_them(tmp_path: Path, script: str) -> None:
    with disk_of(tmp_path, script) as (device, places), open_disk(device) as reader:
        info = describe(reader)
        assert (info.logical_sector_size, info.physical_sector_size) == (4096, 4096)
        layout = lay_out([reader])
        assert [(part.offset, part.length) for part in layout.partitions] == places
        assert layout.disks[0].sector_bytes == 4096
        assert layout.notes == ()
        assert layout.partitions[-1].filesystem is not None
        assert layout.partitions[-1].filesystem.kind == "ext4"
        # and so are the blocks that it does not use
        found = find_unused([reader])
        ext4 = [volume for volume in found.volumes if volume.kind.startswith("ext")]
        assert [volume.why_whole for volume in ext4] == [""]
        assert ext4[0].left_out_bytes > MIB


@NEEDS_LOOP_DEVICES
@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_an_image_of_such_a_disk_is_known_by_its_gpt(tmp_path: Path, image_format: str) -> None:
    image = tmp_path / "image"
    with disk_of(tmp_path, GPT) as (device, places):
        words = ["qemu-img", "convert", "-f", "raw", "-O", image_format, device, image]
        subprocess.run([str(word) for word in words], check=True)
    with open_disk(image) as reader:
        info = describe(reader)
        assert (info.logical_sector_size, info.physical_sector_size) == (4096, 4096)
        layout = lay_out([reader])
        assert [(part.offset, part.length) for part in layout.partitions] == places
        assert layout.disks[0].sector_bytes == 4096


@NEEDS_LOOP_DEVICES
def test_a_disk_with_both_tables_is_what_its_device_says_and_else_what_is_usual(tmp_path: Path) -> None:
    with disk_of(tmp_path, GPT):
        pass
    # a table for 512-byte sectors put beside, as when a disk was moved between two boxes
    image = tmp_path / "disk"
    small = tmp_path / "small"
    small.write_bytes(bytes(SIZE))
    subprocess.run(["sfdisk", "--quiet", small], input="label: gpt\nstart=2048, size=4096\n", text=True, check=True)
    with image.open("r+b") as file:
        file.seek(512)
        file.write(small.read_bytes()[512:1024])
    with open_disk(image) as reader:
        assert describe(reader).logical_sector_size == 512
    with loop_device(image, options=("--sector-size", "4096")) as device, open_disk(device) as reader:
        assert lay_out([reader]).disks[0].sector_bytes == 4096


def planned(path: Path, physical: int | None = None) -> TargetHardware:
    with open_disk(path, "raw") as reader:
        info = describe(reader)
        info = info if physical is None else dataclasses.replace(info, physical_sector_size=physical)
        source = SourceDisk(path, None, info, identity(reader))
        layout = lay_out([reader])
    facts = dataclasses.replace(facts_of(files()), disks=layout.disks)
    document = plan_found(Machine("vm", (MachineDisk(path),)), Inspection((source,), facts))
    return document.hardware


@NEEDS_LOOP_DEVICES
def test_the_guest_gets_disks_with_the_sectors_that_it_had(tmp_path: Path) -> None:
    with disk_of(tmp_path, GPT) as (device, _):
        (disk,) = planned(device).disks
        assert (disk.logical_sector_bytes, disk.physical_sector_bytes) == (4096, 4096)
    with loop_device(tmp_path / "plain", SIZE) as device:
        (disk,) = planned(device).disks
        assert (disk.logical_sector_bytes, disk.physical_sector_bytes) == (512, 512)
        (disk,) = planned(device, physical=4096).disks
        assert (disk.logical_sector_bytes, disk.physical_sector_bytes) == (512, 4096)


def test_the_kernel_tells_both_sizes_of_a_disk_and_its_partitions(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    null = os.stat("/dev/loop0") if Path("/dev/loop0").exists() else None
    if null is None:
        pytest.skip("there is no block device to look at")
    number = f"{os.major(null.st_rdev)}:{os.minor(null.st_rdev)}"
    host.device("8:32", "sdc")
    host.device(number, "sdc1", of="sdc")
    host.write("sys/devices/sdc/queue/logical_block_size", "512\n")
    host.write("sys/devices/sdc/queue/physical_block_size", "4096\n")
    found = look_at(Path("/dev/loop0"), host.files)
    assert (found.name, found.logical_sector_size, found.physical_sector_size) == ("sdc1", 512, 4096)


def with_sectors(logical: int, physical: int, **rest: object) -> TargetHardware:
    made = hardware(**rest)  # type: ignore[arg-type]
    disks = tuple(dataclasses.replace(d, logical_sector_bytes=logical, physical_sector_bytes=physical) for d in made.disks)
    return dataclasses.replace(made, disks=disks)


def devices(made: TargetHardware) -> list[str]:
    return [o[1] for o in hardware_options(made, Wiring()) if o[0] == "-device" and "drive=disk" in o[1]]


@pytest.mark.parametrize("bus", [DiskBus.VIRTIO_BLK, DiskBus.VIRTIO_SCSI])
def test_qemu_is_told_of_sectors_that_are_not_usual(bus: DiskBus) -> None:
    assert devices(with_sectors(4096, 4096, bus=bus))[0].endswith(",logical_block_size=4096,physical_block_size=4096")
    assert devices(with_sectors(512, 4096, bus=bus))[0].endswith(",physical_block_size=4096")
    assert "block_size" not in devices(with_sectors(512, 512, bus=bus))[0]


def test_ide_and_sata_have_sectors_of_512_bytes_only() -> None:
    for bus in (DiskBus.SATA, DiskBus.IDE):
        large = with_sectors(4096, 4096, bus=bus)
        assert "block_size" not in devices(large)[0]
        assert [finding.id for finding in sector_blockers(large)] == ["hardware.sectors"]
        assert list(sector_blockers(with_sectors(512, 4096, bus=bus))) == []
    assert list(sector_blockers(with_sectors(4096, 4096))) == []


@pytest.mark.skipif(find_program("virt-xml-validate") is None, reason="virt-xml-validate is not installed")
def test_libvirt_and_kubevirt_are_told_too(tmp_path: Path) -> None:
    large = with_sectors(4096, 4096)
    text = domain_xml(large, tmp_path)
    assert '<blockio logical_block_size="4096" physical_block_size="4096" />' in text
    (tmp_path / "vm.xml").write_text(text)
    subprocess.run(["virt-xml-validate", tmp_path / "vm.xml", "domain"], check=True)
    assert "blockio" not in domain_xml(with_sectors(512, 512), tmp_path)
    *_, machine = yaml.safe_load_all(kubevirt.manifest(large, [SIZE]))
    (disk,) = machine["spec"]["template"]["spec"]["domain"]["devices"]["disks"]
    assert disk["blockSize"] == {"custom": {"logical": 4096, "physical": 4096}}


def test_who_cannot_be_told_is_told_of() -> None:
    for front_end in FrontEnd:
        cannot = front_end in (FrontEnd.PROXMOX, FrontEnd.OPENSTACK)
        assert bool(sectors_lost(with_sectors(4096, 4096), front_end)) == cannot
        # what is better written whole is written all the same
        assert not sectors_lost(with_sectors(512, 4096), front_end)


@pytest.mark.skipif(find_spec("guestfs") is None, reason="python3-guestfs is not installed")
def test_the_appliance_is_told_of_sectors_that_are_not_usual(tmp_path: Path) -> None:
    from drivers.appliance import _add
    from drivers.appliance_values import ApplianceDisk

    class Handle:
        told: ClassVar[list[object]] = []

        def add_drive_opts(self, _: str, **options: object) -> None:
            self.told.append(options.get("blocksize"))

    for place in (tmp_path / "overlay.qcow2", "nbd+unix:///?socket=/tmp/x"):
        for size in (512, 4096):
            _add(Handle(), ApplianceDisk(place, "qcow2", read_only=False, sector_bytes=size))
    assert Handle.told == [None, 4096, None, 4096]


def test_a_bios_that_does_not_start_from_such_a_disk_is_warned_of() -> None:
    caps = plan_found(Machine("vm", ()), Inspection((), facts_of(files()))).plan.caps
    found = {
        firmware: [f.id for f in losses(Machine("vm", (), nics=()), caps, dataclasses.replace(made, nics=()))]
        for firmware in Firmware
        for made in (with_sectors(4096, 4096, firmware=firmware),)
    }
    assert "hardware.sectors" in found[Firmware.BIOS]
    assert "hardware.sectors" not in found[Firmware.UEFI]
