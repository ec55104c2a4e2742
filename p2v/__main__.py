"""``python -m p2v``, and the command ``p2v``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def run(argv: Sequence[str] | None = None) -> int:
    """The command line, interrupted at any moment without a traceback: also while its modules are read, and at its very end."""
    _open_standard_streams()
    try:
        from p2v.cli.main import main

        return main(argv)
    except KeyboardInterrupt:
        return 130  # before there was anything to say about it
    finally:
        # what is left is Python's own end; an interrupt of that is the host's matter
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_standard_streams() -> None:
    """Where a caller closed them: else a source would be opened as 0, 1 or 2, and what is said would go into it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    # for the whole program, so closed by its end
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":
    sys.exit(run())
