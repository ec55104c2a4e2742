"""``p2v batch retry [NAME...]``: parked (or, by name, cancelled) machines wait again, with all their attempts before them.

Without a name: all that are parked. `p2v batch run` then tries them; what had been copied is gone on from.
"""

from __future__ import annotations

import argparse
import time

from p2v.batch.jobs import Job, State
from p2v.batch.store import Store
from p2v.cli import console
from p2v.cli.batch.which import add_names, batch_of, require_names


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_names(parser, nargs="*", help="machines to try again (default: all that are parked)")


def run(arguments: argparse.Namespace) -> int:
    """Set them waiting."""
    batch = batch_of(arguments.batch)
    with Store.open(batch.store) as store:
        jobs = {job.machine.name: job for job in store.jobs()}
        require_names(arguments.names, jobs.values())
        names = list(dict.fromkeys(arguments.names)) or [n for n, job in jobs.items() if job.state is State.PARKED]
        if not names:
            console.out("nothing is parked")
            return 0
        for name in names:
            console.out(f"{name}: {_retried(store, jobs[name])}")
    return 0


def _retried(store: Store, job: Job) -> str:
    if job.state not in (State.PARKED, State.CANCELLED):
        return f"is {job.state.value}, neither parked nor cancelled: left as it is"
    store.retry(job.machine.name, time.time())
    return "waits again"
