"""``p2v batch pause [JOBS]``: nothing more begins until ``p2v batch resume``; what is under way goes on to its end."""

from __future__ import annotations

import argparse
import time

from p2v.batch.store import Store
from p2v.cli import console
from p2v.cli.batch.which import add_batch, batch_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_batch(parser)


def run(arguments: argparse.Namespace) -> int:
    """Note it in the store, where the run sees it."""
    batch = batch_of(arguments.batch)
    with Store.open(batch.store) as store:
        was = store.is_paused()
        store.pause(time.time())
    console.out(
        "was paused already"
        if was
        else "paused: what is under way goes on, nothing more begins until `p2v batch resume`"
    )
    return 0
