"""``p2v batch report [JOBS] -o FILE``: the fleet as one page (HTML): phases, rates, failures and why, screens of booted machines.

Also of a batch that runs; `p2v batch run --report FILE` renews the page by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2v.batch.store import Store
from p2v.cli import console
from p2v.cli.batch.keeping import write_page
from p2v.cli.batch.which import add_batch, batch_of
from p2v.core.errors import NoSource, Usage


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_batch(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE",
        help="the page; an older one is replaced (default: beside the store, with its name and .html)",
    )  # fmt: skip
    parser.add_argument(
        "--refresh", type=int, metavar="SECONDS",
        help="let the page ask for a newer one of itself after so many seconds (default: it does not)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Write it, and say where."""
    if arguments.refresh is not None and arguments.refresh < 1:
        raise Usage(f"--refresh {arguments.refresh}: at least 1 second")
    batch = batch_of(arguments.batch)
    path = arguments.output or batch.store.with_suffix(".html")
    with Store.open(batch.store) as store:
        if not path.absolute().parent.is_dir():
            raise NoSource(str(path.parent), "is no folder", "Make it, or name another file with --output.")
        write_page(path, batch, store, arguments.refresh)
    console.out(str(path))
    return 0
