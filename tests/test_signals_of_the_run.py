"""What a program of ours takes for itself while a test runs goes back to the test run."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import pytest_runtest_protocol


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_does_after_a_test_what_it_did_before(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    around = pytest_runtest_protocol()
    next(around)
    signal.signal(number, lambda *_: None)
    with pytest.raises(StopIteration) as ended:
        around.send(True)
    assert ended.value.value is True
    assert signal.getsignal(number) is before
