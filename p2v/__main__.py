"""``python -m p2v``, and the command ``p2v``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence


def run(argv: Sequence[str] | None = None) -> int:
    """The command line, interrupted at any moment without a traceback: also while its modules are read, and at its very end."""
    try:
        from p2v.cli.main import main

        return main(argv)
    except KeyboardInterrupt:
        return 130  # before there was anything to say about it
    finally:
        # what is left is Python's own end; an interrupt of that is the host's matter
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(run())
