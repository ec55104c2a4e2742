"""``python -m p2v``, and the command ``p2v``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence


def run(argv: Sequence[str] | None = None) -> int:
    """The command line, interrupted at any moment without a traceback: also while its modules are read, and at its very end."""
    _open_standard_streams()
    # what is read now stays to the end: to look through it for garbage again and again is a quarter of a short run
    gc.disable()
    try:
        from p2v.cli.main import main

        return main(argv, loaded=_collect_from_here_on)
    except KeyboardInterrupt:
        return 130  # before there was anything to say about it
    finally:
        _collect_from_here_on()
        # what is left is Python's own end; an interrupt of that is the host's matter
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _collect_from_here_on() -> None:
    """Of what there is by now nothing is looked at by a collection, neither later, nor in a forked child, nor at the very end."""
    gc.freeze()
    gc.enable()


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
