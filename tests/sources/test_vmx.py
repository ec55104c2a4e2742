"""VMware's .vmx of several products and decades, each as the machine it describes; what is wrong with one is said."""

from __future__ import annotations

import random
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

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
    Smbios,
    SourceBus,
    Topology,
)
from p2v.sources import vmx
from p2v.sources.description import Description, Folder, Members
from p2v.sources.vmx_settings import settings
from tests.converters import vmdk_writer

DATA = Path(__file__).parent / "data" / "vmx"
KIND = "VMware virtual machine (.vmx)"
FILES = {
    "workstation.vmx": ("Büro-PC.vmdk", "Daten/Büro-PC-Daten.vmdk"),
    "esxi.vmx": ("mail-000002.vmdk", "mail_1.vmdk", "mail_2.vmdk"),
    "fusion.vmx": ("Virtual Disk.vmdk",),
    "gsx.vmx": ("nt4.vmdk", "daten.vmdk"),
    "esx2.vmx": ("linux24.vmdk",),
}
Edit = tuple[str, str]


def described(folder: Path, fixture: str, *edits: Edit, more: Iterable[str] = ()) -> Description:
    """A fixture in a folder with its disks beside it; ``edits`` replace texts in it, each of which must be there."""
    raw = (DATA / fixture).read_bytes()
    for old, new in edits:
        assert old.encode() in raw
        raw = raw.replace(old.encode(), new.encode())
    for file in (*FILES[fixture], *more):
        (folder / file).parent.mkdir(exist_ok=True, parents=True)
        (folder / file).write_bytes(b"a disk")
    (folder / fixture).write_bytes(raw)
    return Description(folder / fixture, raw, Folder(folder, folder / fixture))


def said(folder: Path, text: str | bytes, disk: str = "d.vmdk") -> Machine:
    """The machine of a text, with one SCSI disk."""
    raw = text.encode() if isinstance(text, str) else text
    raw += f'\nscsi0.present = "TRUE"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "{disk}"\n'.encode()
    (folder / "m.vmx").write_bytes(raw)
    (folder / "d.vmdk").write_bytes(b"")
    return vmx.read(Description(folder / "m.vmx", raw, Folder(folder, folder / "m.vmx")))


def ids(findings: Iterable[Finding]) -> list[str]:
    return [finding.id for finding in findings]


def without_findings(machine: Machine) -> dict[str, object]:
    return {name: getattr(machine, name) for name in Machine.__dataclass_fields__ if name not in ("warnings", "blockers")}


def cdrom(bus: SourceBus, controller: int, unit: int, medium: str = "") -> RemovableDrive:
    return RemovableDrive(DriveKind.CDROM, medium, Attachment(bus, controller, unit))


@pytest.mark.parametrize("fixture", sorted(FILES))
def test_files_of_all_products_are_recognised_by_their_contents(fixture: str) -> None:
    head = (DATA / fixture).read_bytes()[:4096]
    assert vmx.recognises(head)
    assert vmx.recognises(head.replace(b"\r", b"").replace(b"\n", b"\r"))
    assert vmx.recognises(b"\xef\xbb\xbf" + head)
    assert vmx.recognises(head + bytes(1024))
    assert vmx.recognises(head.decode("latin-1").encode("utf-16"))


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\0" * 512, b"<Foundry>config.version = \"8\"</Foundry>", b'# Disk DescriptorFile\nversion=1\nCID=1\n',
        b'.encoding = "UTF-8"\nsnapshot0.displayName = "config.version = "\n',
        b"KDMV" + b'\nconfig.version = "8"' + b"\0" * 9 + b"x",
        b"\xff\xfe", b"name = 'xen'\nmemory = 512\n", b'# config.version = "8"\n',
    ],
)  # fmt: skip
def test_other_files_are_not_taken_for_machines(head: bytes) -> None:
    assert not vmx.recognises(head)


def test_a_machine_of_workstation_on_windows(tmp_path: Path) -> None:
    machine = vmx.read(described(tmp_path, "workstation.vmx"))
    assert ids(machine.warnings) == [
        "source.port", "source.passthrough", "source.shared-folder", "source.graphics-3d", "source.smbios",
        "source.hypervisor-hidden", "source.variables",
    ]  # fmt: skip
    assert machine.blockers == ()
    assert without_findings(machine) == without_findings(Machine(
        name="Buro-PC-alt",
        disks=(
            MachineDisk(tmp_path / "Daten/Büro-PC-Daten.vmdk", attachment=Attachment(SourceBus.SCSI, 0, 0, "lsisas1068")),
            MachineDisk(tmp_path / "Büro-PC.vmdk", attachment=Attachment(SourceBus.NVME, 0, 0)),
        ),
        nics=(Nic("00:0c:29:5a:11:22", "nat", "e1000e"), Nic("00:50:56:00:00:10", "VMnet2", "e1000", connected=False)),
        cpus=4, topology=Topology(2, 2), memory_bytes=8 * GIB, firmware=Firmware.UEFI, secure_boot=True, clock=Clock.LOCAL_TIME,
        smbios=Smbios(serial="VMware-56 4d ed cf 3c cd 63 20-53 78 95 86 26 92 22 c8"),
        uuid="cfed4d56-cd3c-2063-5378-9586269222c8", generation_id="8312995e-57b8-f814-07f9-f3d8f7b3c6a3",
        described_by=KIND, display="svga", guest="windows9-64",
        removable=(cdrom(SourceBus.SATA, 0, 1, "D:\\ISO\\Windows 10.iso"), cdrom(SourceBus.SATA, 0, 2)),
    ))  # fmt: skip


def test_a_machine_of_esxi_with_a_snapshot(tmp_path: Path) -> None:
    description = described(tmp_path, "esxi.vmx", more=("mail.vmdk", "mail-000001.vmdk"))
    (tmp_path / "esxi.vmsd").write_text('.encoding = "UTF-8"\nsnapshot.numSnapshots = "2"\nsnapshot0.displayName = "before"\n')
    machine = vmx.read(description)
    assert ids(machine.warnings) == [
        "source.not-shut-down", "source.snapshots", "source.drive-empty", "source.passthrough", "source.disk-shared",
        "source.disk-mode", "source.passthrough", "source.passthrough", "source.disk-serials",
    ]  # fmt: skip
    assert "2 snapshots" in machine.warnings[1].message
    assert without_findings(machine) == without_findings(Machine(
        name="Mail-Vertrieb",
        # bios.hddOrder; the third disk's controller is not there, and its fourth is no disk
        disks=(
            MachineDisk(tmp_path / "mail_2.vmdk", attachment=Attachment(SourceBus.SCSI, 1, 0, "lsilogic")),
            MachineDisk(tmp_path / "mail-000002.vmdk", attachment=Attachment(SourceBus.SCSI, 0, 0, "pvscsi")),
            MachineDisk(tmp_path / "mail_1.vmdk", attachment=Attachment(SourceBus.SCSI, 0, 1, "pvscsi")),
        ),
        nics=(Nic("00:50:56:9a:3d:01", "Server-LAN", "vmxnet3"), Nic("00:50:56:9a:3d:02", "dvportgroup-101", "e1000")),
        cpus=6, memory_bytes=16 * GIB, firmware=Firmware.BIOS, clock=Clock.UTC,
        smbios=Smbios(serial="VMware-42 1f 24 5c 7f a8 60 fa-6a f6 a4 63 51 ce d0 eb"),
        # virtual hardware 11 has SMBIOS 2.4, whose bytes Linux shows as they stand
        uuid="421f245c-7fa8-60fa-6af6-a46351ced0eb", described_by=KIND, display="svga", guest="rhel7-64",
        removable=(cdrom(SourceBus.IDE, 1, 0), RemovableDrive(DriveKind.FLOPPY, "", Attachment(SourceBus.FLOPPY, 0, 0))),
    ))  # fmt: skip


def test_a_machine_of_fusion(tmp_path: Path) -> None:
    assert vmx.read(described(tmp_path, "fusion.vmx")) == Machine(
        name="Ubuntu",
        disks=(MachineDisk(tmp_path / "Virtual Disk.vmdk", attachment=Attachment(SourceBus.SATA, 0, 0)),),
        nics=(Nic(None, "bridged", "e1000"),),
        # three CPUs in pairs are no topology
        cpus=3, memory_bytes=4 * GIB, firmware=Firmware.UEFI, clock=Clock.UTC, assumed=("mac",),
        smbios=Smbios(serial="VMware-56 4d 12 34 56 78 9a bc-de f0 12 34 56 78 9a bc"),
        uuid="34124d56-7856-bc9a-def0-123456789abc", described_by=KIND, display="svga", guest="ubuntu-64",
        removable=(cdrom(SourceBus.SATA, 0, 1),),
    )  # fmt: skip


def test_a_machine_of_gsx_server_with_a_redo_log(tmp_path: Path) -> None:
    machine = vmx.read(described(tmp_path, "gsx.vmx", more=("nt4.vmdk.REDO_a01234",)))
    assert ids(machine.blockers) == ["source.redo-log"]
    assert "(nt4.vmdk.REDO_a01234)" in machine.blockers[0].message
    assert ids(machine.warnings) == ["source.key-twice", "source.disk-mode"]
    assert without_findings(machine) == without_findings(Machine(
        name="NT-4-Dom-nencontroller",
        disks=(
            MachineDisk(tmp_path / "nt4.vmdk", attachment=Attachment(SourceBus.SCSI, 0, 0)),
            MachineDisk(tmp_path / "daten.vmdk", attachment=Attachment(SourceBus.IDE, 0, 0)),
        ),
        nics=(Nic("00:0c:29:33:44:55", "bridged", "vlance"),),
        cpus=1, memory_bytes=512 * MIB, firmware=Firmware.BIOS, clock=Clock.LOCAL_TIME,
        smbios=Smbios(serial="VMware-00 11 22 33 44 55 66 77-88 99 aa bb cc dd ee ff"),
        uuid="33221100-5544-7766-8899-aabbccddeeff", described_by=KIND, display="svga", guest="winnt",
        removable=(
            cdrom(SourceBus.IDE, 1, 0),
            RemovableDrive(DriveKind.FLOPPY, "treiber.flp", Attachment(SourceBus.FLOPPY, 0, 1)),
        ),
    ))  # fmt: skip
    assert ids(vmx.read(described(tmp_path / "2", "gsx.vmx")).blockers) == []


def test_a_machine_of_esx_server_2(tmp_path: Path) -> None:
    assert vmx.read(described(tmp_path, "esx2.vmx")) == Machine(
        name="linux24",
        disks=(MachineDisk(tmp_path / "linux24.vmdk", attachment=Attachment(SourceBus.SCSI, 0, 0)),),
        nics=(Nic("00:50:56:3f:00:01", "bond0", "vlance"),),
        cpus=1, memory_bytes=192 * MIB, firmware=Firmware.BIOS, clock=Clock.UTC,
        smbios=Smbios(serial="VMware-56 4d 12 34 56 78 9a bc-de f0 12 34 56 78 9a bc"),
        uuid="564d1234-5678-9abc-def0-123456789abc", described_by=KIND, display="svga", guest="linux",
    )  # fmt: skip


STRAIGHT, SWAPPED = "00112233-4455-6677-8899-aabbccddeeff", "33221100-5544-7766-8899-aabbccddeeff"


@pytest.mark.parametrize(
    ("hardware", "guest", "seen"),
    [
        ("7", "rhel5-64", STRAIGHT), ("12", "debian8", STRAIGHT), ("13", "debian8", SWAPPED), ("21", "other-64", SWAPPED),
        ("7", "winNetEnterprise", SWAPPED), ("13", "windows9srv-64", SWAPPED), ("", "linux", STRAIGHT), ("x", "linux", STRAIGHT),
    ],
)  # fmt: skip
def test_the_uuid_is_the_one_the_guest_saw(tmp_path: Path, hardware: str, guest: str, seen: str) -> None:
    text = f'virtualHW.version = "{hardware}"\nguestOS = "{guest}"\nuuid.bios = "00 11 22 33 44 55 66 77-88 99 aa bb cc dd ee ff"'
    assert said(tmp_path, text).uuid == seen


def test_windows_at_the_end_of_other_names_is_no_windows(tmp_path: Path) -> None:
    assert said(tmp_path, 'guestOS = "darwin20-64"').clock is Clock.UTC


def test_a_machine_that_says_nothing_gets_defaults_that_are_called_so(tmp_path: Path) -> None:
    machine = said(tmp_path, 'config.version = "8"')
    assert (machine.name, machine.nics, machine.memory_bytes, machine.assumed) == ("m", (), 512 * MIB, ("memory",))
    assert (machine.firmware, machine.uuid, machine.generation_id, machine.topology) == (Firmware.BIOS, None, None, None)


@pytest.mark.parametrize("encoding", ["utf-8", "windows-1252", "GBK", "Shift_JIS", "Big5", "utf-16"])
def test_names_are_read_in_the_encoding_the_file_declares(tmp_path: Path, encoding: str) -> None:
    name = {"windows-1252": "Grüße", "utf-8": "Grüße 文"}.get(encoding, "表中文")
    disk = f"{name}.vmdk"
    (tmp_path / disk).write_bytes(b"")
    declared = "" if encoding == "utf-16" else f'.encoding = "{encoding}"\n'
    text = declared + f'scsi0.present = "TRUE"\r\nscsi0:0.present = "TRUE"\r\nscsi0:0.fileName = "{disk}"\r\n'
    raw = text.encode({"windows-1252": "cp1252", "Shift_JIS": "cp932"}.get(encoding, encoding))
    (tmp_path / "m.vmx").write_bytes(raw)
    machine = vmx.read(Description(tmp_path / "m.vmx", raw, Folder(tmp_path, tmp_path / "m.vmx")))
    assert [found.path.name for found in machine.disks] == [disk]


def test_undeclared_bytes_still_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "m.vmx").write_bytes(b"")
    disk = b"Gr\xfc\xdfe.vmdk".decode("utf-8", "surrogateescape")
    (tmp_path / disk).write_bytes(b"")
    raw = b'sata0.present = "TRUE"\nsata0:0.present = "TRUE"\nsata0:0.fileName = "Gr\xfc\xdfe.vmdk"\n'
    machine = vmx.read(Description(tmp_path / "m.vmx", raw, Folder(tmp_path, tmp_path / "m.vmx")))
    assert machine.disks[0].path == tmp_path / disk


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('a = "b"', "b"), ("a=b", "b"), ('  A  =  "b"  ', "b"), ('a = "b" # c', "b"), ('a = "C:\\x\\"', "C:\\x\\"), ('a = ""', ""),
        ('a = "|22x|7C|22"', '"x|"'), ('a = "x', "x"), ("a = ", ""), ("# a = 1", None), ("a b = 1", None), ("a", None),
        ("= 1", None),
    ],
)  # fmt: skip
def test_lines_are_read_as_vmware_writes_them(tmp_path: Path, line: str, value: str | None) -> None:
    description = Description(tmp_path / "m.vmx", line.encode(), Folder(tmp_path, tmp_path / "m.vmx"))
    assert settings(description, description.data).values.get("a") == value


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("m.vmx.lck/M12345.lck",), "source.running"),
        (("M.VMX.LCK/E1.lck",), "source.running"),
        (("m.vmx.lck",), "source.running"),
        (("d.vmdk.lck/M1.lck",), "source.running"),
        (("m-1a2b3c4d.vswp",), "source.running"),
        (("other/m.vmx.lck/M1.lck", "other/n.vswp", "n.vmx.lck/M1.lck", "d.vmdk.lck"), None),
    ],
)
def test_a_machine_that_is_open_in_vmware_is_blocked(tmp_path: Path, names: tuple[str, ...], found: str | None) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert ids(said(tmp_path, 'config.version = "8"').blockers) == ([found] if found else [])


def test_in_an_archive_locks_are_looked_for_beside_the_machine(tmp_path: Path) -> None:
    raw = (DATA / "esx2.vmx").read_bytes()
    names = ("a/m.vmx", "a/linux24.vmdk", "b/m.vmx.lck/M1.lck")
    archive = tmp_path / "m.zip"
    for more, blocked in (((), []), (("a/m.vmx.lck/M1.lck",), ["source.running"])):
        with zipfile.ZipFile(archive, "w") as out:
            for name in (*names, *more):
                out.writestr(name, raw if name.endswith(".vmx") else b"")
        members = Members(archive, (*names, *more), "a")
        machine = vmx.read(Description(archive / "a/m.vmx", raw, members))
        assert ids(machine.blockers) == blocked
        assert machine.disks[0].path == archive / "a/linux24.vmdk"


@pytest.mark.parametrize(
    ("text", "warned", "blocked"),
    [
        ('checkpoint.vmState = "m.vmss"', [], ["source.suspended"]),
        ('encryption.keySafe = "vmware:key/list"', [], ["source.encrypted"]),
        ('cleanShutdown = "FALSE"', ["source.not-shut-down"], []),
        ('cleanShutdown = "TRUE"', [], []),
        ('vtpm.present = "TRUE"', ["source.tpm"], []),
        ('managedVM.autoAddVTPM = "software"', ["source.tpm"], []),
        ('firmware = "coreboot"', ["source.firmware"], []),
        ('memsize = "lots"', ["source.number"], []),
        ('numvcpus = "0"', ["source.number"], []),
        ('numvcpus = "2"\ncpuid.coresPerSocket = "4"', ["source.number"], []),
        ('uuid.bios = "not one"', ["source.uuid"], []),
        ('ethernet0.present = "TRUE"\nethernet0.generatedAddress = "ff:ff:ff:ff:ff:ff"', ["source.mac"], []),
        ('memsize = "64"\nMEMSIZE = "128"', ["source.key-twice"], []),
        ('memsize = "64"\nMEMSIZE = "64"', [], []),
        ('parallel0.present = "TRUE"\nparallel0.fileName = "LPT1"', ["source.port"], []),
        ('parallel0.present = "FALSE"\nparallel0.fileName = "LPT1"', [], []),
        ('scsi0:0.deviceType = "rawDisk"', ["source.disk-raw"], []),
        ('scsi0.sharedBus = "physical"', ["source.disk-shared"], []),
        ('scsi0.sharedBus = "none"', [], []),
        ('scsi0:1.present = "TRUE"\nscsi0:1.fileName = "d.vmdk"', [], ["source.disk-twice"]),
    ],
)
def test_what_does_not_fit_is_a_finding(tmp_path: Path, text: str, warned: list[str], blocked: list[str]) -> None:
    machine = said(tmp_path, text)
    assert (ids(machine.warnings), ids(machine.blockers)) == (warned, blocked)


def test_memory_of_a_suspended_machine_that_lies_about_is_told(tmp_path: Path) -> None:
    (tmp_path / "m-1234.vmss").write_bytes(b"")
    assert ids(said(tmp_path, 'checkpoint.vmState = ""').warnings) == ["source.suspended-once"]


def test_two_cards_with_one_address_get_two(tmp_path: Path) -> None:
    card = 'ethernet{0}.present = "TRUE"\nethernet{0}.address = "00:0C:29:00:00:01"\n'
    machine = said(tmp_path, card.format(1) + card.format(0))
    assert [nic.mac for nic in machine.nics] == ["00:0c:29:00:00:01", None]
    assert ids(machine.warnings) == ["source.mac-twice"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("../secret.vmdk", ForbiddenReference), ("/etc/passwd", ForbiddenReference), ("nbd:unix:/x", ForbiddenReference),
        ("x|00y", ForbiddenReference), ("lost.vmdk", BadDescription), ("C:\\VMs\\lost.vmdk", BadDescription),
        ("[datastore1] m/lost.vmdk", BadDescription),
    ],
)  # fmt: skip
def test_disks_that_are_not_there_or_elsewhere(tmp_path: Path, name: str, error: type[P2vError]) -> None:
    (tmp_path / "secret.vmdk").write_bytes(b"")
    folder = tmp_path / "m"
    folder.mkdir()
    with pytest.raises(error):
        said(folder, "", name)


def test_a_wholly_encrypted_machine_says_why_it_has_no_disks(tmp_path: Path) -> None:
    raw = b'.encoding = "UTF-8"\ndisplayName = "x"\nencryption.keySafe = "k"\nencryption.data = "d"\n'
    assert vmx.recognises(raw)
    with pytest.raises(BadDescription) as caught:
        vmx.read(Description(tmp_path / "m.vmx", raw, Folder(tmp_path, tmp_path / "m.vmx")))
    assert "encrypted" in caught.value.hint()


@pytest.mark.parametrize(
    "raw",
    [
        b"\n" * 30_000 + b"x", b"a = x" + b" " * 3_000_000 + b"y", b'a = "' + b"\\" * 3_000_000, b"a" * 3_000_000 + b"=",
        b"".join(b'ethernet%d.present = "TRUE"\n' % number for number in range(100)) * 150,
        b"".join(b'scsi0:%d.present="TRUE"\nscsi0:%d.fileName="x%d"\n' % (n, n, n) for n in range(999)) + b'scsi0.present="TRUE"',
        b'scsi0.present="TRUE"\nbios.hddOrder = "' + b"scsi0:0," * 400_000 + b'"',
    ],
    ids=["lines", "spaces", "backslashes", "key", "cards", "disks", "order"],
)  # fmt: skip
def test_a_description_made_to_take_long_does_not(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "m.vmx").write_bytes(raw)
    started = time.process_time()
    with pytest.raises(P2vError):
        vmx.read(Description(tmp_path / "m.vmx", raw, Folder(tmp_path, tmp_path / "m.vmx")))
    assert time.process_time() - started < 5


def test_the_current_disk_is_read_through_its_chain_of_snapshots(tmp_path: Path) -> None:
    base = {n: bytes([n + 1]) * 4096 for n in range(3)}
    line = 'RW 8192 SPARSE "{}"'
    for name, grains, ids_ in (
        ("mail.vmdk", base, {"cid": "1"}),
        # ESXi names parents by paths of its own
        ("mail-000001.vmdk", {1: b"\x11" * 4096}, {"cid": "2", "parent_cid": "1", "hint": "/vmfs/volumes/5f2b/mail/mail.vmdk"}),
        ("mail-000002.vmdk", {2: b"\x22" * 4096}, {"cid": "3", "parent_cid": "2", "hint": "mail-000001.vmdk"}),
    ):
        text = vmdk_writer.descriptor(line.format(name), create_type="monolithicSparse", **ids_)
        vmdk_writer.put(tmp_path, name, vmdk_writer.sparse(grains, 8192, grain_sectors=8, text=text))
    (disk,) = said(tmp_path, 'config.version = "8"', "/vmfs/volumes/5f2b/mail/mail-000002.vmdk").disks
    with open_disk(disk.path, disk.input_format, disk.lookup) as image:
        assert [image.pread(1, n * 4096) for n in range(4)] == [b"\1", b"\x11", b"\x22", b"\0"]


@pytest.mark.parametrize("fixture", sorted(FILES))
def test_damaged_descriptions_raise_errors_of_their_own_only(tmp_path: Path, fixture: str) -> None:
    description = described(tmp_path, fixture)
    chance = random.Random(fixture)
    lines = description.data.splitlines(keepends=True)
    tokens = [b'""', b'"-1"', b'"' + b"9" * 40 + b'"', b"\0", b"|00", b"|zz", b"\xff", b'"../x"', b'"/"', b'"FALSE"', b"=", b'"']
    slowest, rounds, started = 0.0, 0, time.thread_time()
    while rounds < 300 and time.thread_time() - started < 0.6:
        rounds += 1
        damaged = list(lines)
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(damaged))
            key, _, value = damaged[at].partition(b"=")
            other = chance.choice(lines).partition(b"=")[2]
            damaged[at] = chance.choice([
                key + b"=" + chance.choice(tokens) + b"\n", key + b"=" + other, chance.randbytes(20), b"", damaged[at] * 2,
                key.swapcase() + b"=" + value[: chance.randrange(len(value) + 1)],
            ])  # fmt: skip
        raw = b"".join(damaged)
        before = time.thread_time()
        try:
            vmx.recognises(raw[:4096])
            vmx.read(Description(description.path, raw, description.around))
        except P2vError:
            pass
        slowest = max(slowest, time.thread_time() - before)
    assert rounds > 5
    assert slowest < 1
