"""``p2v batch run [JOBS]``: convert what waits, as much at a time as the manifest's budget allows, each machine once.

Stopped (Ctrl-C, SIGTERM, a crash), the same command goes on. Who fails and may succeed another time is tried again; who cannot is
parked, with the reason and what is needed to look into it. 0: all are converted; 5: some are parked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from p2v.batch.jobs import Batch
from p2v.batch.runner import BatchOutcome, run_batch
from p2v.batch.store import Store
from p2v.cli import console, options
from p2v.cli.batch import engine_options, progress, status_text
from p2v.cli.batch.progress import Sink
from p2v.cli.batch.status_text import Seen
from p2v.cli.batch.which import add_batch, manifest_of
from p2v.core import jsontext
from p2v.core.errors import Usage

_REFRESH_SECONDS = 15
# children are asked to end, and then ended; leases are given back
_ENDING_SECONDS = 120.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_batch(parser)
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
    with engine_options.engine(arguments, batch.store) as engine, Store.create(batch.store) as store:
        store.put(batch, time.time())
        jobs = store.jobs()
        with _page(arguments, batch), _told(progress.sink(arguments.progress, jobs)) as sink:
            outcome = run_batch(batch, store, sink, starter=engine.starter, settings=engine.settings)
    _tell(arguments, outcome)
    return outcome.exit_code


def _page(arguments: argparse.Namespace, batch: Batch) -> AbstractContextManager[None]:
    if arguments.report is None:
        return nullcontext()
    # most of the time a short run takes, were it imported always
    from p2v.cli.batch.keeping import kept

    return kept(arguments.report, batch, arguments.refresh)


@contextmanager
def _told(sink: Sink) -> Iterator[Sink]:
    try:
        yield sink
    finally:
        # bars are left as they stand
        if (close := getattr(sink, "close", None)) is not None:
            close()


def _tell(arguments: argparse.Namespace, outcome: BatchOutcome) -> None:
    seen = Seen(str(arguments.batch), outcome.jobs, time.time())
    if arguments.json:
        console.out_json(jsontext.pretty(status_text.document(seen)))
    else:
        console.out(status_text.overview(seen))
    if outcome.signal:
        console.note("p2v: stopped; what has its final name is complete, and the same command goes on")
