"""A boot check takes its turn, and no more children of a run boot at once than its budget has places."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from p2v import rewriting
from p2v.core.events import silent
from p2v.core.turns import BOOT_TURNS, boot_turns
from p2v.core.workspace import Outputs
from tests.batch.fleets import FAKE, batch, machine, run


def is_taken(file: Path) -> bool:
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_boot_check_has_its_place_as_long_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []

    def verify(*_: object, **__: object) -> SimpleNamespace:
        taken.append(is_taken(tmp_path / "boot-0"))
        return SimpleNamespace(screenshot=None, log=None)

    monkeypatch.setattr(rewriting, "verify", verify)
    monkeypatch.setattr(rewriting, "replace", lambda evidence, **_: evidence)
    for name, value in boot_turns(1, tmp_path).items():
        monkeypatch.setenv(name, value)
    document = SimpleNamespace(machine=SimpleNamespace(name="a"), facts=None)
    nothing = cast(Any, None)
    rewriting.boot_checked(
        nothing, cast(Any, document), Outputs(tmp_path, ()), nothing, silent, scratch=tmp_path, keys=()
    )
    assert taken == [True]
    assert not is_taken(tmp_path / "boot-0")


def test_children_are_told_of_the_places(tmp_path: Path) -> None:
    code = f"import os, sys; print('p2v:', os.environ['{BOOT_TURNS}'], file=sys.stderr); sys.exit(65)"
    program: Sequence[str] = (FAKE[0], "-ISEc", code)
    ran = run(batch(tmp_path, [machine(tmp_path, "a")]), program=tuple(program))
    failure = ran.job("a").failure
    assert failure is not None
    count, _, folder = failure.message.rpartition(" ")[2].partition(":")
    assert count == "8"
    assert folder.startswith("/")
