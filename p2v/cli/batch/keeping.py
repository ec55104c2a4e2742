"""The fleet's page while a batch runs: written again and again beside the run, which never waits for it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from p2v.batch.jobs import Batch
from p2v.batch.report import Chronicle, write_report
from p2v.batch.report.pictures import Shelf
from p2v.batch.store import Store
from p2v.cli import console
from p2v.core.errors import NoSource, P2vError

ANSWER_SECONDS = 60.0
"""How long a run waits for its first page and for its last."""
_SHARE = 0.02
"""Of a processor's time that a page may take from the run beside which it is kept fresh."""
_BYTES_PER_SECOND = 150_000
"""That an open page may ask a browser to read anew on average."""


def write_page(path: Path, batch: Batch, store: Store, refresh_seconds: int | None) -> None:
    """Write the page as all stand now. ``refresh_seconds``: it asks for the next one after that; None: it is the last."""
    Pages(path, batch, store).write(refresh_seconds)


@dataclass
class Pages:
    """The pages of one run: each hears only what happened since the one before, and looks only into records that are new."""

    path: Path
    batch: Batch
    store: Store
    processor_seconds: float = 0.0
    """That the last one took."""
    size: int = 0
    """Its bytes."""
    _shelf: Shelf = field(default_factory=Shelf)
    _heard: Chronicle = field(default_factory=Chronicle)

    def write(self, refresh_seconds: int | None) -> None:
        """As ``write_page``."""
        began = time.thread_time()
        jobs, events, now = self.store.jobs(), self.store.every_event(self._heard.number), time.time()
        terms = self.store.terms()
        self.size = write_report(
            self.path, self.batch, jobs, events, now, refresh_seconds, shelf=self._shelf, terms=terms, heard=self._heard
        )
        self.processor_seconds = time.thread_time() - began

    def pause(self, wished: int) -> int:
        """Seconds until the next page: longer than is wished where a page costs the run, or who looks at it, more than that."""
        return max(wished, math.ceil(self.processor_seconds / _SHARE), math.ceil(self.size / _BYTES_PER_SECOND))


@contextmanager
def kept(path: Path, batch: Batch, refresh_seconds: int) -> Iterator[None]:
    """Keep the page fresh while the context lasts, and write it once more at its end.

    Raises, before anything begins, what writing the first one raises; later troubles are told of once, and the run goes on. So it
    does, and so it ends, when a folder with boot checks that the page shows does not answer.
    """
    if not path.absolute().parent.is_dir():
        raise NoSource(str(path.parent), "is no folder", "Make it, or name another file with --report.")
    keeper = _Keeper(path, batch, refresh_seconds)
    thread = threading.Thread(target=keeper.run, name="report", daemon=True)
    thread.start()
    keeper.first.wait(ANSWER_SECONDS)
    if keeper.refusal is not None:
        raise keeper.refusal
    try:
        yield
    finally:
        keeper.over.set()
        thread.join(ANSWER_SECONDS)
        if thread.is_alive():
            console.note(f"p2v: {path} is not of the run's end: a folder with results does not answer")


@dataclass
class _Keeper:
    """Writes the pages in a thread of its own, from the first to the last.

    ``first``: it was written, or ``refusal`` says why it was not.
    """

    path: Path
    batch: Batch
    refresh_seconds: int
    refusal: P2vError | None = None
    first: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    _is_told: bool = False

    def run(self) -> None:
        """Until it is over."""
        try:
            with Store.open(self.batch.store) as store:
                pages = Pages(self.path, self.batch, store)
                pages.write(self.refresh_seconds)
                self.first.set()
                while not self.over.wait(pause := pages.pause(self.refresh_seconds)):
                    self._try(pages, pause)
                self._try(pages, None)
        except P2vError as error:
            self.refusal = error
        finally:
            self.first.set()

    def _try(self, pages: Pages, refresh_seconds: int | None) -> None:
        try:
            pages.write(refresh_seconds)
        except P2vError as error:
            if not self._is_told:
                console.note(f"p2v: the page of the fleet could not be written: {error.sentence()}")
            self._is_told = True
