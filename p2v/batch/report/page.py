"""The whole page: head, sections in order, foot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

import p2v
from p2v.batch.estimate import Forecast, Look, forecast
from p2v.batch.jobs import Batch, Job, JobEvent
from p2v.batch.report.chronicle import Chronicle
from p2v.batch.report.figures import places
from p2v.batch.report.history import History
from p2v.batch.report.hosts import host_figures, host_table, slow_hosts
from p2v.batch.report.machines import Known, controls, failures, machine_details, machine_table, running_table, screens
from p2v.batch.report.overview import charts, overview, phase_table
from p2v.batch.report.pictures import Boot
from p2v.batch.report.reasons import Slow, full_places, idle_time, slow_machines, slow_places, turns, waits
from p2v.batch.report.steps import first_steps
from p2v.batch.report.timeline import timeline
from p2v.batch.report.words import Outcome, lasted, moment, outcome_of, zone
from p2v.batch.terms import Terms
from p2v.pages.layout import contents, filter_status, header, section, whole_page
from p2v.pages.markup import NOTHING, Markup, element, joined, link, name_of
from p2v.pages.words import counted

TITLE = "Batch conversion to KVM"
_OWN = ("p2v.batch.report", "batch.css", "batch.js")
_SECTIONS = (
    ("overview", "Overview"),
    ("first", "What to do first"),
    ("running", "Under way"),
    ("parked", "Parked"),
    ("slow", "What is slow"),
    ("course", "Over time"),
    ("timeline", "Timeline"),
    ("machines", "Machines"),
    ("hosts", "Hosts"),
    ("phases", "Phases"),
    ("screens", "Boot screens"),
    ("details", "Details"),
)


def batch_html(
    batch: Batch,
    jobs: Sequence[Job],
    events: Iterable[JobEvent],
    now: float,
    refresh_seconds: int | None,
    *,
    boots: Mapping[str, Boot] | None = None,
    terms: Terms | None = None,
    heard: Chronicle | None = None,
) -> str:
    """The page as one HTML file: UTF-8, nothing outside of itself. ``now``: seconds since 1970.

    ``refresh_seconds``: how often an open page loads itself anew; None (or 0) for a batch that has ended. ``boots``: boot checks
    by machine, as ``pictures.Shelf`` reads them. ``terms``: as ``Look`` has them. ``heard``: what earlier pages heard; the events
    are those since.
    """
    jobs = sorted(jobs, key=_badness)
    heard = heard or Chronicle()
    heard.hear(events)
    past = heard.history(jobs, now, is_run=bool(refresh_seconds))
    # A machine keeps its place in the page's addresses, however it stands: an open page finds it again.
    by_line = sorted(jobs, key=lambda each: (each.machine.line, each.machine.name))
    anchors = {job.machine.name: f"job-{index + 1}" for index, job in enumerate(by_line)}
    known = Known(past, anchors, waits(batch, jobs, past, now), boots or {}, now)
    left = forecast(Look(jobs, terms or Terms(batch.budget), past.is_paused, past.is_run), now)
    chapters = _chapters(jobs, past)
    sections = _sections(batch, jobs, known, left, {anchor for anchor, _ in chapters})
    main = element("main", *sections, id="main", tabindex=-1)
    foot = element(
        "footer", element("p", f"Made by p2v {p2v.__version__}. Times are of the host that made it, {zone(now)}.")
    )
    parts = (_head(batch, jobs, past, now, refresh_seconds), contents(chapters), main, foot)
    return whole_page(_title(jobs), _OWN, "the overview", parts, refresh_seconds)


def _chapters(jobs: Sequence[Job], past: History) -> Sequence[tuple[str, str]]:
    """Sections that there are."""
    left_out = {"running" if all(job.state.is_end for job in jobs) else "", "" if host_figures(jobs, past) else "hosts"}
    return [each for each in _SECTIONS if each[0] not in left_out]


def _badness(job: Job) -> tuple[int, float, str]:
    """Machines are shown first that somebody should look at, then those that run, wait, are done."""
    return list(Outcome).index(outcome_of(job)), job.began, job.machine.name


def _title(jobs: Sequence[Job]) -> str:
    """How far it is, to be read in a browser's tab."""
    ended = sum(job.state.is_end for job in jobs)
    return f"{ended} of {len(jobs)}: {TITLE}" if ended < len(jobs) else f"Ended: {TITLE}"


def _head(batch: Batch, jobs: Sequence[Job], past: History, now: float, refresh_seconds: int | None) -> Markup:
    told = [batch.manifest.name, counted(len(jobs), "machine"), f"as of {moment(now)}", _state(jobs, past)]
    refreshing = element(
        "p",
        element("label", element("input", type="checkbox", id="refresh"), f" Refresh every {refresh_seconds} s"),
        element("output", id="age", class_="colour-warning"),
        id="refreshing",
        class_="note",
        hidden=True,
        data_seconds=refresh_seconds,
        data_now=f"{now:.0f}",
    )
    return joined((header(TITLE, told), refreshing if refresh_seconds else None))


def _state(jobs: Sequence[Job], past: History) -> str:
    if all(job.state.is_end for job in jobs):
        return f"ended after {lasted(past.end - past.begin)}"
    if past.is_paused:
        return "paused"
    return "under way" if past.is_run else "not run at present"


def _sections(
    batch: Batch, jobs: Sequence[Job], known: Known, left: Forecast | None, there: Set[str]
) -> Sequence[Markup]:
    anchors = [known.anchors[job.machine.name] for job in jobs]
    fields = "search state wave reason"
    sections = (
        overview(jobs, known, left),
        section("first", "What to do first", first_steps(jobs, known)),
        section("running", "Under way", running_table(jobs, known)) if "running" in there else NOTHING,
        section("parked", "Parked, and why", failures(jobs, known)),
        section("slow", "What is slow, and why", _slow(batch, jobs, known)),
        section("course", "Over time", charts(known.history)),
        section("timeline", "Timeline", timeline(jobs, anchors, known.history)),
        section("machines", "Machines", controls(jobs), filter_status(fields), machine_table(jobs, known)),
        section("hosts", "Hosts", host_table(jobs, known.history)) if "hosts" in there else NOTHING,
        section("phases", "How long phases take", phase_table(jobs, known.anchors)),
        section("screens", "Boot screens", screens(jobs, known)),
        section("details", "Each machine", *machine_details(jobs, known)),
    )
    return [each for each in sections if each is not NOTHING]


def _slow(batch: Batch, jobs: Sequence[Job], known: Known) -> Markup:
    past = known.history
    budget = places(batch.budget, past)
    machines = slow_machines(jobs, past, batch.budget.bytes_per_second)
    found = [*idle_time(past), *full_places(budget), *turns(past), *slow_places(jobs, past), *slow_hosts(jobs, past), *machines]
    use = [f"{each.name} {each.share:.0%} of {each.count:,}" for each in budget]
    taken = element("p", f"Places of the budget that were taken while anything ran: {', '.join(use)}.") if use else None
    if not found:
        return joined((taken, element("p", "Nothing stands out.")))
    return joined((taken, element("ul", *(_slow_item(each, known) for each in found), class_="slow")))


def _slow_item(slow: Slow, known: Known) -> Markup:
    parts = []
    if slow.job:
        anchor = known.anchors[slow.job]
        parts.append(joined((link(f"#{anchor}", name_of(slow.job)), ": ")))
    parts.append(element("bdi", slow.what))
    parts += [joined((" ", element("bdi", each))) for each in slow.why]
    return element("li", *parts, data_of=known.anchors[slow.job] if slow.job else None)
