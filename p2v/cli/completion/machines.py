"""Which of a batch's machines can be meant at a place of a command line: asked by a shell while somebody waits for a key press."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2v.batch.names import DEFAULT_JOBS, KnownMachine, known_machines
from p2v.cli import console

LONGEST_SECONDS = 5.0
"""After these there is no answer: a store that is damaged on purpose may never end, a share of a server that is gone neither."""
_WITH_A_VALUE_OF_ITS_OWN = ("run", "plan")
"""Verbs whose batch is a word of its own, not an option's value."""


def tell_machines(words: Sequence[str]) -> None:
    """Print their names, one a line, and nothing else whatever happens.

    ``words``: those before the cursor, without quotes, from behind the program's name: ``batch``, ``logs``, ...
    """
    limit = threading.Timer(LONGEST_SECONDS, os._exit, (0,))
    limit.daemon = True
    limit.start()
    names = machines_for(words)
    limit.cancel()
    if names:
        console.out("\n".join(names))


def machines_for(words: Sequence[str]) -> tuple[str, ...]:
    """Their names, in the order of the batch; none where nothing can be read. Nothing is written."""
    verb = words[1] if len(words) > 1 else ""
    for jobs in _batches(words, verb):
        try:
            known = known_machines(jobs)
        except (OSError, ValueError):
            continue
        if known:
            return tuple(machine.name for machine in known if _can_be_meant(verb, machine))
    return ()


def _can_be_meant(verb: str, machine: KnownMachine) -> bool:
    match verb:
        case "retry":
            return machine.state in ("parked", "cancelled") or machine.cancel_wished
        case "cancel":
            return machine.state in ("waiting", "running") and not machine.cancel_wished
    return True


def _batches(words: Sequence[str], verb: str) -> Iterator[Path]:
    """What may be the batch, the likeliest first."""
    named = _named(words[2:])
    if named is not None:
        yield _path(named)
        return
    if verb in _WITH_A_VALUE_OF_ITS_OWN:
        # an option's value has no machines in it, so that it need not be known which of them are values
        yield from (path for path in map(_path, words[2:]) if path.is_file())
    yield DEFAULT_JOBS


def _named(words: Sequence[str]) -> str | None:
    """The value of --batch, however it is written: the last one, as argparse has it."""
    found = None
    for before, word in zip(("", *words), words, strict=False):
        if before in ("-b", "--batch"):
            found = word
        elif word.startswith("--batch="):
            found = word.partition("=")[2]
        elif word.startswith("-b") and word != "-b":
            found = word[2:].removeprefix("=")
    return found


def _path(word: str) -> Path:
    """A word as a shell would hand it over: it does that only when the line is run."""
    return Path(os.path.expandvars(os.path.expanduser(word)))
