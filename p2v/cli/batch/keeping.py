"""The fleet's page while a batch runs: written again and again beside the run, which never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2v.batch.jobs import Batch, JobEvent
from p2v.batch.report import write_report
from p2v.batch.report.pictures import Shelf
from p2v.batch.store import Store
from p2v.cli import console
from p2v.core.errors import NoSource, P2vError

_AT_ONCE = 10_000


def all_events(store: Store) -> Iterator[JobEvent]:
    """Everything that happened, in order."""
    last = 0
    while events := store.events(last, None, _AT_ONCE):
        yield from events
        last = events[-1].number


def write_page(path: Path, batch: Batch, store: Store, refresh_seconds: int | None, shelf: Shelf | None = None) -> None:
    """Write the page as all stand now. ``refresh_seconds``: it asks for the next one after that; None: it is the last."""
    jobs, events, now = store.jobs(), all_events(store), time.time()
    write_report(path, batch, jobs, events, now, refresh_seconds, shelf=shelf, sizes=store.sizes())


@contextmanager
def kept(path: Path, batch: Batch, refresh_seconds: int) -> Iterator[None]:
    """Keep the page fresh while the context lasts, and write it once more at its end.

    Raises, before anything begins, what writing the first one raises; later troubles are told of once, and the run goes on.
    """
    if not path.absolute().parent.is_dir():
        raise NoSource(str(path.parent), "is no folder", "Make it, or name another file with --report.")
    shelf = Shelf()
    with Store.open(batch.store) as store:
        write_page(path, batch, store, refresh_seconds, shelf)
        over = threading.Event()
        keeper = threading.Thread(
            target=_keep, args=(path, batch, store, refresh_seconds, shelf, over), name="report", daemon=True
        )
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()
            _tried(path, batch, store, None, shelf)


def _keep(path: Path, batch: Batch, store: Store, refresh_seconds: int, shelf: Shelf, over: threading.Event) -> None:
    told = False
    while not over.wait(refresh_seconds):
        told = _tried(path, batch, store, refresh_seconds, shelf, told=told) or told


def _tried(
    path: Path, batch: Batch, store: Store, refresh_seconds: int | None, shelf: Shelf, *, told: bool = False
) -> bool:
    """Whether it could not be written, which is told of when it was not yet."""
    try:
        write_page(path, batch, store, refresh_seconds, shelf)
    except P2vError as error:
        if not told:
            console.note(f"p2v: the page of the fleet could not be written: {error.sentence()}")
        return True
    return False
