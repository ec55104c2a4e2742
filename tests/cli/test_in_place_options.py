"""``--in-place`` and ``undo`` on the command line: what makes no sense is told, and what they do to a source is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.cli.main import main


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "raw"),
        ("--connect", "qemu:///system"),
        ("--pool", "default"),
        ("--start",),
        ("--to-device", "/dev/vg/web"),
        ("--to", "proxmox"),
        ("--to", "kubevirt"),
        ("--to", "openstack"),
        ("--compress",),
        ("--cluster-size", "1M"),
        ("--preallocation", "falloc"),
        ("--no-reflink",),
    ],
    ids=" ".join,
)
def test_what_is_for_copies_is_refused_before_anything_is_read(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "--in-place", str(tmp_path / "nothing.raw"), "-o", str(tmp_path / "out"), *words]) == 64
    assert "in-place" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--force",), ("--undo-journal", "vm.undo")], ids=" ".join)
def test_what_is_for_in_place_means_nothing_to_a_copy(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(tmp_path / "nothing.raw"), "-o", str(tmp_path / "out"), *words]) == 64
    assert words[0] in capsys.readouterr().err


def test_in_place_needs_a_source(tmp_path: Path) -> None:
    assert main(["convert", "--in-place", "-o", str(tmp_path / "out")]) == 64


def test_the_help_says_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "no other mode writes to a source" in text
    assert "The source is not written to" in text


def test_undo_of_something_else_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["undo", str(tmp_path / "vm.undo")]) == 66
    (tmp_path / "vm.undo").write_bytes(bytes(10000))
    assert main(["undo", str(tmp_path / "vm.undo")]) == 65
    assert main(["undo", str(tmp_path)]) in (65, 66, 74)
    assert "journal" in capsys.readouterr().err
