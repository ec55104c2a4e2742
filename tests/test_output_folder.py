"""The folder that results go to is made, and what is in its way is told as what it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from p2v.core.errors import NoSpace, P2vError, ReadFailed
from p2v.core.workspace import make_output_folder


@pytest.mark.parametrize("number, wanted", [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, ReadFailed)])
def test_a_full_storage_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, wanted: type[P2vError]
) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(wanted) as told:
        make_output_folder(tmp_path / "out")
    assert str(tmp_path) in told.value.sentence()


def test_folders_that_were_made_are_named_outermost_first(tmp_path: Path) -> None:
    assert make_output_folder(tmp_path / "a" / "b") == (tmp_path / "a", tmp_path / "a" / "b")
    assert make_output_folder(tmp_path / "a" / "b") == ()
