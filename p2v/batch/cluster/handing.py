"""Results that a worker's host alone may have: what is told of them to the runner, whose host cannot look.

The runner's host raises a job's fence where it sees the folder of the results. Where it has not, the record and what the boot check
saved go to it as data, and whether an earlier attempt has converted the machine is looked at here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from p2v.batch.children import Ended
from p2v.batch.cluster.messages import Left, Piece, Task
from p2v.batch.cluster.sight import answered
from p2v.batch.failures import CONVERTED
from p2v.batch.jobs import Verify
from p2v.batch.report.pictures import read_file
from p2v.batch.results import record_path, result_since
from p2v.core.fence import remove_fence
from p2v.record import load_record

_LOSSES, _NOT_BOOTED = 2, 3


def converted_before(task: Task) -> Ended | None:
    """How an earlier attempt at a task's machine has ended, whose whole result is here; None: none is."""
    machine, since = task.order.machine, task.order.since
    if since is None or task.fenced:
        return None
    result = answered(lambda: result_since(machine, since))
    if result is None or (machine.verify is Verify.BOOT and result.booted is None):
        return None
    status = _NOT_BOOTED if result.booted is False else _LOSSES if result.has_losses else 0
    return Ended(status, "", 0.0)


def handed_over(task: Task, ended: Ended) -> Iterator[Left]:
    """Of a conversion that has left its results: what the runner's host may not see of them."""
    if task.fenced or ended.lost or ended.exit_status not in CONVERTED:
        return
    yield from answered(lambda: tuple(_pieces(task))) or ()
    # who has the result's names needs no fence, and the runner's host sees none to take away
    machine = task.order.machine
    answered(lambda: remove_fence(machine.folder, machine.name, task.order.fence))


def _pieces(task: Task) -> Iterator[Left]:
    machine = task.order.machine
    path = record_path(machine)
    record = read_file(path, Piece.RECORD.most_bytes)
    if not record:
        return
    yield Left(task.key, Piece.RECORD, record)
    boot = load_record(path).boot
    if boot is not None and boot.screenshot and boot.screenshot == Path(boot.screenshot).name:
        yield Left(task.key, Piece.SCREENSHOT, read_file(path.with_name(boot.screenshot), Piece.SCREENSHOT.most_bytes))
    if boot is not None and boot.log and boot.log == Path(boot.log).name:
        yield Left(task.key, Piece.LOG, _end_of(path.with_name(boot.log), Piece.LOG.most_bytes))


def _end_of(path: Path, most: int) -> bytes:
    """The last bytes of a regular file."""
    with suppress(OSError):
        # O_NONBLOCK: a pipe in its place must not be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode):
                file.seek(max(0, facts.st_size - most))
                return file.read(most)
    return b""
