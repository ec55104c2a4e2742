"""What holds for every run: its order and how it is spread over workers, what Ctrl-C does, how tests are named,
and that no property test goes by the clock.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.spreading import in_order, scheduling

# A shell starts what it puts in the background with SIGINT ignored, and Python leaves it so; here it is what Ctrl-C sends.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes by the clock, or is made in, says how busy the host is: with the usual 200 ms one that waits for a
# processor fails its test, as "unreliable" when it is tried again.
settings.register_profile("p2v", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("p2v")

_BYTES_IN_A_NAME = 40


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before xdist writes groups into the ids of tests."""
    in_order(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, Any, Any]:
    """``main`` takes SIGTERM and SIGHUP for itself, and in the end Ctrl-C; after a test they do to the run what they did."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        return (yield)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay until the end: no collection of garbage need look through them again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Any:
    """For ``--dist loadgroup``, which is what writes the groups into the ids."""
    return scheduling(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes of any length by their length: some have the time in them, and the workers of one run must agree on names."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) and len(val) > _BYTES_IN_A_NAME else None
