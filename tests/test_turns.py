"""No more guests boot at once than there are places, and a place is free again however its holder ended."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from p2v.core.events import Event, PhaseFinished, PhaseStarted, silent
from p2v.core.turns import (
    APPLIANCE_PHASE,
    BOOT_TURNS,
    PHASE,
    appliance_turn,
    appliance_turns,
    boot_turn,
    boot_turns,
)

HOLDER = """\
import sys
from p2v.core.events import silent
from p2v.core.turns import boot_turn
with boot_turn(silent):
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in boot_turns(2, tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("two_places")
def test_a_third_one_waits_until_a_place_is_given_back() -> None:
    told: list[Event] = []
    waits, has_it = threading.Event(), threading.Event()

    def third() -> None:
        def report(event: Event) -> None:
            told.append(event)
            waits.set()

        with boot_turn(report):
            has_it.set()

    with ExitStack() as first:
        first.enter_context(boot_turn(silent))
        with boot_turn(silent):
            thread = threading.Thread(target=third)
            thread.start()
            assert waits.wait(60)
            assert not has_it.is_set()
            assert told == [PhaseStarted(PHASE, "Waiting for its turn to boot")]
            first.close()
            assert has_it.wait(60)
            thread.join(60)
    assert isinstance(told[-1], PhaseFinished)


@pytest.mark.usefixtures("two_places")
def test_the_places_of_processes_that_were_killed_are_free() -> None:
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == b"has it\n"
            finally:
                holder.kill()
    told: list[Event] = []
    with boot_turn(told.append), boot_turn(told.append):
        assert told == []


@pytest.mark.parametrize("said", ["", "1", "x:/tmp", "1:", "1:/nowhere/at/all"])
def test_where_there_are_no_places_nobody_waits(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOOT_TURNS, said)
    told: list[Event] = []
    with boot_turn(told.append), boot_turn(told.append):
        assert told == []


def test_appliances_have_places_of_their_own_and_who_is_to_end_waits_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**boot_turns(1, tmp_path), **appliance_turns(1, tmp_path)}.items():
        monkeypatch.setenv(name, value)
    told: list[Event] = []
    with boot_turn(told.append), appliance_turn(told.append):
        assert told == []
        looks = iter([False, False, True])
        with appliance_turn(told.append, lambda: next(looks)):
            pass
    assert [type(each) for each in told] == [PhaseStarted, PhaseFinished]
    assert isinstance(told[0], PhaseStarted)
    assert told[0].phase == APPLIANCE_PHASE
