"""UEFI variables of descriptions: which file they are in, whatever hypervisor wrote it, and what is said where there is none."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from converters.references import Lookup
from p2v.core.run import SystemRunner, find_program
from p2v.machine import Machine
from p2v.sources.recognition import read_machine
from tests.nvram import writer
from tests.nvram.writer import GLOBAL, Var

PATH = writer.partition() + writer.loader("\\EFI\\debian\\grubx64.efi") + writer.END
VARIABLES = (Var("Boot0001", GLOBAL, writer.entry("debian", PATH)), Var("BootOrder", GLOBAL, b"\1\0"))
STORE = writer.store(VARIABLES)
LIBVIRT = """<domain type="kvm"><name>web</name><memory unit="MiB">512</memory><os{firmware}><type>hvm</type>{nvram}</os>
<devices><disk type="file" device="disk"><source file="web.img"/><target dev="vda"/></disk></devices></domain>"""
VMX = """config.version = "8"
memsize = "512"
firmware = "{firmware}"
{nvram}
sata0.present = "TRUE"
sata0:0.present = "TRUE"
sata0:0.fileName = "web.img"
"""
PROXMOX = """bios: {firmware}
efidisk0: local:100/{nvram},efitype=4m,size=4M
memory: 512
scsi0: local:100/web.img
"""
VBOX = """<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
<Machine uuid="{{0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9}}" name="web">
<MediaRegistry><HardDisks><HardDisk uuid="{{aaaaaaaa-0000-0000-0000-000000000001}}" location="web.img" format="RAW"/>
</HardDisks></MediaRegistry>
<Hardware><Memory RAMSize="512"/><Firmware type="{firmware}"/><BIOS>{nvram}</BIOS>
<StorageControllers><StorageController name="SATA" type="AHCI"><AttachedDevice type="HardDisk" port="0" device="0">
<Image uuid="{{aaaaaaaa-0000-0000-0000-000000000001}}"/></AttachedDevice></StorageController></StorageControllers>
</Hardware></Machine></VirtualBox>"""


def machine(folder: Path, name: str, text: str, lookup: Lookup | None = None) -> Machine:
    (folder / "web.img").write_bytes(b"disk")
    (folder / name).write_text(text, "utf-8")
    found = read_machine(folder / name, lookup or Lookup())
    assert found is not None
    return found


def libvirt(folder: Path, nvram: str = "/var/lib/libvirt/qemu/nvram/web_VARS.fd", lookup: Lookup | None = None) -> Machine:
    named = f"<nvram>{nvram}</nvram>" if nvram else ""
    return machine(folder, "web.xml", LIBVIRT.format(firmware=' firmware="efi"', nvram=named), lookup)


def said(found: Machine) -> list[str]:
    return [finding.message for finding in found.warnings if finding.id == "source.variables"]


def carried(found: Machine) -> tuple[str | None, list[str]]:
    return found.nvram.name if found.nvram is not None else None, [each.name for each in found.variables]


WHOLE = ["Boot0001", "BootOrder"]


def test_libvirts_file_is_found_beside_the_domain(tmp_path: Path) -> None:
    (tmp_path / "web_VARS.fd").write_bytes(STORE)
    found = libvirt(tmp_path)
    assert carried(found) == ("web_VARS.fd", WHOLE)
    assert said(found) == []


@pytest.mark.skipif(find_program("qemu-img") is None, reason="qemu-img is not installed")
def test_a_store_in_qcow2_is_read(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(STORE)
    SystemRunner().run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(tmp_path / "raw"), str(tmp_path / "web_VARS.qcow2")], timeout=60
    )
    assert carried(libvirt(tmp_path, "web_VARS.qcow2")) == ("web_VARS.qcow2", WHOLE)


def test_proxmoxs_disk_of_variables_is_read_and_is_no_disk_that_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "vm-100-disk-1.raw").write_bytes(STORE)
    found = machine(tmp_path, "100.conf", PROXMOX.format(firmware="ovmf", nvram="vm-100-disk-1.raw"))
    assert carried(found) == ("vm-100-disk-1.raw", WHOLE)
    assert len(found.disks) == 1


@pytest.mark.parametrize("stated", [True, False])
def test_vmwares_file_is_read_by_its_name_or_the_usual_one(tmp_path: Path, stated: bool) -> None:
    name = "other.nvram" if stated else "web.nvram"
    (tmp_path / name).write_bytes(writer.vmware(VARIABLES))
    nvram = f'nvram = "{name}"' if stated else ""
    assert carried(machine(tmp_path, "web.vmx", VMX.format(firmware="efi", nvram=nvram))) == (name, WHOLE)


@pytest.mark.parametrize("in_tar", [True, False])
@pytest.mark.parametrize("stated", [True, False])
def test_virtualboxs_file_is_read_plain_and_in_its_archive(tmp_path: Path, stated: bool, in_tar: bool) -> None:
    name = "other.nvram" if stated else "web.nvram"
    (tmp_path / name).write_bytes(writer.virtualbox(STORE) if in_tar else STORE)
    nvram = f'<NVRAM path="{name}"/>' if stated else ""
    found = machine(tmp_path, "web.vbox", VBOX.format(firmware="EFI", nvram=nvram))
    assert carried(found) == (name, WHOLE)
    assert said(found) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("web.xml", LIBVIRT.format(firmware="", nvram="")),
        ("web.vmx", VMX.format(firmware="bios", nvram='nvram = "web.nvram"')),
        ("100.conf", PROXMOX.format(firmware="seabios", nvram="web.nvram")),
        ("web.vbox", VBOX.format(firmware="BIOS", nvram='<NVRAM path="web.nvram"/>')),
    ],
)
def test_a_machine_with_a_bios_has_none_and_misses_none(tmp_path: Path, name: str, text: str) -> None:
    found = machine(tmp_path, name, text)
    assert carried(found) == (None, [])
    assert said(found) == []


def test_a_file_that_is_named_and_gone_is_told_one_that_is_not_named_is_not(tmp_path: Path) -> None:
    assert ["are not there" in message for message in said(libvirt(tmp_path))] == [True]
    assert said(libvirt(tmp_path, "")) == []
    assert said(machine(tmp_path, "web.vmx", VMX.format(firmware="efi", nvram=""))) == []


def test_a_file_outside_the_machines_folder_is_read_only_when_it_is_allowed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "machine", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    (outside / "web_VARS.fd").write_bytes(STORE)
    found = libvirt(inside, str(outside / "web_VARS.fd"))
    assert carried(found) == (None, [])
    assert ["outside the machine's folder" in message for message in said(found)] == [True]
    allowed = libvirt(inside, str(outside / "web_VARS.fd"), Lookup(allowed=(outside,)))
    assert carried(allowed) == ("web_VARS.fd", WHOLE)


@pytest.mark.parametrize(
    "data", [b"", b"no store at all" * 100, STORE[:100], b"QFI\xfb" + bytes(600), b"MRVN" + b"\xff" * 100,
             writer.virtualbox(STORE[:500]), writer.virtualbox(STORE)[:700]],
)  # fmt: skip
def test_a_file_that_is_none_is_told_and_stops_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "web_VARS.fd").write_bytes(data)
    found = libvirt(tmp_path)
    assert carried(found) == (None, [])
    assert len(said(found)) == 1


OVF = """<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vmw="http://www.vmware.com/schema/ovf">
<References><File ovf:href="web.img" ovf:id="file1"/>{files}</References>
<DiskSection><Info/><Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="1048576"/></DiskSection>
<VirtualSystem ovf:id="web"><Info/><VirtualHardwareSection><Info/>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>20</rasd:ResourceType></Item>
<Item><rasd:InstanceID>2</rasd:InstanceID><rasd:Parent>1</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType>
<rasd:HostResource>ovf:/disk/disk1</rasd:HostResource></Item>
<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="{firmware}"/>
</VirtualHardwareSection></VirtualSystem></Envelope>"""
ONE = '<File ovf:href="web-file1.nvram" ovf:id="file2"/>'


def test_a_packages_file_of_variables_is_read_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "web-file1.nvram").write_bytes(writer.vmware(VARIABLES))
    assert carried(machine(tmp_path, "web.ovf", OVF.format(firmware="efi", files=ONE))) == ("web-file1.nvram", WHOLE)
    assert carried(machine(tmp_path, "web.ovf", OVF.format(firmware="bios", files=ONE))) == (None, [])
    two = ONE + '<File ovf:href="other.nvram" ovf:id="file3"/>'
    assert carried(machine(tmp_path, "web.ovf", OVF.format(firmware="efi", files=two))) == (None, [])


def test_the_file_in_an_archive_is_read_there(tmp_path: Path) -> None:
    parts = {"web.ovf": OVF.format(firmware="efi", files=ONE).encode(), "web.img": b"disk" * 200,
             "web-file1.nvram": writer.vmware(VARIABLES)}  # fmt: skip
    with tarfile.open(tmp_path / "web.ova", "w") as tar:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    found = read_machine(tmp_path / "web.ova")
    assert found is not None
    assert carried(found) == ("web-file1.nvram", WHOLE)
