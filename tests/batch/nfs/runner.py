"""``p2v batch`` by its command line, with patience that a test has: ``python -m tests.batch.nfs.runner run JOBS ...``."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from p2v.batch.children import LocalStarter
from p2v.batch.jobs import Batch
from p2v.batch.runner import BatchOutcome, Settings, run_batch
from p2v.cli.batch import running
from p2v.cli.main import main

LEASE = 60.0
SILENT = 75.0
ANSWER = 30.0
"""The machine is emulated, on a host that has other things to do: less, and one that works is taken for one that hangs."""


def _hasty(batch: Batch, *given: Any, settings: Settings | None = None, **more: Any) -> BatchOutcome:
    """A run as the command line makes it, but for its times."""
    hasty = replace(
        settings or Settings(),
        lease=LEASE,
        silent=SILENT,
        first_backoff=1.0,
        look=0.5,
        grace=5.0,
        inspection=60.0,
        answer=ANSWER,
    )
    local = LocalStarter(batch.store, (sys.executable, "-m", "p2v"), hasty.grace)
    return run_batch(batch, *given, local=local, settings=hasty, **more)


if __name__ == "__main__":
    running.run_batch = _hasty  # type: ignore[attr-defined]
    sys.exit(main(["batch", *sys.argv[1:]]))
