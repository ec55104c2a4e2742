"""Tells people that something takes long where nothing else does: a first look at a disk whose server may be gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from p2v.core.events import Reporter, Warned

FIRST_SECONDS = 10.0


@contextmanager
def told_when_slow(report: Reporter, what: str, first_seconds: float = FIRST_SECONDS) -> Iterator[None]:
    """Warn when the context lasts longer than ``first_seconds``, and again each time it took twice as long.

    For what the calling thread does without an event of its own; ``report`` is called by another one meanwhile.
    """
    done = threading.Event()

    def tell() -> None:
        waited, wait = 0.0, first_seconds
        while not done.wait(wait):
            waited += wait
            wait = waited
            report(Warned(f"{what}: no answer to a first look since {waited:.0f} s; still waiting"))

    teller = threading.Thread(target=tell, name="told-when-slow", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
