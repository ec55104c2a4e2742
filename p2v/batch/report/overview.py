"""The first part: how the batch stands, what runs, and the charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from p2v.batch.estimate import about, left_words, windows_apart
from p2v.batch.jobs import Job, State
from p2v.batch.report.figures import Column, at_once, outcomes, phase_figures, rates
from p2v.batch.report.history import History
from p2v.batch.report.words import OUTCOMES, WORKS, Outcome, clock, lasted, outcome_of, rate
from p2v.core.units import GIB, KIB, MIB
from p2v.pages.charts import Figure, Row, Series, stacked_bars, stacked_columns
from p2v.pages.layout import section
from p2v.pages.markup import Markup, element, joined, link, name_of
from p2v.pages.words import counted, size

_ALWAYS = (Outcome.PARKED, Outcome.RUNNING, Outcome.WAITING, Outcome.CONVERTED, Outcome.VERIFIED)
_UNITS = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))
_MOST_CODES = 15


def overview(
    jobs: Sequence[Job], history: History, waiting: Mapping[str, str], left: float | None, now: float
) -> Markup:
    """Tiles of outcomes, what that means together, and all charts that there is something to show in.

    ``left``: seconds that the rest takes; None: nobody knows.
    """
    return section(
        "overview",
        "Overview",
        _tiles(jobs),
        element("ul", *(element("li", each) for each in _told(jobs, history, waiting, left, now)), class_="told"),
        element("div", *_charts(jobs, history), class_="charts"),
    )


def _tiles(jobs: Sequence[Job]) -> Markup:
    tiles = []
    for outcome, count in outcomes(jobs).items():
        word, colour = OUTCOMES[outcome]
        if count or outcome in _ALWAYS:
            tiles.append(
                element("div", element("dt", word), element("dd", f"{count:,}"), class_=f"tile colour-{colour}")
            )
    return element("dl", *tiles, class_="tiles")


def _told(
    jobs: Sequence[Job], history: History, waiting: Mapping[str, str], left: float | None, now: float
) -> Iterator[str]:
    """The state of the run in sentences."""
    ended = sum(job.state.is_end for job in jobs)
    yield f"{ended:,} of {counted(len(jobs), 'machine')} have ended, after {lasted(history.end - history.begin)}."
    known = [job for job in jobs if job.bytes_total]
    if known:
        done = sum(job.bytes_total if job.state is State.DONE else job.bytes_copied for job in known)
        total = sum(job.bytes_total for job in known)
        of = "" if len(known) == len(jobs) else f" (of {counted(len(known), 'machine')} whose size is known)"
        yield f"Disks of {size(done)} of {size(total)} are copied{of}, holes included."
    if left is not None:
        runs = any(job.state is State.RUNNING for job in jobs)
        guess = left_words(left, now) if runs else about(left)
        yield f"The rest takes {guess}{windows_apart(jobs)}, as machines went so far."
    for reason, count in Counter(waiting.values()).most_common():
        yield f"{counted(count, 'machine')} {'waits' if count == 1 else 'wait'} for: {reason}."


def _charts(jobs: Sequence[Job], history: History) -> Iterator[Markup]:
    if jobs:
        yield _outcomes(jobs)
    if history.machines:
        yield _at_once(history)
    if history.moved:
        yield _rates(history)
    if any(job.failure is not None and outcome_of(job) is Outcome.PARKED for job in jobs):
        yield _codes(jobs)


def _outcomes(jobs: Sequence[Job]) -> Markup:
    counts = {each: count for each, count in outcomes(jobs).items() if count}
    return stacked_bars(
        Figure(
            "How machines stand",
            "; ".join(f"{OUTCOMES[each][0]}: {count:,}" for each, count in counts.items()) + ".",
            tuple(Series(*OUTCOMES[each]) for each in counts),
            (Row("Machines", tuple(counts.values()), f"{len(jobs):,}"),),
            "Batch",
        )
    )


def _at_once(history: History) -> Markup:
    columns = at_once(history)
    most = max(sum(each.values) for each in columns)
    return stacked_columns(
        Figure(
            "What ran at the same time",
            f"Phases under way, on average of each piece of time; {most:,.1f} where it was most.",
            tuple(Series(*each) for each in WORKS.values()),
            tuple(_column(each, history) for each in columns),
            "From",
            lambda value: f"{value:,.2f}",
            note="A machine that is copied and rewritten at the same time counts in both.",
        )
    )


def _column(column: Column, history: History, scale: float = 1.0) -> Row:
    return Row(clock(column.begin, seconds=_is_short(history)), tuple(value / scale for value in column.values))


def _is_short(history: History) -> bool:
    return history.end - history.begin < 1800


def _rates(history: History) -> Markup:
    columns = rates(history)
    most = max(each.values[0] for each in columns)
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if most >= 4 * scale), (1, "bytes"))
    return stacked_columns(
        Figure(
            f"Copying, {unit} a second",
            f"All copies together; {rate(most)} where it was most.",
            (Series(f"{unit} a second", "copy"),),
            tuple(_column(each, history, scale) for each in columns),
            "From",
            lambda value: f"{value:,.1f}",
            note="Of the disks' whole size, holes included: holes cost nothing, so it may be more than a disk can do.",
        )
    )


def _codes(jobs: Sequence[Job]) -> Markup:
    codes = Counter(job.failure.code for job in jobs if job.failure is not None and outcome_of(job) is Outcome.PARKED)
    shown = codes.most_common(_MOST_CODES)
    more = f", of which the first {len(shown):,} are shown" if len(shown) < len(codes) else ""
    return stacked_bars(
        Figure(
            "Why machines were parked",
            f"{counted(codes.total(), 'machine')}, {counted(len(codes), 'reason')}{more}.",
            (Series("Machines", "blocker"),),
            tuple(Row(code, (count,), f"{count:,}") for code, count in shown),
            "Reason",
        )
    )


_PHASE_COLUMNS = ("Machines", "Median", "Nine in ten within", "Longest", "All together", "Median rate")


def phase_table(jobs: Sequence[Job], anchors: Mapping[str, str]) -> Markup:
    """How long phases took on the machines that were converted."""
    figures = phase_figures(jobs)
    if not figures:
        return element("p", "No machine has been converted yet.")
    rows = []
    for each in figures:
        cells = (
            f"{each.machines:,}",
            lasted(each.median_seconds),
            lasted(each.ninth_seconds),
            joined((lasted(each.longest_seconds), " ", link(f"#{anchors[each.longest]}", name_of(each.longest)))),
            lasted(each.total_seconds),
            rate(each.rate) if each.rate is not None else "",
        )
        numbers = (element("td", cell, class_="number") for cell in cells)
        rows.append(element("tr", element("th", name_of(each.phase), scope="row"), *numbers))
    head = [element("th", "Phase", scope="col")]
    head += [element("th", text, scope="col", class_="number") for text in _PHASE_COLUMNS]
    table = element(
        "table",
        element("caption", "Phases of the machines that were converted"),
        element("thead", element("tr", *head)),
        element("tbody", *rows),
        class_="small",
    )
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Table of phases")
