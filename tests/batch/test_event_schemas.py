"""The published schemas of events are of the lines that runs tell and the store keeps, and those of hooks of what hooks get."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import p2v.batch
from p2v.batch.children import LocalStarter
from p2v.batch.end_hook import RunEnd, document_of, run_end_hook
from p2v.batch.event_data import OF_A_MACHINE, OF_A_RUN
from p2v.batch.failures import of_words
from p2v.batch.jobs import Batch, Budget, Hook, JobEvent, MachineJob, State, Verify
from p2v.batch.kinds import OWN_KINDS
from p2v.batch.runner import run_batch
from p2v.batch.store import Lease, Store
from p2v.cli.batch.progress import JsonLines, _left_out
from p2v.core.errors import NoSpace
from tests.batch.fitting import Fitting, printed, said_for_programs
from tests.batch.fleets import FAKE, QUICK, machine
from tests.batch.making import job
from tests.batch.output_schemas import output
from tests.batch.test_runner import BAD, FAR, IO, begins

BUSY = {"error": {"code": "target-busy", "exit_code": 75, "message": "out/busy: somebody is at it", "hint": ""}}
KEEP = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
SAYS = [
    {"event": "worker", "worker": "tcp://10.0.0.7:4000", "host": "node7", "ahead": 0.25},
    {"event": "change-applied", "summary": "edit /etc/fstab", "skipped": True},
    {"event": "warning", "message": "the guest has no agent"},
]


@dataclass
class Night:
    """Runs of a batch: the lines that they told, those of the store, and what hooks got."""

    folder: Path
    events: io.StringIO
    hooks: Path
    ends: Path

    def run(
        self,
        machines: list[MachineJob],
        when: Callable[[JobEvent, Store], None] = lambda event, store: None,
        copies: int = 8,
        **changes: Any,
    ) -> None:
        """One run, of whose end the batch's own hook hears."""
        wished = self.batch(machines, copies)
        with Store.create(wished.store) as store, Store.open(wished.store) as other:
            say = JsonLines(self.events)

            def report(event: JobEvent) -> None:
                say(event)
                when(event, other)

            local, settings = LocalStarter(wished.store, FAKE, QUICK.grace), replace(QUICK, **changes)
            outcome = run_batch(wished, store, report, local=local, settings=settings)
            end = RunEnd(outcome.jobs, outcome.seconds, outcome.exit_code, outcome.signal)
            assert wished.end is not None
            run_end_hook(wished, wished.end, end, store, report)

    def batch(self, machines: list[MachineJob], copies: int) -> Batch:
        """The batch of these machines."""
        end = Hook((sys.executable, "-c", KEEP, str(self.ends)))
        budget = Budget(copies=copies, appliances=8, boots=8, jobs=8, bytes_per_second=1_000_000)
        return Batch(tuple(machines), budget, self.folder / "jobs.p2v", self.folder / "jobs.yaml", end=end)

    def logs(self) -> Iterator[str]:
        """What `p2v batch logs --json` prints of every machine."""
        store = self.folder / "jobs.p2v"
        with Store.open(store) as opened:
            names = [job.machine.name for job in opened.jobs()]
        for name in names:
            yield from printed("logs", name, "--batch", str(store), "--json").splitlines()


def all_fates(night: Night, before: list[MachineJob]) -> list[MachineJob]:
    """Machines of all fates but those that end a run."""
    keep = Hook((sys.executable, "-c", KEEP, str(night.hooks)))
    slow = Hook((sys.executable, "-c", "import time; time.sleep(3600)"), 0.3)
    folder = night.folder

    def look(event: JobEvent, store: Store) -> None:
        if event.kind == "batch-began":
            store.pause(time.time())
        if event.kind == "paused":
            store.resume(time.time())
        if begins(event) and event.job == "given-up":
            store.cancel("given-up", time.time())
        if event.kind == "hook" and event.job == "doomed":  # it has failed, which is to be noted next
            store.cancel("doomed", time.time())

    machines = [
        machine(folder, "fine", {"says": SAYS}, before=keep, after=keep, verify=Verify.BOOT),
        machine(folder, "flaky", {"first": IO}, before=keep),
        machine(folder, "busy", {"first": BUSY}),
        machine(folder, "bad", {"always": BAD}, after=keep),
        machine(folder, "doomed", {"always": BAD}, after=keep),
        machine(folder, "not-booted", {"boots": False}, after=keep, verify=Verify.BOOT),
        machine(folder, "given-up", {"always": "hang"}),
        machine(folder, "slow-hook", before=slow),
    ]
    night.run([*before, *machines], look)
    return [*before, *machines]


def lost_lease(night: Night, machines: list[MachineJob]) -> None:
    """A machine whose lease another takes."""
    taken: list[Lease] = []

    def take(event: JobEvent, store: Store) -> None:
        if begins(event):
            lease = store.claim("lost", "another", 60.0, time.time() + FAR)
            assert lease is not None
            taken.append(lease)
        if event.kind == "lease-lost":
            store.finish(taken[0], time.time(), record=None, seconds={}, verified=None)

    night.run([*machines, machine(night.folder, "lost", {"always": "hang"})], take, lease=0.5)


def stopped(night: Night, machines: list[MachineJob]) -> None:
    """A run of a part that is stopped by a signal, and one that begins nothing any more."""

    def stop(event: JobEvent, store: Store) -> None:
        if begins(event) and event.job == "stopped":
            os.kill(os.getpid(), signal.SIGTERM)

    later = machine(night.folder, "later")
    every = [*machines, machine(night.folder, "stopped", {"always": "hang"}), later]
    night.run(every, stop, chosen=frozenset({"stopped"}))
    night.run([*every[:-1], replace(later, priority=7)], until=time.time() - 1)
    night.run(every[:-1], until=time.time() - 1)


def by_hand(night: Night, machines: list[MachineJob]) -> None:
    """What no run does to itself: people, and runs that are killed."""
    now, later = time.time(), machine(night.folder, "later")
    with Store.open(night.folder / "jobs.p2v") as store:
        store.put(night.batch([*machines, later], 1), now)
        assert store.claim("later", "host:1", 3600.0, now) is not None
        store.put(night.batch(machines, 1), now)
        store.retry("bad", now)
        run = store.runs.begin("1:1", "", is_local=True)
        lease = store.claim("bad", "dead:1", 3600.0, now, run=run.number)
        assert lease is not None
        store.runs.let_go(run, ["bad"], now + 1)
        store.runs.end(run)
        again = store.claim("bad", "host:2", 3600.0, now + 2)
        assert again is not None
        store.event(again, "warning", {"message": "x" * 100_000}, now + 2)
        store.cancel("bad", now + 2)
        store.park(again, of_words("io", 74, "disk: EIO", "Look at the mount."), now + 3)
        store.retry("slow-hook", now)
        alone = store.claim("slow-hook", "host:2", 3600.0, now)
        assert alone is not None
        store.finish(alone, now + 1, record=None, seconds={}, verified=None)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("night")
    made = Night(folder, io.StringIO(), folder / "hooks", folder / "ends")
    # one that copies alone is told to take all of the rate, and waits for that word; there is no room for bundles yet
    alone = [machine(folder, "alone", {"until": 1_000_000}), machine(folder, "no-bundle", {"always": BAD})]
    (folder / "jobs-failures").write_text("")
    made.run(alone, copies=1)
    (folder / "jobs-failures").unlink()
    machines = all_fates(made, alone)
    lost_lease(made, machines)
    stopped(made, machines)
    by_hand(made, machines)
    made.events.write(_left_out(3))
    made.events.write(said_for_programs("run", str(folder / "none.yaml"), "--progress", "json", status=66))
    return made


# of a killed worker, of machines that the manifest left out and of foreign records the store alone tells
OF_THE_STORE_ALONE = ["cancelled.why: there", "claimed.lost_worker: there", "done.record: null"]


def test_every_line_of_a_run_fits_and_every_kind_and_shape_was_told(night: Night) -> None:
    fitting = Fitting(output("batch-events").published())
    kinds = {fitting.take(line)["event"] for line in night.events.getvalue().splitlines()}
    assert kinds == set(OF_A_RUN)
    assert fitting.unseen() == OF_THE_STORE_ALONE


def test_every_event_of_the_store_fits_and_every_kind_and_shape_is_there(night: Night) -> None:
    fitting = Fitting(output("batch-log").published())
    kinds = {fitting.take(line)["kind"] for line in night.logs()}
    assert kinds == set(OF_A_MACHINE)
    assert fitting.unseen() == []


def test_a_failure_bundle_has_what_is_published(night: Night) -> None:
    failure, log = Fitting(output("batch-failure").published()), Fitting(output("batch-log").published())
    bundles = sorted((night.folder / "jobs-failures").iterdir())
    told = {each["job"]: each for each in (failure.take((bundle / "failure.json").read_text()) for bundle in bundles)}
    assert told["bad"]["code"] == "bad-image"
    assert failure.unseen() == []
    for bundle in bundles:
        kinds = [log.take(line)["kind"] for line in (bundle / "events.jsonl").read_text().splitlines()]
        assert kinds[0] == "claimed"
    assert "may_help" in told["bad"]
    assert not failure.fits({**told["bad"], "more": 1})
    assert not failure.fits({**told["bad"], "fence": None})


def test_a_run_tells_of_an_end_what_the_store_has_of_it(night: Night) -> None:
    told = [json.loads(line) for line in night.events.getvalue().splitlines()]
    kept = [json.loads(line) for line in night.logs()]
    for kind in ("done", "parked", "again", "cancelled"):
        of_runs = {(each["job"], each["fence"]): each for each in told if each["event"] == kind}
        assert of_runs
        for each in kept:
            if each["kind"] == kind and (line := of_runs.get((each["job"], each["fence"]))) is not None:
                assert {name: line.get(name) for name in each["data"]} == each["data"]
    ends = [each["kind"] for each in kept if each["job"] == "doomed" and each["kind"] in ("parked", "cancelled")]
    assert ends == ["cancelled"]


def test_hooks_get_what_is_published(night: Night) -> None:
    fitting = Fitting(output("batch-hook").published())
    for line in night.hooks.read_text().splitlines():
        fitting.take(line)
    assert fitting.unseen() == []


def test_the_batchs_own_hook_gets_what_is_published(night: Night) -> None:
    fitting = Fitting(output("batch-end-hook").published())
    outcomes = {fitting.take(line)["outcome"] for line in night.ends.read_text().splitlines()}
    assert outcomes == {"ended", "waiting", "stopped"}
    # what a run is told of that could not go on, and of an older store
    jobs = (job("odd", State.PARKED), job("bare", State.PARKED, failure=of_words("io", 74, "EIO")))
    end = RunEnd(jobs, 1.0, 73, error=NoSpace(Path("/srv"), 5, 3), page=Path("fleet.html"))
    fitting.take(json.dumps(document_of(night.batch([], 1), end)))
    assert fitting.unseen() == []


def test_every_kind_of_event_that_is_told_somewhere_is_published() -> None:
    code = "".join(path.read_text("utf-8") for path in sorted(Path(p2v.batch.__file__).parent.glob("*.py")))
    literal = re.compile(r"""\.(?:job|fleet)\((?:\s*attempt,)?\s*"([a-z-]+)\"""")
    told = set(literal.findall(code))
    assert len(told) > 10
    assert told <= {*OF_A_RUN, *OF_A_MACHINE}
    assert {*OF_A_RUN, *OF_A_MACHINE} >= OWN_KINDS


LINE_EDITS: tuple[Callable[[Any], object], ...] = (
    lambda line: line.update(schema=2),
    lambda line: line.update(event="ended"),
    lambda line: line.pop("job"),
    lambda line: line.pop("attempt"),
    lambda line: line.update(more=1),
    lambda line: line.update(at=-1),
    lambda line: line.update(attempt="1"),
    lambda line: line.update(event="parked"),
)


@pytest.mark.parametrize("number", range(len(LINE_EDITS)))
def test_what_is_no_line_does_not_fit(number: int, night: Night) -> None:
    fitting = Fitting(output("batch-events").published())
    lines = (json.loads(line) for line in night.events.getvalue().splitlines())
    line = next(each for each in lines if each["event"] == "claimed")
    assert fitting.fits(line)
    LINE_EDITS[number](line)
    assert not fitting.fits(line)


LOG_EDITS: tuple[Callable[[Any], object], ...] = (
    lambda line: line.update(schema=2),
    lambda line: line.update(kind="ended"),
    lambda line: line.pop("number"),
    lambda line: line["data"].pop("attempt"),
    lambda line: line["data"].update(more=1),
    lambda line: line.update(data={"left_out_bytes": -1}),
    lambda line: line.update(data=None),
)


@pytest.mark.parametrize("number", range(len(LOG_EDITS)))
def test_what_is_no_event_does_not_fit(number: int, night: Night) -> None:
    fitting = Fitting(output("batch-log").published())
    line = next(each for each in map(json.loads, night.logs()) if each["kind"] == "claimed")
    assert fitting.fits(line)
    LOG_EDITS[number](line)
    assert not fitting.fits(line)


HOOK_EDITS: tuple[Callable[[Any], object], ...] = (
    lambda document: document.update(when="end"),
    lambda document: document.pop("unfinished"),
    lambda document: document.update(outcome="cancelled"),
    lambda document: document.update(sources="a.img"),
    lambda document: document.update(failure={"code": "io"}),
    lambda document: document.update(more=1),
)


@pytest.mark.parametrize("number", range(len(HOOK_EDITS)))
def test_what_no_hook_gets_does_not_fit(number: int, night: Night) -> None:
    fitting = Fitting(output("batch-hook").published())
    document = json.loads(night.hooks.read_text().splitlines()[0])
    assert fitting.fits(document)
    HOOK_EDITS[number](document)
    assert not fitting.fits(document)
