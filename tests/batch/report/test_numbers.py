"""What the page says in numbers is what happened: made-up nights in a real store, of which SQL tells the same in another way."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from statistics import median
from typing import Any

from hypothesis import HealthCheck, given, settings

from p2v.batch.jobs import Job
from p2v.batch.report import batch_html
from p2v.batch.report.limits import COLUMNS, SLOW
from p2v.batch.store import Store
from p2v.core.units import format_bytes, format_seconds
from tests.batch.report.made_up import MACHINES, START, Made, Tried, made
from tests.pages.nesting import VOID

_ATTEMPTS = """
SELECT job, fence, MIN(at) AS begin,
  (SELECT kind FROM events e WHERE e.job = b.job AND e.fence = b.fence
    AND e.kind IN ('again', 'released', 'parked', 'done')) AS kind,
  (SELECT at FROM events e WHERE e.job = b.job AND e.fence = b.fence
    AND e.kind IN ('again', 'released', 'parked', 'done')) AS end
FROM events b WHERE fence > 0 GROUP BY job, fence ORDER BY job, fence
"""
_SPANS = """
SELECT job, fence, json_extract(data, '$.phase') AS phase, at AS begin,
  (SELECT at FROM events e WHERE e.job = b.job AND e.fence = b.fence AND e.kind = 'phase-finished'
    AND json_extract(e.data, '$.phase') = json_extract(b.data, '$.phase')) AS finished,
  (SELECT at FROM events e WHERE e.job = b.job AND e.fence = b.fence
    AND e.kind IN ('again', 'released', 'parked', 'done')) AS cut
FROM events b WHERE kind = 'phase-started' ORDER BY job, fence, at
"""
_MOVED = "SELECT job, fence, at, json_extract(data, '$.count') AS count FROM events WHERE kind = 'bytes-done'"
_DONE = "SELECT job, fence, json_extract(data, '$.verified') AS verified FROM events WHERE kind = 'done'"
_COLOURS = {"inspect": "other", "copy": "copy", "rewrite": "rewrite", "boot": "boot"}
_TILES = (
    "Parked",
    "Running",
    "Waiting",
    "Converted, did not boot",
    "Converted, not verified",
    "Converted and verified",
)


@dataclass
class Node:
    """An element of the page with what is in it."""

    tag: str
    given: dict[str, str | None]
    inside: list[Node | str]

    def all(self, tag: str, **wanted: str) -> Iterator[Node]:
        """Elements of that kind in it, in order."""
        for each in self.inside:
            if isinstance(each, Node):
                if each.tag == tag and all(each.given.get(name.rstrip("_")) == value for name, value in wanted.items()):
                    yield each
                yield from each.all(tag, **wanted)

    @property
    def text(self) -> str:
        return "".join(each if isinstance(each, str) else each.text for each in self.inside)


class _Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.open = [Node("", {}, [])]
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs), [])
        self.open[-1].inside.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


class Truth:
    """What SQL says of the store's events."""

    def __init__(self, path: Path, now: float) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            self.attempts: list[dict[str, Any]] = [dict(each) for each in connection.execute(_ATTEMPTS)]
            self.spans: list[dict[str, Any]] = [dict(each) for each in connection.execute(_SPANS)]
            self.moved = connection.execute(_MOVED).fetchall()
            self.done = {each["job"]: each for each in connection.execute(_DONE)}
            self.added = connection.execute("SELECT COUNT(*) FROM events WHERE kind = 'added'").fetchone()[0]
        for each in self.attempts:
            each["end"] = now if each["end"] is None else each["end"]
        for each in self.spans:
            ends = [at for at in (each["finished"], each["cut"], now) if at is not None]
            each["end"] = min(ends)
        self.last = {each["job"]: each for each in self.attempts}
        self.now = now

    def tiles(self) -> dict[str, int]:
        """How many machines are how."""
        kinds = [self.last[job]["kind"] for job in self.last]
        verified = [each["verified"] for each in self.done.values()]
        waiting = self.added - len(self.last) + kinds.count("again") + kinds.count("released")
        counts = (
            kinds.count("parked"),
            kinds.count(None),
            waiting,
            verified.count(0),
            verified.count(None),
            verified.count(1),
        )
        return dict(zip(_TILES, counts, strict=True))

    @property
    def end(self) -> float:
        """When the night ended, or until when it was looked at."""
        is_over = sum(self.tiles().values()) == sum(
            self.tiles()[each] for each in _TILES if each not in ("Running", "Waiting")
        )
        return max(each["end"] for each in self.attempts) if is_over else self.now

    def spans_of(self, job: str, fence: int | None = None) -> list[dict[str, Any]]:
        """Of a machine, or of one of its attempts."""
        return [each for each in self.spans if each["job"] == job and fence in (None, each["fence"])]

    def rates(self) -> dict[str, float]:
        """Bytes a second of each copy that was done."""
        found = {}
        for job, done in self.done.items():
            moved = sum(each["count"] for each in self.moved if each["job"] == job and each["fence"] == done["fence"])
            (copy,) = [each for each in self.spans_of(job, done["fence"]) if each["phase"] == "copy"]
            if moved:
                found[job] = moved / (copy["end"] - copy["begin"])
        return found

    def seconds(self) -> dict[str, dict[str, float]]:
        """Of each phase, by machine, where it was converted."""
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for job, done in self.done.items():
            for each in self.spans_of(job, done["fence"]):
                found[each["phase"]][job] = each["end"] - each["begin"]
        return found

    def busy(self) -> float:
        """Seconds in which anything was under way, by looking at each quarter of one."""
        quarters = {q for each in self.attempts for q in range(round(4 * each["begin"]), round(4 * each["end"]))}
        return len(quarters) / 4


def _rate(value: float) -> str:
    return f"{format_bytes(int(value))}/s"


def _slow(truth: Truth) -> list[tuple[float, str, str]]:
    """What the page must hold against machines: seconds lost, whose, in which words."""
    found, rates = [], truth.rates()
    usual = median(rates.values()) if len(rates) >= 3 else 0.0
    for job, rate in rates.items():
        lost = truth.seconds()["copy"][job] * (1 - rate / usual) if usual else 0.0
        if rate * 1.5 <= usual and lost >= 1:
            found.append((lost, job, f"Its copy went at {_rate(rate)}; the fleet's median is {_rate(usual)}."))
    for phase, times in truth.seconds().items():
        normal = median(times.values())
        for job, taken in times.items() if len(times) >= 3 and phase != "copy" else ():
            if taken > max(1.5 * normal, normal + 5):
                what = (
                    f"Its phase {phase} took {format_seconds(taken)}; the fleet's median is {format_seconds(normal)}."
                )
                found.append((taken - normal, job, what))
    for job in truth.last:
        failed = [
            each["end"] - each["begin"] for each in truth.attempts if each["job"] == job and each["kind"] == "again"
        ]
        if failed and sum(failed) >= 1:
            word = "attempt" if len(failed) == 1 else "attempts"
            found.append(
                (sum(failed), job, f"{len(failed)} {word} of it failed and took {format_seconds(sum(failed))}.")
            )
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(MACHINES)
def test_every_number_of_the_page_is_what_the_store_s_events_say(
    machines: list[tuple[list[Tried], Tried | None]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="p2v-test-") as folder:
        with Store.create(Path(folder) / "store") as store:
            night = made(Path(folder), store, machines)
            jobs, events = store.jobs(), tuple(store.every_event())
            page = _Reader(batch_html(night.batch, jobs, events, night.now, 15)).open[0]
            truth = Truth(store.path, night.now)
    _require_overview(page, truth, jobs)
    _require_machines(page, truth)
    _require_phases(page, truth)
    _require_slow(page, truth, night)
    if truth.attempts:
        _require_timeline(page, truth)
        _require_charts(page, truth)


def _section(page: Node, anchor: str) -> Node:
    return next(page.all("section", id=anchor))


def _require_overview(page: Node, truth: Truth, jobs: tuple[Job, ...]) -> None:
    tiles = {
        next(each.all("dt")).text: int(next(each.all("dd")).text)
        for each in next(page.all("dl", class_="tiles")).all("div")
    }
    assert {name: count for name, count in tiles.items() if count} == {
        name: count for name, count in truth.tiles().items() if count
    }
    assert sum(tiles.values()) == truth.added == len(jobs)
    told = next(_section(page, "overview").all("ul")).text
    ended = truth.added - truth.tiles()["Running"] - truth.tiles()["Waiting"]
    took = format_seconds(truth.end - START)
    assert f"{ended} of {truth.added} machine{'s' if truth.added != 1 else ''} have ended, after {took}" in told
    waits = [int(each) for each in re.findall(r"(\d+) machines? waits? for: ", told)]
    assert sum(waits) == truth.tiles()["Waiting"]
    known = {each["job"]: each["fence"] for each in truth.last.values()}
    done = sum(each["count"] for each in truth.moved if known[each["job"]] == each["fence"])
    if told_bytes := re.search(r"Disks of (.*?) of", told):
        assert told_bytes[1] == format_bytes(done)


def _require_machines(page: Node, truth: Truth) -> None:
    rates = truth.rates()
    for row in next(page.all("table", id="machine-table")).all("tr"):
        cells = [each.text for each in row.all("td")]
        name = next(row.all("th")).text
        if not cells:
            continue
        last = truth.last.get(name)
        counted = [each for each in truth.attempts if each["job"] == name and each["kind"] != "released"]
        assert cells[3] == str(len(counted))
        if name in rates:
            assert cells[5] == _rate(rates[name])
        if last is not None and last["kind"] not in ("again", "released"):
            assert cells[6] == format_seconds(last["end"] - last["begin"])


def _require_phases(page: Node, truth: Truth) -> None:
    found = {}
    for row in _section(page, "phases").all("tr"):
        cells = [each.text for each in row.all("td")]
        if cells:
            found[next(row.all("th")).text] = cells
    assert set(found) == set(truth.seconds())
    for phase, times in truth.seconds().items():
        count, middle, ninth, longest, together, rate = found[phase]
        ordered = sorted(times.values())
        assert (count, middle) == (str(len(times)), format_seconds(median(ordered)))
        assert sum(format_seconds(each) == ninth for each in ordered) > 0
        within = [each for each in ordered if format_seconds(each) == ninth][-1]
        assert 10 * sum(each <= within for each in ordered) >= 9 * len(ordered)
        taken, job = longest.rsplit(" ", 1)
        assert taken == format_seconds(ordered[-1]) == format_seconds(times[job])
        assert together == format_seconds(sum(ordered))
        assert rate == (_rate(median(truth.rates().values())) if phase == "copy" and truth.rates() else "")


def _require_slow(page: Node, truth: Truth, night: Made) -> None:
    section = _section(page, "slow")
    text = section.text
    budget = night.batch.budget
    busy = truth.busy()
    if busy:
        for word, phase, count in (
            ("copies", "copy", budget.copies),
            ("appliances", "rewrite", 1),
            ("boots", "boot", 1),
        ):
            taken = sum(each["end"] - each["begin"] for each in truth.spans if each["phase"] == phase)
            assert f"{word} {min(taken / (busy * count), 1):.0%} of {count}" in text
        under_way = sum(each["end"] - each["begin"] for each in truth.attempts)
        assert f"machines under way {min(under_way / (busy * budget.jobs), 1):.0%} of {budget.jobs}" in text
    idle = truth.end - START - busy
    wanted = bool(truth.attempts) and idle >= 60 and idle >= 0.02 * (truth.end - START)
    assert (f"For {format_seconds(idle)} between beginning and end nothing ran." in text) is wanted
    told = [each.text for each in section.all("li") if "data-of" in each.given]
    expected = _slow(truth)
    assert len(told) == min(len(expected), SLOW)
    for each in told:
        assert any(each.startswith(f"{job}: {what}") for _, job, what in expected), (each, expected)


def _require_timeline(page: Node, truth: Truth) -> None:
    """Boxes stand where their times are between beginning and end, in ten thousand parts."""
    scale = 10_000 / max(truth.end - START, 1.0)
    rows = {next(each.all("a")).text: list(each.all("rect")) for each in next(page.all("ol", class_="rows")).all("li")}
    assert set(rows) == set(truth.last)
    for job, boxes in rows.items():
        drawn = sorted(
            (box.given["class"] or "", float(box.given["x"] or 0), float(box.given["width"] or 0)) for box in boxes
        )
        wanted = [("attempt", each["begin"], each["end"]) for each in truth.attempts if each["job"] == job]
        for each in truth.spans_of(job):
            kind = next(a["kind"] for a in truth.attempts if (a["job"], a["fence"]) == (job, each["fence"]))
            is_cut = each["finished"] is None and kind in ("again", "parked")
            wanted.append((f"fill-{'failed' if is_cut else _COLOURS[each['phase']]}", each["begin"], each["end"]))
        expected = sorted(
            (word, (begin - START) * scale, max((end - begin) * scale, 12)) for word, begin, end in wanted
        )
        assert len(drawn) == len(expected)
        for (word, x, width), (wanted_word, wanted_x, wanted_width) in zip(drawn, expected, strict=True):
            assert word == wanted_word
            assert abs(x - wanted_x) <= 0.06
            assert abs(width - wanted_width) <= 0.06


def _require_charts(page: Node, truth: Truth) -> None:
    """The numbers below the charts: bytes and phases of each piece of time."""
    step = max(truth.end - START, 1.0) / COLUMNS
    for figure in _section(page, "course").all("figure"):
        title = next(figure.all("h3")).text
        rows = [
            [float(each.text.replace(",", "")) for each in row.all("td")]
            for row in figure.all("tr")
            if [*row.all("td")]
        ]
        assert len(rows) == COLUMNS
        if title.startswith("Copying, "):
            scale = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "bytes": 1}[title.split()[1]]
            whole = sum(each["count"] for each in truth.moved)
            assert abs(sum(row[0] for row in rows) * step * scale - whole) <= COLUMNS * 0.051 * step * scale
            for number, row in enumerate(rows):
                begin, end = START + number * step, START + (number + 1) * step
                inside = [each["count"] for each in truth.moved if begin + 0.01 <= each["at"] < end - 0.01]
                edges = [
                    each["count"] for each in truth.moved if min(abs(each["at"] - begin), abs(each["at"] - end)) < 0.01
                ]
                assert (
                    sum(inside) - 0.051 * step * scale
                    <= row[0] * step * scale
                    <= sum(inside) + sum(edges) + 0.051 * step * scale
                )
        else:
            for column, phase in enumerate(("copy", "rewrite", "boot", None, None, "inspect")):
                whole = sum(each["end"] - each["begin"] for each in truth.spans if each["phase"] == phase)
                assert abs(sum(row[column] for row in rows) * step - whole) <= COLUMNS * 0.0051 * step
