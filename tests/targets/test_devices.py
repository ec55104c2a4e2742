"""Block devices as disks of a machine: each front end is told them by their own names, or refuses them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import Usage
from p2v.core.units import MIB
from p2v.core.workspace import Outputs
from p2v.delivery import check_delivery, deliver_machine
from p2v.targets import proxmox
from p2v.targets.front_ends import FrontEnd, Placing, definitions
from p2v.targets.hardware import TargetDisk, TargetHardware
from p2v.targets.libvirt import domain_xml
from p2v.targets.libvirt_host import Delivery, LibvirtHost, Pool
from p2v.targets.qemu import Wiring, qemu_arguments, qemu_script
from p2v.targets.storage import Storage
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device
from tests.targets.samples import hardware
from tests.targets.test_front_ends import DEBIAN, run_with_stand_ins
from tests.targets.test_libvirt import VALIDATOR, valid
from tests.targets.test_qemu import QEMU, runs

TCG = Acceleration(Accelerator.TCG, "in a test")
DEVICE = Path("/dev/vg0/web1-root")
HOSTILE = Path("/dev/disk/by-path/a b$(touch pwned)'\"<&>")


def machine(device: Path = DEVICE) -> TargetHardware:
    """Its first disk is a device, its second a file."""
    made = hardware(disks=2)
    return dataclasses.replace(made, disks=(TargetDisk(device, "raw", "S-0", is_device=True), made.disks[1]))


@VALIDATOR
@pytest.mark.parametrize("device", [DEVICE, HOSTILE])
@pytest.mark.parametrize("pool", [None, "tank"])
def test_libvirt_has_a_block_disk_without_a_cache_whatever_becomes_of_the_others(
    tmp_path: Path, device: Path, pool: str | None
) -> None:
    xml = domain_xml(machine(device), tmp_path, TCG, pools=[pool, pool])
    assert valid(tmp_path, xml)
    first, second = ET.fromstring(xml).findall("devices/disk")
    assert first.get("type") == "block"
    assert [element.attrib for element in first[:2]] == [
        {"name": "qemu", "type": "raw", "discard": "unmap", "cache": "none", "io": "native"},
        {"dev": str(device)},
    ]
    assert second.get("type") == ("file" if pool is None else "volume")


@NEEDS_LOOP_DEVICES
@QEMU
@pytest.mark.parametrize("script", [True, False])
def test_qemu_takes_the_device(tmp_path: Path, script: bool) -> None:
    with loop_device(tmp_path / "file", 16 * MIB) as path:
        made = dataclasses.replace(machine(path), disks=machine(path).disks[:1])
        if script:
            file = tmp_path / "start"
            file.write_text(qemu_script(made, TCG), "utf-8")
            file.chmod(0o755)
            command = [str(file)]
        else:
            command = qemu_arguments(made, TCG, Wiring(rest=("-display", "none")), tmp_path)
        assert runs(command, tmp_path)


def test_the_script_says_that_devices_need_a_right() -> None:
    assert "block devices of this host" in qemu_script(machine())
    assert "block devices of this host" not in qemu_script(hardware())


@pytest.mark.parametrize("device", [DEVICE, HOSTILE])
def test_proxmox_attaches_the_device_and_imports_the_file(tmp_path: Path, device: Path) -> None:
    calls = run_with_stand_ins(tmp_path, proxmox.import_script(machine(device), DEBIAN, "x.sh"), ["qm"], "120", "local-lvm")
    assert calls[2:4] == [
        ["qm", "set", "120", "--virtio0", f"{device},discard=on,serial=S-0"],
        ["qm", "set", "120", "--virtio1", f"local-lvm:0,import-from={tmp_path}/web1-1.qcow2,discard=on,serial=S-1"],
    ]
    conf = proxmox.qm_conf(machine(device), DEBIAN)
    assert f"virtio0: {device},discard=on,serial=S-0\n" in conf
    assert "virtio1: STORAGE:vm-VMID-disk-1," in conf
    assert not Path("/pwned").exists()


@pytest.mark.parametrize("front_end", FrontEnd)
def test_who_uploads_files_takes_no_device(tmp_path: Path, front_end: FrontEnd) -> None:
    def made() -> None:
        definitions(front_end, dataclasses.replace(machine(), nics=machine().nics[:1]), DEBIAN, Placing(tmp_path, (MIB, MIB)))

    if front_end in (FrontEnd.KUBEVIRT, FrontEnd.OPENSTACK):
        with pytest.raises(Usage, match="/dev/vg0/web1-root"):
            made()
    else:
        made()


class RecordedHost(LibvirtHost):
    """A libvirt that takes everything and notes it."""

    def __init__(self, pool: Pool | None = None) -> None:
        super().__init__("", None)  # type: ignore[arg-type]
        object.__setattr__(self, "seen", [])
        object.__setattr__(self, "pool", pool)

    seen: list[str]
    pool: Pool | None

    def check(self, *_: object) -> dict[str, Pool]:
        return {self.pool.name: self.pool} if self.pool is not None else {}

    def upload(self, pool: Pool, file: Path, *_: object) -> str:
        self.seen.append(f"upload {file.name} to {pool.name}")
        return file.name

    def define(self, xml: str) -> None:
        self.seen.append(xml)


def test_only_files_become_volumes(tmp_path: Path) -> None:
    host, pool = RecordedHost(), Pool("tank", "dir", is_active=True)
    outputs = Outputs(tmp_path, ())
    deliver_machine(Delivery(host, Storage("tank")), {"tank": pool}, machine(), (MIB, MIB), outputs, TCG, DEBIAN)
    upload, xml = host.seen
    assert upload == "upload web1-1.qcow2 to tank"
    assert 'source dev="/dev/vg0/web1-root"' in xml
    assert 'volume="web1-1.qcow2"' in xml


def test_a_pool_of_raw_volumes_minds_the_files_alone() -> None:
    volumes = Delivery(RecordedHost(Pool("vg0", "logical", is_active=True)), Storage("vg0"))
    with pytest.raises(Usage):
        check_delivery(volumes, machine())
    alone = dataclasses.replace(machine(), disks=machine().disks[:1])
    assert check_delivery(volumes, alone)
