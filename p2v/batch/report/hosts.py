"""What each host of a cluster did: machines, rates, times of phases, and which of them is slow at what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from p2v.batch.jobs import Job, State
from p2v.batch.report.chronicle import FAILED
from p2v.batch.report.figures import attempts_of, copy_rate, worked_seconds
from p2v.batch.report.history import History
from p2v.batch.report.limits import HOSTS
from p2v.batch.report.reasons import LEAST, SLOW_TIMES, Slow
from p2v.batch.report.words import lasted, rate
from p2v.pages.markup import NOTHING, Markup, element, joined, name_of
from p2v.pages.words import counted, size

_LEAST_SECONDS = 5.0
"""By which a phase must take longer at a host to be told of."""


@dataclass(slots=True)
class HostFigures:
    """One host. ``rates``: bytes per second of its copies; ``seconds``: of its phases; ``lost``: attempts that failed there."""

    host: str
    running: int = 0
    done: int = 0
    lost: int = 0
    bytes_copied: int = 0
    rates: list[float] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)


def host_figures(jobs: Sequence[Job], history: History) -> tuple[HostFigures, ...]:
    """Hosts by their names; nothing where no attempt tells of one, for then there is only the runner's."""
    if not any(attempt.host for attempt in attempts_of(history)):
        return ()
    found: dict[str, HostFigures] = {}

    def figures(host: str) -> HostFigures:
        return found.setdefault(host, HostFigures(host))

    for attempt in attempts_of(history):
        if attempt.host and (attempt.kind in FAILED or attempt.kind == "parked"):
            figures(attempt.host).lost += 1
    for job in jobs:
        if job.state in (State.DONE, State.RUNNING) and (host := history.host(job)):
            _count(figures(host), job)
    return tuple(sorted(found.values(), key=lambda each: each.host))


def _count(figures: HostFigures, job: Job) -> None:
    figures.running += job.state is State.RUNNING
    figures.done += job.state is State.DONE
    figures.bytes_copied += job.bytes_copied
    if (speed := copy_rate(job)) is not None:
        figures.rates.append(speed)
    for phase, seconds in worked_seconds(job).items() if job.state is State.DONE else ():
        figures.seconds.setdefault(phase, []).append(seconds)


def slow_hosts(jobs: Sequence[Job], history: History) -> Iterator[Slow]:
    """Hosts at which a phase other than the copy takes much longer than at all others: one without KVM, one with too much to do."""
    figures = host_figures(jobs, history)
    for phase in sorted({phase for each in figures for phase in each.seconds if phase != "copy"}):
        for each in figures:
            times = each.seconds.get(phase, [])
            others = [taken for other in figures if other is not each for taken in other.seconds.get(phase, ())]
            if len(times) < LEAST or len(others) < LEAST:
                continue
            usual, here = median(others), median(times)
            if here > max(SLOW_TIMES * usual, usual + _LEAST_SECONDS):
                what = f"The phase {phase} takes {lasted(here)} at {each.host}, and {lasted(usual)} elsewhere."
                why = f"{counted(len(times), 'machine')} there, {len(others):,} elsewhere."
                yield Slow("", what, (why,), (here - usual) * len(times))


_COLUMNS = (
    "Under way",
    "Converted",
    "Attempts that failed",
    "Copied",
    "Median copy rate",
    "Median rewrite",
    "Median boot",
)


def host_table(jobs: Sequence[Job], history: History) -> Markup:
    """A row a host."""
    figures = host_figures(jobs, history)
    rows = []
    for each in figures[:HOSTS]:
        cells = (
            f"{each.running:,}",
            f"{each.done:,}",
            f"{each.lost:,}",
            size(each.bytes_copied),
            rate(median(each.rates)) if each.rates else "–",
            *(lasted(median(each.seconds[phase])) if phase in each.seconds else "–" for phase in ("rewrite", "boot")),
        )
        numbers = (element("td", cell, class_="number") for cell in cells)
        rows.append(element("tr", element("th", name_of(each.host), scope="row"), *numbers))
    head = [element("th", "Host", scope="col")]
    head += [element("th", text, scope="col", class_="number") for text in _COLUMNS]
    caption = element("caption", f"{counted(len(figures), 'host')} that machines were converted at")
    body = element("tbody", *rows)
    table = element("table", caption, element("thead", element("tr", *head)), body, class_="small")
    left_out = len(figures) - HOSTS
    more = element("p", f"{counted(left_out, 'more host')}.", class_="note") if left_out > 0 else NOTHING
    box = element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Table of hosts")
    return joined((box, more))
