"""``p2v batch cancel NAME...``: give machines up. One under way is stopped by its run; what it had copied is kept for a retry."""

from __future__ import annotations

import argparse
import time

from p2v.batch.jobs import State
from p2v.batch.store import Store
from p2v.cli import console
from p2v.cli.batch.which import add_names, batch_of, require_names


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_names(parser, nargs="+", help="machines to give up")


def run(arguments: argparse.Namespace) -> int:
    """Note it in the store, where the run sees it."""
    batch = batch_of(arguments.batch)
    with Store.open(batch.store) as store:
        require_names(arguments.names, store.jobs())
        for name in dict.fromkeys(arguments.names):
            before = store.job(name).state
            console.out(f"{name}: {_said(before, store.cancel(name, time.time()).state)}")
    return 0


def _said(before: State, after: State) -> str:
    if before.is_end:
        return f"is {before.value} already"
    if after is State.CANCELLED:
        return "cancelled"
    return "is under way: its run is asked to stop it"
