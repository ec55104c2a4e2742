"""The command line in the tests' own process."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _same_signals() -> Iterator[None]:
    """``main`` takes SIGTERM for itself; afterwards it ends the test run again."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
