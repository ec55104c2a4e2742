"""How the batch stands, the charts, and how long phases take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from p2v.batch.estimate import Forecast, left_words
from p2v.batch.jobs import Job, State
from p2v.batch.report.figures import Column, at_once, outcomes, phase_figures, rates
from p2v.batch.report.history import History
from p2v.batch.report.machines import Known
from p2v.batch.report.pictures import Boot
from p2v.batch.report.words import OUTCOMES, WORKS, Outcome, clock, lasted, moment, rate
from p2v.core.units import GIB, KIB, MIB
from p2v.pages.charts import Figure, Row, Series, stacked_columns
from p2v.pages.layout import section
from p2v.pages.markup import Markup, element, joined, link, name_of
from p2v.pages.words import counted, size

_ALWAYS = (Outcome.PARKED, Outcome.CONVERTED, Outcome.VERIFIED)
_UNTIL_THE_END = (Outcome.RUNNING, Outcome.WAITING)
_UNITS = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def overview(jobs: Sequence[Job], known: Known, left: Forecast | None) -> Markup:
    """Tiles of outcomes, and what that means together. ``left``: how long the rest takes; None: nobody knows."""
    sentences = (*_told(jobs, known, left), *_seen(known.boots))
    return section("overview", "Overview", _tiles(jobs), element("ul", *(element("li", each) for each in sentences), class_="told"))


def _tiles(jobs: Sequence[Job]) -> Markup:
    tiles = []
    always = _ALWAYS if all(job.state.is_end for job in jobs) else (*_ALWAYS, *_UNTIL_THE_END)
    for outcome, count in outcomes(jobs).items():
        word, colour = OUTCOMES[outcome]
        if count or outcome in always:
            tiles.append(
                element("div", element("dt", word), element("dd", f"{count:,}"), class_=f"tile colour-{colour}")
            )
    return element("dl", *tiles, class_="tiles")


def _told(jobs: Sequence[Job], known: Known, left: Forecast | None) -> Iterator[str]:
    """The state of the run in sentences."""
    history = known.history
    ended = sum(job.state.is_end for job in jobs)
    took = lasted(history.end - history.begin)
    if any(job.began > 0 for job in jobs):
        to = moment(history.end) if ended == len(jobs) or not history.is_run else "now"
        took += f": from {moment(history.begin)} to {to}"
    yield f"{ended:,} of {counted(len(jobs), 'machine')} have ended, after {took}."
    sized = [job for job in jobs if job.bytes_total]
    if sized:
        done = sum(job.bytes_total if job.state is State.DONE else job.bytes_copied for job in sized)
        total = sum(job.bytes_total for job in sized)
        of = "" if len(sized) == len(jobs) else f" (of {counted(len(sized), 'machine')} whose size is known)"
        yield f"Disks of {size(done)} of {size(total)} are copied{of}, holes included."
    if left is not None:
        yield f"The rest takes {left_words(left, known.now)}{'' if left.assumed else ', as machines went so far'}."
    for reason, count in Counter(known.waiting.values()).most_common():
        yield f"{counted(count, 'machine')} {'waits' if count == 1 else 'wait'} for: {reason}."


def _seen(boots: Mapping[str, Boot]) -> Iterator[str]:
    """What there is to show for it."""
    if boots:
        up = sum(boot.reason == "booted" for boot in boots.values())
        here = sum(boot.picture is not None and bool(boot.picture.png) for boot in boots.values())
        beside = sum(boot.picture is not None and not boot.picture.png for boot in boots.values())
        more = f", {beside:,} beside the results" if beside else ""
        yield f"Boot checks: {len(boots):,}, of which {up:,} saw the machine come up. Screens: {here:,} in this page{more}."


def charts(history: History) -> Markup:
    """All charts that there is something to show in."""
    drawn = [_at_once(history)] if history.machines else []
    drawn += [_rates(history)] if history.moved else []
    return element("div", *drawn, class_="charts") if drawn else element("p", "Nothing has begun.")


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
