"""``p2v batch status [JOBS]``: who is converted, under way, waiting or parked, and why."""

from __future__ import annotations

import argparse
import time

from p2v.batch.jobs import Batch, State
from p2v.cli import console
from p2v.cli.batch import status_text
from p2v.cli.batch.status_text import Seen
from p2v.cli.batch.which import add_batch, batch_of, standing_of
from p2v.core import jsontext

_WATCH_SECONDS = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_batch(parser)
    parser.add_argument("--all", action="store_true", help="a line for every machine")
    parser.add_argument(
        "--state", action="append", default=[], choices=[each.value for each in State],
        help="a line for every machine in this state (can be repeated)",
    )  # fmt: skip
    parser.add_argument(
        "--watch", action="store_true", help=f"every {_WATCH_SECONDS:g} seconds, until every machine has ended, or Ctrl-C"
    )
    parser.add_argument("--json", action="store_true", help="as a JSON document; with --watch one a line")


def run(arguments: argparse.Namespace) -> int:
    """Print it, once or until everything has ended."""
    batch = batch_of(arguments.batch)
    if not arguments.watch:
        _show(arguments, _seen(arguments, batch))
        return 0
    try:
        return _watch(arguments, batch)
    except KeyboardInterrupt:
        return 130  # how watching ends: nothing to say about it


def _watch(arguments: argparse.Namespace, batch: Batch) -> int:
    said = None
    while True:
        seen = _seen(arguments, batch)
        # a log that is followed need not be told the same again
        if said is None or console.is_terminal() or (seen.jobs, seen.paused) != said:
            _show(arguments, seen)
        said = (seen.jobs, seen.paused)
        if all(job.state.is_end for job in seen.jobs):
            return 0
        time.sleep(_WATCH_SECONDS)


def _seen(arguments: argparse.Namespace, batch: Batch) -> Seen:
    standing = standing_of(batch)
    return Seen(str(arguments.batch), standing.jobs, time.time(), standing.paused, standing.terms, standing.goes_on)


def _show(arguments: argparse.Namespace, seen: Seen) -> None:
    if arguments.json:
        data = status_text.document(seen)
        console.out_json(jsontext.canonical(data).decode() + "\n" if arguments.watch else jsontext.pretty(data))
        return
    states = [State(each) for each in arguments.state]
    text = status_text.table(seen, states) if states or arguments.all else status_text.overview(seen)
    if arguments.watch:
        console.screen(text)
    else:
        console.out(text)
