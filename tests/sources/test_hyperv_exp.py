"""Exports of Windows Server 2008 and 2008 R2 (.exp), shaped like the product's files, as machines."""

from __future__ import annotations

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
from p2v.sources import hyperv_exp
from p2v.sources.description import Description
from tests.sources.laid import fixture, ids, lay, windows_text
from tests.sources.mutation import survives

GUID = "4C1A2B3C-0001-4D5E-8F60-718293A4B5C6"
AVHD = "print_3F2504E0-4F89-11D3-9A0C-0305E82C3301.avhd"


def laid(root: Path, name: str, *disks: str) -> Description:
    files = [f"Virtual Hard Disks/{disk}" for disk in disks]
    return lay(root, f"Virtual Machines/{GUID}.exp", windows_text(fixture(f"hyperv_exp/{name}.exp")), files)


def test_an_export_is_put_together_from_its_objects_whatever_their_order(tmp_path: Path) -> None:
    machine = hyperv_exp.read(laid(tmp_path, "2008", "queue.vhd", "archive.vhd", AVHD))
    disks = tmp_path / "Virtual Hard Disks"
    assert replace(machine, warnings=()) == Machine(
        name="print-server",
        disks=(
            MachineDisk(disks / AVHD, attachment=Attachment(SourceBus.IDE, 0, 0, "hv ide")),
            # the adapter that is written first is the first
            MachineDisk(disks / "archive.vhd", attachment=Attachment(SourceBus.SCSI, 0, 5, "storvsc")),
            MachineDisk(disks / "queue.vhd", attachment=Attachment(SourceBus.SCSI, 1, 0, "storvsc")),
        ),
        nics=(Nic("00:15:5d:01:0b:01", "Intern", "netvsc"), Nic(None, "default", "hv legacy tulip", connected=False)),
        cpus=2,
        memory_bytes=768 * MIB,
        firmware=Firmware.BIOS,
        smbios=Smbios(serial="1111-2222-3333-4444-5555-6666-77"),
        uuid="5a6b7c8d-0001-4d5e-8f60-718293a4b5c6",
        assumed=("mac",),
        described_by=hyperv_exp.KIND,
        clock=Clock.LOCAL_TIME,
        removable=(
            RemovableDrive(DriveKind.CDROM, r"C:\Windows\system32\vmguest.iso", Attachment(SourceBus.IDE, 1, 0, "hv ide")),
        ),
    )
    assert ids(machine.warnings) == ["source.port"]


def test_dynamic_memory_is_told_and_paths_may_be_in_other_letters(tmp_path: Path) -> None:
    machine = hyperv_exp.read(laid(tmp_path, "2008-r2-dynamic-memory", "Mail.VHD"))
    assert replace(machine, warnings=()) == Machine(
        name="web-mail",
        disks=(MachineDisk(tmp_path / "Virtual Hard Disks/Mail.VHD", attachment=Attachment(SourceBus.IDE, 0, 1, "hv ide")),),
        nics=(),
        cpus=1,
        memory_bytes=512 * MIB,
        firmware=Firmware.BIOS,
        smbios=Smbios(serial="1111-2222-3333-4444-5555-6666-77"),
        uuid="5a6b7c8d-0001-4d5e-8f60-718293a4b5c6",
        described_by=hyperv_exp.KIND,
        clock=Clock.LOCAL_TIME,
        removable=(RemovableDrive(DriveKind.CDROM, "", Attachment(SourceBus.IDE, 0, 0, "hv ide")),),
    )
    assert ids(machine.warnings) == ["source.dynamic-memory"]


def test_a_disk_of_the_host_blocks_and_one_whose_drive_is_lost_is_still_a_disk(tmp_path: Path) -> None:
    machine = hyperv_exp.read(laid(tmp_path, "2008-host-disk", "boot.vhd"))
    assert replace(machine, warnings=(), blockers=()) == Machine(
        name=GUID,
        disks=(MachineDisk(tmp_path / "Virtual Hard Disks/boot.vhd", attachment=Attachment(SourceBus.IDE, 0, 0, "hv ide")),),
        nics=(),
        cpus=1,
        memory_bytes=512 * MIB,
        firmware=Firmware.BIOS,
        assumed=("cpus", "memory"),
        smbios=Smbios(serial="1111-2222-3333-4444-5555-6666-77"),
        described_by=hyperv_exp.KIND,
        clock=Clock.LOCAL_TIME,
    )
    assert ids(machine.blockers) == ["source.disk-raw"]
    assert ids(machine.warnings) == ["source.number"]


def test_a_saved_machine_must_not_be_converted(tmp_path: Path) -> None:
    description = laid(tmp_path, "2008-r2-dynamic-memory", "mail.vhd")
    (tmp_path / "Virtual Machines" / GUID).mkdir()
    (tmp_path / "Virtual Machines" / GUID / f"{GUID}.bin").write_bytes(b"memory")
    assert ids(hyperv_exp.read(description).blockers) == ["source.suspended"]


def test_missing_disks_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match=r"queue\.vhd"):
        hyperv_exp.read(laid(tmp_path, "2008", AVHD))


@pytest.mark.parametrize("name", ["2008", "2008-r2-dynamic-memory", "2008-host-disk"])
def test_exports_are_recognised_by_their_first_bytes(name: str) -> None:
    assert hyperv_exp.recognises(windows_text(fixture(f"hyperv_exp/{name}.exp"))[:4096])


def test_other_files_are_not_taken_for_one() -> None:
    assert not hyperv_exp.recognises(b"<DECLARATIONS><DECLGROUP/></DECLARATIONS>")
    assert not hyperv_exp.recognises(b"<configuration><manifest/></configuration>")


@pytest.mark.parametrize("text", ["<DECLARATIONS>", "<DECLARATIONS/>"])
def test_what_is_no_machine_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadDescription):
        hyperv_exp.read(lay(tmp_path, "x.exp", windows_text(text)))


def test_mutations_are_machines_or_errors_and_take_no_time(tmp_path: Path) -> None:
    machines, errors = survives(laid(tmp_path, "2008", "queue.vhd", "archive.vhd", AVHD), hyperv_exp.read, 150)
    assert machines > 10
    assert errors > 10
