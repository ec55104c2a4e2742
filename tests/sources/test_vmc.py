"""Virtual Server's and Virtual PC's .vmc, shaped like the products' files, as machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

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
    Smbios,
    SourceBus,
)
from p2v.sources import vmc
from p2v.sources.description import Description
from tests.sources.laid import fixture, ids, lay, windows_text
from tests.sources.mutation import survives

DISK = """<location id="{unit}"><drive_type type="integer">{kind}</drive_type>\
<pathname><absolute type="string">{absolute}</absolute><relative type="string">{relative}</relative></pathname></location>"""
SMALL = """<?xml version="1.0" encoding="UTF-16"?>
<preferences><hardware><memory><ram_size type="integer">64</ram_size></memory><pci_bus>{bus}</pci_bus></hardware>
{rest}</preferences>
"""


def small(folder: Path, locations: str, rest: str = "", files: tuple[str, ...] = ("a.vhd",)) -> Description:
    """A machine with an IDE controller and what hangs on it."""
    bus = f'<ide_adapter><ide_controller id="0">{locations}</ide_controller></ide_adapter>'
    return lay(folder, "small.vmc", windows_text(SMALL.format(bus=bus, rest=rest)), files)


def disk(relative: str = "", absolute: str = "", unit: int = 0, kind: int = 1) -> str:
    return DISK.format(unit=unit, kind=kind, absolute=absolute, relative=relative)


def undone(text: str, undo: str) -> str:
    """A location whose disk has an undo disk."""
    return text.replace("</location>", f"<undo_pathname><relative>{undo}</relative></undo_pathname></location>")


def test_a_virtual_pc_machine_has_its_disks_in_order_and_the_cards_that_were_not_taken_out(tmp_path: Path) -> None:
    text = windows_text(fixture("vmc/virtual-pc-2007.vmc"))
    description = lay(tmp_path, "Büro.vmc", text, ("System.vhd", "daten.vhd", "old.vhd"))
    ide = [Attachment(SourceBus.IDE, controller, unit, "440bx") for controller, unit in ((0, 0), (0, 1), (1, 0))]
    assert vmc.read(description) == Machine(
        name="Buro",
        disks=(
            MachineDisk(tmp_path / "System.vhd", attachment=ide[0]),
            # the folder has the name in other letters than the description
            MachineDisk(tmp_path / "daten.vhd", attachment=ide[1]),
        ),
        nics=(Nic("00:03:ff:aa:00:01", "Intel(R) PRO/1000 PL Network Connection", "tulip"),),
        cpus=1,
        memory_bytes=512 * MIB,
        firmware=Firmware.BIOS,
        smbios=Smbios(serial="3461-0841-7254-2215-4563-0001-01", board_serial="3461-0841-7254-2215-4563-0001-01"),
        uuid="6a7d2e30-9d1e-4b0b-8f50-1c2b3a4d5e6f",
        described_by=vmc.KIND,
        guest="Microsoft Windows XP Professional",
        clock=Clock.LOCAL_TIME,
        display="s3-trio",
        removable=(
            RemovableDrive(DriveKind.CDROM, "", ide[2]),
            RemovableDrive(DriveKind.FLOPPY, "", Attachment(SourceBus.FLOPPY)),
        ),
        warnings=(
            Finding(
                "source.additions",
                "the Virtual Machine Additions are in the guest",
                "Remove them before the machine is copied; their set-up may refuse to run elsewhere.",
            ),
        ),
    )


def test_a_virtual_server_machine_has_its_scsi_disks_as_they_are_now_and_says_what_stays_behind(tmp_path: Path) -> None:
    text = windows_text(fixture("vmc/virtual-server-2005.vmc"))
    files = ("sql.vhd", "Virtual_sql_0_0.vud", "disks/logs.vhd", "quorum.vhd")
    machine = vmc.read(lay(tmp_path, "SQL.vmc", text, files))
    scsi = [Attachment(SourceBus.SCSI, controller, unit, "aic7870") for controller, unit in ((0, 0), (0, 6), (1, 0))]
    assert replace(machine, warnings=()) == Machine(
        name="SQL",
        disks=(
            MachineDisk(tmp_path / "Virtual_sql_0_0.vud", attachment=scsi[0]),
            MachineDisk(tmp_path / "disks/logs.vhd", attachment=scsi[1]),
            MachineDisk(tmp_path / "quorum.vhd", attachment=scsi[2]),
        ),
        nics=(
            Nic("00:03:ff:10:20:30", "External Network", "tulip"),
            Nic(None, "Heartbeat", "tulip"),
            Nic(None, "default", "tulip", connected=False),
        ),
        cpus=1,
        memory_bytes=1024 * MIB,
        firmware=Firmware.BIOS,
        assumed=("mac",),
        described_by=vmc.KIND,
        guest="Windows Server 2003",
        clock=Clock.LOCAL_TIME,
        display="s3-trio",
        removable=(
            RemovableDrive(DriveKind.CDROM, r"C:\ISO\w2k3.iso", Attachment(SourceBus.IDE, 1, 0, "440bx")),
            RemovableDrive(DriveKind.FLOPPY, r"C:\ISO\drivers.vfd", Attachment(SourceBus.FLOPPY)),
        ),
    )
    assert ids(machine.warnings) == [
        "source.running", "source.undo-disk", "source.disk-shared", "source.mac-twice", "source.mac",
        "source.port", "source.port", "source.port", "source.uuid",
    ]  # fmt: skip
    told = "\n".join(finding.message for finding in machine.warnings)
    assert all(word in told for word in ("Virtual_sql_0_0.vud", "COM1", "pipe", "COM2", "com2.txt", "LPT1", "scsi1:0"))


def test_a_saved_machine_whose_undo_disk_is_not_there_must_not_be_converted(tmp_path: Path) -> None:
    text = windows_text(fixture("vmc/windows-virtual-pc.vmc"))
    machine = vmc.read(lay(tmp_path, "XP Mode.vmc", text, ("XP Mode.vhd",)))
    assert replace(machine, warnings=(), blockers=()) == Machine(
        name="XP-Mode",
        disks=(MachineDisk(tmp_path / "XP Mode.vhd", attachment=Attachment(SourceBus.IDE, 0, 0, "440bx")),),
        nics=(Nic(None, "Internal Network (NAT)", "tulip"),),
        cpus=1,
        memory_bytes=512 * MIB,
        firmware=Firmware.BIOS,
        assumed=("memory", "mac"),
        described_by=vmc.KIND,
        clock=Clock.LOCAL_TIME,
        display="s3-trio",
    )
    assert ids(machine.blockers) == ["source.suspended", "source.undo-disk-missing"]
    assert ids(machine.warnings) == ["source.number"]


def test_a_saved_state_beside_the_description_blocks_though_nothing_names_it(tmp_path: Path) -> None:
    machine = vmc.read(small(tmp_path, disk("a.vhd"), files=("a.vhd", "Small.VSV", "other.vsv")))
    assert ids(machine.blockers) == ["source.suspended"]
    (tmp_path / "Small.VSV").unlink()
    assert vmc.read(small(tmp_path, disk("a.vhd"))).blockers == ()


def test_undo_disks_that_were_switched_off_are_gone(tmp_path: Path) -> None:
    machine = vmc.read(small(tmp_path, undone(disk("a.vhd"), "a.vud")))
    assert (machine.disks[0].path.name, machine.warnings, machine.blockers) == ("a.vhd", (), ())


def test_an_undo_disk_in_other_letters_is_the_present_state(tmp_path: Path) -> None:
    machine = vmc.read(small(tmp_path, undone(disk("a.vhd"), r".\undo\A.vud"), files=("a.vhd", "undo/a.VUD")))
    assert machine.disks[0].path == tmp_path / "undo/a.VUD"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8", "utf-8-sig"])
def test_the_encoding_is_told_by_the_bytes_whatever_the_declaration_says(tmp_path: Path, encoding: str) -> None:
    description = small(tmp_path, disk("ä.vhd"), files=("ä.vhd",))
    data = description.data.decode("utf-16").encode(encoding)
    assert vmc.recognises(data[:4096])
    assert vmc.read(replace(description, data=data)).disks[0].path == tmp_path / "ä.vhd"


def test_a_file_with_zeroes_at_its_end_is_read(tmp_path: Path) -> None:
    description = small(tmp_path, disk("a.vhd"))
    assert vmc.read(replace(description, data=description.data + bytes(511))).name == "small"


def test_all_missing_disks_are_told_at_once(tmp_path: Path) -> None:
    locations = disk(r".\one.vhd", r"C:\x\one.vhd") + disk("", r"D:\y\two.vhd", unit=1)
    with pytest.raises(BadDescription) as caught:
        vmc.read(small(tmp_path, locations))
    assert "one.vhd" in caught.value.problem
    assert "two.vhd" in caught.value.problem
    assert "--extent-dir" in caught.value.advice


def test_a_disk_outside_the_machines_folder_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.vhd").write_bytes(b"secret")
    with pytest.raises(ForbiddenReference):
        vmc.read(small(tmp_path / "machine", disk("/etc/passwd")))
    with pytest.raises(ForbiddenReference):
        vmc.read(small(tmp_path / "machine", disk(r"..\secret.vhd")))


def test_a_place_that_is_described_twice_is_nobodys_guess(tmp_path: Path) -> None:
    machine = vmc.read(small(tmp_path, disk("a.vhd") + disk("b.vhd"), files=("a.vhd", "b.vhd")))
    assert ids(machine.blockers) == ["source.drive-twice"]


def test_a_drive_of_an_unknown_kind_is_not_left_out_in_silence(tmp_path: Path) -> None:
    machine = vmc.read(small(tmp_path, disk("a.vhd") + disk("b.vhd", unit=1, kind=7), files=("a.vhd", "b.vhd")))
    assert ids(machine.blockers) == ["source.drive"]


def test_a_machine_without_disks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match="without any fixed disk"):
        vmc.read(small(tmp_path, disk(r"C:\x.iso", kind=2)))


def test_windows_virtual_pcs_shortcut_names_the_description(tmp_path: Path) -> None:
    text = '<vm_description><vmc_path type="string">C:\\Users\\ann\\XP Mode.vmc</vmc_path></vm_description>'
    description = lay(tmp_path, "XP Mode.vmcx", windows_text(text))
    assert vmc.recognises(description.data)
    with pytest.raises(BadDescription, match="shortcut") as caught:
        vmc.read(description)
    assert "XP Mode.vmc" in caught.value.advice


@pytest.mark.parametrize(
    "other",
    [b"", b"<domain><hardware/></domain>", b'config.version = "8"', b"\xff\xfe\0\0", b"<preferences><window/></preferences>"],
)
def test_other_files_are_not_taken_for_one(other: bytes) -> None:
    assert not vmc.recognises(other)


@pytest.mark.parametrize("text", ["<preferences>", "<!DOCTYPE x [<!ENTITY a 'b'>]><preferences>&a;</preferences>", "<a/>"])
def test_what_is_no_machine_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadDescription):
        vmc.read(lay(tmp_path, "x.vmc", windows_text(text)))


def test_mutations_are_machines_or_errors_and_take_no_time(tmp_path: Path) -> None:
    files = ("sql.vhd", "Virtual_sql_0_0.vud", "disks/logs.vhd", "quorum.vhd")
    description = lay(tmp_path, "SQL.vmc", windows_text(fixture("vmc/virtual-server-2005.vmc")), files)
    machines, errors = survives(description, vmc.read, 250)
    assert machines > 20
    assert errors > 20
