"""Hyper-V's XML of Windows Server 2008 to 2012 R2, shaped like the product's files, as machines."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.core.errors import BadDescription
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
    Smbios,
    SourceBus,
)
from p2v.sources import hyperv
from p2v.sources.description import Description, Members
from tests.sources.laid import fixture, ids, lay, windows_text
from tests.sources.mutation import survives

GUID = "0AA394FA-7C4A-4070-BA32-773D43B28A68"
MACHINE_FILE = f"Virtual Machines/{GUID}.xml"
DISKS = "Virtual Hard Disks"
OLD, NEW = fixture("hyperv/2008-r2.xml"), fixture("hyperv/2012-r2-generation-2.xml")
AVHDX = f"{DISKS}/db_8A2C5C0E-29C1-4E0C-8B35-3F3C7A0B0D11.avhdx"

NUMBER = "0000-0001-0002-0003-0004-0005-06"


def old(root: Path, text: str = OLD, *more: str) -> Description:
    """A generation 1 machine of Windows Server 2008 R2 in its folder."""
    return lay(root, MACHINE_FILE, windows_text(text), (f"{DISKS}/web.vhd", f"{DISKS}/web-data.vhd", *more))


def new(root: Path, text: str = NEW, *more: str) -> Description:
    """A generation 2 machine of Windows Server 2012 R2 with two checkpoints."""
    files = (AVHDX, f"{DISKS}/data.vhdx", "Shared Log.vhdx", *more)
    return lay(root, MACHINE_FILE, windows_text(text), files)


def test_a_generation_1_machine_has_ide_before_scsi_and_its_cards_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    machine = hyperv.read(old(tmp_path))
    assert replace(machine, warnings=()) == Machine(
        name="web-server-old",
        disks=(
            MachineDisk(tmp_path / DISKS / "web.vhd", attachment=Attachment(SourceBus.IDE, 0, 0, "hv ide")),
            MachineDisk(tmp_path / DISKS / "web-data.vhd", attachment=Attachment(SourceBus.SCSI, 0, 3, "storvsc")),
        ),
        nics=(
            Nic("00:15:5d:01:0a:03", "default", "hv legacy tulip", connected=False),
            Nic("00:15:5d:01:0a:02", "Corporate LAN", "netvsc"),
        ),
        cpus=4,
        memory_bytes=1536 * MIB,
        firmware=Firmware.BIOS,
        smbios=Smbios(serial=NUMBER, board_serial=NUMBER, asset_tag=NUMBER),
        uuid="0c5e5c7e-1a11-4b66-8f37-0b9f0b525d1a",
        described_by=hyperv.KIND,
        clock=Clock.LOCAL_TIME,
        removable=(
            RemovableDrive(DriveKind.CDROM, r"C:\ISO\SLES11.iso", Attachment(SourceBus.IDE, 1, 0, "hv ide")),
            RemovableDrive(DriveKind.FLOPPY, r"C:\floppy\drivers.vfd", Attachment(SourceBus.FLOPPY)),
        ),
    )
    assert ids(machine.warnings) == ["source.port"]
    assert "COM2" in machine.warnings[0].message


def test_a_generation_2_machine_has_uefi_secure_boot_and_the_disks_of_its_present_state(tmp_path: Path) -> None:
    (tmp_path / "Snapshots").mkdir()
    (tmp_path / "Snapshots/1.xml").write_bytes(windows_text(fixture("hyperv/checkpoint.xml")))
    machine = hyperv.read(new(tmp_path, NEW, "Snapshots/unreadable.xml"))
    scsi = [Attachment(SourceBus.SCSI, controller, unit, "storvsc") for controller, unit in ((0, 0), (2, 2), (2, 10), (0, 1))]
    assert replace(machine, warnings=()) == Machine(
        name="db",
        disks=(
            MachineDisk(tmp_path / AVHDX, attachment=scsi[0]),
            MachineDisk(tmp_path / DISKS / "data.vhdx", attachment=scsi[1]),
            MachineDisk(tmp_path / "Shared Log.vhdx", attachment=scsi[2]),
        ),
        nics=(Nic(None, "default", "netvsc", connected=False), Nic("00:15:5d:38:01:10", "External", "netvsc")),
        cpus=8,
        memory_bytes=2048 * MIB,
        firmware=Firmware.UEFI,
        secure_boot=True,
        uuid="7ffee066-1111-4950-9a16-4c94ac67ad00",
        assumed=("mac",),
        described_by=hyperv.KIND,
        clock=Clock.LOCAL_TIME,
        removable=(RemovableDrive(DriveKind.CDROM, "", scsi[3]),),
    )
    assert ids(machine.warnings) == [
        "source.checkpoints", "source.disk-shared", "source.vlan", "source.passthrough", "source.dynamic-memory",
    ]  # fmt: skip
    assert "'before the update', 'unreadable'" in machine.warnings[0].message


def test_a_saved_machine_with_disks_of_its_host_must_not_be_converted(tmp_path: Path) -> None:
    text = windows_text(fixture("hyperv/saved-with-host-disks.xml"))
    machine = hyperv.read(lay(tmp_path, "Virtual Machines/x.xml", text, ("app.vhdx",)))
    assert replace(machine, warnings=(), blockers=()) == Machine(
        name="app",
        disks=(MachineDisk(tmp_path / "app.vhdx", attachment=Attachment(SourceBus.IDE, 0, 0, "hv ide")),),
        nics=(),
        cpus=1,
        memory_bytes=512 * MIB,
        firmware=Firmware.BIOS,
        assumed=("cpus", "memory"),
        described_by=hyperv.KIND,
        clock=None,
        removable=(RemovableDrive(DriveKind.CDROM, "", Attachment(SourceBus.IDE, 1, 0, "hv ide")),),
    )
    assert ids(machine.blockers) == ["source.suspended", "source.disk-raw", "source.disk-shared"]
    assert ids(machine.warnings) == ["source.passthrough", "source.number"]


@pytest.mark.parametrize("suffix", ["bin", "VSV"])
def test_memory_in_the_folder_of_the_machines_guid_means_that_it_runs_or_is_saved(tmp_path: Path, suffix: str) -> None:
    machine = hyperv.read(old(tmp_path, OLD, f"Virtual Machines/{GUID.lower()}/{GUID}.{suffix}"))
    assert ids(machine.blockers) == ["source.suspended"]


def test_memory_of_checkpoints_is_not_the_machines(tmp_path: Path) -> None:
    other = "1AA394FA-7C4A-4070-BA32-773D43B28A68"
    assert hyperv.read(old(tmp_path, OLD, f"Snapshots/{other}/{other}.bin")).blockers == ()


def test_checkpoints_beside_a_machine_that_has_none_are_anothers(tmp_path: Path) -> None:
    assert "source.checkpoints" not in ids(hyperv.read(old(tmp_path, OLD, "Snapshots/a.xml")).warnings)


def test_a_checkpoint_can_be_named_itself_and_says_what_it_is(tmp_path: Path) -> None:
    text = windows_text(fixture("hyperv/checkpoint.xml"))
    machine = hyperv.read(lay(tmp_path, "Snapshots/a.xml", text, (f"{DISKS}/db.vhdx",)))
    assert (machine.name, machine.firmware, machine.clock) == ("before-the-update", Firmware.UEFI, None)
    assert ids(machine.warnings) == ["source.checkpoint"]


def test_a_disk_that_is_there_twice_by_its_last_name_is_the_one_beside_the_description(tmp_path: Path) -> None:
    machine = hyperv.read(old(tmp_path, OLD.replace("Web.VHD", "web.vhd"), "old/web.vhd", "Virtual Machines/web.vhd"))
    assert machine.disks[0].path == tmp_path / "Virtual Machines/web.vhd"


@pytest.mark.parametrize(
    ("skew", "clock"),
    [("-288005458208", Clock.LOCAL_TIME), ("0", None), ("12000000", None), ("36000000000", Clock.LOCAL_TIME), ("x", None)],
)
def test_the_clock_shows_local_time_where_it_was_set_so(tmp_path: Path, skew: str, clock: Clock | None) -> None:
    assert hyperv.read(new(tmp_path, NEW.replace("-288005458208", skew))).clock is clock


def test_the_generation_is_told_by_its_hardware_where_nothing_says_it(tmp_path: Path) -> None:
    text = NEW.replace('<subtype type="integer">1</subtype>', "")
    assert hyperv.read(new(tmp_path / "new", text)).firmware is Firmware.UEFI
    assert hyperv.read(old(tmp_path / "old", OLD.replace(">514<", ">1280<"))).firmware is Firmware.BIOS


def test_secure_boot_of_a_generation_1_machine_is_a_word_without_a_meaning(tmp_path: Path) -> None:
    text = NEW.replace('<subtype type="integer">1<', '<subtype type="integer">0<')
    machine = hyperv.read(new(tmp_path, text))
    assert (machine.firmware, machine.secure_boot) == (Firmware.BIOS, False)


def test_a_place_that_is_described_twice_is_nobodys_guess(tmp_path: Path) -> None:
    start, end = OLD.index("<controller0>"), OLD.index("</controller0>") + len("</controller0>")
    twice = OLD[:end] + OLD[start:end].replace("Web.VHD", "other.vhd") + OLD[end:]
    assert ids(hyperv.read(old(tmp_path, twice, "other.vhd")).blockers) == ["source.drive-twice"]


def test_a_controller_the_manifest_does_not_name_keeps_its_disks(tmp_path: Path) -> None:
    text = OLD.replace("C7D1A5F0-9D5E-4A3C-8B1F-2E4F6A8C0D12", "00000000-0000-4A3C-8B1F-2E4F6A8C0D12")
    disk = hyperv.read(old(tmp_path, text)).disks[1]
    assert disk.path.name == "web-data.vhd"
    assert disk.attachment is not None
    assert disk.attachment.bus is SourceBus.SCSI


def test_all_missing_disks_are_told_at_once_by_their_paths_on_the_old_host(tmp_path: Path) -> None:
    with pytest.raises(BadDescription) as caught:
        hyperv.read(lay(tmp_path, MACHINE_FILE, windows_text(NEW)))
    assert all(name in caught.value.problem for name in ("ClusterStorage", Path(AVHDX).name, "data.vhdx", "Shared Log.vhdx"))


def test_an_export_in_an_archive_finds_its_disks_there(tmp_path: Path) -> None:
    archive = tmp_path / "export.zip"
    members = (f"web/{MACHINE_FILE}", f"web/{DISKS}/Web.VHD", f"web/{DISKS}/web-data.vhd")
    with zipfile.ZipFile(archive, "w") as file:
        for member in members:
            file.writestr(member, windows_text(OLD) if member.endswith(".xml") else b"disk")
    around = Members(archive, members, "web/Virtual Machines")
    machine = hyperv.read(Description(archive / members[0], windows_text(OLD), around))
    assert [disk.path for disk in machine.disks] == [archive / member for member in members[1:]]


@pytest.mark.parametrize("name", ["2008-r2", "2012-r2-generation-2", "checkpoint", "saved-with-host-disks"])
def test_hyperv_files_are_recognised_by_their_first_bytes(name: str) -> None:
    text = fixture(f"hyperv/{name}.xml")
    assert hyperv.recognises(windows_text(text)[:4096])
    assert hyperv.recognises(text.encode()[:4096])


@pytest.mark.parametrize("other", [b"", b"<configuration><appSettings/></configuration>", b"<preferences/>", b"\x14\x20\x28\x01"])
def test_other_files_are_not_taken_for_one(other: bytes) -> None:
    assert not hyperv.recognises(other)


@pytest.mark.parametrize("text", ["<configuration>", "<!DOCTYPE a [<!ENTITY b 'c'>]><configuration>&b;</configuration>", "<a/>"])
def test_what_is_no_machine_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadDescription):
        hyperv.read(lay(tmp_path, "x.xml", windows_text(text)))


@pytest.mark.parametrize("text", [OLD, NEW], ids=["old", "new"])
def test_mutations_are_machines_or_errors_and_take_no_time(tmp_path: Path, text: str) -> None:
    description = old(tmp_path, text) if text is OLD else new(tmp_path, text)
    machines, errors = survives(description, hyperv.read, 120)
    assert machines > 10
    assert errors > 10
