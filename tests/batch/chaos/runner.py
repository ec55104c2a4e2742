"""`p2v batch` by its command line, with leases and patience of seconds: ``python -m tests.batch.chaos.runner run JOBS ...``.

Its children on this host take notes.
"""

from __future__ import annotations

import sys

from tests.batch.hasty import hasty_main

LEASE = 8.0
SILENT = 15.0


if __name__ == "__main__":
    sys.exit(
        hasty_main(
            (sys.executable, "-m", "tests.batch.chaos.child"),
            lease=LEASE,
            silent=SILENT,
            first_backoff=0.3,
            look=0.5,
            grace=4.0,
            inspection=30.0,
            answer=4.0,
        )
    )
