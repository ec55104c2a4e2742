"""``--support-bundle FILE``: a verb that fails packs what happened, for others to look at."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2v.cli import console
from p2v.core.errors import P2vError, TargetExists, Usage
from p2v.core.events import PhaseTimes, Reporter
from p2v.documents import PlanDocument


@dataclass
class Watched:
    """What is known of a run so far."""

    report: PhaseTimes
    document: PlanDocument | None = None

    def planned(self, document: PlanDocument) -> PlanDocument:
        """Note the plan, and give it back."""
        self.document = document
        return document


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--support-bundle", type=Path, metavar="FILE",
        help="should it fail: pack the error, the plan, events and versions into FILE (.tar.gz) for others to look at, "
        "without names, addresses and contents of the guest",
    )  # fmt: skip


@contextmanager
def watched(target: Path | None, report: Reporter) -> Iterator[Watched]:
    """Watch a run; where it fails with an error, a bundle is packed into ``target``. Raises TargetExists before it begins."""
    watch = Watched(PhaseTimes(report))
    if target is None:
        yield watch
        return
    if os.path.lexists(target):
        raise TargetExists(target, "Choose another name with --support-bundle, or remove the file.")
    try:
        yield watch
    except Usage:
        raise  # nothing has begun, and the sentence says it all
    except Exception as error:
        _pack(error, watch, target)
        raise


def _pack(error: Exception, watch: Watched, target: Path) -> None:
    # only who fails needs them
    from p2v.record.failed import FailedRun, failed_bundle
    from p2v.tools import tool_versions

    try:
        failed_bundle(FailedRun(error, tuple(watch.report.moments), watch.document, tool_versions()), target)
    except P2vError as refusal:
        console.note(f"p2v: no support bundle was made: {refusal.sentence()}")
    else:
        console.note(f"p2v: {target}: what happened, for others to look at; read its MANIFEST.txt before you send it")
