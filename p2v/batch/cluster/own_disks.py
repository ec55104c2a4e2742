"""What a crash left on a disk that a worker's host alone has: looked at and removed there, as the runner's host does at its own.

What is left, and what of it stays, is decided at the runner's host, which has the store. Here the folders are read, and whether a
file may go is looked at once more, by the lock that a conversion holds. Both run in the worker's event loop, and leave it at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2v.batch.cleaning import NO_ANSWER, listed, remove_file
from p2v.batch.cluster.sight import answered
from p2v.batch.job_files import FileKind, job_files
from p2v.batch.jobs import Job, MachineJob, State
from p2v.batch.marking import marked_processes
from p2v.core.errors import P2vError
from p2v.core.fence import LOCK_SECONDS, standing_fence
from p2v.core.workspace import look_anew

LOOK_SECONDS = 20.0
REMOVE_SECONDS = LOCK_SECONDS + LOOK_SECONDS
"""Who has the fence's lock is waited for."""
Facts = list[int]
"""By which a folder is known: all hosts that see it see the same."""


def facts_of(folder: Path) -> Facts | None:
    """Of a folder as this host sees it; None where there is none, or it does not answer in time.

    Another folder has another number, or was changed at another nanosecond. Where a file system tells one host something else than
    the next, two hosts take one folder for two.
    """

    def look() -> Facts:
        look_anew(folder)
        facts = folder.stat()
        return [facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns]

    return answered(look, LOOK_SECONDS)


async def look_there(
    store: str, folder: str, machines: Sequence[str], runners: Facts | None
) -> Mapping[str, Any] | None:
    """What ``cleaning.listed`` gives of a folder, and ``busy``: machines of which a process of the batch lives at this host.

    ``runners``: its facts at the runner's host; where both see one folder, ``same`` alone is given. None: it does not answer.
    """

    def look() -> Mapping[str, Any]:
        if runners is not None and facts_of(Path(folder)) == runners:
            return {"same": True}
        # whatever begins after this look holds its lock
        busy = sorted({each.job for each in marked_processes(Path(store))})
        return {"busy": busy, **listed(Path(folder), machines)}

    return await asyncio.to_thread(answered, look, 2 * LOOK_SECONDS)


async def remove_there(
    folder: str, file: str, machines: Sequence[str], machine: str, state: str, fence: int, runs: bool
) -> str:
    """Remove a file of a machine's, as the job stands at the runner's host; in words why it is still there.

    ``machines``: all whose results go to the folder. ``runs``: somebody has a lease of it that lives, by the clock over there.
    """
    job = Job(MachineJob(machine, (), Path(folder)), State(state), fence=fence, lease_until=math.inf if runs else 0.0)
    work = _in_words(lambda: _removed(Path(folder), file, machines, job))
    why = await asyncio.to_thread(answered, work, REMOVE_SECONDS)
    return NO_ANSWER if why is None else why


def _removed(folder: Path, file: str, machines: Sequence[str], job: Job) -> str:
    """Nothing but what a conversion of this machine makes, and is what that makes, not a link for one."""
    found = [
        each for each in job_files(folder, machines) if each.path.name == file and each.machine == job.machine.name
    ]
    if not found:
        return ""
    # these words may have come late: a host that was stopped hears them when it goes on
    standing = standing_fence(folder, job.machine.name) or 0
    if standing > job.fence and found[0].kind is not FileKind.FENCE:
        return f"an attempt has begun there since (number {standing}, after {job.fence})"
    return remove_file(found[0].path, folder, job, 0.0)


def _in_words(work: Callable[[], str]) -> Callable[[], str]:
    def done() -> str:
        try:
            return work()
        except OSError as error:
            return error.strerror or str(error)
        except P2vError as error:
            return error.sentence()

    return done
