"""The options about source devices that are in use."""

from __future__ import annotations

import argparse
from pathlib import Path

from p2v.consistency import FREEZE_SECONDS, LiveWish
from p2v.core.errors import Usage

_LONGEST_SECONDS = 24 * 3600
NAMES = ("live", "freeze_limit")
"""What their values are called; each is false where the option was not given (so is a limit of 0, which needs the other one)."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    group = parser.add_argument_group("block devices that are in use (mounted, held by volumes, open for writing)")
    group.add_argument(
        "--live",
        action="store_true",
        help="copy them all the same, in the best way there is: from an LVM snapshot, or with their file systems frozen meanwhile, "
        "or as they run, with journals replayed and file systems checked in the copy; without it they are refused",
    )
    group.add_argument(
        "--freeze-limit",
        type=float,
        metavar="SECONDS",
        help=f"thaw file systems after this time, whatever is copied by then (default {FREEZE_SECONDS:g}); 0: freeze none",
    )


def wish_of(arguments: argparse.Namespace, results: Path | None = None) -> LiveWish:
    """What they say; ``results``: the folder that the results go to. Raises Usage."""
    limit: float | None = arguments.freeze_limit
    if limit is not None and not arguments.live:
        raise Usage("--freeze-limit is for --live", "As in --live --freeze-limit 300.")
    if limit is not None and not 0 <= limit <= _LONGEST_SECONDS:
        raise Usage(f"--freeze-limit {limit:g}: 0 to {_LONGEST_SECONDS} seconds")
    writes = () if results is None else ((results, "the results go there"),)
    return LiveWish(arguments.live, FREEZE_SECONDS if limit is None else limit, writes)
