"""``p2v batch clean [JOBS]``: show what a crash left on this host: processes, leases, files, folders. ``--remove`` removes it.

Nothing is shown that a run still uses, and nothing that is not the batch's own. What the next run goes on with (unfinished
copies of machines that wait, results that lack only their names) stays, unless ``--everything`` is said.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

from p2v.batch.cleaning import Left, LeftKind, Removed, left_behind, not_yet, remove
from p2v.batch.jobs import Job
from p2v.batch.store import Store
from p2v.cli import console
from p2v.cli.batch.status_text import cut, name_of
from p2v.cli.batch.which import add_batch, batch_of
from p2v.core import jsontext
from p2v.core.text import printable
from p2v.core.units import format_bytes, format_seconds

_INCOMPLETE = 2
_NAMED = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_batch(parser)
    parser.add_argument("--remove", action="store_true", help="remove what is shown as left")
    parser.add_argument("--everything", action="store_true", help="with --remove: also what is kept for the next run")
    parser.add_argument("--json", action="store_true", help="as a JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Show, and remove where that is wished. 2: something that was to be removed is still there."""
    batch = batch_of(arguments.batch)
    if not batch.store.exists():
        _end(arguments, [], [])
        return 0
    removed: list[Removed] = []
    with Store.open(batch.store) as store:
        left = list(left_behind(batch.store, store, time.time()))
        _show(arguments, left)
        if arguments.remove:
            removed += _remove(arguments, store, [each for each in left if each.kind is LeftKind.PROCESS])
            # what ended processes had held
            further = [each for each in left_behind(batch.store, store, time.time()) if each not in left]
            if further:
                _show(arguments, further)
            left += further
            removed += _remove(arguments, store, [each for each in left if each.kind is not LeftKind.PROCESS])
        early = not_yet(store.jobs(), time.time())
    _end(arguments, left, removed)
    if early:
        last = max(job.lease_until for job in early) - time.time()
        console.note(f"p2v: a run that had {_machines(early)} has died; look again in {format_seconds(max(0.0, last))}")
        console.note("     Until then it might only have been slow. `p2v batch run` waits for that by itself.")
    return _INCOMPLETE if any(each.refused for each in removed) else 0


def _machines(jobs: Sequence[Job]) -> str:
    names = ", ".join(name_of(job) for job in jobs[:_NAMED])
    return names + (f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else "")


def _remove(arguments: argparse.Namespace, store: Store, left: Sequence[Left]) -> Iterator[Removed]:
    for each in remove(store, left, time.time(), everything=arguments.everything):
        if not arguments.json:
            console.out(
                f"still there: {_said(each.left)}: {each.refused}" if each.refused else f"gone: {_said(each.left)}"
            )
        yield each


def _show(arguments: argparse.Namespace, left: Sequence[Left]) -> None:
    if not arguments.json:
        console.out("\n".join(_lines(left)))


def _lines(left: Sequence[Left]) -> Iterator[str]:
    if not left:
        yield "nothing was left"
    for title, shown in (
        ("left", [e for e in left if not e.kept]),
        ("kept for the next run", [e for e in left if e.kept]),
    ):
        if shown:
            size = sum(each.allocated for each in shown)
            yield f"{title}: {len(shown)}" + (f", {format_bytes(size)}" if size else "")
            yield from (f"  {_said(each)}" + (f" ({each.kept})" if each.kept else "") for each in shown)


def _said(left: Left) -> str:
    size = f", {format_bytes(left.allocated)}" if left.allocated else ""
    machine = f"{printable(left.machine, keep='')}: " if left.machine else ""
    what = "" if left.kind is LeftKind.FILE else f"{left.kind.value} "
    return machine + what + cut(left.said) + size


def _end(arguments: argparse.Namespace, left: Sequence[Left], removed: Sequence[Removed]) -> None:
    if arguments.json:
        gone = [{**_data(each.left), "refused": each.refused} for each in removed]
        console.out_json(jsontext.pretty({"left": [_data(each) for each in left], "removed": gone}))
    elif not arguments.remove and any(not each.kept for each in left):
        console.note("p2v: nothing was removed; --remove removes what is left")


def _data(left: Left) -> dict[str, Any]:
    return {
        "kind": left.kind.value,
        "machine": left.machine,
        "said": left.said,
        "path": str(left.path) if left.path is not None else None,
        "pid": left.process.pid if left.process is not None else None,
        "allocated": left.allocated,
        "kept": left.kept,
    }
