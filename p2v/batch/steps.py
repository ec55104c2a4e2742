"""The steps of an attempt: hook, conversion, what is gathered of one that is parked, hook, and the note in the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from p2v.batch.arguments import convert_arguments
from p2v.batch.attempt import Attempt, Step
from p2v.batch.bundling import Bundles
from p2v.batch.children import Child, Ended, LocalStarter, Order, Starter
from p2v.batch.event_data import Again, Began, Cancelled, Claimed, Done, Limited, Parked, data_of
from p2v.batch.failure_bundle import RECORD
from p2v.batch.failures import (
    CONVERTED,
    STILL_AT_IT,
    STILL_AT_IT_AT_MOST,
    backoff_seconds,
    failure_of,
    how_it_ended,
    of_error,
    of_words,
    pause_seconds,
    still_at_it,
)
from p2v.batch.fences_left import FencesLeft
from p2v.batch.hook_steps import HookSteps
from p2v.batch.jobs import Failure, Job, State, Verify
from p2v.batch.kinds import FOUND, WORKER
from p2v.batch.looking import SILENT, Silences, silence
from p2v.batch.past import begun_before, past_of
from p2v.batch.results import Result, record_path
from p2v.batch.store import Store
from p2v.batch.telling import Teller
from p2v.core.errors import P2vError
from p2v.core.events import Warned
from p2v.core.units import MIB, format_seconds

_INSPECTION_BYTES = 16 * MIB
_WORKERS_LOST = 10
"""How often a job's runner may die before the job is taken for the reason."""
_MOST_PAUSES = 4
"""After so many pauses they get no longer: a storage that comes back is seen in some minutes."""
# about what was asked for, not about the guest
_NOT_INSPECTED = (64, 66)


@dataclass
class Steps:
    """Takes attempts from step to step; nothing here waits for a child."""

    store: Store
    teller: Teller
    starter: Starter
    local: LocalStarter
    first_backoff: float
    inspection_seconds: float
    silent_seconds: float = 3600.0
    """For how long storages may give no answer before their machines are parked."""
    silences: Silences = field(default_factory=Silences)
    fences: FencesLeft = field(default_factory=FencesLeft)
    """Of jobs that have ended; whoever has the steps tidies them."""
    hooks: HookSteps = field(init=False)
    bundles: Bundles = field(init=False)

    def __post_init__(self) -> None:
        self.hooks = HookSteps(self.store, self.teller, self.local)
        self.bundles = Bundles(self.store.path, self.teller)

    def begin(self, attempt: Attempt) -> None:
        """The first step of one whose lease was just taken."""
        job = attempt.lease.job
        claimed = Claimed(attempt.lease.worker, job.attempts, job.machine.attempts)
        self.teller.job(attempt, "claimed", data_of(claimed), stored=False)
        if attempt.holding.limit is not None:
            self.teller.job(attempt, "began", data_of(Began(attempt.holding.limit)))
        stray = self.hooks.stray(attempt)
        if stray is None:
            self._look_first(attempt)
            return
        attempt.step = Step.WAIT
        self._start(attempt, lambda: stray, lambda _: self._look_first(attempt))

    def _look_first(self, attempt: Attempt) -> None:
        is_local = self.starter is self.local
        if is_local or attempt.lease.fence > 1:
            attempt.step = Step.LOOK
            self._look(attempt, lambda _: self._go_on(attempt), at_sources=is_local)
        else:
            self._go_on(attempt)

    def _go_on(self, attempt: Attempt) -> None:
        """From the look at its storages to what is done there."""
        job = attempt.lease.job
        if job.attempts - past_of(self.store, attempt.name).failed > _WORKERS_LOST:
            words = f"what ran it died {job.attempts - 1} times in the middle of it"
            self._park(
                attempt,
                of_words("workers-died", 70, words, "Look whether this machine takes all of the host's memory."),
            )
            return
        attempt.step = Step.BEFORE
        if attempt.hook() is None:
            self._convert(attempt)
        else:
            self._start_hook(attempt)

    def ended(self, attempt: Attempt, ended: Ended, *, stopping: bool) -> None:
        """A step's child has ended."""
        attempt.said = ended.tail or attempt.said
        if attempt.step is Step.CONVERT:
            self._conversion_ended(attempt, ended, stopping=stopping)
        elif attempt.hook() is not None:
            self._hook_ended(attempt, ended, stopping=stopping or attempt.must_stop)
        elif stopping or (attempt.step in (Step.WAIT, Step.LOOK, Step.LOOK_AGAIN) and attempt.must_stop):
            self._release(attempt)
        elif attempt.step is Step.WAIT:
            self._look_first(attempt)
        elif attempt.step in (Step.LOOK, Step.LOOK_AGAIN):
            self._looked(attempt)
        elif attempt.step is Step.INSPECT:
            attempt.inspection = ended.stdout if ended.exit_status == 0 else ""
            self._gather_record(attempt)
        else:
            self._after(attempt)

    def note(self, attempt: Attempt) -> Job | None:
        """Note in the store what became of it, where that is to be done; None: it was not, or the store cannot be written now."""
        ending, noted = attempt.ending, []
        if ending is None or not self.teller.write(attempt, lambda: noted.append(ending(time.time()))):
            return None
        attempt.ending = None
        return noted[0]

    def stop(self, attempt: Attempt, *, at_once: bool = False) -> None:
        """End what it does: a run is to stop, or a job was cancelled. A hook has a while."""
        attempt.must_stop = True
        if attempt.child is None:
            return
        if attempt.hook() is None:
            attempt.child.stop(at_once)
        else:
            self.hooks.stop(attempt, attempt.child, at_once=at_once)

    def limit(self, attempt: Attempt, bytes_per_second: int) -> None:
        """Tell a copy what it may use from now on."""
        if attempt.step is Step.CONVERT and attempt.child is not None:
            attempt.holding = attempt.holding.told(bytes_per_second)
            attempt.child.limit(bytes_per_second)
            self.teller.job(attempt, "limit", data_of(Limited(bytes_per_second)))

    def look_at_time(self, attempt: Attempt, now: float, silent_seconds: float) -> None:
        """End a child that takes too long."""
        hook, child = attempt.hook(), attempt.child
        if child is None or (attempt.must_stop and hook is None) or attempt.step is Step.WAIT:
            return
        if hook is not None:
            self.hooks.look_at_time(attempt, child, now)
        if attempt.step is Step.CONVERT:
            if self.starter is self.local:
                self._see_whether_it_hangs(attempt, now)
            if attempt.failure is None and now - attempt.heard_at > silent_seconds:
                words = f"nothing was heard of it for {format_seconds(silent_seconds)}; it was ended"
                attempt.failure = of_words(
                    "silent", 75, words, "A disk or server that does not answer: look at its mount."
                )
                child.stop()
        elif now - attempt.began > (hook.seconds if hook is not None else self.inspection_seconds):
            attempt.is_late = True
            child.stop()

    def _see_whether_it_hangs(self, attempt: Attempt, now: float) -> None:
        hangs = attempt.quiet.hangs(attempt.machine, now - attempt.heard_at, self.silences)
        if hangs and not attempt.holding.hangs:
            words = "its storage does not answer; its place is given to others until it does"
            self.teller.job(attempt, "warning", data_of(Warned(words)))
        attempt.holding = replace(attempt.holding, hangs=hangs)

    # Converting

    def _convert(self, attempt: Attempt) -> None:
        attempt.step = Step.CONVERT
        order = order_of(attempt)
        self._start(attempt, lambda: self.starter.start(order), lambda failure: self._fail(attempt, failure))

    def _conversion_ended(self, attempt: Attempt, ended: Ended, *, stopping: bool) -> None:
        status, machine = ended.exit_status, attempt.machine
        attempt.holding = replace(attempt.holding.freed(), hangs=False)
        attempt.quiet.close()
        if status in CONVERTED and not ended.lost:
            booted = status != 3 if machine.verify is Verify.BOOT or status == 3 else None
            attempt.failure = None
            self._converted(attempt, Result(ended.record or record_path(machine), booted, status == 2), stopping=stopping)
        elif stopping or attempt.must_stop:
            self._release(attempt)
        else:
            failure = attempt.failure or failure_of(ended, attempt.error)
            if failure.code != "target-exists" or attempt.lease.fence == 1:
                self._fail(attempt, failure)
                return
            # an attempt before this one may have done it all just as this one began
            attempt.step, attempt.failure = Step.LOOK_AGAIN, failure
            self._look(attempt, lambda _: self._fail(attempt, failure), at_sources=False)

    # Looking

    def _look(self, attempt: Attempt, failed: Callable[[Failure], None], *, at_sources: bool) -> None:
        """At its storages, and for the result of an earlier attempt whose end nobody heard."""
        since = None
        if attempt.lease.fence > 1:
            before = begun_before(self.store, attempt.name, attempt.lease.job.began)
            since, attempt.host_before = before.since, before.worker or attempt.host_before
            attempt.since = since
        attempt.look = None

        seconds = self.silences.patience(attempt.machine, time.monotonic())

        def begin() -> Child:
            attempt.look = self.silences.look(attempt.machine, since, at_sources=at_sources, seconds=seconds)
            return attempt.look

        self._start(attempt, begin, failed)

    def _looked(self, attempt: Attempt) -> None:
        look, failure = attempt.look, attempt.failure
        result = look.found if look is not None else None
        if look is not None and look.is_silent:
            attempt.failure = None
            self.silences.heard_nothing(attempt.machine, look.seconds, time.monotonic())
            self._fail(attempt, silence(look))
        elif result is not None and not (attempt.machine.verify is Verify.BOOT and result.booted is None):
            attempt.failure = None
            self.teller.job(attempt, "warning", data_of(Warned(FOUND)))
            if attempt.host_before is not None:
                self.teller.job(attempt, WORKER, attempt.host_before)
            self._converted(attempt, result, stopping=False)
        elif failure is not None:
            self._fail(attempt, failure)
        else:
            self._go_on(attempt)

    def _converted(self, attempt: Attempt, result: Result, *, stopping: bool) -> None:
        attempt.result = result
        if result.has_losses:
            self.teller.job(attempt, "warning", data_of(Warned("converted with losses: parts of the source could not be read")))
        if stopping and attempt.machine.after is not None:
            # the next run finds the result, and runs the hook
            self._release(attempt)
        elif attempt.machine.verify is Verify.BOOT and result.booted is False:
            hint = "Its screen and log are beside the record. Remove the result before `p2v batch retry`, or take it as it is."
            self._park(attempt, Failure("not-booted", 3, "converted, but its boot check did not see it come up", hint))
        else:
            self._after(attempt)

    # Failing

    def _fail(self, attempt: Attempt, failure: Failure) -> None:
        past, now = past_of(self.store, attempt.name), time.time()
        if failure.code in STILL_AT_IT:
            self._leave_to_others(attempt, failure, past.busy + 1)
            return
        failed = past.failed + 1
        is_over = not failure.may_help or failed - past.silent >= attempt.machine.attempts
        if failure.code == SILENT:
            # nothing was tried: what counts is for how long
            is_over = past.silent_since > 0 and now - past.silent_since >= self.silent_seconds
        if is_over:
            self._park(attempt, failure)
            return
        pauses = min(past.silent + 1, _MOST_PAUSES) if failure.code == SILENT else failed
        self._again(attempt, failure, now + backoff_seconds(pauses, attempt.name, self.first_backoff))

    def _leave_to_others(self, attempt: Attempt, failure: Failure, times: int) -> None:
        """Somebody else is at it still: no attempt of its own, up to a bound."""
        if times > STILL_AT_IT_AT_MOST:
            self._park(attempt, still_at_it(failure, times))
            return
        not_before = time.time() + pause_seconds(times, attempt.name, self.first_backoff)
        self._again(attempt, failure, not_before, counted=False)

    def _again(self, attempt: Attempt, failure: Failure, not_before: float, *, counted: bool = True) -> None:
        def again(now: float) -> Job:
            job = self.store.again(attempt.lease, failure, not_before, now, counted=counted)
            self._tell_end(attempt, job, failure, "again", Again.of(failure, not_before, counted=counted))
            return job

        self._to_note(attempt, again)

    def _park(self, attempt: Attempt, failure: Failure) -> None:
        """Gather what is told of it, and give it up."""
        attempt.failure = replace(failure, bundle=self.bundles.begun(attempt))
        attempt.holding = attempt.holding.freed()
        is_known = attempt.result is not None or failure.exit_code in _NOT_INSPECTED or failure.code == SILENT
        if attempt.failure.bundle is None or is_known:
            self._gather_record(attempt)
            return
        attempt.step = Step.INSPECT
        argv = (*self.local.program, "inspect", "--json", *(str(path) for path in attempt.machine.sources))
        self._start(
            attempt,
            lambda: self.local.run(argv, attempt.name, stdout_bytes=_INSPECTION_BYTES),
            lambda _: self._gather_record(attempt),
        )

    def _gather_record(self, attempt: Attempt) -> None:
        bundle = attempt.failure.bundle if attempt.failure is not None else None
        if bundle is None or attempt.result is None:
            self._after(attempt)
            return
        attempt.step = Step.RECORD
        argv = (*self.local.program, "record", "bundle", str(attempt.result.record), "-o", str(bundle / RECORD))
        self._start(attempt, lambda: self.local.run(argv, attempt.name), lambda _: self._after(attempt))

    # Hooks

    def _after(self, attempt: Attempt) -> None:
        """Before the end is noted: a run that dies in between runs the hook twice rather than never."""
        attempt.step = Step.AFTER
        if attempt.hook() is None:
            self._end(attempt)
        else:
            self._start_hook(attempt)

    def _start_hook(self, attempt: Attempt) -> None:
        """What cannot be started has failed: of one before the job, that parks it."""
        document = self.hooks.begin(attempt)

        def failed(failure: Failure) -> None:
            self.ended(attempt, Ended(127, failure.message, 0.0), stopping=False)

        self._start(attempt, lambda: self.hooks.start(attempt, document), failed)

    def _hook_ended(self, attempt: Attempt, ended: Ended, *, stopping: bool) -> None:
        is_before, failed = attempt.step is Step.BEFORE, self.hooks.failed(attempt, ended)
        if attempt.is_cut:
            self._release(attempt)
        elif not is_before:
            self._end(attempt)
        elif failed:
            words = f"the hook before it {'took too long' if attempt.is_late else how_it_ended(ended)}"
            self._park(attempt, Failure("hook-failed", 70, words, "Put the hook right, then `p2v batch retry`."))
        elif stopping:
            self._release(attempt)
        else:
            self._convert(attempt)

    # Ends

    def _end(self, attempt: Attempt) -> None:
        failure = attempt.failure
        if failure is not None:
            self._to_note(attempt, partial(self._note_parked, attempt, self.bundles.filled(attempt, failure)))
        elif attempt.result is not None:
            self._to_note(attempt, partial(self._note_done, attempt, attempt.result))

    def _note_parked(self, attempt: Attempt, failure: Failure, now: float) -> Job:
        record = None if attempt.result is None else attempt.result.record
        job = self.store.park(attempt.lease, failure, now, record=record)
        self.fences.add(attempt.machine, attempt.lease.fence)
        self._tell_end(attempt, job, failure, "parked", Parked.of(failure))
        return job

    def _tell_end(self, attempt: Attempt, job: Job, failure: Failure, kind: str, event: Again | Parked) -> None:
        """Of an attempt that failed what the store made of it: it was to be given up, maybe."""
        if job.state is State.CANCELLED:
            kind, data = "cancelled", data_of(Cancelled.of(failure))
        else:
            data = data_of(event)
        self.teller.job(attempt, kind, data, stored=False)

    def _note_done(self, attempt: Attempt, result: Result, now: float) -> Job:
        seconds = dict(attempt.seconds)
        job = self.store.finish(attempt.lease, now, record=result.record, seconds=seconds, verified=result.booted)
        self.fences.add(attempt.machine, attempt.lease.fence)
        self.teller.job(attempt, "done", data_of(Done(result.record, seconds, result.booted)), stored=False)
        return job

    def _release(self, attempt: Attempt) -> None:
        def release(now: float) -> Job:
            job = self.store.release(attempt.lease, now)
            self.teller.job(attempt, "cancelled" if job.state.is_end else "released", {}, stored=False)
            return job

        self._to_note(attempt, release)

    def _to_note(self, attempt: Attempt, ending: Callable[[float], Job]) -> None:
        attempt.step, attempt.ending = Step.ENDING, ending

    def _start(self, attempt: Attempt, start: Callable[[], Child], failed: Callable[[Failure], None]) -> None:
        try:
            attempt.child = start()
        except P2vError as error:
            failed(of_error(error))
        except OSError as error:
            failed(of_words("program-failed", 74, f"a program could not be started: {error.strerror or error}"))
        else:
            attempt.began = attempt.heard_at = time.monotonic()
            attempt.is_late = False


def order_of(attempt: Attempt) -> Order:
    """What is run to convert a job's machine."""
    lease, limit = attempt.lease, attempt.holding.limit
    limits = () if limit is None else (f"--share={limit}",)
    fixed = (f"--fence={lease.fence}", "--progress=json", "--json")
    argv = ("convert", *convert_arguments(attempt.machine), *limits, *fixed)
    return Order(attempt.name, argv, {}, lease.fence, attempt.machine, is_told=limit is not None, since=attempt.since)
