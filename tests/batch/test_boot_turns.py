"""A boot check and an appliance take their turns, and children of a run are told how many there may be at once."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drivers.appliance_launch import open_appliance
from p2v import rewriting
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.events import silent
from p2v.core.turns import APPLIANCE_TURNS, BOOT_TURNS, appliance_turns, boot_turns
from p2v.core.workspace import Outputs
from tests.batch.fleets import FAKE, ROOMY, batch, machine, run


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


def test_an_appliance_has_its_place_from_its_launch_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[str, bool] = {}

    def note(step: str) -> None:
        taken[step] = is_taken(tmp_path / "appliance-0")

    def start(launch: object) -> SimpleNamespace:
        note("start")
        return SimpleNamespace(
            shutdown=lambda: note("shutdown"), kill=lambda: note("kill"), close=lambda: note("close")
        )

    monkeypatch.setattr("drivers.appliance_launch._Launch.start", start)
    for name, value in appliance_turns(1, tmp_path).items():
        monkeypatch.setenv(name, value)
    with open_appliance((), Acceleration(Accelerator.TCG, "none is needed")):
        note("used")
    assert taken == dict.fromkeys(("start", "used", "shutdown", "close"), True)
    assert not is_taken(tmp_path / "appliance-0")
    with pytest.raises(ZeroDivisionError), open_appliance((), Acceleration(Accelerator.TCG, "none is needed")):
        raise ZeroDivisionError
    assert taken["kill"]
    assert not is_taken(tmp_path / "appliance-0")


def test_children_are_told_of_the_places(tmp_path: Path) -> None:
    said = f"os.environ['{BOOT_TURNS}'], os.environ['{APPLIANCE_TURNS}']"
    code = f"import os, sys; print('p2v:', {said}, file=sys.stderr); sys.exit(65)"
    program: Sequence[str] = (FAKE[0], "-ISEc", code)
    budget = replace(ROOMY, appliances=3)
    ran = run(batch(tmp_path, [machine(tmp_path, "a")], budget), program=tuple(program))
    failure = ran.job("a").failure
    assert failure is not None
    boots, appliances = failure.message.split(" ")[-2:]
    for said, wanted in ((boots, "8"), (appliances, "3")):
        count, _, folder = said.partition(":")
        assert count == wanted
        assert folder.startswith("/")
