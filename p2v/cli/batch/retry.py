"""``p2v batch retry [NAME...]``: parked (or, by name, cancelled) machines wait again, with all their attempts before them.

Without a name: all that are parked. `p2v batch run` then tries them; what had been copied is gone on from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

from p2v.batch.jobs import Job, State
from p2v.batch.store import Store
from p2v.cli import console
from p2v.cli.batch.which import add_names, batch_of, require_names
from p2v.core.errors import Usage


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_names(parser, nargs="*", help="machines to try again (default: all that are parked)")
    parser.add_argument(
        "--reason", action="append", default=[], metavar="CODE",
        help="of those that are parked only the ones for this reason, as `status` has it in brackets (no-space); can be repeated",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Set them waiting."""
    batch = batch_of(arguments.batch)
    with Store.open(batch.store) as store:
        jobs = {job.machine.name: job for job in store.jobs()}
        require_names(arguments.names, jobs.values())
        names = _chosen(arguments, jobs)
        if not names:
            console.out("nothing is parked" + (" for this reason" if arguments.reason else ""))
            return 0
        for name in names:
            console.out(f"{name}: {_retried(store, jobs[name])}")
    return 0


def _chosen(arguments: argparse.Namespace, jobs: Mapping[str, Job]) -> list[str]:
    """Machines by name. Raises Usage for a reason that nothing is parked for while something is: it may be misspelt."""
    parked = {name: job for name, job in jobs.items() if job.state is State.PARKED}
    if not arguments.reason:
        return list(dict.fromkeys(arguments.names)) or list(parked)
    codes = {name: job.failure.code for name, job in parked.items() if job.failure is not None}
    for code in arguments.reason:
        if codes and code not in codes.values():
            said = ", ".join(sorted(set(codes.values())))
            raise Usage(f"--reason {code}: nothing is parked for this reason", f"There are: {said}.")
    wished = [name for name, code in codes.items() if code in arguments.reason]
    return [name for name in wished if not arguments.names or name in arguments.names]


def _retried(store: Store, job: Job) -> str:
    if job.state is State.RUNNING and job.cancel_wished:
        # it may have come to its end by now, and waits then
        store.retry(job.machine.name, time.time())
        return "is not given up any more"
    if job.state not in (State.PARKED, State.CANCELLED):
        return f"is {job.state.value}, neither parked nor cancelled: left as it is"
    store.retry(job.machine.name, time.time())
    return "waits again"
