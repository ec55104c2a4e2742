"""The order of a run: what boots guests comes first, so that no worker is left alone with a long test at the end."""

from __future__ import annotations

import signal

import pytest

# A shell starts what it puts in the background with SIGINT ignored, and Python leaves it so; here it is what Ctrl-C sends.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_BYTES_IN_A_NAME = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Guests that boot, then appliances, then the rest; within each as they were collected."""
    items.sort(key=lambda item: (not item.get_closest_marker("boots"), not item.get_closest_marker("appliance")))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes of any length by their length: some have the time in them, and the workers of one run must agree on names."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) and len(val) > _BYTES_IN_A_NAME else None
