"""``p2v batch clean [JOBS]``: show what a crash left on this host: processes, leases, files, folders. ``--remove`` removes it.
``--engine``: also the files on disks that hosts of a cluster alone have.

Nothing is shown that a run still uses, and nothing that is not the batch's own. What the next run goes on with (unfinished
copies of machines that wait, results that lack only their names) stays, unless ``--everything`` is said.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from p2v.batch.clean_document import CleanDocument
from p2v.batch.cleaning import Left, LeftKind, Removed, left_behind, not_yet, remove
from p2v.batch.cluster import ClusterWish, open_visit
from p2v.batch.jobs import Job
from p2v.batch.leftovers import FURTHER, further_left, left_here, other_hosts, own_disks, remove_further, remove_here
from p2v.batch.store import Store
from p2v.batch.taking_over import WithoutTheDead
from p2v.cli import console
from p2v.cli.batch import engine_options
from p2v.cli.batch.status_text import cut, name_of
from p2v.cli.batch.which import add_batch, batch_of
from p2v.core import jsonio, jsontext
from p2v.core.errors import StoreElsewhere, Usage
from p2v.core.text import listed, printable
from p2v.core.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from p2v.batch.cluster.visiting import Visit

_INCOMPLETE = 2
_NAMED = 5
_NOBODY: Mapping[str, str] = MappingProxyType({})


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_batch(parser)
    parser.add_argument("--remove", action="store_true", help="remove what is shown as left")
    parser.add_argument("--everything", action="store_true", help="with --remove: also what is kept for the next run")
    parser.add_argument("--json", action="store_true", help="as a JSON document")
    engine_options.configure_address(parser, "also ask the workers of this scheduler what is left on disks that they alone have")


def run(arguments: argparse.Namespace) -> int:
    """Show, and remove where that is wished. 2: something that was to be removed is still there, or not all was seen."""
    wish = engine_options.wish_of(arguments)
    path = _store_of(arguments.batch)
    if path is None:
        if wish is not None:
            raise Usage("--engine: what workers' hosts may remove stands in the store, and there is none that this host may open")
        return _clean_host(arguments)
    removed: list[Removed] = []
    with Store.open(path) as store, _visit(wish, store) as visit:
        left = [*_left(store), *(_left_there(visit, store) if visit is not None else ())]
        _show(arguments, left)
        if arguments.remove:
            removed += _remove(arguments, store, [each for each in left if each.kind is LeftKind.PROCESS])
            # what ended processes had held
            further = [each for each in _left(store) if each not in left]
            if further:
                _show(arguments, further)
            left += further
            removed += _remove(arguments, store, [each for each in left if each.kind is not LeftKind.PROCESS], visit)
        early = not_yet(WithoutTheDead(store).jobs(), time.time())
        others, own = other_hosts(store.jobs()), own_disks(store, store.jobs())
    unasked = visit.unasked if visit is not None else {}
    _end(arguments, left, removed, unasked)
    _tell_of_others(others, own, visit)
    if early:
        last = max(job.lease_until for job in early) - time.time()
        console.note(f"p2v: a run that had {_machines(early)} has died; look again in {format_seconds(max(0.0, last))}")
        console.note("     Until then it might only have been slow. `p2v batch run` waits for that by itself.")
    return _INCOMPLETE if unasked or any(each.refused for each in removed) else 0


def _tell_of_others(others: Sequence[str], own: Mapping[str, Sequence[Job]], visit: Visit | None) -> None:
    for host, why in visit.unasked.items() if visit is not None else ():
        if visit is not None and visit.saw_part(host):
            console.note(f"p2v: not all was seen at {cut(host)}: {cut(why)}; run again when that is over")
        else:
            console.note(f"p2v: {cut(host)} is not asked: {cut(why)}; run again when it is back")
    if own and visit is None:
        ways = "--engine dask://SCHEDULER asks their workers"
        console.note(f"p2v: files on disks that these hosts alone may have were not looked at: {_hosts(list(own))}; {ways}")
    if others:
        what = "processes, folders and snapshots were looked for on this host alone" if visit else "this host alone was looked at"
        console.note(f"p2v: {what}, and these converted, too: {_hosts(others)}")
        console.note("     `p2v batch clean` with the same path there, by who runs p2v's worker: processes, folders, snapshots")


@contextmanager
def _visit(wish: ClusterWish | None, store: Store) -> Iterator[Visit | None]:
    if wish is None:
        yield None
        return
    with open_visit(wish, store.path) as visit:
        yield visit


def _left_there(visit: Visit, store: Store) -> Iterator[Left]:
    jobs = WithoutTheDead(store).jobs()
    yield from visit.left(own_disks(store, jobs), jobs, time.time())


def _store_of(jobs: Path) -> Path | None:
    """The store, None where there is none that this host may open."""
    try:
        path = batch_of(jobs).store
        if path.exists():
            Store.open(path).close()
            return path
    except StoreElsewhere:
        pass
    return None


def _clean_host(arguments: argparse.Namespace) -> int:
    """What a batch of another host left here, by the path of its store: all that is not in a store or beside results."""
    try:
        path = batch_of(arguments.batch).store
    except StoreElsewhere as error:
        path = error.file
    left = list(left_here(path))
    _show(arguments, left)
    removed: list[Removed] = []
    if arguments.remove:
        for each in remove_here(path, left):
            _tell(arguments, each)
            removed.append(each)
    _end(arguments, left, removed)
    if path.exists():
        console.note(f"p2v: {path} is no store that this host may open: leases and files are for its own host to look at")
    else:
        console.note(f"p2v: {path}: there is no store of a batch on this host, so leases and files were not looked for")
        console.note("     `p2v batch run` makes it; where another host has it, look there.")
    return _INCOMPLETE if any(each.refused for each in removed) else 0


def _left(store: Store) -> Iterator[Left]:
    yield from left_behind(store.path, WithoutTheDead(store), time.time())
    yield from further_left(store)


def _hosts(names: Sequence[str]) -> str:
    return listed(map(cut, names), _NAMED)


def _machines(jobs: Sequence[Job]) -> str:
    return listed(map(name_of, jobs), _NAMED)


def _remove(
    arguments: argparse.Namespace, store: Store, left: Sequence[Left], visit: Visit | None = None
) -> Iterator[Removed]:
    seen = WithoutTheDead(store)
    seen.jobs()
    mine = [each for each in left if each.kind not in FURTHER]
    there = visit.remove if visit is not None else None
    gone = remove(seen, mine, time.time(), everything=arguments.everything, elsewhere=there)
    for each in itertools.chain(gone, remove_further(store, [each for each in left if each.kind in FURTHER])):
        _tell(arguments, each)
        yield each


def _tell(arguments: argparse.Namespace, each: Removed) -> None:
    if not arguments.json:
        console.out(f"still there: {_said(each.left)}: {each.refused}" if each.refused else f"gone: {_said(each.left)}")


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
    there = f"at {cut(left.host)}" if left.host else ""
    owner = " ".join(each for each in (printable(left.machine, keep=""), there) if each)
    machine = f"{owner}: " if owner else ""
    what = "" if left.kind is LeftKind.FILE else f"{left.kind.value} "
    return machine + what + cut(left.said) + size


def _end(
    arguments: argparse.Namespace, left: Sequence[Left], removed: Sequence[Removed], unasked: Mapping[str, str] = _NOBODY
) -> None:
    if arguments.json:
        document = CleanDocument.of(left, removed, unasked)
        console.out_json(jsontext.pretty(jsonio.encode(jsonio.converter(), document)))
    elif not arguments.remove and any(not each.kept for each in left):
        console.note("p2v: nothing was removed; --remove removes what is left")
