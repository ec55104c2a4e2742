"""``p2v batch`` by its command line, with patience that a test has: ``python -m tests.batch.nfs.runner run JOBS ...``."""

from __future__ import annotations

import sys

from tests.batch.hasty import hasty_main

LEASE = 60.0
SILENT = 75.0
ANSWER = 30.0
"""The machine is emulated, on a host that has other things to do: less, and one that works is taken for one that hangs."""


if __name__ == "__main__":
    sys.exit(
        hasty_main(
            (sys.executable, "-m", "p2v"),
            lease=LEASE,
            silent=SILENT,
            first_backoff=1.0,
            look=0.5,
            grace=5.0,
            inspection=60.0,
            answer=ANSWER,
        )
    )
