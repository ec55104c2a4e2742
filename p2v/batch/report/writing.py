"""The page as a file: a reader sees the one before or this one, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from p2v.batch.jobs import Batch, Job, JobEvent
from p2v.batch.report.chronicle import Chronicle
from p2v.batch.report.page import batch_html
from p2v.batch.report.pictures import Shelf
from p2v.batch.terms import Terms
from p2v.core.errors import TargetExists
from p2v.core.io_errors import write_problem
from p2v.core.workspace import allowed_mode

_BEGINS = b"<!doctype html>"
_MODE = 0o644


def write_report(
    path: Path,
    batch: Batch,
    jobs: Sequence[Job],
    events: Iterable[JobEvent],
    now: float,
    refresh_seconds: int | None,
    *,
    shelf: Shelf | None = None,
    terms: Terms | None = None,
    heard: Chronicle | None = None,
) -> int:
    """Write the page in place of the one before; its bytes. ``shelf``: one for a whole run, so that records are read once.
    ``terms``: as ``Look`` has them. ``heard``: as ``batch_html`` takes it.

    Raises TargetExists where something else than a page stands there, NoSpace, NotPermitted, ReadFailed.
    """
    _refuse_others(path)
    boots = (shelf or Shelf()).boots(jobs)
    text = batch_html(batch, jobs, events, now, refresh_seconds, boots=boots, terms=terms, heard=heard)
    data = text.encode("utf-8")
    try:
        _replace(path, data)
    except OSError as error:
        raise write_problem(error, path, needed=len(data)) from error
    return len(data)


def _refuse_others(path: Path) -> None:
    if not os.path.lexists(path):
        return
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                begins = file.read(len(_BEGINS))
            if begins in (_BEGINS, b""):
                return
    raise TargetExists(path, "It is no such page as is written here: choose another name, or remove it.")


def _replace(path: Path, data: bytes) -> None:
    """No fsync: the next writing is seconds away, and a page can be made again from the store at any time."""
    folder = path.absolute().parent
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".partial", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), allowed_mode(_MODE))
        os.replace(name, path.absolute())
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
