"""VirtualBox's .vbox and .xml files to machines."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from converters.image import open_disk
from converters.references import Lookup
from drivers.plan import Finding
from p2v.core.errors import BadDescription, ForbiddenReference
from p2v.core.units import MIB
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
)
from p2v.sources import virtualbox
from p2v.sources.virtualbox_media import Medium, chain_of
from tests.converters.vdi_writer import write_vdi
from tests.sources.readers import DATA, described, from_data, ids, stands_mutations, variables_gone

_CURRENT = "Snapshots/{aaaaaaaa-0000-0000-0000-000000000003}.vdi"
_SHARED_HINT = "Shut the others down before it is copied, and decide which of them keeps the data."


def test_a_new_machine_is_read_as_it_is_now_not_as_its_snapshots_were(tmp_path: Path) -> None:
    description = from_data(tmp_path, "virtualbox/server.vbox", "files.vdi", _CURRENT, "mail.vmdk", "fast.raw")
    assert virtualbox.read(description) == Machine(
        name="files-mail",
        disks=(
            MachineDisk(tmp_path / _CURRENT, attachment=Attachment(SourceBus.SATA, 0, 1, "AHCI")),
            MachineDisk(tmp_path / "mail.vmdk", attachment=Attachment(SourceBus.SATA, 1, 0, "AHCI")),
            MachineDisk(tmp_path / "fast.raw", "raw", attachment=Attachment(SourceBus.NVME, 0, 0, "NVMe")),
        ),
        nics=(
            Nic("08:00:27:ab:cd:e0", "eth0", "virtio"),
            Nic("08:00:27:ab:cd:e1", "NAT", "Am79C973"),
            Nic("08:00:27:ab:cd:e2", "backup net", "82545EM", connected=False),
            Nic("08:00:27:ab:cd:e4", "default", "82540EM", connected=False),
        ),
        cpus=4,
        memory_bytes=4096 * MIB,
        firmware=Firmware.UEFI,
        # VirtualBox's SMBIOS 2.5 wrote it as little-endian, Linux read it as big-endian
        uuid="3d2c1b0a-5f4e-7160-8293-a4b5c6d7e8f9",
        described_by="VirtualBox machine (.vbox)",
        guest="Debian_64",
        tpm=True,
        clock=Clock.UTC,
        display="VMSVGA",
        removable=(RemovableDrive(DriveKind.CDROM, "/srv/iso/debian-12.iso", Attachment(SourceBus.SATA, 0, 0, "AHCI")),),
        warnings=(
            Finding("source.aborted", "VirtualBox ended while the machine ran: its file systems are as after a power cut"),
            Finding("source.snapshots", "the machine is converted as it is now; its snapshots (2) do not travel"),
            Finding("source.port", "a serial port leads to '/tmp/files-console' on the old host, which stays there"),
            Finding("source.shared-folder", "the shared folder '/home/a/exchange' is on the old host and stays there"),
            Finding(
                "source.tpm",
                "what the machine's TPM holds does not travel: it gets an empty one",
                "Have recovery keys at hand for disks that are sealed to it (BitLocker, LUKS with TPM).",
            ),
            variables_gone("files.nvram"),
        ),
    )


def test_a_windows_machine_from_a_windows_host_with_disks_on_ide_and_scsi(tmp_path: Path) -> None:
    child = "Snapshots/{aaaaaaaa-1000-0000-0000-000000000004}.vdi"
    description = from_data(tmp_path, "virtualbox/windows.vbox", "XP.vhd", "scsi.vdi", "tools.vdi", child, "quorum.vdi")
    assert virtualbox.read(description) == Machine(
        name="XP-uber",
        disks=(
            MachineDisk(tmp_path / "XP.vhd", attachment=Attachment(SourceBus.IDE, 0, 0, "PIIX4")),
            MachineDisk(tmp_path / child, attachment=Attachment(SourceBus.IDE, 1, 1, "PIIX4")),
            MachineDisk(tmp_path / "scsi.vdi", attachment=Attachment(SourceBus.SCSI, 0, 0, "LsiLogic")),
            MachineDisk(tmp_path / "quorum.vdi", attachment=Attachment(SourceBus.SCSI, 0, 3, "LsiLogic")),
        ),
        nics=(
            Nic("08:00:27:11:22:33", "VirtualBox Host-Only Ethernet Adapter", "Am79C973"),
            # settings before 1.16: an old card, its cable out where nothing else is said
            Nic(None, "UDPTunnel", "Am79C970A", connected=False),
        ),
        cpus=1,
        memory_bytes=512 * MIB,
        firmware=Firmware.BIOS,
        uuid="33221100-5544-7766-8899-aabbccddeeff",  # written as big-endian, which Windows does not read so
        assumed=("mac",),
        described_by="VirtualBox machine (.vbox)",
        guest="WindowsXP",
        clock=Clock.LOCAL_TIME,
        removable=(
            RemovableDrive(DriveKind.CDROM, "", Attachment(SourceBus.IDE, 1, 0, "PIIX4")),
            RemovableDrive(DriveKind.FLOPPY, "drivers.img", Attachment(SourceBus.FLOPPY, 0, 0, "I82078")),
        ),
        warnings=(
            Finding(
                "source.disk-mode",
                f"the disk '{child}' is immutable: each start threw away what was written since",
            ),
            Finding(
                "source.disk-shared",
                "the disk 'quorum.vdi' is shared with other machines; the copy is this machine's own",
                _SHARED_HINT,
            ),
            Finding("source.mac-twice", "two network cards have the MAC address 08:00:27:11:22:33; the second one gets a new one"),
            Finding("source.port", "a parallel port leads to 'LPT1' on the old host, which stays there"),
            Finding("source.passthrough", "PCI TV card is a device of the old host; it does not travel"),
        ),
    )


def _old(tmp_path: Path) -> Path:
    (tmp_path / "VirtualBox.xml").write_bytes((DATA / "virtualbox-registry/VirtualBox.xml").read_bytes())
    return tmp_path


def test_a_machine_of_2008_finds_its_disks_through_the_registry_of_all_machines(tmp_path: Path) -> None:
    child = "Machines/old one/Snapshots/{aaaaaaaa-2000-0000-0000-000000000004}.vdi"
    description = from_data(_old(tmp_path), "virtualbox/old.xml", "VDI/system.vdi", "VDI/base.vdi", child, "data.vmdk")
    assert virtualbox.read(description) == Machine(
        name="old-one",
        disks=(
            MachineDisk(tmp_path / "VDI/system.vdi", attachment=Attachment(SourceBus.IDE, 0, 0, "PIIX3")),
            MachineDisk(tmp_path / child, attachment=Attachment(SourceBus.IDE, 0, 1, "PIIX3")),
            MachineDisk(tmp_path / "data.vmdk", attachment=Attachment(SourceBus.SATA, 0, 0, "AHCI")),
        ),
        nics=(
            Nic("08:00:27:55:44:a1", "vbox0", "Am79C970A"),
            Nic("08:00:27:55:44:a2", "NAT", "Am79C970A", connected=False),
        ),
        cpus=1,
        memory_bytes=256 * MIB,
        firmware=Firmware.BIOS,
        uuid="3d2c0b5a-5f4e-7160-8293-a4b5c6d7e8f9",
        described_by="VirtualBox machine (.vbox)",
        guest="win2k",
        clock=Clock.LOCAL_TIME,
        removable=(
            RemovableDrive(DriveKind.CDROM, "/isos/w2k.iso", Attachment(SourceBus.IDE, 1, 0, "PIIX3")),
            RemovableDrive(DriveKind.FLOPPY, "", Attachment(SourceBus.FLOPPY, 0, 0)),
        ),
    )


def test_disks_that_no_registry_explains_are_one_error_that_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadDescription) as caught:
        virtualbox.read(from_data(tmp_path, "virtualbox/old.xml"))
    assert "aaaaaaaa-2000-0000-0000-000000000001" in str(caught.value)
    assert "aaaaaaaa-2000-0000-0000-000000000002" in str(caught.value)
    assert "VirtualBox.xml" in caught.value.hint()


def test_a_registry_that_is_no_xml_is_named_and_not_used(tmp_path: Path) -> None:
    (tmp_path / "VirtualBox.xml").write_bytes(b"<VirtualBox")
    with pytest.raises(BadDescription, match="no registry explains"):
        virtualbox.read(from_data(tmp_path, "virtualbox/old.xml"))


def _edited(tmp_path: Path, *edits: tuple[str, str]) -> Machine:
    text = (DATA / "virtualbox/windows.vbox").read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "m.vbox"
    path.write_text(text)
    child = "Snapshots/{aaaaaaaa-1000-0000-0000-000000000004}.vdi"
    return virtualbox.read(described(path, "XP.vhd", "scsi.vdi", "tools.vdi", child, "quorum.vdi"))


def test_a_saved_state_and_an_encrypted_disk_are_blockers(tmp_path: Path) -> None:
    secret = '<Property name="CRYPT/KeyId" value="scsi"/><Property name="CRYPT/KeyStore" value="U0NORQ=="/></HardDisk>'
    machine = _edited(
        tmp_path,
        ('snapshotFolder="Snapshots"', 'snapshotFolder="Snapshots" stateFile="Snapshots/2020.sav"'),
        ('location="scsi.vdi" format="VDI" type="Normal"/>', f'location="scsi.vdi" format="VDI" type="Normal">{secret}'),
    )
    assert ids(machine.blockers) == ["source.suspended", "source.encrypted"]


def test_the_parent_of_an_encrypted_chain_is_enough(tmp_path: Path) -> None:
    secret = 'type="Immutable"><Property name="CRYPT/KeyId" value="tools"/>'
    assert ids(_edited(tmp_path, ('type="Immutable">', secret)).blockers) == ["source.encrypted"]


def test_a_machine_that_is_encrypted_as_a_whole_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "m.vbox"
    path.write_text('<VirtualBox version="1.19-linux"><MachineEncrypted uuid="{1}">AAAA</MachineEncrypted></VirtualBox>')
    assert virtualbox.recognises(path.read_bytes())
    with pytest.raises(BadDescription, match="encrypted as a whole"):
        virtualbox.read(described(path))


def test_a_controller_that_is_not_bootable_comes_last_and_a_32_bit_uefi_is_named(tmp_path: Path) -> None:
    machine = _edited(
        tmp_path,
        ('useHostIOCache="true" Bootable="true"', 'useHostIOCache="true" Bootable="false"'),
        ("<RTC", '<Firmware type="EFI32"/><RTC'),
    )
    assert machine.disks[0].path.name == "scsi.vdi"
    assert machine.firmware is Firmware.UEFI
    assert "source.firmware-32" in ids(machine.warnings)


def _small(tmp_path: Path, *, hardware: str = "", storage: str = "", registry: str = "", version: str = "1.16-linux") -> Machine:
    disk = '<HardDisk uuid="{d0}" location="d0.vdi" format="VDI"/><HardDisk uuid="{d1}" location="d1.vdi" format="VDI"/>'
    path = tmp_path / "m.vbox"
    path.write_text(
        f'<VirtualBox version="{version}"><Machine name="m" uuid="{{0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9}}">'
        f"<MediaRegistry><HardDisks>{disk}{registry}</HardDisks></MediaRegistry>"
        f"<Hardware>{hardware}</Hardware><StorageControllers>{storage}</StorageControllers></Machine></VirtualBox>"
    )
    return virtualbox.read(described(path, "d0.vdi", "d1.vdi"))


def _controller(model: str, *places: tuple[int, int, str], attributes: str = "") -> str:
    devices = "".join(
        f'<AttachedDevice type="HardDisk" port="{port}" device="{device}"><Image uuid="{{{disk}}}"/></AttachedDevice>'
        for port, device, disk in places
    )
    return f'<StorageController name="x" type="{model}" {attributes}>{devices}</StorageController>'


@pytest.mark.parametrize(
    "model, bus",
    (
        ("PIIX3", SourceBus.IDE),
        ("PIIX4", SourceBus.IDE),
        ("ICH6", SourceBus.IDE),
        ("AHCI", SourceBus.SATA),
        ("LsiLogic", SourceBus.SCSI),
        ("LsiLogicSas", SourceBus.SCSI),
        ("BusLogic", SourceBus.SCSI),
        ("VirtioSCSI", SourceBus.SCSI),
        ("USB", SourceBus.USB),
        ("NVMe", SourceBus.NVME),
        ("Tape", SourceBus.UNKNOWN),
    ),
)
def test_every_controller_is_known_by_its_type(tmp_path: Path, model: str, bus: SourceBus) -> None:
    machine = _small(tmp_path, storage=_controller(model, (1, 0, "d0")))
    assert machine.disks[0].attachment == Attachment(bus, 1 if bus is SourceBus.IDE else 0, 0 if bus is SourceBus.IDE else 1, model)


@pytest.mark.parametrize(
    "mode, network",
    (
        ("<NAT/>", "NAT"),
        ('<BridgedInterface name="eth0"/>', "eth0"),
        ("<BridgedInterface/>", "BridgedInterface"),
        ('<InternalNetwork name="intnet"/>', "intnet"),
        ('<HostOnlyInterface name="vboxnet0"/>', "vboxnet0"),
        ('<HostOnlyNetwork name="net1"/>', "net1"),
        ('<NATNetwork name="NatNetwork"/>', "NatNetwork"),
        ('<CloudNetwork name="cloud"/>', "cloud"),
        ('<GenericInterface driver="VDE"/>', "VDE"),
        ('<VDE network="/tmp/vde"/>', "/tmp/vde"),
        ("<DisabledModes><NAT/></DisabledModes><NAT/>", "NAT"),
    ),
)
def test_every_kind_of_network_is_named(tmp_path: Path, mode: str, network: str) -> None:
    adapter = f'<Network><Adapter slot="0" enabled="true" MACAddress="080027000001">{mode}</Adapter></Network>'
    machine = _small(tmp_path, hardware=adapter, storage=_controller("AHCI", (0, 0, "d0")))
    assert machine.nics == (Nic("08:00:27:00:00:01", network, "Am79C973"),)


@pytest.mark.parametrize("version, is_new", (("1.15-linux", False), ("1.16-macosx", True), ("1.20-windows", True), ("2.0", True)))
def test_the_defaults_of_network_cards_changed_with_a_version(tmp_path: Path, version: str, is_new: bool) -> None:
    adapter = '<Network><Adapter slot="0" enabled="true" MACAddress="080027000001"><NAT/></Adapter></Network>'
    machine = _small(tmp_path, hardware=adapter, storage=_controller("AHCI", (0, 0, "d0")), version=version)
    assert machine.nics == (Nic("08:00:27:00:00:01", "NAT", "Am79C973" if is_new else "Am79C970A", is_new),)


def test_ide_disks_come_before_sata_ones_which_come_before_scsi_ones(tmp_path: Path) -> None:
    pair = _controller("LsiLogic", (0, 0, "d0")) + _controller("AHCI", (5, 0, "d1"))
    assert [disk.path.name for disk in _small(tmp_path, storage=pair).disks] == ["d1.vdi", "d0.vdi"]
    pair = _controller("AHCI", (0, 0, "d0")) + _controller("PIIX4", (1, 1, "d1"))
    assert [disk.path.name for disk in _small(tmp_path, storage=pair).disks] == ["d1.vdi", "d0.vdi"]
    one = _controller("PIIX4", (1, 0, "d0"), (0, 1, "d1"))
    assert [disk.path.name for disk in _small(tmp_path, storage=one).disks] == ["d1.vdi", "d0.vdi"]


def test_a_hard_disk_without_an_image_is_left_out_and_a_place_that_is_none_is_the_first(tmp_path: Path) -> None:
    empty = '<StorageController type="AHCI"><AttachedDevice type="HardDisk" port="x"/></StorageController>'
    machine = _small(tmp_path, storage=empty + _controller("AHCI", (0, 0, "d0")))
    assert ids(machine.warnings) == ["source.number", "source.drive-empty"]
    assert [disk.attachment for disk in machine.disks] == [Attachment(SourceBus.SATA, 1, 0, "AHCI")]


def test_a_medium_that_a_registry_lists_again_is_where_it_was_listed_first(tmp_path: Path) -> None:
    again = '<HardDisk uuid="{D0}" location="other.vdi"><HardDisk uuid="{d0}" location="x"/></HardDisk>'
    machine = _small(tmp_path, storage=_controller("AHCI", (0, 0, "d0")), registry=again)
    assert [disk.path.name for disk in machine.disks] == ["d0.vdi"]


def test_a_chain_of_media_that_goes_round_in_circles_ends() -> None:
    media = {"a": Medium("a.vdi", parent="b"), "b": Medium("b.vdi", parent="a")}
    assert [medium.location for medium in chain_of(media, "a")] == ["a.vdi", "b.vdi"]


def test_too_many_controllers_and_settings_without_hardware_are_errors(tmp_path: Path) -> None:
    assert _small(tmp_path, storage=_controller("AHCI") * 63 + _controller("AHCI", (0, 0, "d0"))).disks
    with pytest.raises(BadDescription, match="more than 64 storage controllers"):
        _small(tmp_path, storage=_controller("AHCI") * 65)
    path = tmp_path / "m.vbox"
    for text in ("<VirtualBox><Machine/></VirtualBox>", "<VirtualBox/>", "<V><Machine><Hardware/></Machine></V>"):
        path.write_text(text)
        with pytest.raises(BadDescription, match="no machine in it"):
            virtualbox.read(described(path))


def test_an_iscsi_disk_is_an_error_that_names_it(tmp_path: Path) -> None:
    edit = ('location="scsi.vdi" format="VDI"', 'location="10.0.0.1|iqn.2020-01.x:a" format="iSCSI"')
    with pytest.raises(BadDescription, match=re.escape("iSCSI 10.0.0.1|iqn.2020-01.x:a")):
        _edited(tmp_path, edit)


def test_a_current_disk_over_a_snapshot_reads_through_to_the_base_disk(tmp_path: Path) -> None:
    (tmp_path / "Snapshots").mkdir()
    size = 1 << 20
    base = write_vdi(tmp_path / "files.vdi", size, {0: b"base" * 1024, 1: b"base" * 1024})
    middle = "Snapshots/{aaaaaaaa-0000-0000-0000-000000000002}.vdi"
    between = write_vdi(tmp_path / middle, size, {5: b"snap" * 1024}, parent=base)
    write_vdi(tmp_path / _CURRENT, size, {1: b"now!" * 1024}, parent=between)
    for name in ("mail.vmdk", "fast.raw"):
        (tmp_path / name).write_bytes(b"a disk")
    # what recognition sets for the disks of a machine in a folder of its own
    lookup = Lookup(folders=(tmp_path, tmp_path / "Snapshots"), allowed=(tmp_path,))
    machine = virtualbox.read(from_data(tmp_path, "virtualbox/server.vbox", lookup=lookup))
    current = machine.disks[0]
    with closing(open_disk(current.path, current.input_format, current.lookup)) as disk:
        assert disk.pread(4096, 0) == b"base" * 1024
        assert disk.pread(4096, 4096) == b"now!" * 1024
        assert disk.pread(4096, 5 * 4096) == b"snap" * 1024


def test_missing_disks_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match=r"disks that are not there: .*0003}\.vdi', 'mail\.vmdk', 'fast\.raw'"):
        virtualbox.read(from_data(tmp_path, "virtualbox/server.vbox"))


def test_a_disk_outside_the_machines_folder_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(ForbiddenReference):
        _edited(tmp_path, ('location="scsi.vdi"', 'location="/etc/passwd"'))


@pytest.mark.parametrize("nesting", (250, 5000))
def test_snapshots_as_deep_as_virtualbox_makes_them_are_read_and_deeper_ones_refused(tmp_path: Path, nesting: int) -> None:
    tree = '<Snapshot uuid="{1}"><Snapshots>' * nesting + "</Snapshots></Snapshot>" * nesting
    edit = ("<Hardware version", f"{tree}<Hardware version")
    if nesting > 250:
        with pytest.raises(BadDescription, match="levels"):
            _edited(tmp_path, edit)
    else:
        assert f"({nesting})" in next(w.message for w in _edited(tmp_path, edit).warnings if w.id == "source.snapshots")


def test_machines_are_recognised_in_any_encoding_and_the_settings_of_all_machines_are_not() -> None:
    for sample in (DATA / "virtualbox").iterdir():
        text = sample.read_text()
        assert virtualbox.recognises(text[:4096].encode())
        assert virtualbox.recognises(text[:4096].encode("utf-16"))
    assert not virtualbox.recognises((DATA / "virtualbox-registry/VirtualBox.xml").read_bytes())
    assert not virtualbox.recognises(b"<domain type='kvm'><Machine/></domain>")
    assert not virtualbox.recognises(b"")


def test_broken_descriptions_are_refused_or_read_and_nothing_else_comes_of_them(tmp_path: Path) -> None:
    was_read, refused = stands_mutations(virtualbox.read, tmp_path, "virtualbox")
    assert was_read > 50
    assert refused > 50
