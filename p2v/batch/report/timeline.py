"""When each machine was in which phase: a row a machine, all on one scale, phases that ran at the same time one above the other.

A row is a drawing of its own, so that rows can be filtered, and each is told in words to who does not see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p2v.batch.jobs import Job
from p2v.batch.report.history import Attempt, History, Span, Told
from p2v.batch.report.limits import ATTEMPTS, SPANS
from p2v.batch.report.words import ATTEMPT_ENDS, FAILED, WORKS, clock, lasted, work_of
from p2v.pages.markup import NOTHING, Markup, element, joined, link, name_of
from p2v.pages.words import counted

_WIDTH = 10_000
_HEIGHT = 14.0
_LEAST_WIDTH = 12.0
_MOST_LANES = 3
_TICKS = 4
_WORDS = (
    "One line a machine, in the order in which they began. Finishing: changes are committed, digests taken, names given. "
    "Waiting for a turn: as many boot at a time as the budget says. Other: a guest is read, a plan is made. A thin line: it was "
    "under way, and told of no phase."
)


def timeline(jobs: Sequence[Job], anchors: Sequence[str], history: History) -> Markup:
    """Rows of those that began, in the order in which they did."""
    began = [
        (told.attempts[0].begin, job, anchor, told)
        for job, anchor in zip(jobs, anchors, strict=True)
        if (told := history.of(job.machine.name)).attempts
    ]
    if not began:
        return element("p", "Nothing has begun.")
    scale = _Scale(history)
    began.sort(key=lambda each: (each[0], each[1].machine.name))
    rows = [_row(job, anchor, told, scale) for _, job, anchor, told in began]
    return joined((_legend(), _frame(rows, scale, len(jobs) - len(began))))


def _frame(rows: Sequence[Markup], scale: _Scale, others: int) -> Markup:
    more = element("p", f"{counted(others, 'machine')} not begun.", class_="note") if others else NOTHING
    inside = element("div", scale.axis(), element("ol", joined(rows, "\n"), class_="rows"), class_="timeline")
    box = element("div", inside, class_="scroll tall", tabindex=0, role="region", aria_label="Timeline of machines")
    return joined((box, more))


def _legend() -> Markup:
    words = [*WORKS.values(), FAILED]
    items = (element("li", word, class_=f"swatch-{colour}") for word, colour in words)
    return joined((element("p", _WORDS, class_="note"), element("ul", *items, class_="legend")))


class _Scale:
    """From a time to a place in a row."""

    def __init__(self, history: History) -> None:
        self.begin = history.begin
        self.seconds = max(history.end - history.begin, 1.0)

    def x(self, at: float) -> float:
        return min(max((at - self.begin) / self.seconds, 0.0), 1.0) * _WIDTH

    def axis(self) -> Markup:
        """Times of day at equal distances; to a screen reader every row tells its own."""
        with_seconds = self.seconds < 1800
        times = [clock(self.begin + self.seconds * tick / _TICKS, seconds=with_seconds) for tick in range(_TICKS + 1)]
        return element("div", *(element("span", each) for each in times), class_="axis-row", aria_hidden="true")


def _row(job: Job, anchor: str, told: Told, scale: _Scale) -> Markup:
    drawing = element(
        "svg",
        *_boxes(told, scale),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT:.0f}",
        preserveAspectRatio="none",
        role="img",
        aria_label=_said(told),
        focusable="false",
    )
    name = element("span", link(f"#{anchor}", name_of(job.machine.name)), class_="row-name")
    return element("li", name, drawing, data_of=anchor)


def _boxes(told: Told, scale: _Scale) -> Iterator[Markup]:
    for attempt in told.attempts[-ATTEMPTS:]:
        yield _box(scale, attempt.begin, attempt.end, _HEIGHT / 2 - 1, 2, "attempt", _attempt_said(attempt))
        for lane, lanes, span in _lanes(attempt.spans[-SPANS:]):
            height = _HEIGHT / lanes
            colour = FAILED[1] if span.failed else WORKS[work_of(span.phase)][1]
            yield _box(scale, span.begin, span.end, lane * height, height, f"fill-{colour}", _span_said(span))


def _lanes(spans: Sequence[Span]) -> Iterator[tuple[int, int, Span]]:
    """Each span with its lane and the number of lanes where it runs: one alone has the whole height."""
    for group in _groups(spans):
        ends: list[float] = []
        placed = []
        for span in group:
            free = next((lane for lane, end in enumerate(ends) if end <= span.begin), len(ends))
            lane = min(free, _MOST_LANES - 1)
            ends[lane : lane + 1] = [max(span.end, ends[lane]) if lane < len(ends) else span.end]
            placed.append((lane, span))
        yield from ((lane, len(ends), span) for lane, span in placed)


def _groups(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Spans that overlap, directly or by others."""
    group: list[Span] = []
    end = 0.0
    for span in spans:
        if group and span.begin >= end:
            yield group
            group = []
        end = max(end, span.end) if group else span.end
        group.append(span)
    if group:
        yield group


def _box(scale: _Scale, begin: float, end: float, y: float, height: float, colour: str, told: str) -> Markup:
    left = scale.x(begin)
    width = max(scale.x(end) - left, _LEAST_WIDTH)
    return element("rect", element("title", told), x=left, y=y, width=width, height=height, class_=colour)


def _span_said(span: Span) -> str:
    end = " so far" if span.is_open else ", failed" if span.failed else ""
    return f"{span.phase}: {lasted(span.seconds)}{end}, from {clock(span.begin, seconds=True)}"


def _attempt_said(attempt: Attempt) -> str:
    return f"attempt from {clock(attempt.begin, seconds=True)}: {ATTEMPT_ENDS.get(attempt.kind, attempt.kind)}"


def _said(told: Told) -> str:
    """A row in words: its last attempt."""
    last = told.attempts[-1]
    phases = "; ".join(map(_span_said, last.spans[-SPANS:])) or "no phase"
    earlier = told.attempts_left_out + len(told.attempts) - 1
    before = f"{counted(earlier, 'earlier attempt')}; " if earlier else ""
    return f"{before}{_attempt_said(last)}; {phases}"
