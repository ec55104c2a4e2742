"""The command line in the tests' own process."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _same_signals() -> Iterator[None]:
    """``main`` takes SIGTERM and SIGHUP for itself, and in the end Ctrl-C; afterwards they do to the test run what they did."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
