"""What to do first: what somebody must look at, together where reason and advice are the same; what is most comes first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p2v.batch.jobs import Job, State
from p2v.batch.report.limits import ADVICE_LETTERS, STEP_NAMES, STEPS
from p2v.batch.report.machines import Known
from p2v.batch.report.words import Outcome, outcome_of
from p2v.pages.markup import Child, Markup, element, joined, link, name_of, shown, with_commands
from p2v.pages.words import counted


def first_steps(jobs: Sequence[Job], known: Known) -> Markup:
    """A list in order, or that there is nothing."""
    steps = [*_steps(jobs, known)]
    if not steps:
        return element("p", "Nothing at present." if any(not job.state.is_end for job in jobs) else "Nothing.")
    return element("ol", *(element("li", step) for step in steps), class_="steps")


def _steps(jobs: Sequence[Job], known: Known) -> Iterator[Markup]:
    groups = sorted(_parked(jobs).items(), key=lambda each: -len(each[1]))
    for (code, hint), parked in groups[:STEPS]:
        count = element("strong", f"{counted(len(parked), 'machine')} parked, ")
        why = element("code", element("bdi", shown(code, 80)))
        advice = element("bdi", with_commands(hint, ADVICE_LETTERS))
        yield _step(joined((count, why, ": ", advice)), parked, known)
    if left := sum(len(parked) for _, parked in groups[STEPS:]):
        yield joined(
            (f"{counted(left, 'more machine')} parked for other reasons: ", link("#parked", "all of them"), ".")
        )
    unseen = [job for job in jobs if outcome_of(job) is Outcome.NOT_BOOTED]
    if unseen:
        what = f"{counted(len(unseen), 'machine')} converted, but not seen to boot: look at the screens."
        yield _step(what, unseen, known)
    told = [job for job in jobs if job.state is State.DONE and known.history.of(job.machine.name).warnings]
    if told:
        what = f"{counted(len(told), 'machine')} converted with warnings: read them before you start it."
        yield _step(what, told, known)
    waiting = [job for job in jobs if not job.state.is_end]
    if waiting and not known.history.is_run:
        again = element("code", "p2v batch resume" if known.history.is_paused else "p2v batch run")
        yield joined((f"{counted(len(waiting), 'machine')} to be converted, and nobody is at it: ", again, "."))


def _parked(jobs: Sequence[Job]) -> dict[tuple[str, str], list[Job]]:
    found: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        if job.failure is not None and outcome_of(job) is Outcome.PARKED:
            found.setdefault((job.failure.code, job.failure.hint or "read why"), []).append(job)
    return found


def _step(what: Child, jobs: Sequence[Job], known: Known) -> Markup:
    names = (link(f"#{known.anchors[job.machine.name]}", name_of(job.machine.name)) for job in jobs[:STEP_NAMES])
    more = f" and {len(jobs) - STEP_NAMES:,} more" if len(jobs) > STEP_NAMES else ""
    return joined((what, " ", joined(names, ", "), more))
