"""The folder that results go to: made where there is none, and what is in its way is told of at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.batch.failures import may_help
from p2v.core.errors import TargetExists
from p2v.core.workspace import make_output_folder


def test_folders_are_made_outermost_first(tmp_path: Path) -> None:
    assert make_output_folder(tmp_path / "a" / "b") == (tmp_path / "a", tmp_path / "a" / "b")
    assert make_output_folder(tmp_path / "a" / "b") == ()


@pytest.mark.parametrize("way", ["file", "below a file", "link to nowhere", "device"])
def test_something_else_in_its_place_is_no_failure_that_passes(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link to nowhere").symlink_to(tmp_path / "none" / "here")
    folder = {"below a file": tmp_path / "file" / "out", "device": Path("/dev/null")}.get(way, tmp_path / way)
    with pytest.raises(TargetExists) as raised:
        make_output_folder(folder)
    assert raised.value.target == folder
    # a batch parks such a machine, and does not try it again and again
    assert not may_help(raised.value.code, raised.value.exit_code)
    assert (tmp_path / "file").read_text() == "mine"
