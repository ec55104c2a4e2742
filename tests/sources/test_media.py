"""Media in drives: which image a description means, and which of them can come along."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from converters.references import Lookup
from p2v.machine import DriveKind, Machine, MediumImage, RemovableDrive
from p2v.sources.media import with_media
from p2v.sources.recognition import read_machine
from tests.fuzz.descriptions import DISKS as WINDOWS_DISKS
from tests.sources.laid import DATA

FLOPPY = bytes(1440 * 1024)
BOTH, DISC = ["Setup.iso", "boot.flp"], ["Setup.iso", None]
VMX = """config.version = "8"
memsize = "512"
ide0:0.present = "TRUE"
ide0:0.fileName = "web.img"
ide1:0.present = "TRUE"
ide1:0.deviceType = "{kind}"
ide1:0.fileName = "{disc}"
floppy0.present = "TRUE"
floppy0.fileType = "{floppy_kind}"
floppy0.fileName = "{floppy}"
"""
LIBVIRT = """<domain type="kvm"><name>web</name><memory unit="MiB">512</memory><os><type machine="pc">hvm</type></os><devices>
<disk type="file" device="disk"><source file="web.img"/><target dev="vda"/></disk>
<disk type="{kind}" device="cdrom"><source {attribute}="{disc}"/><target dev="hdc" bus="ide"/></disk>
<disk type="file" device="floppy"><source file="{floppy}"/><target dev="fda" bus="fdc"/></disk></devices></domain>"""
PROXMOX = "memory: 512\nscsi0: local:100/web.img\nide2: {disc},media=cdrom,size=4M\n"
XEN = """name = "web"
memory = 512
builder = "hvm"
disk = [ "file:web.img,hda,w", "file:{disc},hdc:cdrom,r" ]
"""
VBOX = """<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
<Machine uuid="{{0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9}}" name="web"><MediaRegistry>
<HardDisks><HardDisk uuid="{{aaaaaaaa-0000-0000-0000-000000000001}}" location="web.img" format="RAW"/></HardDisks>
<DVDImages><Image uuid="{{bbbbbbbb-0000-0000-0000-000000000001}}" location="{disc}"/></DVDImages>
<FloppyImages><Image uuid="{{cccccccc-0000-0000-0000-000000000001}}" location="{floppy}"/></FloppyImages></MediaRegistry>
<Hardware><Memory RAMSize="512"/>
<StorageControllers><StorageController name="SATA" type="AHCI"><AttachedDevice type="HardDisk" port="0" device="0">
<Image uuid="{{aaaaaaaa-0000-0000-0000-000000000001}}"/></AttachedDevice><AttachedDevice type="DVD" port="1" device="0">
<Image uuid="{{bbbbbbbb-0000-0000-0000-000000000001}}"/></AttachedDevice></StorageController>
<StorageController name="Floppy" type="I82078"><AttachedDevice type="Floppy" port="0" device="0">
<Image uuid="{{cccccccc-0000-0000-0000-000000000001}}"/></AttachedDevice></StorageController></StorageControllers>
</Hardware></Machine></VirtualBox>"""


def disc(*, marker: bytes = b"CD001", sector: int = 16) -> bytes:
    """An image of a few sectors with a volume descriptor."""
    image = bytearray(40 * 2048)
    image[sector * 2048 + 1 : sector * 2048 + 6] = marker
    return bytes(image)


def machine(folder: Path, name: str, text: str, lookup: Lookup | None = None) -> Machine:
    (folder / "web.img").write_bytes(b"disk" * 300)
    (folder / name).write_text(text, "utf-8")
    found = read_machine(folder / name, lookup or Lookup())
    assert found is not None
    return found


def paths(found: Machine) -> list[str | None]:
    return [drive.path.name if drive.path is not None else None for drive in found.removable]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("web.vmx", VMX.format(kind="cdrom-image", disc="Setup.iso", floppy_kind="file", floppy="boot.flp"), BOTH),
        ("web.vmx", VMX.format(kind="cdrom-image", disc="C:\\\\ISO\\\\setup.ISO", floppy_kind="file", floppy=""), DISC),
        ("web.vmx", VMX.format(kind="atapi-cdrom", disc="auto detect", floppy_kind="device", floppy="boot.flp"), [None, None]),
        ("web.vmx", VMX.format(kind="cdrom-image", disc="gone.iso", floppy_kind="file", floppy="gone.flp"), [None, None]),
        ("web.xml", LIBVIRT.format(kind="file", attribute="file", disc="/srv/iso/Setup.iso", floppy="boot.flp"), BOTH),
        ("web.xml", LIBVIRT.format(kind="block", attribute="dev", disc="/dev/cdrom", floppy="/dev/fd0"), [None, None]),
        ("web.xml", LIBVIRT.format(kind="volume", attribute="volume", disc="Setup.iso", floppy=""), ["Setup.iso", None]),
        ("100.conf", PROXMOX.format(disc="local:iso/Setup.iso"), ["Setup.iso"]),
        ("100.conf", PROXMOX.format(disc="none"), [None]),
        ("100.conf", PROXMOX.format(disc="cdrom"), [None]),
        ("web.cfg", XEN.format(disc="/srv/Setup.iso"), ["Setup.iso"]),
        ("web.cfg", XEN.format(disc="/dev/cdrom"), [None]),
        ("web.vbox", VBOX.format(disc="/srv/iso/Setup.iso", floppy="D:\\boot.FLP"), ["Setup.iso", "boot.flp"]),
    ],
)  # fmt: skip
def test_the_image_that_a_description_means_is_found(tmp_path: Path, name: str, text: str, expected: list[str | None]) -> None:
    (tmp_path / "Setup.iso").write_bytes(disc())
    (tmp_path / "boot.flp").write_bytes(FLOPPY)
    assert paths(machine(tmp_path, name, text)) == expected


@pytest.mark.parametrize(
    ("sample", "encoding", "media"),
    [("vmc/virtual-server-2005.vmc", "utf-16", 1), ("hyperv/2008-r2.xml", "utf-16", 1)],
)
def test_windows_descriptions_find_theirs(tmp_path: Path, sample: str, encoding: str, media: int) -> None:
    for disk in WINDOWS_DISKS:
        (tmp_path / disk).write_bytes(b"disk")
    path = tmp_path / Path(sample).name
    path.write_bytes((DATA / sample).read_text("utf-8").encode(encoding))
    before = read_machine(path)
    assert before is not None
    named = [drive.medium for drive in before.removable if drive.medium]
    assert named
    for medium in named:
        (tmp_path / medium.replace("\\", "/").rpartition("/")[2].upper()).write_bytes(disc())
    found = read_machine(path)
    assert found is not None
    assert len([each for each in paths(found) if each]) == len(named) >= media


def test_an_image_outside_the_machines_folder_is_taken_only_where_it_is_allowed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "machine", tmp_path / "iso"
    inside.mkdir()
    outside.mkdir()
    (outside / "Setup.iso").write_bytes(disc())
    text = LIBVIRT.format(kind="file", attribute="file", disc=outside / "Setup.iso", floppy="")
    assert paths(machine(inside, "web.xml", text)) == [None, None]
    assert paths(machine(inside, "web.xml", text, Lookup(allowed=(outside,)))) == ["Setup.iso", None]


def with_drive(path: Path, kind: DriveKind = DriveKind.CDROM) -> Machine:
    return with_media(Machine("web", (), removable=(RemovableDrive(kind, "x", path=path),)))


@pytest.mark.parametrize(
    ("marker", "sector"), [(b"CD001", 16), (b"CD001", 17), (b"BEA01", 16), (b"NSR02", 17), (b"NSR03", 31)]
)
def test_a_disc_comes_along(tmp_path: Path, marker: bytes, sector: int) -> None:
    path = tmp_path / "a.iso"
    path.write_bytes(disc(marker=marker, sector=sector))
    found = with_drive(path)
    assert found.removable[0].image == MediumImage(path, 40 * 2048, path.stat().st_mtime_ns)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", DriveKind.CDROM), (b"x" * 100, DriveKind.CDROM), (bytes(80_000), DriveKind.CDROM), (disc(sector=32), DriveKind.CDROM),
        (b"", DriveKind.FLOPPY), (bytes(513), DriveKind.FLOPPY), (bytes(2880 * 1024 + 512), DriveKind.FLOPPY),
    ],
)  # fmt: skip
def test_what_is_no_image_of_such_a_medium_stays_with_a_word(tmp_path: Path, data: bytes, kind: DriveKind) -> None:
    path = tmp_path / "a.iso"
    path.write_bytes(data)
    found = with_drive(path, kind)
    assert found.removable[0].image is None
    assert [finding.id for finding in found.warnings] == ["source.medium"]


def test_sizes_of_floppies(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    for kib in (160, 360, 720, 1200, 1440, 2880):
        path.write_bytes(bytes(kib * 1024))
        assert with_drive(path, DriveKind.FLOPPY).removable[0].image is not None


def test_a_medium_that_is_not_here_is_told_once_it_is_asked_for(tmp_path: Path) -> None:
    drives = (RemovableDrive(DriveKind.CDROM, "/dev/cdrom"), RemovableDrive(DriveKind.CDROM))
    found = with_media(Machine("web", (), removable=drives))
    assert found.removable == drives
    assert [finding.id for finding in found.warnings] == ["source.medium"]
    gone = with_drive(tmp_path / "gone.iso")
    assert [finding.id for finding in gone.warnings] == ["source.medium"]
    os.mkfifo(tmp_path / "fifo")
    assert with_drive(tmp_path / "fifo").removable[0].image is None
