"""``p2v batch`` by its command line, in a process of its own, with leases and patience that a test has time for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from p2v.batch.children import LocalStarter
from p2v.batch.jobs import Batch
from p2v.batch.runner import BatchOutcome, Settings, run_batch
from p2v.cli.batch import running
from p2v.cli.main import main


def hasty_main(child: Sequence[str], **times: Any) -> int:
    """Do what this process' words ask for, as ``p2v batch`` does; its exit status.

    ``child``: the program of a run's children at this host; ``times``: of a run's ``Settings`` what the command line does not give.
    """

    def hasty(batch: Batch, *given: Any, settings: Settings | None = None, **more: Any) -> BatchOutcome:
        changed = replace(settings or Settings(), **times)
        local = LocalStarter(batch.store, tuple(child), changed.grace)
        return run_batch(batch, *given, local=local, settings=changed, **more)

    running.run_batch = hasty  # type: ignore[attr-defined]
    return main(["batch", *sys.argv[1:]])
