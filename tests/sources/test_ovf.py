"""OVF packages of several products and versions, each as the machine it describes; what is wrong with one is said."""

from __future__ import annotations

import gzip
import io
import random
import re
import tarfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest

from converters.image import open_disk
from drivers.plan import Finding
from p2v.core.errors import BadDescription, ForbiddenReference, P2vError
from p2v.core.units import GIB, MIB
from p2v.machine import (
    Attachment,
    Clock,
    DriveKind,
    Firmware,
    Machine,
    MachineDisk,
    Nic,
    RemovableDrive,
    SourceBus,
    Topology,
)
from p2v.sources import ovf
from p2v.sources.description import Description, Folder, Members, archived, read_small
from p2v.sources.ovf_units import size_bytes, unit_bytes
from tests.converters import vmdk_writer

DATA = Path(__file__).parent / "data" / "ovf"
FILES = {
    "esxi.ovf": ("ledger-1.vmdk", "ledger data-2.vmdk", "ledger-3.vmdk.gz", "install.iso"),
    "esx35.ovf": tuple(f"files-disk0.vmdk.{number:09d}" for number in range(3)),
    "virtualbox.ovf": ("wiki-disk001.vmdk", "wiki-disk002.vmdk"),
    "ovf2.ovf": ("disks/new.vmdk",),
    "xencenter.ovf": ("cb1557fc-0001.vhd", "cb1557fc-0002.vhd"),
    "ovirt.ovf": ("image-a/volume-a", "image-b/volume-b"),
    "vapp.ovf": ("web.vmdk", "db.vmdk"),
}


def described(
    folder: Path, fixture: str, files: Iterable[str] | None = None, edit: tuple[tuple[str, str], ...] = ()
) -> Description:
    """A fixture in a folder with its files beside it; ``edit`` replaces texts in it, each of which must be there."""
    raw = (DATA / fixture).read_bytes()
    for old, new in edit:
        assert old.encode() in raw
        raw = raw.replace(old.encode(), new.encode())
    return placed(folder, fixture, raw, FILES[fixture] if files is None else files)


def placed(folder: Path, name: str, raw: bytes, files: Iterable[str]) -> Description:
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True, parents=True)
        (folder / file).write_bytes(b"a disk")
    (folder / name).write_bytes(raw)
    return Description(folder / name, raw, Folder(folder, folder / name))


def ids(findings: Iterable[Finding]) -> list[str]:
    return [finding.id for finding in findings]


def without_findings(machine: Machine) -> dict[str, object]:
    return {name: getattr(machine, name) for name in Machine.__dataclass_fields__ if name not in ("warnings", "blockers")}


@pytest.mark.parametrize("fixture", sorted(FILES))
def test_packages_of_all_products_are_recognised_by_their_contents(fixture: str) -> None:
    assert ovf.recognises((DATA / fixture).read_bytes()[:4096])


@pytest.mark.parametrize(
    "head",
    [
        b"", b"<", b"<?xml version='1.0'?><domain type='kvm'><name>ovf</name>", b"\xff\xfe<", b'config.version = "8"',
        b"<soap:Envelope xmlns:soap='http://schemas.xmlsoap.org/soap/envelope/'>", b"KDMV Envelope ovf", b"\0" * 4096,
    ],
)  # fmt: skip
def test_other_files_are_not_taken_for_packages(head: bytes) -> None:
    assert not ovf.recognises(head)


def test_a_machine_of_esxi(tmp_path: Path) -> None:
    machine = ovf.read(described(tmp_path, "esxi.ovf"))
    assert ids(machine.warnings) == ["source.passthrough", "source.port", "source.tpm"]
    assert machine.blockers == ()
    scsi = {"stated_bytes": 40 * GIB, "attachment": Attachment(SourceBus.SCSI, 0, 0, "virtualscsi")}
    assert without_findings(machine) == without_findings(Machine(
        name="ledger-production",
        # the boot order names the third disk, and the second comes before the first only in the file
        disks=(
            MachineDisk(tmp_path / "ledger-3.vmdk.gz", stated_bytes=8 * GIB,
                        attachment=Attachment(SourceBus.NVME, 0, 0, "vmware.nvme.controller")),
            MachineDisk(tmp_path / "ledger-1.vmdk", **scsi),  # type: ignore[arg-type]
            MachineDisk(tmp_path / "ledger data-2.vmdk", stated_bytes=200 * GIB,
                        attachment=Attachment(SourceBus.SCSI, 0, 1, "virtualscsi")),
        ),
        nics=(
            Nic(None, "VM Network", "vmxnet3"),
            Nic("00:50:56:9a:00:1f", "Büro & Lager", "e1000e", connected=False),
        ),
        cpus=4, topology=Topology(2, 2), memory_bytes=6 * GIB, firmware=Firmware.UEFI, secure_boot=True, tpm=True,
        assumed=("mac",), described_by="OVF package", display="svga", guest="windows9Server64Guest", clock=Clock.LOCAL_TIME,
        removable=(
            RemovableDrive(
                DriveKind.CDROM, "install.iso", Attachment(SourceBus.SATA, 0, 0, "vmware.sata.ahci"), tmp_path / "install.iso"
            ),
        ),
    ))  # fmt: skip


def test_a_package_of_ovf_0_9_with_its_disk_in_chunks(tmp_path: Path) -> None:
    machine = ovf.read(described(tmp_path, "esx35.ovf"))
    assert machine == Machine(
        name="File-Server",
        disks=(
            MachineDisk(tmp_path / "files-disk0.vmdk.000000000", stated_bytes=8000 * MIB,
                        attachment=Attachment(SourceBus.SCSI, 0, 0, "lsilogic")),
        ),
        nics=(Nic(None, "VLAN 12", "pcnet32"),),
        cpus=2, memory_bytes=GIB, firmware=Firmware.BIOS, assumed=("mac",), described_by="OVF package",
        display="svga", guest="Windows Server 2003", clock=Clock.LOCAL_TIME,
        removable=(RemovableDrive(DriveKind.FLOPPY, "", Attachment(SourceBus.FLOPPY, 0, 0)),),
    )  # fmt: skip


def test_a_machine_of_virtualbox_keeps_what_its_own_settings_say(tmp_path: Path) -> None:
    machine = ovf.read(described(tmp_path, "virtualbox.ovf"))
    assert ids(machine.warnings) == ["source.network"]
    assert without_findings(machine) == without_findings(Machine(
        name="wiki",
        disks=(
            MachineDisk(tmp_path / "wiki-disk001.vmdk", stated_bytes=10 * GIB, attachment=Attachment(SourceBus.IDE, 0, 0, "piix4")),
            MachineDisk(tmp_path / "wiki-disk002.vmdk", stated_bytes=20 * GIB, attachment=Attachment(SourceBus.SATA, 0, 0, "ahci")),
        ),
        nics=(Nic("08:00:27:ab:cd:ef", "NAT", "e1000"), Nic("08:00:27:ab:cd:f0", "HostOnly", "pcnet32")),
        cpus=1, memory_bytes=GIB, firmware=Firmware.UEFI, uuid="00112233-4455-6677-8899-aabbccddeeff",
        described_by="OVF package", display="vmsvga", guest="Debian_64", clock=Clock.UTC,
        removable=(RemovableDrive(DriveKind.CDROM, "", Attachment(SourceBus.IDE, 1, 0, "piix4")),),
    ))  # fmt: skip


@pytest.mark.parametrize(
    "edit",
    [
        ('OSType="Debian_64"', 'OSType="Windows10_64"'),
        ('<Firmware type="EFI"/>', '<Firmware type="EFI"><SmbiosUuidLittleEndian enabled="true"/></Firmware>'),
    ],
)
def test_the_uuid_of_virtualbox_stays_what_the_guest_saw(tmp_path: Path, edit: tuple[str, str]) -> None:
    machine = ovf.read(described(tmp_path, "virtualbox.ovf", edit=(edit,)))
    assert machine.uuid == "33221100-5544-7766-8899-aabbccddeeff"


def test_a_package_of_ovf_2_with_storage_and_port_items(tmp_path: Path) -> None:
    assert ovf.read(described(tmp_path, "ovf2.ovf")) == Machine(
        name="new",
        disks=(
            MachineDisk(tmp_path / "disks/new.vmdk", stated_bytes=3 * GIB // 2,
                        attachment=Attachment(SourceBus.VIRTIO, 0, 0, "virtioscsi")),
        ),
        nics=(Nic("08:00:27:00:00:07", "LAN", "virtio"),),
        cpus=2, memory_bytes=2 * GIB, assumed=("firmware",), described_by="OVF package", guest="Linux 64-bit", clock=Clock.UTC,
    )  # fmt: skip


def test_a_machine_of_xencenter_in_utf_16_has_its_disks_in_the_order_of_devices(tmp_path: Path) -> None:
    assert ovf.read(described(tmp_path, "xencenter.ovf")) == Machine(
        name="Buro-Server",
        disks=(
            MachineDisk(tmp_path / "cb1557fc-0001.vhd", stated_bytes=8 * GIB, attachment=Attachment(SourceBus.XEN, 0, 0)),
            MachineDisk(tmp_path / "cb1557fc-0002.vhd", stated_bytes=4 * GIB, attachment=Attachment(SourceBus.XEN, 0, 1)),
        ),
        nics=(Nic("d6:3c:0b:00:00:01", "Network 0"),),
        cpus=2, memory_bytes=768 * MIB, firmware=Firmware.UEFI, secure_boot=True, described_by="OVF package", guest="Linux",
        clock=Clock.UTC,
    )  # fmt: skip


def test_a_machine_of_ovirt(tmp_path: Path) -> None:
    machine = ovf.read(described(tmp_path, "ovirt.ovf"))
    assert ids(machine.warnings) == ["source.snapshots"]
    assert without_findings(machine) == without_findings(Machine(
        name="shop",
        disks=(
            MachineDisk(tmp_path / "image-a/volume-a", stated_bytes=10 * GIB,
                        attachment=Attachment(SourceBus.VIRTIO, 0, 0, "virtio_scsi")),
            MachineDisk(tmp_path / "image-b/volume-b", stated_bytes=20 * GIB, attachment=Attachment(SourceBus.IDE, 0, 0, "ide")),
        ),
        nics=(Nic("56:6f:ab:cd:00:01", "ovirtmgmt", "virtio"),),
        cpus=4, topology=Topology(2, 1, 2), memory_bytes=2 * GIB, firmware=Firmware.UEFI, secure_boot=True,
        uuid="5c4a1f6e-1111-4222-8333-444455556666", described_by="OVF package", guest="rhel_8x64", clock=Clock.UTC,
    ))  # fmt: skip


def test_of_several_machines_one_must_be_named(tmp_path: Path) -> None:
    description = described(tmp_path, "vapp.ovf")
    assert ovf.systems(description) == ("Web front", "db")
    with pytest.raises(BadDescription, match=r"2 machines: 'Web front', 'db'"):
        ovf.read(description)
    with pytest.raises(BadDescription, match=r"no machine called 'mail'; in it: 'Web front', 'db'"):
        ovf.read(description, "mail")
    assert ovf.read(description, "web") == ovf.read(description, "Web front")


def test_items_of_the_default_configuration_count(tmp_path: Path) -> None:
    machine = ovf.read(described(tmp_path, "vapp.ovf"), "web")
    assert (machine.cpus, machine.memory_bytes, machine.firmware) == (8, 4 * GIB, Firmware.BIOS)
    assert ids(machine.warnings) == ["source.properties", "source.configuration"]
    assert [disk.stated_bytes for disk in machine.disks] == [10**10]


def test_what_a_package_leaves_open_or_demands_is_said(tmp_path: Path) -> None:
    machine = ovf.read(described(tmp_path, "vapp.ovf"), "db")
    assert ids(machine.warnings) == ["source.section", "source.configuration", "source.number"]
    assert ids(machine.blockers) == ["source.section-required", "source.disk-blank", "source.disk-unknown"]
    assert "Shield" in machine.blockers[0].message
    assert "30.0 GiB" in machine.blockers[1].message
    assert machine.assumed == ("firmware", "cpus", "memory")


@pytest.mark.parametrize(
    ("edit", "warned", "blocked"),
    [
        (('ovf:diskId="vmdisk3"', 'ovf:diskId="vmdisk3" ovf:parentRef="vmdisk1"'), [], ["source.disk-parent"]),
        (('ovf:compression="gzip"', 'ovf:compression="bzip2"'), [], ["source.compression"]),
        (("<References>", "<References><EncryptedData/>"), [], ["source.encrypted"]),
        (("<rasd:HostResource>ovf:/disk/vmdisk2</rasd:HostResource>", ""), ["source.drive-empty", "source.disk-unused"], []),
        (("ovf:/disk/vmdisk2", "ovf:/file/file2"), [], []),
        (("ovf:/disk/vmdisk2", "ovf:/disk/vmdisk1"), ["source.disk-unused"], ["source.disk-twice"]),
        (("vmw:BootOrderSection", "SharedDiskSection"), ["source.disk-shared"], []),
        (("<rasd:VirtualQuantity>4<", "<rasd:VirtualQuantity>four<"), ["source.number"], []),
        (("<rasd:AllocationUnits>byte * 2^20", "<rasd:AllocationUnits>parsec"), ["source.number"], []),
        (("00:50:56:9A:00:1F", "01:50:56:9A:00:1F"), ["source.mac"], []),
        (("vmware.vtpm", "vmware.nvdimm.device"), [], []),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_finding(
    tmp_path: Path, edit: tuple[str, str], warned: list[str], blocked: list[str]
) -> None:
    machine = ovf.read(described(tmp_path, "esxi.ovf", edit=(edit,)))
    usual = {"source.passthrough", "source.port", "source.tpm"}
    assert [each for each in ids(machine.warnings) if each not in usual] == warned
    assert ids(machine.blockers) == blocked


def test_bounds_addresses_of_other_kinds_and_switches_of_other_firmware_count_for_nothing(tmp_path: Path) -> None:
    item = "<rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>"
    bound = f'<Item ovf:bound="max">{item}<rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>'
    edits = (
        ("</System>", f"</System>{bound}"),
        ("<rasd:Address>00:50:56:9A:00:1F<", "<rasd:Address>7<"),
        ('vmw:key="firmware" vmw:value="efi"', 'vmw:key="firmware" vmw:value="bios"'),
    )
    machine = ovf.read(described(tmp_path, "esxi.ovf", edit=edits))
    assert (machine.cpus, machine.nics[1].mac, machine.firmware, machine.secure_boot) == (4, None, Firmware.BIOS, False)
    assert ids(machine.warnings) == ["source.passthrough", "source.port", "source.tpm"]


def test_of_several_descriptions_of_the_hardware_the_first_counts(tmp_path: Path) -> None:
    item = "<Item><ResourceType>3</ResourceType><VirtualQuantity>9</VirtualQuantity></Item>"
    other = f"<VirtualHardwareSection>{item}</VirtualHardwareSection>"
    edit = ("</VirtualHardwareSection>", f"</VirtualHardwareSection>{other}")
    machine = ovf.read(described(tmp_path, "ovf2.ovf", edit=(edit,)))
    assert machine.cpus == 2
    assert ids(machine.warnings) == ["source.hardware-alternatives"]


def test_a_second_controller_of_the_same_address_has_its_own_number(tmp_path: Path) -> None:
    edit = ("<rasd:Parent>6</rasd:Parent>", "<rasd:Parent>4</rasd:Parent>")
    machine = ovf.read(described(tmp_path, "esxi.ovf", edit=(edit,)))
    assert machine.disks[0].attachment == Attachment(SourceBus.SCSI, 1, 0, "lsilogicsas")


@pytest.mark.parametrize(
    "href",
    [
        "http://example.com/disk.vmdk", "file:///etc/passwd", "/etc/passwd", "../disk.vmdk", "a/../../disk.vmdk", "..%2fdisk.vmdk",
        "C:\\disks\\disk.vmdk", "\\\\host\\share\\disk.vmdk", "%2fetc%2fpasswd", "nbd:unix:/x", "", "..\\disk.vmdk",
    ],
)  # fmt: skip
def test_files_of_a_package_lie_below_its_folder(tmp_path: Path, href: str) -> None:
    (tmp_path / "disk.vmdk").write_bytes(b"secret")
    folder = tmp_path / "machine"
    folder.mkdir()
    with pytest.raises(ForbiddenReference):
        ovf.read(described(folder, "ovf2.ovf", edit=(("disks/new.vmdk", href),)))
    archive = made_tar(tmp_path / "x.ova", {"x.ovf": (DATA / "ovf2.ovf").read_bytes().replace(b"disks/new.vmdk", href.encode())})
    with pytest.raises(ForbiddenReference):
        ovf.read(opened(archive))


def test_all_missing_disks_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match=r"'ledger-3.vmdk.gz', 'ledger-1.vmdk'"):
        ovf.read(described(tmp_path, "esxi.ovf", files=("ledger data-2.vmdk",)))


def test_a_missing_last_chunk_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match="in 3 chunks, of which the last one is not there"):
        ovf.read(described(tmp_path, "esx35.ovf", files=FILES["esx35.ovf"][:2]))


def test_a_file_put_together_from_its_chunks_is_taken(tmp_path: Path) -> None:
    machine = ovf.read(described(tmp_path, "esx35.ovf", files=("files-disk0.vmdk",)))
    assert machine.disks[0].path == tmp_path / "files-disk0.vmdk"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"<Envelope xmlns='ovf'/>", "no virtual machine"),
        (b"<Domain/>", "no OVF"),
        (b"<Envelope", "no sound XML"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><Envelope>&a;</Envelope>", "DTD"),
        (b"<Envelope><VirtualSystem/></Envelope>", "nothing of the hardware"),
        (b"<Envelope><VirtualSystem><VirtualHardwareSection/></VirtualSystem></Envelope>", "without any fixed disk"),
        (b"<Envelope><References><File id='a' href='b'/><File id='a'/></References><VirtualSystem/></Envelope>", "two files"),
        (b"<Envelope>" + b"<VirtualSystem/>" * 600 + b"</Envelope>", "more than 512 machines"),
        (b"<Envelope>" + b"<VirtualSystemCollection>" * 900 + b"</VirtualSystemCollection>" * 900 + b"</Envelope>", "levels"),
    ],
    ids=["empty", "a domain", "cut", "entities", "no hardware", "no disk", "a reference twice", "machines", "levels"],
)  # fmt: skip
def test_what_is_no_package_is_an_error(tmp_path: Path, raw: bytes, problem: str) -> None:
    with pytest.raises(BadDescription, match=problem):
        ovf.read(placed(tmp_path, "x.ovf", raw, ()))


def made_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def made_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def opened(archive: Path) -> Description:
    members = archived(archive)
    assert members is not None
    name = next(name for name in members if name.lower().endswith(".ovf") and "._" not in name)
    folder = PurePosixPath(name).parent.as_posix()
    path = archive / name
    return Description(path, read_small(path), Members(archive, members, "" if folder == "." else folder))


@pytest.mark.parametrize("make", [made_tar, made_zip])
@pytest.mark.parametrize("folder", ["", "wiki/"])
def test_an_archive_is_read_where_it_is(tmp_path: Path, make: object, folder: str) -> None:
    assert callable(make)
    members = {f"{folder}{name}": b"a disk" for name in FILES["virtualbox.ovf"]}
    # the .ovf should be first, and is not; macOS adds its own beside it
    members |= {f"{folder}._wiki.ovf": b"\0\5\x16\7", f"{folder}Wiki.OVF": (DATA / "virtualbox.ovf").read_bytes()}
    archive = make(tmp_path / "wiki.ova", members)
    machine = ovf.read(opened(archive))
    assert [disk.path for disk in machine.disks] == [archive / f"{folder}{name}" for name in FILES["virtualbox.ovf"]]
    assert machine.nics[0].mac == "08:00:27:ab:cd:ef"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wiki.ova"]


def test_chunks_in_an_archive_are_found(tmp_path: Path) -> None:
    members = {"esx35.ovf": (DATA / "esx35.ovf").read_bytes(), **dict.fromkeys(FILES["esx35.ovf"], b"part")}
    machine = ovf.read(opened(made_tar(tmp_path / "f.ova", members)))
    assert machine.disks[0].path == tmp_path / "f.ova" / "files-disk0.vmdk.000000000"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("byte * 2^20", MIB), ("byte*2^20", MIB), ("BYTE * 2 ^ 30", GIB), ("byte * 10^9", 10**9), ("byte * 1024 * 2^10", MIB),
        ("MegaBytes", MIB), ("MB", MIB), ("kb", 1024), ("KiloBytes", 1024), ("GiB", GIB), ("GigaBytes", GIB), ("bytes", 1),
        ("byte", 1), ("mebibytes", MIB), ("hertz * 10^6", None), ("byte *", None), ("byte * 2^", None), ("byte * 0", None),
        ("byte * 9999^99", None), ("", None), ("parsec", None), ("byte * 2^20" + "0" * 10_000, None), ("byte ** 2", None),
    ],
)  # fmt: skip
def test_units_are_read_in_every_way_they_are_written(text: str, size: int | None) -> None:
    assert unit_bytes(text) == size


@pytest.mark.parametrize(
    ("number", "unit", "size"),
    [
        ("3", "MB", 3 * MIB), (" +3 ", "", 7 * 3), ("1.5", "byte * 2^10", 1536), ("-1", "MB", None), ("1e3", "MB", None),
        ("", "MB", None), ("1", "ell", None), ("9" * 30, "MB", None), ("١", "MB", None),
    ],
)  # fmt: skip
def test_sizes_are_numbers_of_units(number: str, unit: str, size: int | None) -> None:
    assert size_bytes(number, unit, 7) == size


@pytest.mark.parametrize("fixture", sorted(FILES))
def test_damaged_packages_raise_errors_of_their_own_only(tmp_path: Path, fixture: str) -> None:
    description = described(tmp_path, fixture)
    chance = random.Random(fixture)
    text = description.data
    is_wide = text[:2] == b"\xff\xfe"
    tokens = [b"", b"-1", b"9" * 40, b"\0", b"\xff", b"${x}", b"../x", b"/", b"3", b"17", b"true", b"ovf:/disk/", b"&#0;", b"\xc3"]
    values = [match.span(1) for match in re.finditer(rb">([^<>]+)<|\"([^\"]*)\"", text) if match[1]]
    started = time.thread_time()
    slowest, rounds = 0.0, 0
    while rounds < 300 and time.thread_time() - started < 0.6:
        rounds += 1
        raw = bytearray(text)
        for _ in range(chance.randrange(1, 4)):
            if chance.random() < 0.5 and values and not is_wide:
                begin, end = chance.choice(values)
                raw[begin:end] = chance.choice(tokens)
            else:
                begin = chance.randrange(len(raw))
                raw[begin : begin + chance.randrange(1, 60)] = chance.choice(tokens)
        damaged = Description(description.path, bytes(raw), description.around)
        before = time.thread_time()
        try:
            ovf.recognises(damaged.data[:4096])
            for name in ovf.systems(damaged):
                ovf.read(damaged, name)
        except P2vError:
            pass
        slowest = max(slowest, time.thread_time() - before)
    assert rounds > 5
    assert slowest < 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("chunk_bytes", [0, 9000])
@pytest.mark.parametrize("make", [made_tar, made_zip])
def test_disks_of_a_package_open_where_they_stand(tmp_path: Path, make: object, chunk_bytes: int, packed: bool) -> None:
    assert callable(make)
    line = 'RW 8192 SPARSE "new.vmdk"'
    text = vmdk_writer.descriptor(line, create_type="streamOptimized")
    noise = random.Random(1).randbytes(64 * 1024)
    data = vmdk_writer.stream({0: noise, 3: b"\3" * len(noise)}, 8192, text=text)
    data = gzip.compress(data) if packed else data
    extra = f" ovf:size='{len(data)}'" + (" ovf:compression='gzip'" if packed else "")
    parts = {"disks/new.vmdk": data}
    if chunk_bytes:
        extra += f" ovf:chunkSize='{chunk_bytes}'"
        begins = range(0, len(data), chunk_bytes)
        parts = {f"disks/new.vmdk.{n:09d}": data[begin : begin + chunk_bytes] for n, begin in enumerate(begins)}
        assert len(parts) > 3
    raw = (DATA / "ovf2.ovf").read_bytes().replace(b'ovf:href="disks/new.vmdk"', f'ovf:href="disks/new.vmdk"{extra}'.encode())
    (disk,) = ovf.read(opened(make(tmp_path / "new.ova", {"new.ovf": raw, **parts}))).disks
    with open_disk(disk.path, disk.input_format, disk.lookup) as image:
        assert image.virtual_size == 8192 * 512
        assert image.pread(len(noise), 0) == noise
        assert image.pread(4, 3 * len(noise)) == b"\3\3\3\3"


def test_a_package_made_to_take_long_does_not(tmp_path: Path) -> None:
    items = "".join(
        f"<Item><InstanceID>{n}</InstanceID><ResourceType>{6 if n % 4 else 17}</ResourceType><Address>0</Address>"
        f"<Parent>{n + 1}</Parent><HostResource>ovf:/disk/none</HostResource></Item>"
        for n in range(1000)
    )
    disks = "".join(f"<Disk diskId='{n}' fileRef='{n}'/>" for n in range(2000))
    files = "".join(f"<File id='{n}' href='{n}' chunkSize='1' size='9'/>" for n in range(2000))
    hardware = f"<VirtualHardwareSection><Item>{'<Limit/>' * 50_000}</Item>{items}</VirtualHardwareSection>"
    boot = "<BootOrderSection instanceId='" + "1 " * 100_000 + "'/>"
    raw = f"<Envelope><References>{files}</References><DiskSection>{disks}</DiskSection>"
    raw += f"<VirtualSystem>{hardware}{boot}</VirtualSystem>"
    started = time.process_time()
    with pytest.raises(BadDescription, match="without any fixed disk"):
        ovf.read(placed(tmp_path, "x.ovf", f"{raw}</Envelope>".encode(), ()))
    assert time.process_time() - started < 5


def test_a_description_in_a_folder_of_the_machine_knows_its_own_name_and_neighbours(tmp_path: Path) -> None:
    for name in ("x.ovf", "a/x.ovf", "a/x.mf", "a/disks/d.vmdk"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"")
    below = Description(tmp_path / "a/x.ovf", b"", Folder(tmp_path, tmp_path / "a/x.ovf"))
    assert (below.name, below.beside()) == ("a/x.ovf", ("disks/d.vmdk", "x.mf", "x.ovf"))
    top = Description(tmp_path / "x.ovf", b"", Folder(tmp_path, tmp_path / "x.ovf"))
    assert (top.name, top.beside()) == ("x.ovf", ("a/disks/d.vmdk", "a/x.mf", "a/x.ovf", "x.ovf"))
