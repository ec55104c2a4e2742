"""The steps of a first start, and the list of them that the service program reads (docs/first-boot.md has its
format). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FORMAT = "p2v-firstboot-1"
STEPS_AT_MOST = 31
COMMAND_CHARS_AT_MOST = 1000
LIST_BYTES_AT_MOST = 32 * 1024 - 1
_NUMBER_AT_MOST = 999_999
_NAME = re.compile(r"[a-z0-9-]{1,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """A file beside the service program, by its name there. ``content``: ASCII, with the line ends that it is to have."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the guest does. ``seconds``: after which a try is ended; ``tries``: how often it is begun, over all starts.

    ``command``: a command line with environment variables in it (``%P2V_FOLDER%``: where the program stands), run in that folder.
    It has done its work when it ends with 0, or with 3010 or 1641, which ask for a restart after the last step. ``files`` and
    ``programs`` (names of ``program.PROGRAMS``): what it needs there.
    """

    name: str
    seconds: int
    tries: int
    command: str
    why: str
    files: tuple[ScriptFile, ...] = ()
    programs: tuple[str, ...] = ()


def step_list(steps: Sequence[Step], starts: int, restarts: int) -> str:
    """The text of steps.txt. ``starts``, ``restarts``: after so many no further step, and no further restart.

    Raises ValueError for what the program would not read: a bug of who plans.
    """
    lines = [f"{FORMAT} {_number(starts)} {_number(restarts)} starts and restarts at most; then name, seconds, tries, command"]
    lines += _lines(steps)
    text = "".join(f"{line}\r\n" for line in lines)
    if len(text.encode()) > LIST_BYTES_AT_MOST:
        raise ValueError("too much for a list of steps")
    return text


def _lines(steps: Sequence[Step]) -> Iterator[str]:
    if len(steps) > STEPS_AT_MOST or len({step.name for step in steps}) < len(steps):
        raise ValueError("too many steps, or two of one name")
    for step in steps:
        if not _NAME.fullmatch(step.name):
            raise ValueError(f"no name for a step: {step.name!r}")
        if not step.command or len(step.command) > COMMAND_CHARS_AT_MOST or _CONTROL.search(step.command):
            raise ValueError(f"no command for a step: {step.command!r}")
        yield f"# {_CONTROL.sub(' ', step.why)}"
        yield f"{step.name} {_number(step.seconds)} {_number(step.tries)} {step.command}"


def _number(value: int) -> int:
    if not 0 < value <= _NUMBER_AT_MOST:
        raise ValueError(f"no number for a list of steps: {value}")
    return value


def batch(*lines: str) -> str:
    """The text of a batch file."""
    return "".join(f"{line}\r\n" for line in ("@echo off", *lines))
