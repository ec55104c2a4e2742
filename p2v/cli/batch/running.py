"""``p2v batch run [JOBS]``: convert what waits, as much at a time as the manifest's budget allows, each machine once.

Stopped (Ctrl-C, SIGTERM, a crash), the same command goes on. Who fails and may succeed another time is tried again; who cannot is
parked, with the reason and what is needed to look into it. 0: all are converted; 5: some are parked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from p2v.batch.end_hook import RunEnd, run_end_hook
from p2v.batch.jobs import Batch, Job
from p2v.batch.runner import BatchOutcome, Settings, run_batch
from p2v.batch.store import Store
from p2v.batch.terms import Terms
from p2v.cli import console, options
from p2v.cli.batch import choosing, engine_options, progress, status_text
from p2v.cli.batch.progress import Sink, Unhindered
from p2v.cli.batch.status_text import Seen
from p2v.cli.batch.which import add_manifest, manifest_of
from p2v.core import jsontext
from p2v.core.errors import P2vError, Usage

_REFRESH_SECONDS = 15
# children are asked to end, and then ended; leases are given back
_ENDING_SECONDS = 120.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_manifest(parser)
    choosing.configure(parser)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="keep a page of the fleet (HTML) there, renewed while it runs"
    )
    parser.add_argument(
        "--refresh", type=int, default=_REFRESH_SECONDS, metavar="SECONDS",
        help="between two of these pages (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="at the end, how all machines stand as a JSON document")
    options.add_progress(parser)
    engine_options.configure(parser)
    parser.set_defaults(ending_seconds=_ENDING_SECONDS)


def run(arguments: argparse.Namespace) -> int:
    """Run the batch to its end, or to a signal."""
    if arguments.refresh < 1:
        raise Usage(f"--refresh {arguments.refresh}: at least 1 second")
    batch = manifest_of(arguments.batch)
    chosen = choosing.chosen(arguments, batch.machines)
    with engine_options.engine(arguments, batch.store) as engine, Store.create(batch.store) as store:
        settings = replace(
            engine.settings or Settings(), chosen=chosen, until=arguments.until, stop_at=arguments.stop_at
        )
        store.put(batch, time.time())
        taken = [job for job in store.jobs() if settings.takes(job)]
        with _told(progress.sink(arguments.progress, taken)) as sink, _heard(arguments, batch, store, sink) as ends:
            with _page(arguments, batch):
                outcome = run_batch(batch, store, sink, starter=engine.starter, settings=settings, looked=sink.looked)
            ends.append(outcome)
        terms = store.terms() or Terms(batch.budget)
    # one that was stopped because its terminal is gone tells nobody
    with suppress(OSError) if outcome.signal else nullcontext():
        _tell(arguments, outcome, terms)
    return outcome.exit_code


@contextmanager
def _heard(arguments: argparse.Namespace, batch: Batch, store: Store, sink: Sink) -> Iterator[list[BatchOutcome]]:
    """The batch's own hook hears how the run in the context ended: with the outcome that it gives, or with an error."""
    began, outcomes = time.monotonic(), list[BatchOutcome]()
    try:
        yield outcomes
    except P2vError as error:
        if batch.end is not None:
            jobs: tuple[Job, ...] = ()
            with suppress(P2vError):  # the store may be what it failed by
                jobs = store.jobs()
            end = RunEnd(jobs, time.monotonic() - began, error.exit_code, error=error, page=arguments.report)
            run_end_hook(batch, batch.end, end, None, sink)
        raise
    for each in outcomes if batch.end is not None else ():
        assert batch.end is not None
        end = RunEnd(each.jobs, each.seconds, each.exit_code, each.signal, page=arguments.report)
        run_end_hook(batch, batch.end, end, store, sink)


def _page(arguments: argparse.Namespace, batch: Batch) -> AbstractContextManager[None]:
    if arguments.report is None:
        return nullcontext()
    # most of the time a short run takes, were it imported always
    from p2v.cli.batch.keeping import kept

    return kept(arguments.report, batch, arguments.refresh)


@contextmanager
def _told(sink: Unhindered) -> Iterator[Unhindered]:
    try:
        yield sink
    finally:
        sink.close()


def _tell(arguments: argparse.Namespace, outcome: BatchOutcome, terms: Terms) -> None:
    seen = Seen(str(arguments.batch), outcome.jobs, time.time(), terms=terms)
    if arguments.json:
        console.out_json(jsontext.pretty(status_text.document(seen)))
    else:
        console.out(status_text.overview(seen))
    if outcome.signal:
        console.note("p2v: stopped; what has its final name is complete, and the same command goes on")
