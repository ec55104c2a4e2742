"""Which failures are tried again, and when."""

from __future__ import annotations

import signal

import pytest

from p2v.batch.children import Ended
from p2v.batch.failures import MAY_HELP, NEVER, backoff_seconds, failure_of, may_help
from p2v.core import errors
from p2v.core.errors import P2vError

AGAIN = {
    "ClusterGone", "DeviceInUse", "DiskInUse", "Interrupted", "LeaseLost", "NoSpace", "NotHeldStill", "ProgramFailed",
    "ProgramTimedOut", "ReadFailed", "RunElsewhere", "SourceGone", "SourceInUse", "StoreBusy", "TargetBusy", "Unreadable",
}  # fmt: skip


def kinds() -> list[type[P2vError]]:
    found = [getattr(errors, name) for name in errors.__all__]
    return [each for each in found if isinstance(each, type) and issubclass(each, P2vError)]


def test_of_all_errors_just_those_that_may_be_otherwise_next_time_are_tried_again() -> None:
    assert {each.__name__ for each in kinds() if may_help(each.code, each.exit_code)} == AGAIN


@pytest.mark.parametrize("exit_code", [1, 4, 64, 65, 66, 69, 70, 73, 76, 77, 78])
def test_a_code_that_is_not_known_is_not_tried_again_but_for_io_and_try_again(exit_code: int) -> None:
    assert not may_help("something new", exit_code)
    assert may_help("something new", 74)
    assert may_help("something new", 75)
    assert not MAY_HELP & NEVER


def test_an_error_that_was_said_is_the_failure() -> None:
    said = {"event": "error", "code": "no-space", "exit_code": 73, "message": "/out: full\x1b[2J", "hint": "Free some."}
    failure = failure_of(Ended(73, "", 1.0), said)
    assert (failure.code, failure.exit_code, failure.may_help, failure.hint) == ("no-space", 73, True, "Free some.")
    assert failure.message == "/out: full\\x1b[2J"


@pytest.mark.parametrize("said", [{"code": 3, "exit_code": "x", "message": None}, {}, {"message": "x" * 10**6}])
def test_an_error_of_odd_types_is_a_failure_all_the_same(said: dict[str, object]) -> None:
    failure = failure_of(Ended(65, "", 1.0), {"event": "error", **said})
    assert (failure.code, failure.exit_code, failure.may_help) == ("unknown", 65, False)
    assert len(failure.message) <= 2000


def test_ends_without_an_error() -> None:
    killed = failure_of(Ended(-signal.SIGKILL, "", 1.0), None)
    assert (killed.code, killed.exit_code, killed.may_help) == ("killed", 137, True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        told = failure_of(Ended(128 + number, "p2v: ended", 1.0), None)
        assert (told.code, told.exit_code, told.may_help) == ("killed", 128 + number, True)
        assert number.name in told.message
    said = {"event": "error", "code": "bad-image", "exit_code": 65}
    assert failure_of(Ended(143, "", 1.0), said).code == "bad-image"
    mute = failure_of(Ended(70, "Traceback\nValueError: x", 1.0), None)
    assert (mute.code, mute.exit_code, mute.may_help) == ("no-answer", 70, False)
    assert mute.message.endswith(": ValueError: x")
    lost = failure_of(Ended(0, "", 1.0, lost="its worker went away"), None)
    assert (lost.code, lost.may_help) == ("lost", True)


def test_the_wait_grows_is_bounded_and_differs_by_machine() -> None:
    waits = [backoff_seconds(attempt, "a") for attempt in range(1, 30)]
    assert 4.0 <= waits[0] <= 6.0
    assert waits[0] < waits[1] < waits[2]
    assert max(waits) <= 1080.0
    assert len({backoff_seconds(1, str(number)) for number in range(20)}) > 10
