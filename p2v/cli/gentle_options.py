"""The options about how a source is read: how fast, how urgently, and what becomes of what cannot be read."""

from __future__ import annotations

import argparse
import re

from converters.care import IoPriority
from p2v.core.errors import Usage
from p2v.core.units import KIB, parse_size
from p2v.source_care import SourceWish

_PRIORITY = re.compile(r"(idle)|best-effort(?::([0-7]))?")
_RATE = re.compile(r"(.*?)(?:/s|ps)?", re.IGNORECASE | re.DOTALL)
_IDLE, _BEST_EFFORT, _MIDDLE = 3, 2, 4
_LEAST_RATE = 64 * KIB
NAMES = ("limit", "ionice", "skip_bad_sectors")
"""What their values are called; each is false where the option was not given."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    group = parser.add_argument_group("how the source is read (docs/reading.md)")
    group.add_argument(
        "--limit",
        metavar="RATE",
        help="copy at most so many bytes a second of all disks together, as 20M (MiB a second) or 500K",
    )
    # said by a batch to its children, and changed on their standard input (p2v.told_limits)
    group.add_argument("--share", type=int, metavar="BYTES", help=argparse.SUPPRESS)
    group.add_argument(
        "--ionice",
        metavar="CLASS",
        help="I/O class of the threads that copy, as ionice(1) has it: idle (only when nobody else uses the disk), or "
        "best-effort:LEVEL (0 first to 7 last); needs an I/O scheduler that knows them (bfq, mq-deadline)",
    )
    group.add_argument(
        "--skip-bad-sectors",
        action="store_true",
        help="where the source cannot be read, even in small pieces, zeroes take its place: the record lists such ranges with "
        "the guest's files that they hit, and the exit code is 2. The guest is rewritten after the copy, not beside it",
    )


def wish_of(arguments: argparse.Namespace) -> SourceWish:
    """What they say. Raises Usage."""
    if arguments.share is not None and arguments.share < 1:
        raise Usage(f"--share {arguments.share}: at least 1 byte a second")
    return SourceWish(
        _limit(arguments.limit), _priority(arguments.ionice), arguments.skip_bad_sectors, share=arguments.share
    )


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    match = _RATE.fullmatch(text.strip())
    try:
        rate = parse_size(match[1] if match else text)
    except ValueError as error:
        raise Usage(f"--limit: {error}", "As in --limit 20M: 20 MiB a second.") from error
    if rate < _LEAST_RATE:
        raise Usage(f"--limit {text}: less than 64 KiB a second", "Without a unit these are bytes; write 20M for 20 MiB a second.")
    return rate


def _priority(text: str | None) -> IoPriority | None:
    if text is None:
        return None
    match = _PRIORITY.fullmatch(text)
    if match is None:
        raise Usage(f"--ionice {text}: no such class", "idle, best-effort, or best-effort:0 (first) to best-effort:7 (last).")
    return IoPriority(_IDLE) if match[1] else IoPriority(_BEST_EFFORT, int(match[2] or _MIDDLE))
