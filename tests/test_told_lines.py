"""Lines of a running program: told as they come, also those that are written over each other."""

from __future__ import annotations

import sys
from pathlib import Path

from p2v.core.run import SystemRunner


def test_a_carriage_return_ends_a_line_and_it_comes_at_once(tmp_path: Path) -> None:
    """The program says no more before its first line was heard."""
    code = (
        "import os, sys, time\n"
        "for done in (10, 20):\n"
        "    print(f'({done}.00/100%)', end='\\r', flush=True)\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
        "print('caf\\xe9 \\r\\nlast', end='')\n"
    )
    told: list[str] = []

    def hear(line: str) -> None:
        told.append(line)
        # a line is known to have ended when the next character came: the first one at the second, not at the end
        (tmp_path / "heard").touch()

    done = SystemRunner().run([sys.executable, "-c", code, str(tmp_path / "heard")], timeout=120, on_line=hear)
    assert told == ["(10.00/100%)", "(20.00/100%)", "café ", "last"]
    assert done.stdout.splitlines() == ["(10.00/100%)", "(20.00/100%)", "café ", "last"]


def test_without_a_listener_output_is_kept_as_it_is() -> None:
    done = SystemRunner().run([sys.executable, "-c", "print('a\\rb\\r\\nc')"], timeout=30)
    assert done.stdout == "a\rb\r\nc\n"
