"""The table of machines, and everything about each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from p2v.batch.jobs import Job, State, Verify
from p2v.batch.report.figures import attempt_seconds, copy_rate
from p2v.batch.report.history import Attempt, History, Told
from p2v.batch.report.limits import ATTEMPTS, LETTERS, OPEN_MACHINES
from p2v.batch.report.pictures import Boot
from p2v.batch.report.reasons import next_attempt
from p2v.batch.report.words import ATTEMPT_ENDS, OUTCOMES, Outcome, clock, lasted, moment, outcome_of, rate
from p2v.pages.layout import choice, filter_form
from p2v.pages.markup import NOTHING, Child, Markup, element, joined, link, name_of, picture, shown, with_commands
from p2v.pages.words import counted, size

_COLUMNS = (
    ("Machine", False),
    ("State", True),
    ("Phase, or why", False),
    ("Wave", True),
    ("Attempts", True),
    ("Size", True),
    ("Copy rate", True),
    ("Time", True),
    ("Began", True),
    ("Ended", True),
    ("Worker", False),
)
"""Columns, and whether they sort by a number."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known beside the jobs themselves. ``anchors``, ``waiting``, ``boots``: by the machines' names."""

    history: History
    anchors: Mapping[str, str]
    waiting: Mapping[str, str]
    boots: Mapping[str, Boot]
    now: float


def controls(jobs: Sequence[Job]) -> Markup:
    """What filters."""
    codes = sorted({job.failure.code for job in jobs if job.failure is not None})
    waves = sorted({job.machine.wave for job in jobs})
    states = [(str(place), OUTCOMES[each][0]) for place, each in enumerate(Outcome)]
    return filter_form(
        choice("State", "state", states),
        choice("Wave", "wave", [(str(each), f"{each:,}") for each in waves]),
        choice("Reason", "reason", [(shown(each, 80), shown(each, 80)) for each in codes]),
    )


def machine_table(jobs: Sequence[Job], known: Known) -> Markup:
    """One row a machine; its name leads to its details."""
    head = [
        element("th", text, scope="col", data_numeric=numeric, class_="number" if numeric and index > 2 else None)
        for index, (text, numeric) in enumerate(_COLUMNS)
    ]
    table = element(
        "table",
        element("caption", f"All {counted(len(jobs), 'machine')}"),
        element("thead", element("tr", *head)),
        element("tbody", joined((_row(job, known) for job in jobs), "\n")),
        id="machine-table",
    )
    return element("div", table, class_="scroll tall", tabindex=0, role="region", aria_label="Table of machines")


def _row(job: Job, known: Known) -> Markup:
    outcome = outcome_of(job)
    word, colour = OUTCOMES[outcome]
    numbers = (
        (job.machine.wave, f"{job.machine.wave:,}"),
        (job.attempts, f"{job.attempts:,}"),
        (job.bytes_total, size(job.bytes_total or None)),
        _number(copy_rate(job) or known.history.copy_rate(job.machine.name), rate),
        _number(attempt_seconds(job, known.now), lasted),
        (job.began, clock(job.began, seconds=True) if job.began > 0 else "–"),
        (job.ended, clock(job.ended, seconds=True) if job.ended > 0 and job.state.is_end else "–"),
    )
    return element(
        "tr",
        element("th", link(f"#{known.anchors[job.machine.name]}", name_of(job.machine.name)), scope="row"),
        element("td", element("span", word, class_=f"badge colour-{colour}"), data_sort=list(Outcome).index(outcome)),
        element("td", _doing(job, known)),
        *(element("td", text, data_sort=value, class_="number") for value, text in numbers),
        element("td", name_of(known.history.host(job))),
        data_reason=shown(job.failure.code, 80) if job.failure is not None else None,
        data_wave=job.machine.wave,
    )


def _number(value: float | None, told: Callable[[float | None], str]) -> tuple[float, str]:
    return (-1 if value is None else value, told(value))


def _doing(job: Job, known: Known) -> Child:
    """What it does now, waits for, or was given up for."""
    if job.state is State.RUNNING:
        names = known.history.of(job.machine.name).open_phases
        done = f" {job.bytes_copied / job.bytes_total:.0%}" if job.bytes_total and "copy" in names else ""
        return element("bdi", (", ".join(names) or job.phase or "begins") + done)
    if job.state is State.WAITING:
        return f"waits for: {known.waiting.get(job.machine.name, 'a turn')}"
    return element("bdi", job.failure.code) if job.failure is not None and job.state is State.PARKED else None


_NOW_COLUMNS = ("Phases", "Copied", "", "Rate", "Since", "Attempt", "Worker")


def running_table(jobs: Sequence[Job], known: Known) -> Markup:
    """What is under way, how far each copy is, and how fast."""
    under_way = [job for job in jobs if job.state is State.RUNNING]
    if not under_way:
        return element("p", "Nothing is under way.")
    head = [element("th", text, scope="col") for text in ("Machine", *(each for each in _NOW_COLUMNS if each))]
    head[2] = element("th", "Copied", scope="col", colspan=2)
    table = element(
        "table",
        element("caption", f"{counted(len(under_way), 'machine')} under way"),
        element("thead", element("tr", *head)),
        element("tbody", *(_running_row(job, known) for job in under_way)),
        class_="small",
    )
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label="Table of what is under way")


def _running_row(job: Job, known: Known) -> Markup:
    anchor, name = known.anchors[job.machine.name], job.machine.name
    told = known.history.of(name)
    cells: tuple[Child, ...] = (
        element("bdi", ", ".join(told.open_phases) or job.phase or "begins"),
        _bar(job),
        f"{size(job.bytes_copied)} of {size(job.bytes_total or None)}" if job.bytes_copied or job.bytes_total else "–",
        rate(known.history.copy_rate(name)),
        lasted(attempt_seconds(job, known.now)),
        f"{job.attempts:,} of {job.machine.attempts:,}",
        name_of(known.history.host(job)),
    )
    heading = element("th", link(f"#{anchor}", name_of(name)), scope="row")
    return element("tr", heading, *(element("td", cell) for cell in cells), data_of=anchor)


def _bar(job: Job) -> Markup:
    share = min(job.bytes_copied / job.bytes_total, 1.0) if job.bytes_total else 0.0
    whole = element("rect", x=0, y=0, width=100, height=10, class_="rest")
    done = element("rect", x=0, y=0, width=100 * share, height=10, class_="fill-copy")
    told = f"{share:.0%} copied"
    return element(
        "svg", whole, done, viewBox="0 0 100 10", preserveAspectRatio="none", role="img", aria_label=told, class_="bar"
    )


def failures(jobs: Sequence[Job], known: Known) -> Markup:
    """Machines that were given up, each with why and what to do."""
    parked = [job for job in jobs if outcome_of(job) in (Outcome.PARKED, Outcome.NOT_BOOTED)]
    if not parked:
        return element("p", "None.")
    items = []
    for job in parked:
        anchor = known.anchors[job.machine.name]
        title = element("h3", link(f"#{anchor}", name_of(job.machine.name)))
        items.append(element("li", title, _failure(job, known), data_of=anchor))
    retry, run = element("code", "p2v batch retry NAME"), element("code", "p2v batch run")
    again = element("p", "When a reason is gone: ", retry, " lets the machine wait again, ", run, " converts it.", class_="note")
    return joined((again, element("ul", joined(items, "\n"), class_="failures")))


def _failure(job: Job, known: Known) -> Markup:
    failure, boot = job.failure, known.boots.get(job.machine.name)
    if failure is None:
        said = boot.sentence if boot is not None else ""
        return element("p", element("bdi", shown(said or "The boot check did not see it come up.", LETTERS)))
    again = "Trying again may help." if failure.may_help else "Trying again alone does not help."
    code = element("code", element("bdi", shown(failure.code, 80)))
    parts = [element("p", code, " ", element("bdi", shown(failure.message, LETTERS)), class_="message")]
    if boot is not None and boot.reason != "booted" and boot.sentence:
        parts.append(element("p", "Its boot check: ", element("bdi", shown(boot.sentence, LETTERS))))
    if failure.hint:
        parts.append(element("p", element("strong", "What to do: "), element("bdi", with_commands(failure.hint, LETTERS))))
    told = f"Exit code {failure.exit_code} after {counted(job.attempts, 'attempt')}. {again}"
    parts.append(element("p", told, class_="note"))
    if boot is not None and boot.picture is not None:
        parts.append(_screen(boot, known.anchors[job.machine.name]))
    if failure.bundle is not None:
        parts.append(element("p", "What is known of it: ", element("code", element("bdi", str(failure.bundle)))))
    return joined(parts)


def machine_details(jobs: Sequence[Job], known: Known) -> Iterator[Markup]:
    """An article for each machine."""
    for job in jobs:
        told = known.history.of(job.machine.name)
        parts = (_facts(job, known), _found(job, told, known), _boot(job, known), _attempts(told))
        body = element("div", *parts, id=known.anchors[job.machine.name], class_="body")
        opened = element("details", _summary(job, known), body, class_="machine", open=len(jobs) <= OPEN_MACHINES)
        yield joined((element("article", opened), "\n"))


def _summary(job: Job, known: Known) -> Markup:
    word, colour = OUTCOMES[outcome_of(job)]
    badge = element("span", word, class_=f"badge colour-{colour}")
    doing = _doing(job, known)
    note = element("span", doing, class_="note") if doing is not None else NOTHING
    return element("summary", element("h3", name_of(job.machine.name)), " ", badge, " ", note)


def _facts(job: Job, known: Known) -> Markup:
    machine = job.machine
    pairs: list[tuple[str, Child]] = [
        ("Sources", _lines([str(each) for each in machine.sources])),
        ("Results", joined((element("bdi", str(machine.folder)), f", as {shown(machine.disk_format, 40)}"))),
        ("Order", f"wave {machine.wave:,}, priority {machine.priority:,}"),
        ("Proof", "boots a throw-away copy" if machine.verify is Verify.BOOT else "no boot wished"),
        ("Host", element("bdi", machine.host) if machine.host else None),
        ("Window", f"{machine.window.begin:%H:%M} to {machine.window.end:%H:%M}" if machine.window else None),
        ("Begun", moment(job.began) if job.began > 0 else None),
        ("Ended", moment(job.ended) if job.ended > 0 and job.state.is_end else None),
        ("Next attempt", next_attempt(job, known.now) if job.state is State.WAITING else None),
        ("Phases", _seconds(job.seconds)),
        ("Record", element("bdi", str(job.record)) if job.record is not None else None),
        ("Manifest", f"line {machine.line:,}" if machine.line else None),
    ]
    there = (joined((element("dt", name), element("dd", value))) for name, value in pairs if value)
    return element("dl", *there, class_="facts")


def _lines(texts: Sequence[str]) -> Markup:
    return joined((element("bdi", text) for text in texts[:20]), ", ")


def _seconds(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{shown(phase, 40)} {lasted(taken)}" for phase, taken in list(seconds.items())[:40])


def _found(job: Job, told: Told, known: Known) -> Markup:
    """Its failure and its warnings."""
    parts: list[Markup] = []
    if outcome_of(job) in (Outcome.PARKED, Outcome.NOT_BOOTED):
        parts += [element("h4", "Why it was given up", class_="colour-blocker"), _failure(job, known)]
    elif job.failure is not None and not job.state.is_end:
        parts += [element("h4", "The attempt before", class_="colour-warning"), _failure(job, known)]
    if told.warnings:
        items = [element("li", element("bdi", each)) for each in told.warnings]
        if told.warnings_left_out:
            items.append(element("li", f"and {told.warnings_left_out:,} more, in its log"))
        parts += [element("h4", "Warnings", class_="colour-warning"), element("ul", *items)]
    return element("div", *parts, class_="findings") if parts else NOTHING


def _boot(job: Job, known: Known) -> Markup:
    boot = known.boots.get(job.machine.name)
    if boot is None:
        return NOTHING
    how = f" after {lasted(boot.seconds)}" if boot.seconds is not None else ""
    kind = f", by {shown(boot.accelerator, 20)}" if boot.accelerator else ""
    said = element(
        "p", element("bdi", shown(boot.sentence or boot.reason, LETTERS)), f" ({boot_word(boot)}{how}{kind})"
    )
    # a failure has the way to the screen already
    seen = NOTHING if job.failure is not None else _screen(boot, known.anchors[job.machine.name])
    return joined((element("h4", "Boot check"), said, seen))


def boot_word(boot: Boot) -> str:
    """The verdict in a word."""
    return shown(boot.reason, 40) or "no verdict"


def _screen(boot: Boot, anchor: str) -> Markup:
    if boot.picture is None:
        return NOTHING
    if not boot.picture.png:
        return element("p", "Its screen is in ", element("code", element("bdi", str(boot.picture.path))), ".")
    return element("p", link(f"#screen-{anchor}", "Its screen"), class_="note")


def screens(jobs: Sequence[Job], known: Known) -> Markup:
    """What the machines' screens showed when their boot checks ended."""
    figures = [figure for job in jobs if (figure := _figure(job, known)) is not None]
    more = [boot for boot in known.boots.values() if boot.picture is not None and not boot.picture.png]
    if not figures and not more:
        return element("p", "No boot check has ended yet, or none was wished.")
    note = f"{counted(len(more), 'more screen')} beside the results: left out here for the size of the page."
    return joined((element("div", *figures, class_="screens"), element("p", note, class_="note") if more else NOTHING))


def _figure(job: Job, known: Known) -> Markup | None:
    boot = known.boots.get(job.machine.name)
    if boot is None or boot.picture is None or not boot.picture.png:
        return None
    anchor = known.anchors[job.machine.name]
    word, colour = OUTCOMES[outcome_of(job)]
    seen = boot.picture
    told = f"Screen of {shown(job.machine.name, 80)} when its boot check ended: {boot_word(boot)}"
    caption = element(
        "figcaption",
        link(f"#{anchor}", name_of(job.machine.name)),
        " ",
        element("span", word, class_=f"badge colour-{colour}"),
        element("p", element("bdi", shown(boot.sentence or boot.reason, 200))),
    )
    shot = picture(seen.png, seen.width, seen.height, told)
    name = f"Screen of {shown(job.machine.name, 80)}"
    return element("figure", shot, caption, id=f"screen-{anchor}", data_of=anchor, aria_label=name)


def _attempts(told: Told) -> Markup:
    if not told.attempts:
        return NOTHING
    items = [element("li", *_attempt(each)) for each in told.attempts[-ATTEMPTS:]]
    left_out = told.attempts_left_out + len(told.attempts) - len(items)
    more = element("p", f"{counted(left_out, 'earlier one')} left out.") if left_out else NOTHING
    return joined((element("h4", "Attempts"), more, element("ol", *items)))


def _attempt(attempt: Attempt) -> Iterator[Child]:
    word = ATTEMPT_ENDS.get(attempt.kind, "ended")
    yield f"{moment(attempt.begin)}, {lasted(attempt.end - attempt.begin)}: {word}"
    if attempt.worker:
        yield joined((", by ", name_of(attempt.worker)))
    if attempt.host:
        yield joined((", at ", name_of(attempt.host)))
    if attempt.message:
        yield joined((": ", element("bdi", shown(attempt.message, LETTERS))))
