"""Which batch a verb is about: a manifest, or the store that a run of one made."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from p2v.batch.jobs import Batch, Budget, Job, State
from p2v.batch.manifest import read_batch, require_file
from p2v.batch.names import DEFAULT_JOBS
from p2v.batch.store import Store
from p2v.batch.taking_over import WithoutTheDead, is_run
from p2v.batch.terms import Terms
from p2v.cli.words import machine_name
from p2v.core.errors import NoSource, NotPermitted, ReadFailed, Usage

_HELP = f"the batch's manifest (YAML or CSV), or its store (default {DEFAULT_JOBS})"
_MANIFEST_HELP = f"the batch's manifest: YAML or CSV (default {DEFAULT_JOBS})"
_SQLITE = b"SQLite format 3\0"


def add_batch(parser: argparse.ArgumentParser) -> None:
    """The batch as the only word."""
    parser.add_argument("batch", nargs="?", type=Path, default=DEFAULT_JOBS, metavar="JOBS", help=_HELP)


def add_manifest(parser: argparse.ArgumentParser) -> None:
    """The batch as the only word, for what its store does not tell."""
    parser.add_argument("batch", nargs="?", type=Path, default=DEFAULT_JOBS, metavar="JOBS", help=_MANIFEST_HELP)


def add_names(parser: argparse.ArgumentParser, *, nargs: str | None, help: str) -> None:
    """Machines by their names, and the batch as an option."""
    parser.add_argument("names", nargs=nargs, type=machine_name, metavar="NAME", help=help)
    parser.add_argument("-b", "--batch", type=Path, default=DEFAULT_JOBS, metavar="JOBS", help=_HELP)


def batch_of(path: Path) -> Batch:
    """The batch that a file describes. Raises NoSource, BadManifest, BadStore and their kin."""
    if not _is_store(path):
        return read_batch(path)
    with Store.open(path) as store:
        machines = tuple(job.machine for job in store.jobs())
    return Batch(machines, Budget(), path.absolute(), path.absolute())


def manifest_of(path: Path) -> Batch:
    """The batch that a manifest describes; a store does not say how much may run at a time. Raises as ``batch_of``."""
    if _is_store(path):
        raise Usage(
            f"{path}: is the store of a batch", "Name the batch's manifest: it says what is to be done, and how."
        )
    return read_batch(path)


def _is_store(path: Path) -> bool:
    require_file(path)
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except FileNotFoundError as error:
        advice = "Name the batch's manifest, or begin one: `p2v batch init FOLDER > jobs.yaml`."
        raise NoSource(str(path), "is not there", advice) from error
    except PermissionError as error:
        raise NotPermitted(str(path), "read") from error
    except OSError as error:
        raise ReadFailed(str(path), error.strerror or "cannot be read") from error


@dataclass(frozen=True, slots=True)
class Standing:
    """How a batch stands: its jobs, and whether nothing more is to begin."""

    jobs: tuple[Job, ...]
    paused: bool = False
    terms: Terms = field(default_factory=Terms)
    """What the last run went by; the manifest's budget where none was."""
    goes_on: bool = False
    """A run is on."""


def standing_of(batch: Batch) -> Standing:
    """As the store has it; machines that no run has seen yet wait. Raises what the store raises."""
    known: tuple[Job, ...] = ()
    paused = False
    goes_on = False
    terms: Terms | None = None
    # of a batch that was never run there is none, and for a moment of its first run there is nothing in it
    with suppress(NoSource), Store.open(batch.store) as store:
        # leases of a run that was killed do not hold any longer, whatever their time
        known, paused, terms = WithoutTheDead(store).jobs(), store.is_paused(), store.terms()
        goes_on = is_run(store)
    names = {job.machine.name for job in known}
    new = (Job(machine, State.WAITING) for machine in batch.machines if machine.name not in names)
    terms = terms or Terms(batch.budget)
    if not goes_on and batch.manifest != batch.store:
        # the next run goes by what the manifest says now
        terms = terms.with_budget(batch.budget)
    return Standing((*known, *new), paused, terms, goes_on)


def require_names(names: Iterable[str], jobs: Iterable[Job]) -> None:
    """Raise Usage when there is no machine of such a name, telling all of them."""
    known = {job.machine.name for job in jobs}
    missing = [name for name in dict.fromkeys(names) if name not in known]
    if missing:
        listed = ", ".join(repr(name) for name in missing)
        what = "no machine is called" if len(missing) == 1 else "no machines are called"
        near = dict.fromkeys(each for name in missing for each in difflib.get_close_matches(name, known, 1))
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise Usage(
            f"{what} {listed} in this batch{meant}", "`p2v batch status --all` lists its machines; --batch names another."
        )
