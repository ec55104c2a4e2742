"""Disks of Microsoft's machines that hold changes to others, read through the machines that name them."""

from __future__ import annotations

from pathlib import Path

from converters.image import open_disk
from converters.references import Lookup
from p2v.machine import Machine
from p2v.sources import hyperv, vmc
from tests.converters.vhd_writer import DIFFERENCING, Vhd
from tests.converters.vhdx_writer import Vhdx
from tests.sources.laid import fixture, ids, lay, windows_text
from tests.sources.test_vmc import disk, small, undone

SIZE = 1 << 20
MIB = 1 << 20


def over(parent: Vhd, name: str, number: int) -> Vhd:
    """A differencing disk with one sector of its own."""
    locators = ((b"W2ru", name.encode("utf-16-le")),)
    last = name.rpartition("\\")[2]
    return Vhd(SIZE, {number: b"\xcc" * 512}, DIFFERENCING, parent_id=parent.unique_id, parent_name=last, locators=locators)


def first_sectors(machine: Machine, number: int = 0) -> list[int]:
    """The first byte of the first three sectors of one of its disks."""
    spec = machine.disks[number].spec
    with open_disk(spec.path, spec.input_format, spec.lookup) as opened:
        return [opened.pread(1, n * 512)[0] for n in range(3)]


def folders(root: Path, *names: str) -> Lookup:
    """What whoever finds a description adds: the machine's folders."""
    return Lookup(folders=tuple(root / name for name in names), allowed=(root,))


def test_an_undo_disk_is_read_with_the_disk_it_holds_changes_to(tmp_path: Path) -> None:
    description = small(tmp_path, undone(disk("a.vhd"), "a.vud"), files=("a.vhd", "a.vud"))
    base = Vhd(SIZE, {0: b"\xaa" * 512, 1: b"\xbb" * 512})
    base.write(tmp_path / "a.vhd")
    over(base, r".\a.vhd", 1).write(tmp_path / "a.vud")
    machine = vmc.read(description)
    assert ids(machine.warnings) == ["source.undo-disk"]
    assert first_sectors(machine) == [0xAA, 0xCC, 0]


def test_a_differencing_disk_of_a_virtual_pc_machine_finds_its_parent_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "Base").mkdir()
    base = Vhd(SIZE, {0: b"\xaa" * 512, 1: b"\xbb" * 512})
    base.write(tmp_path / "Base/base.vhd")
    machine_file = r"C:\VMs\Child\child.vhd"
    text = windows_text(fixture("vmc/windows-virtual-pc.vmc").replace("XP Mode.vhd", machine_file.rpartition("\\")[2]))
    description = lay(tmp_path, "Child/child.vmc", text, ("Child/child.vhd",), folders(tmp_path, "Base"))
    over(base, r"..\Base\base.vhd", 2).write(tmp_path / "Child/child.vhd")
    assert first_sectors(vmc.read(description)) == [0xAA, 0xBB, 0xCC]


def test_a_checkpoints_chain_over_two_folders_is_the_machines_present_state(tmp_path: Path) -> None:
    disks, changes = "Virtual Hard Disks", "Snapshots/5F2504E0-4F89-11D3-9A0C-0305E82C3301"
    text = fixture("hyperv/2008-r2.xml").replace(r"Virtual Hard Disks\Web.VHD", r"Snapshots\web_1.avhd")
    files = (f"{disks}/web.vhd", f"{disks}/web-data.vhd", f"{changes}/WEB_1.avhd")
    lookup = folders(tmp_path, disks, changes)
    description = lay(tmp_path, "Virtual Machines/web.xml", windows_text(text), files, lookup)
    base = Vhd(SIZE, {0: b"\xaa" * 512, 1: b"\xbb" * 512})
    base.write(tmp_path / disks / "web.vhd")
    over(base, r"D:\Hyper-V\web\Virtual Hard Disks\web.vhd", 0).write(tmp_path / changes / "WEB_1.avhd")
    assert first_sectors(hyperv.read(description)) == [0xCC, 0xBB, 0]


def test_a_vhdx_chain_of_a_generation_2_machine_is_read_from_its_folder(tmp_path: Path) -> None:
    child_file = "Virtual Hard Disks/db_8A2C5C0E-29C1-4E0C-8B35-3F3C7A0B0D11.avhdx"
    files = (child_file, "Virtual Hard Disks/data.vhdx", "Virtual Hard Disks/Shared Log.vhdx")
    text = windows_text(fixture("hyperv/2012-r2-generation-2.xml"))
    description = lay(tmp_path, "Virtual Machines/db.xml", text, files)
    base = Vhdx(3 * MIB, {0: b"\xaa" * 512, 1: b"\xbb" * 512})
    base.write(tmp_path / "Virtual Hard Disks/db.vhdx")
    values = {"parent_linkage": f"{{{base.write_guid}}}", "relative_path": r".\db.vhdx"}
    Vhdx(3 * MIB, {1: b"\xcc" * 512}, parent=values).write(tmp_path / child_file)
    assert first_sectors(hyperv.read(description)) == [0xAA, 0xCC, 0]
