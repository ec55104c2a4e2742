"""Options of ``p2v batch run`` that say which machines are run, and until when."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from p2v.batch.jobs import MachineJob
from p2v.batch.manifest_keys import HOUR
from p2v.cli.words import machine_name
from p2v.core.errors import Usage

_HINT = "`p2v batch status --all` lists its machines with their waves."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("a part of it")
    group.add_argument(
        "--only", action="append", default=[], type=machine_name, metavar="NAME",
        help="run no other machine; a pattern as in 'web*' takes several, and it can be given repeatedly",
    )  # fmt: skip
    group.add_argument(
        "--wave", action="append", default=[], type=_wave, metavar="N",
        help="run no other wave, whether those before it have ended or not; can be given repeatedly",
    )  # fmt: skip
    group.add_argument(
        "--until", type=moment, default=math.inf, metavar="TIME",
        help="begin nothing after this local time (06:00: the next time it is that late; or 2030-01-31T06:00); what is under way "
        "goes on to its end",
    )  # fmt: skip
    group.add_argument(
        "--stop-at", type=moment, default=math.inf, metavar="TIME",
        help="stop what is under way at this time, as Ctrl-C does: the next run goes on with it",
    )  # fmt: skip


def _wave(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a wave; as in --wave 1") from error


def moment(text: str, now: datetime | None = None) -> float:
    """A time that somebody wrote, in seconds since 1970: of today or tomorrow where there is no date.

    Raises ArgumentTypeError for what is none, or is over.
    """
    now = now or datetime.now()
    if re.fullmatch(HOUR, text):
        hour, minute = map(int, text.split(":"))
        found = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        return (found if found > now else found + timedelta(days=1)).timestamp()
    try:
        at = datetime.fromisoformat(text).timestamp() if re.search(r"\d[T ]\d", text) else None
    except (ValueError, OverflowError):
        at = None
    if at is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; as in 06:00 or {now:%Y-%m-%d}T23:30")
    if at <= now.timestamp():
        raise argparse.ArgumentTypeError(f"{text} is over")
    return at


def chosen(arguments: argparse.Namespace, machines: Sequence[MachineJob]) -> frozenset[str] | None:
    """Names of the machines that are to be run; None: all. Raises Usage where an option chooses none."""
    if not arguments.only and not arguments.wave:
        return None
    waves = {machine.wave for machine in machines}
    for wave in arguments.wave:
        if wave not in waves:
            raise Usage(f"--wave {wave}: no machine is of this wave", _HINT)
    for name in arguments.only:
        if not any(fnmatchcase(machine.name, name) for machine in machines):
            raise Usage(f"--only {name!r}: no machine is called so in this batch", _HINT)
    names = frozenset(_names(arguments, machines))
    if not names:
        raise Usage("no machine is of these names and of these waves as well", _HINT)
    return names


def _names(arguments: argparse.Namespace, machines: Sequence[MachineJob]) -> Iterator[str]:
    for machine in machines:
        named = not arguments.only or any(fnmatchcase(machine.name, name) for name in arguments.only)
        if named and (not arguments.wave or machine.wave in arguments.wave):
            yield machine.name
