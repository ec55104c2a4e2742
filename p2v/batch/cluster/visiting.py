"""What a crash left on own disks of workers' hosts, for ``p2v batch clean``: they are asked, and what is left is decided here.

Answers come over the network: a name in one that is not a machine's is not shown, and a removal goes by machine and name, to be
looked at once more over there.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from p2v.batch.cleaning import Left, is_running, judged
from p2v.batch.cluster.own_disks import LOOK_SECONDS, REMOVE_SECONDS, facts_of, look_there, remove_there
from p2v.batch.cluster.placing import WorkerSeen
from p2v.batch.job_files import told
from p2v.batch.jobs import Job
from p2v.core.errors import P2vError

Ask = Callable[[str, float, Callable[..., Awaitable[Any]], Sequence[Any]], Any]
"""Have a function run at a worker, by its address, and give what it gives. Raises Unanswered when it takes longer than so many
seconds, or does not come about."""
_NOT_THERE = "none of its workers is in the cluster"
_NAMED = 5
_MOST_ERRORS, _MOST_BYTES = 4096, 2**63


class Unanswered(Exception):
    """A worker was asked and gave no answer; why, in words."""


@dataclass(eq=False)
class Visit:
    """``store``: of the batch; ``workers``: who is there. ``unasked``: hosts of which not all was seen, and why."""

    store: Path
    workers: Sequence[WorkerSeen]
    ask: Ask
    unasked: dict[str, str] = field(default_factory=dict)
    _folders: dict[Path, list[str]] = field(default_factory=dict)
    _answering: dict[str, str] = field(default_factory=dict)

    def left(self, own: Mapping[str, Sequence[Job]], jobs: Sequence[Job], now: float) -> Iterator[Left]:
        """What was left on own disks. ``own``: machines that may have files there, by hosts' names; ``jobs``: the whole batch's.

        A folder that this host sees as well is not looked at: it was looked at here.
        """
        for job in jobs:
            self._folders.setdefault(job.machine.folder, []).append(job.machine.name)
        for host, here in self._hosts(own).items():
            yield from self._left_at(host, list(here.values()), now)

    def saw_part(self, host: str) -> bool:
        """Whether one of which not all was seen has answered something."""
        return host in self._answering

    def remove(self, left: Left, job: Job, now: float) -> str:
        """See ``cleaning.Elsewhere``."""
        assert left.path is not None
        folder = left.path.parent
        words = (str(folder), left.path.name, self._folders[folder], job.machine.name, job.state.value, job.fence)
        try:
            why = self.ask(self._answering[left.host], REMOVE_SECONDS, remove_there, (*words, is_running(job, now)))
        except Unanswered as error:
            return f"its host does not answer ({error})"
        return why if isinstance(why, str) else "its host gave no answer"

    def _hosts(self, own: Mapping[str, Sequence[Job]]) -> Mapping[str, dict[str, Job]]:
        """The machines by the hosts' own names: a manifest may have another one for the same host."""
        found: dict[str, dict[str, Job]] = {}
        for name, jobs in own.items():
            at_home = [worker for worker in self.workers if worker.is_host(name)]
            sound = {worker.hostname for worker in at_home if not worker.problem}
            if not sound:
                # of one that does not even say who it is nobody knows whose it is
                unknown = (worker.problem for worker in self.workers if worker.problem and not worker.hostname)
                self.unasked[name] = (
                    at_home[0].problem if at_home else "; ".join((_NOT_THERE, *itertools.islice(unknown, 1)))
                )
            for host in sound:
                found.setdefault(host, {}).update((job.machine.name, job) for job in jobs)
        return found

    def _left_at(self, host: str, jobs: Sequence[Job], now: float) -> Iterator[Left]:
        for folder in dict.fromkeys(job.machine.folder for job in jobs):
            here = {job.machine.name: job for job in jobs if job.machine.folder == folder}
            try:
                found = self._looked(host, folder)
                if found is None:
                    self._note(host, f"{folder} does not answer")
                if found is None or "same" not in found:
                    busy = found["busy"] if found is not None else ()
                    left = list(judged(folder, here, found, busy, now))
                    self._note_busy(host, [here[name] for name in here if name in busy], now)
                    yield from (replace(each, host=host) for each in left)
            except Unanswered as error:
                self._note(host, str(error))
                return
            except P2vError as error:
                self._note(host, error.sentence())

    def _note_busy(self, host: str, jobs: Sequence[Job], now: float) -> None:
        """What a run that died has not ended over there: here such a process is shown, there nobody looks for any."""
        names = [job.machine.name for job in jobs if not is_running(job, now)]
        if names:
            self._note(
                host, f"a process of the batch, which has no lease any more, works there on {', '.join(names[:_NAMED])}"
            )

    def _note(self, host: str, why: str) -> None:
        self.unasked[host] = f"{self.unasked[host]}; {why}" if host in self.unasked else why

    def _looked(self, host: str, folder: Path) -> Mapping[str, Any] | None:
        """Of the host's workers any will do. Raises Unanswered when none answers."""
        machines, why = self._folders[folder], Unanswered(_NOT_THERE)
        words = (str(self.store), str(folder), machines, facts_of(folder))
        known = self._answering.get(host)
        there = [each.address for each in self.workers if each.hostname == host and not each.problem]
        for address in [known] if known is not None else there:
            try:
                found = _checked(self.ask(address, 2 * LOOK_SECONDS, look_there, words), frozenset(machines))
            except Unanswered as error:
                why = error
                continue
            self._answering[host] = address
            return found
        raise why


def _checked(answer: object, machines: Collection[str]) -> Mapping[str, Any] | None:
    """An answer, if it is one that ``look_there`` gives. Raises Unanswered."""
    match answer:
        case None:
            return None
        case {"same": True}:
            return {"same": True}
        case {"busy": list(busy), "errno": int(number)} if 0 < number < _MOST_ERRORS:
            return {"busy": busy, "errno": number}
        case {"busy": list(busy), "files": list(files), "locked": list(locked)} if all(
            _is_file(each, machines) for each in files
        ):
            return {"busy": busy, "files": files, "locked": locked}
    raise Unanswered("what it answered is no answer")


def _is_file(found: object, machines: Collection[str]) -> bool:
    """Whether it is a file's name with what that tells, and its size."""
    match found:
        case (str(name), str(kind), str(machine), int(size)):
            known = told(name, machines)
            return 0 <= size < _MOST_BYTES and known is not None and (known[0], known[1].value) == (machine, kind)
    return False
