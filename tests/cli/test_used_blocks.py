"""``p2v disk convert --used-blocks``: what is free does not travel, and that is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converters.image import open_disk
from converters.pieces import stored_bytes
from converters.sparse_view import SparseView
from p2v.cli.disk import copying
from p2v.cli.main import main
from p2v.core import workspace
from tests.converters.allocation import made
from tests.converters.allocation.made import KIB, MIB
from tests.drivers.making import make_disk, patch

FREE = "free blocks of ext2/3/4"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Two partitions full of deleted files; one is dirty."""
    made.scatter(tmp_path / "files", seed=5, budget=3 * MIB)
    parts = []
    for name in ("clean", "dirty"):
        part = made.poisoned(tmp_path / name, 16 * MIB)
        made.run("mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard", "-d", tmp_path / "files", part)
        parts.append(part)
    patch(parts[1], 1024 + 0x60, b"\xc6")
    return make_disk(tmp_path / "disk.raw", 40 * MIB, "2048,32768\n34816,32768\n", [(MIB, parts[0]), (17 * MIB, parts[1])])


def poison(path: Path, begin: int, length: int) -> int:
    with open_disk(path) as reader:
        return reader.pread(length, begin).count(made.POISON * 4096)


@pytest.mark.parametrize("name", ["out.qcow2", "out.raw"])
def test_what_is_free_is_left_out_of_what_is_understood(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["disk", "convert", str(disk), str(tmp_path / name), "--used-blocks", "--progress", "none"]) == 0
    out = capsys.readouterr().out
    assert f"({FREE})" in out
    assert "disk 1, partition 2 (ext2/3/4, 16.0 MiB) was copied whole" in out
    # its journal, which is in use, and pieces of less than 64 KiB
    assert poison(tmp_path / name, MIB, 16 * MIB) * 4096 < 2 * MIB
    assert poison(tmp_path / name, 17 * MIB, 16 * MIB) * 4096 > 8 * MIB


def test_without_it_every_byte_is_copied(disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.raw"
    assert main(["disk", "convert", str(disk), str(target), "--json", "--progress", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == {}
    assert target.read_bytes() == disk.read_bytes()


def test_a_program_is_told_what_was_left_out(disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disk", "convert", str(disk), str(tmp_path / "o.img"), "--used-blocks", "--json", "--progress", "none"]) == 0
    document = json.loads(capsys.readouterr().out)
    left_out = made.unused(disk).disks[0]
    assert document["left_out"] == {FREE: left_out.total}
    assert list(document["copied_whole"]) == ["disk 1, partition 2"]


def test_the_room_that_is_wanted_is_that_of_what_is_copied(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left_out = made.unused(disk).disks[0]
    with SparseView(open_disk(disk, "raw"), left_out) as view:
        needed = stored_bytes(view)
    assert 16 * MIB < needed < 40 * MIB - left_out.total + MIB
    monkeypatch.setattr(workspace, "free_bytes", lambda folder: needed + 20 * MIB)
    words = ["disk", "convert", str(disk), str(tmp_path / "out.raw"), "--progress", "none"]
    monkeypatch.setattr(copying, "_SLACK_BYTES", 20 * MIB)
    assert main([*words, "--used-blocks"]) == 0
    (tmp_path / "out.raw").unlink()
    monkeypatch.setattr(workspace, "free_bytes", lambda folder: needed + 20 * MIB - 1)
    assert main([*words, "--used-blocks"]) == 73
    assert main(words) == 73


def test_room_is_counted_in_whole_pieces(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        for at in (0, 4 * KIB, 100 * KIB, 5 * MIB):
            file.seek(at)
            file.write(b"x" * 4 * KIB)
    with open_disk(path, "raw") as reader:
        assert stored_bytes(reader) == 3 * 64 * KIB
