"""Lines of a running program: told as they come, also those that are written over each other."""

from __future__ import annotations

import sys
import time

from p2v.core.run import SystemRunner


def test_a_carriage_return_ends_a_line_and_it_comes_at_once() -> None:
    code = (
        "import sys, time\n"
        "for done in (10, 20):\n"
        "    print(f'({done}.00/100%)', end='\\r', flush=True); time.sleep(0.4)\n"
        "print('caf\\xe9 \\r\\nlast', end='')\n"
    )
    told: list[tuple[str, float]] = []
    done = SystemRunner().run(
        [sys.executable, "-c", code], timeout=30, on_line=lambda line: told.append((line, time.monotonic()))
    )
    assert [line for line, _ in told] == ["(10.00/100%)", "(20.00/100%)", "café ", "last"]
    # a line is known to have ended when the next character came: the first one at the second, not at the end
    assert told[2][1] - told[0][1] > 0.2
    assert done.stdout.splitlines() == ["(10.00/100%)", "(20.00/100%)", "café ", "last"]


def test_without_a_listener_output_is_kept_as_it_is() -> None:
    done = SystemRunner().run([sys.executable, "-c", "print('a\\rb\\r\\nc')"], timeout=30)
    assert done.stdout == "a\rb\r\nc\n"
