"""What is taken for a machine's description, and what for a disk."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from converters.references import Lookup
from p2v.core.errors import BadDescription, ForbiddenReference, NoSource, Usage
from p2v.sources.recognition import read_machine

VMX = """\
.encoding = "UTF-8"
config.version = "8"
displayName = "Web 1"
memsize = "1024"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "{disk}"
"""


def laid(folder: Path, disk: str = "web.vmdk", name: str = "web.vmx") -> Path:
    """A machine's folder; the description in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "web.vmdk").write_bytes(b"KDMV" + bytes(508))
    (folder / name).write_text(VMX.format(disk=disk))
    return folder / name


def test_a_description_is_known_by_its_contents_whatever_it_is_called(tmp_path: Path) -> None:
    file = laid(tmp_path, name="machine.txt")
    machine = read_machine(file)
    assert machine is not None
    assert (machine.name, machine.disks[0].path) == ("Web-1", tmp_path / "web.vmdk")


def test_a_folder_with_one_description_is_that_machine(tmp_path: Path) -> None:
    laid(tmp_path / "web")
    machine = read_machine(tmp_path / "web")
    assert machine is not None
    assert machine.disks[0].path == tmp_path / "web" / "web.vmdk"


def test_a_folder_with_two_machines_is_a_question_to_the_user(tmp_path: Path) -> None:
    laid(tmp_path / "one")
    laid(tmp_path / "two")
    with pytest.raises(Usage) as caught:
        read_machine(tmp_path)
    assert "one/web.vmx" in str(caught.value)
    assert "two/web.vmx" in str(caught.value)


def test_a_folder_of_disks_alone_asks_for_the_disks(tmp_path: Path) -> None:
    (tmp_path / "a.vmdk").write_bytes(b"KDMV" + bytes(508))
    with pytest.raises(NoSource):
        read_machine(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "file/below"], ids=["too long", "a NUL", "below a file"])
def test_what_cannot_be_looked_at_is_left_to_those_who_open_disks(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"KDMV" + bytes(508))
    assert read_machine(tmp_path / name) is None


@pytest.mark.parametrize(
    "data",
    [
        b"KDMV" + bytes(508),
        bytes(4096),
        b"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n",
        b"\xeb\x63\x90" + bytes(600),
        b"",
    ],
    ids=["vmdk", "zeroes", "vmdk descriptor", "boot sector", "empty"],
)
def test_disks_are_left_to_those_who_open_disks(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "disk").write_bytes(data)
    assert read_machine(tmp_path / "disk") is None


def test_what_does_not_exist_is_left_to_those_who_open_disks(tmp_path: Path) -> None:
    assert read_machine(tmp_path / "nothing") is None


def packed(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["m.tar", "m.tar.gz", "m.zip"])
def test_a_description_in_an_archive_names_members_of_it(tmp_path: Path, name: str) -> None:
    text = VMX.format(disk="disks\\\\web.vmdk").encode()
    archive = packed(tmp_path / name, {"vm/web.vmx": text, "vm/disks/web.vmdk": b"KDMV" + bytes(508)})
    machine = read_machine(archive)
    assert machine is not None
    assert machine.disks[0].path == archive / "vm/disks/web.vmdk"


def test_an_archive_of_disks_is_left_to_those_who_open_disks(tmp_path: Path) -> None:
    assert read_machine(packed(tmp_path / "d.tar", {"disk.vmdk": b"KDMV" + bytes(508)})) is None


def test_a_description_in_an_archive_does_not_name_files_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "web.vmdk").write_bytes(b"KDMV" + bytes(508))
    archive = packed(tmp_path / "m.tar", {"web.vmx": VMX.format(disk=str(tmp_path / "web.vmdk")).encode()})
    with pytest.raises(BadDescription) as caught:
        read_machine(archive)
    assert "web.vmdk" in str(caught.value)


def test_a_disk_outside_the_machines_folder_needs_leave(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.vmdk").write_bytes(b"KDMV" + bytes(508))
    file = laid(tmp_path / "web", disk=str(elsewhere / "other.vmdk"))
    with pytest.raises(ForbiddenReference):
        read_machine(file)
    machine = read_machine(file, Lookup(allowed=(elsewhere,)))
    assert machine is not None
    assert machine.disks[0].path == elsewhere / "other.vmdk"


def test_a_disk_that_moved_is_found_by_its_last_name_in_a_folder_the_user_names(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.vmdk").write_bytes(b"KDMV" + bytes(508))
    file = laid(tmp_path / "web", disk="D:\\\\Virtual Machines\\\\other.vmdk")
    with pytest.raises(BadDescription):
        read_machine(file)
    machine = read_machine(file, Lookup(folders=(elsewhere,)))
    assert machine is not None
    assert machine.disks[0].path == elsewhere / "other.vmdk"


def test_a_link_out_of_the_machines_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"KDMV" + bytes(508))
    file = laid(tmp_path / "web", disk="link.vmdk")
    (tmp_path / "web" / "link.vmdk").symlink_to(tmp_path / "secret")
    with pytest.raises(ForbiddenReference):
        read_machine(file)
