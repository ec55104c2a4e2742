"""What a child's end means: whether trying again may help, and when."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from p2v.batch.children import Ended
from p2v.batch.jobs import Failure
from p2v.core.errors import P2vError
from p2v.core.text import printable

# Of the host, its storage, its network or another run: these may be otherwise next time. What the machine, its guest, the
# user's options or rights are at fault for is the same each time.
MAY_HELP = frozenset({
    "appliance-failed", "appliance-not-started", "appliance-stopped", "device-in-use", "disk-in-use", "io", "killed", "lost",
    "no-space", "not-held-still", "not-seen", "not-written", "program-failed", "program-timed-out", "silent", "source-gone",
    "source-in-use", "store-busy", "target-busy", "unreadable", "worker-lost",
})  # fmt: skip
STILL_AT_IT = frozenset({"target-busy"})
"""Somebody else is at the machine still: an attempt before this one that nobody hears of any more. Nothing has failed."""
STILL_AT_IT_AT_MOST = 60
"""How often an attempt that ended so is not counted; with its pauses an hour or two, then it is parked."""
_BUSY_PAUSES = 3
_OF_THE_HOST = (74, 75)
NEVER = frozenset({"bad-sectors", "source-failing", "bad-target"})
"""Those of an exit code that may help, which do not: the same sectors are bad next time."""
_LONGEST_WORDS = 2000
_FIRST_SECONDS, _FACTOR, _LONGEST_SECONDS = 5.0, 4.0, 900.0
_LOSSES, _NOT_BOOTED = 2, 3
_TOLD_TO_END = (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP)
CONVERTED = (0, _LOSSES, _NOT_BOOTED)
"""Exit codes of a conversion that left its results."""


def may_help(code: str, exit_code: int) -> bool:
    """Whether trying again may help. A code that is not known is judged by its exit code: I/O and «try again»."""
    return code in MAY_HELP or (exit_code in _OF_THE_HOST and code not in NEVER)


def failure_of(ended: Ended, error: Mapping[str, Any] | None) -> Failure:
    """Why a child left no result. ``error``: its last event of that name."""
    if ended.lost:
        return of_words("lost", 75, ended.lost)
    if ended.exit_status < 0:
        return _killed(-ended.exit_status)
    if error is None and ended.exit_status in _TOLD_TO_END:
        # p2v's answer to a signal that was not the runner's: a host or a container on its way down says nothing of the machine
        return _killed(ended.exit_status - 128)
    if error is not None:
        code, exit_code = _words(error.get("code")) or "unknown", error.get("exit_code")
        exit_code = exit_code if isinstance(exit_code, int) else ended.exit_status
        return of_words(code, exit_code, _words(error.get("message")), _words(error.get("hint")))
    said = ended.tail.splitlines()
    words = f": {said[-1]}" if said else " and said nothing"
    return of_words("no-answer", ended.exit_status, f"p2v convert ended with exit status {ended.exit_status}{words}")


def how_it_ended(ended: Ended) -> str:
    """A child's end as words behind its name, with the last that it said."""
    said = ended.tail.splitlines()
    words = f": {said[-1]}" if said else ""
    how = (
        f"was ended by signal {-ended.exit_status}"
        if ended.exit_status < 0
        else f"ended with exit status {ended.exit_status}"
    )
    return f"{how}{words}"[:_LONGEST_WORDS]


def of_error(error: P2vError) -> Failure:
    """An error of ours as a failure."""
    return of_words(error.code, error.exit_code, error.sentence(), error.hint())


def of_words(code: str, exit_code: int, message: str, hint: str = "") -> Failure:
    """A failure, judged by its code."""
    return Failure(
        code,
        exit_code,
        printable(message)[:_LONGEST_WORDS],
        printable(hint)[:_LONGEST_WORDS],
        may_help(code, exit_code),
    )


def backoff_seconds(attempt: int, name: str, first_seconds: float = _FIRST_SECONDS) -> float:
    """How long to wait after attempt ``attempt`` (from 1); a part of it by the name, so that not all come back at once."""
    plain = min(_LONGEST_SECONDS, first_seconds * _FACTOR ** max(0, min(attempt, 20) - 1))
    return plain * (0.8 + 0.4 * hashlib.sha256(name.encode("utf-8", "replace")).digest()[0] / 255)


def pause_seconds(times: int, name: str, first_seconds: float = _FIRST_SECONDS) -> float:
    """How long to wait after somebody else was at it for the ``times``-th time (from 1): not long, for nothing has failed."""
    return backoff_seconds(min(times, _BUSY_PAUSES), name, first_seconds)


def still_at_it(failure: Failure, times: int) -> Failure:
    """The failure of a machine that somebody else was at so many times."""
    words = f"{failure.message}; so it was {times} times, and nothing that is known of has a right to it"
    hint = "Find who has it (`fuser -v` on the lock beside the results, on each host that worked on it), end it, then retry."
    return replace(failure, message=words, hint=hint, may_help=False)


def _killed(number: int) -> Failure:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = ""
    if name == "SIGKILL":
        hint = "The kernel does so when memory is short: then a warning of the attempt says so. A smaller budget helps."
    return of_words("killed", 128 + number, f"p2v convert was ended by {name}", hint)


def _words(value: object) -> str:
    return value if isinstance(value, str) else ""
