"""What is seen inside a guest besides its facts: over memory, and in the confined child over disks with ext4 and XFS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from drivers.confinement import confined
from drivers.guest_sights import FLAGGED_AT_MOST, FlaggedFile, GuestSights, decoded, encoded, look_confined, look_over
from drivers.hard_names import LineKind
from drivers.inode_flags import InodeFlags
from drivers.offline import OfflineTree, open_volume
from p2v.core.disk import DiskReader
from p2v.core.errors import ReaderCrashed
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.drivers.raw_reader import RawReader
from tests.drivers.small_disk import debugfs, make_disk

STATUS = "Package: pacemaker\nStatus: install ok installed\n\nPackage: bash\nStatus: install ok installed\n"
FILES: dict[str, Node] = {
    "/etc/os-release": "ID=debian\nVERSION_ID=12\nNAME=Debian\n",
    "/etc/fstab": "UUID=11111111-2222-3333-4444-555555555555 / ext4 defaults 0 1\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "/etc/hostname": "small\n",
    "/etc/rc.local": "#!/bin/sh\nhdparm -B 254 /dev/sda\n",
    "/etc/multipath.conf": "multipaths {\n multipath {\n  wwid 3600508b4000156d7\n }\n}\n",
    "/var/lib/dpkg/status": STATUS,
    "/usr/bin/true": b"\x7fELF",
    "/bin/sh": b"\x7fELF",
    "/sbin/init": b"\x7fELF",
    "/boot/vmlinuz-6.1": b"kernel",
    "/boot/initrd.img-6.1": b"initramfs",
}


def disk_with(tmp_path: Path, commands: tuple[str, ...] = ()) -> Path:
    root = tmp_path / "root"
    for path, data in FILES.items():
        at = root / path.lstrip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(data if isinstance(data, bytes) else str(data).encode())
    make_disk(tmp_path / "disk", root)
    if commands:
        debugfs(tmp_path / "disk", commands, write=True)
    return tmp_path / "disk"


def seen_on(disk: Path) -> GuestSights:
    reader = RawReader(disk)
    try:
        return look_confined([reader])
    finally:
        reader.close()


def test_programs_and_lines_of_a_guest_in_memory() -> None:
    found = look_over(InMemoryTree(FILES), lambda path: "i" if path == "/etc/fstab" else "")
    assert found.is_seen
    assert (found.packages, found.database) == (2, "/var/lib/dpkg/status")
    assert [program.name for program in found.programs] == ["Pacemaker"]
    assert [(line.kind, line.path, line.number, line.name) for line in found.lines] == [
        (LineKind.DISK, "/etc/rc.local", 2, "/dev/sda"), (LineKind.IDENTITY, "/etc/multipath.conf", 3, "3600508b4000156d7"),
    ]  # fmt: skip
    assert found.flagged == (FlaggedFile("/etc/fstab", "i"),)
    assert found.flags_unread == ""


def test_what_the_reader_of_a_tree_cannot_tell_is_said() -> None:
    assert look_over(InMemoryTree(FILES)).flags_unread
    assert look_over(InMemoryTree(FILES), lambda _: None).flags_unread
    assert not look_over(InMemoryTree(FILES), lambda path: None if path.startswith("/boot") else "").flags_unread


def test_flagged_files_are_bounded() -> None:
    files: dict[str, Node] = {**FILES, **{f"/boot/{n:03}.img": b"x" for n in range(300)}}
    assert len(look_over(InMemoryTree(files), lambda _: "i").flagged) == FLAGGED_AT_MOST


def test_sights_survive_json_and_nonsense_is_refused() -> None:
    found = look_over(InMemoryTree(FILES), lambda _: "a")
    assert decoded(json.loads(json.dumps(encoded(found))), "disk") == found
    nonsense: tuple[object, ...] = (
        None,
        [],
        {"is_seen": "yes"},
        {"programs": [{"name": "x", "kind": "y", "where": "z"}]},
        {"more": 1},
    )
    for each in nonsense:
        with pytest.raises(ReaderCrashed):
            decoded(each, "disk")


def test_a_disk_is_looked_into_and_flags_are_read_from_its_inodes(tmp_path: Path) -> None:
    disk = disk_with(
        tmp_path,
        (
            "set_inode_field /etc/fstab flags 0x80010",
            "set_inode_field /boot/initrd.img-6.1 flags 0x80020",
            "set_inode_field /etc flags 0x80030",
            "set_inode_field /etc/passwd flags 0x80010",
        ),
    )
    found = seen_on(disk)
    assert found.is_seen
    assert [program.name for program in found.programs] == ["Pacemaker"]
    assert [line.name for line in found.lines] == ["/dev/sda", "3600508b4000156d7"]
    # nothing of a plan touches passwd
    assert {file.path: file.flags for file in found.flagged} == {
        "/etc/fstab": "i",
        "/boot/initrd.img-6.1": "a",
        "/etc": "ia",
    }


def test_a_disk_without_flags_has_none(tmp_path: Path) -> None:
    found = seen_on(disk_with(tmp_path))
    assert (found.flagged, found.flags_unread) == ((), "")


def test_a_disk_without_a_linux_is_not_seen(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    assert seen_on(disk) == GuestSights()


def test_flags_of_xfs_are_read_from_its_inodes(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(320 << 20)
    protocol = tmp_path / "protocol"
    (tmp_path / "data").write_text("data")
    protocol.write_text(
        f"/\n0 0\nd--755 0 0\nplain ---644 0 0 {tmp_path / 'data'}\nfixed ---644 0 0 {tmp_path / 'data'}\n$\n"
    )
    subprocess.run(["mkfs.xfs", "-q", "-p", str(protocol), str(image)], check=True, capture_output=True)
    words = [
        "xfs_db",
        "-x",
        "-c",
        "path /fixed",
        "-c",
        "write core.immutable 1",
        "-c",
        "write core.append 1",
        str(image),
    ]
    subprocess.run(words, check=True, capture_output=True)

    def letters(readers: Sequence[DiskReader]) -> list[str | None]:
        reader = readers[0]
        tree = OfflineTree(open_volume("xfs", reader, 0, reader.virtual_size))
        flags = InodeFlags(tree)
        return [flags.letters(path) for path in ("/plain", "/fixed", "/", "/absent")]

    reader = RawReader(image)
    try:
        assert confined(letters, [reader]) == ["", "ia", "", None]
    finally:
        reader.close()
