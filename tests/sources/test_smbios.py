"""What SMBIOS told a guest, from each kind of description, and what of it stays behind."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from p2v.core.errors import P2vError
from p2v.machine import Machine, Smbios
from p2v.sources.recognition import read_machine
from tests.fuzz.descriptions import DISKS as WINDOWS_DISKS
from tests.sources.laid import DATA

VMX = 'config.version = "8"\nmemsize = "512"\nide0:0.present = "TRUE"\nide0:0.fileName = "web.img"\n'
BIOS = '{}uuid.bios = "56 4D 30 8b 9a 22 18 21-0f 1b 2f 3a 4b 5c 6d 7e"\n'
DERIVED = "VMware-56 4d 30 8b 9a 22 18 21-0f 1b 2f 3a 4b 5c 6d 7e"
LIBVIRT = """<domain type="kvm"><name>web</name><memory unit="MiB">512</memory>{sysinfo}
<os><type>hvm</type>{mode}</os>
<devices><disk type="file" device="disk"><source file="web.img"/><target dev="vda"/></disk></devices></domain>"""
SYSINFO = """<sysinfo type="smbios"><bios><entry name="vendor">Old</entry></bios>
<system><entry name="manufacturer">{maker}</entry><entry name="product">PowerEdge R720</entry><entry name="version">2</entry>
<entry name="serial">7J0P6Z1</entry><entry name="sku">SKU=1</entry><entry name="family">Servers</entry></system>
<baseBoard><entry name="serial">CN70, 1</entry><entry name="asset">B-9</entry></baseBoard>
<chassis><entry name="serial">7J0P6Z1</entry><entry name="asset">{tag}</entry></chassis></sysinfo>"""
WHOLE = Smbios("Dell Inc.", "PowerEdge R720", "2", "7J0P6Z1", "SKU=1", "Servers", "CN70, 1", "B-9", "7J0P6Z1", "IT-4711")
PROXMOX = "memory: 512\nscsi0: local:100/web.img\nsmbios1: {}\n"
VBOX = """<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
<Machine uuid="{{0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9}}" name="web"><MediaRegistry>
<HardDisks><HardDisk uuid="{{aaaaaaaa-0000-0000-0000-000000000001}}" location="web.img" format="RAW"/></HardDisks></MediaRegistry>
<ExtraData>{items}</ExtraData><Hardware><Memory RAMSize="512"/>
<StorageControllers><StorageController name="SATA" type="AHCI"><AttachedDevice type="HardDisk" port="0" device="0">
<Image uuid="{{aaaaaaaa-0000-0000-0000-000000000001}}"/></AttachedDevice></StorageController></StorageControllers>
</Hardware></Machine></VirtualBox>"""
ITEM = '<ExtraDataItem name="VBoxInternal/Devices/{}/0/Config/Dmi{}" value="{}"/>'


def machine(folder: Path, name: str, text: str) -> Machine:
    (folder / "web.img").write_bytes(b"disk" * 300)
    (folder / name).write_text(text, "utf-8")
    found = read_machine(folder / name)
    assert found is not None
    return found


def said(found: Machine) -> int:
    return len([finding for finding in found.warnings if finding.id == "source.smbios"])


@pytest.mark.parametrize(
    ("lines", "smbios", "warnings"),
    [
        ("", Smbios(), 0),
        (BIOS.format(""), Smbios(serial=DERIVED), 0),
        (BIOS.format("").replace("uuid.bios", "uuid.location"), Smbios(serial=DERIVED), 0),
        (BIOS.format('SMBIOS.AssetTag = "IT 4711"\n'), Smbios(serial=DERIVED, asset_tag="IT 4711"), 0),
        (BIOS.format('serialNumber.reflectHost = "TRUE"\nserialNumber = "X"\n'), Smbios(), 1),
        (BIOS.format('smbios.useShortSerialNumber = "TRUE"\n'), Smbios(), 1),
        (BIOS.format('serialNumber = "C02XL0GYJGH5"\nserialNumber.reflectHost = "FALSE"\n'), Smbios(serial="C02XL0GYJGH5"), 0),
        ('uuid.bios = "56 4d 30"\n', Smbios(), 0),
        (BIOS.format('smbios.assetTag = "7783-7084-3265-9085-8269-3286-77"\n'), Smbios(serial=DERIVED), 0),
    ],
)
def test_vmwares_serial_number_is_made_from_its_uuid(tmp_path: Path, lines: str, smbios: Smbios, warnings: int) -> None:
    found = machine(tmp_path, "web.vmx", VMX + lines)
    assert (found.smbios, said(found)) == (smbios, warnings)


@pytest.mark.parametrize(
    ("mode", "sysinfo", "smbios", "warnings"),
    [
        ("sysinfo", SYSINFO.format(maker="Dell Inc.", tag="IT-4711"), WHOLE, 0),
        ("emulate", SYSINFO.format(maker="Dell Inc.", tag="IT-4711"), Smbios(), 0),
        ("", SYSINFO.format(maker="Dell Inc.", tag="IT-4711"), Smbios(), 0),
        ("host", "", Smbios(), 1),
        ("sysinfo", "", Smbios(), 0),
        # the words of a platform would make the guest's programs look for it
        (
            "sysinfo", SYSINFO.format(maker="OpenStack Foundation", tag="OracleCloud.com"),
            Smbios(serial="7J0P6Z1", sku="SKU=1", board_serial="CN70, 1", board_asset="B-9", chassis_serial="7J0P6Z1"), 0,
        ),
        ("sysinfo", SYSINFO.format(maker="Müller", tag="x" * 256),
         Smbios("", "PowerEdge R720", "2", "7J0P6Z1", "SKU=1", "Servers", "CN70, 1", "B-9", "7J0P6Z1", ""), 2),
    ],
)  # fmt: skip
def test_libvirts_sysinfo_counts_where_it_was_shown(
    tmp_path: Path, mode: str, sysinfo: str, smbios: Smbios, warnings: int
) -> None:
    shown = f'<smbios mode="{mode}"/>' if mode else ""
    found = machine(tmp_path, "web.xml", LIBVIRT.format(mode=shown, sysinfo=sysinfo))
    assert (found.smbios, said(found)) == (smbios, warnings)


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "smbios", "warnings"),
    [
        ("uuid=a5d2e1c0-8f2f-4dae-a0f2-6a1b8e5c7d01", Smbios(), 0),
        ("serial=A1,manufacturer=Dell", Smbios(serial="A1", manufacturer="Dell"), 0),
        (f"base64=1,serial={coded('A1, b=2')},family={coded('F')}", Smbios(serial="A1, b=2", family="F"), 0),
        ("base64=1,serial=not base64", Smbios(), 1),
        (f"base64=1,serial={base64.b64encode(bytes([255])).decode()}", Smbios(), 1),
    ],
)
def test_proxmoxs_values_are_decoded(tmp_path: Path, text: str, smbios: Smbios, warnings: int) -> None:
    found = machine(tmp_path, "100.conf", PROXMOX.format(text))
    assert (found.smbios, said(found)) == (smbios, warnings)


@pytest.mark.parametrize("device", ["pcbios", "efi"])
def test_virtualboxs_extra_data(tmp_path: Path, device: str) -> None:
    told = {
        "SystemVendor": "Dell Inc.", "SystemProduct": "PowerEdge R720", "SystemVersion": "string:2", "SystemSerial": "string:4711",
        "SystemSKU": "&lt;EMPTY&gt;", "BoardSerial": "B1", "BoardAssetTag": "B-9", "ChassisSerial": "C1",
        "ChassisAssetTag": "IT-4711", "SystemUuid": "x", "BIOSVendor": "x",
    }  # fmt: skip
    items = "".join(ITEM.format(device, key, value) for key, value in told.items())
    other = '<ExtraDataItem name="GUI/DmiSystemSerial" value="no"/>'
    found = machine(tmp_path, "web.vbox", VBOX.format(items=other + items))
    assert found.smbios == Smbios("Dell Inc.", "PowerEdge R720", "2", "4711", "", "", "B1", "B-9", "C1", "IT-4711")


def test_hyperv_and_virtual_pc_have_theirs_in_the_firmwares_settings(tmp_path: Path) -> None:
    for disk in WINDOWS_DISKS:
        (tmp_path / disk).write_bytes(b"disk")
    text = (DATA / "hyperv/2008-r2.xml").read_text("utf-8")
    asset = '<asset_tag type="string">0000-0001-0002-0003-0004-0005-06</asset_tag>'
    assert asset in text
    own = text.replace(asset, '<asset_tag type="string">IT-4711</asset_tag><serial_number type="string">C1</serial_number>')
    (tmp_path / "a.xml").write_bytes(own.encode("utf-16"))
    found = read_machine(tmp_path / "a.xml")
    assert found is not None
    assert (found.smbios.chassis_serial, found.smbios.asset_tag) == ("C1", "IT-4711")


def test_texts_of_any_kind_are_read_or_told(tmp_path: Path) -> None:
    for text in ("", "\t", "a" * 70_000, "\u202e", "a\x7fb", '"', "%s"):
        escaped = text.replace("&", "&amp;").replace('"', "&quot;")
        try:
            found = machine(tmp_path, "web.vbox", VBOX.format(items=ITEM.format("pcbios", "SystemSerial", escaped)))
        except P2vError:
            continue
        assert found.smbios.serial == "" or (found.smbios.serial == text and said(found) == 0)
