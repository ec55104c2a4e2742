"""Where scratch folders are made for children that gave their user up."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from p2v.core.workspace import reachable_parent
from tests.other_users import let_others_through


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    let_others_through(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_temporary_folder_that_others_can_reach_is_used(temporary: Path) -> None:
    assert reachable_parent() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's children become somebody else")
@pytest.mark.parametrize("closed", ["itself", "above"])
def test_a_private_temporary_folder_is_not(temporary: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    inner = temporary / "inner"
    inner.mkdir(mode=0o700 if closed == "itself" else 0o755)
    (temporary if closed == "above" else inner).chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(inner))
    assert reachable_parent() == Path("/tmp")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's children become somebody else")
def test_the_child_of_an_ordinary_user_stays_in_a_private_one(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert reachable_parent() is None
