"""The rows of a batch's page: what it takes to make, to open and to search, and what it costs the run that keeps it fresh."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.measuring import Outcome, Row, Say, scratch_folder
from p2v.batch.children import LocalStarter
from p2v.batch.jobs import Batch, Budget, Failure, JobEvent, MachineJob, State
from p2v.batch.report import Chronicle, batch_html
from p2v.batch.runner import run_batch
from p2v.batch.store import Store
from p2v.cli.batch import keeping
from tests.batch.report.samples import Sample, fleet
from tests.pages.chromium import Page, opened, running
from tests.pages.hostile import HOSTILE

_SIZES = (1, 15, 200, 1000, 5000)
_MACHINES = 1000
_ATTEMPTS = 300
_PAINTED = """(() => { const n = performance.getEntriesByType('navigation')[0];
  return {paint_ms: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1, loaded_ms: n.loadEventEnd}; })()"""
_TIMED = """(() => { const started = performance.now(); %s; document.body.offsetHeight; return performance.now() - started; })()"""
_FILL = "document.getElementById(%r).value = %s; filter()"
_DOES = {
    "search_ms": _FILL % ("search", "'99'"),
    "search_again_ms": _FILL % ("search", "'machine'"),
    "filter_ms": _FILL % ("state", "document.getElementById('state').options[1].value"),
    "sort_ms": "document.querySelectorAll('#machine-table thead button')[7].click()",
}


def night(machines: int, *, is_over: bool) -> Sample:
    """A fleet, ended or under way, some of it with hostile texts and one with very many attempts."""
    given = fleet(machines)
    jobs = [job if not is_over or job.state.is_end else replace(job, state=State.CANCELLED) for job in given.jobs]
    text = HOSTILE[0] + "long reason " * 200
    jobs[0] = replace(jobs[0], state=State.PARKED, failure=Failure("bad-image", 65, text, text))
    tried: list[JobEvent] = []
    for number in range(_ATTEMPTS):
        at = given.now + number / _ATTEMPTS
        for kind in ("claimed", "again"):
            tried.append(JobEvent(10**6 + number, at, jobs[0].machine.name, 10 + number, kind, {"message": text}))
    return replace(given, jobs=tuple(jobs), events=(*given.events, *tried), now=given.now + 2)


def one(machines: int, is_over: bool) -> dict[str, float]:
    """Bytes, and processor seconds of this process: of a first page, and of the next when nothing has happened meanwhile."""
    given = night(machines, is_over=is_over)
    heard = Chronicle()
    times = []
    for events in (given.events, ()):
        began = time.process_time()
        refresh = None if is_over else 15
        text = batch_html(given.batch, given.jobs, events, given.now, refresh, boots=given.boots, heard=heard)
        times.append(time.process_time() - began)
    return {"bytes": len(text.encode()), "first_s": times[0], "next_s": times[1], "memory_mib": _most_memory(given)}


def _most_memory(given: Sample) -> float:
    """MiB that making a page takes at most, beside what it is made of."""
    tracemalloc.start()
    try:
        batch_html(given.batch, given.jobs, given.events, given.now, 15, boots=given.boots)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def _made(say: Say) -> Outcome:
    """Ours: processor seconds of a first page of 1,000 machines, in a process of its own; other: a second."""
    told, ours = [], 1.0
    for machines in _SIZES:
        for is_over in (False, True):
            argv = [sys.executable, "-m", "bench.paging", str(machines), str(int(is_over))]
            turns = [json.loads(subprocess.run(argv, check=True, capture_output=True).stdout) for _ in range(3)]
            seen = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
            told.append(f"{machines:,} {'ended' if is_over else 'under way'}: {_said(seen)}")
            say(told[-1])
            ours = seen["first_s"] if machines == _MACHINES and not is_over else ours
    return Outcome(ours, 1.0, (3, 1), "\n".join(told))


def _said(seen: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.{2 if name.endswith('_s') else 0}f}" for name, value in seen.items())


def _opened(say: Say) -> Outcome:
    """Ours: milliseconds of the first search through 1,000 machines in Chromium; other: what feels like at once, 200 ms."""
    told, ours = [], 0.0
    with scratch_folder() as folder, running(folder) as chromium:
        for machines in _SIZES:
            file = folder / f"{machines}.html"
            file.write_text(night(machines, is_over=False).html(3600), "utf-8")
            turns = []
            for _ in range(3):
                with opened(chromium) as page:
                    turns.append(_looked_at(page, file))
            seen = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
            told.append(f"{machines:,}: {_said(seen)}")
            say(told[-1])
            ours = seen["search_ms"] if machines == _MACHINES else ours
    return Outcome(ours, 200.0, (3, 1), "\n".join(told))


def _looked_at(page: Page, file: Path) -> dict[str, float]:
    page.window(1400, 1000)
    page.go(file.as_uri())
    page.until("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
    seen: dict[str, float] = page.value(_PAINTED)
    for name, script in _DOES.items():
        seen[name] = page.value(_TIMED % script)
    return seen


class _Watched(keeping.Pages):
    """Pages whose processor time is added up."""

    taken: list[float] = []  # noqa: RUF012 - of one measurement, emptied before each

    def write(self, refresh_seconds: int | None) -> None:
        super().write(refresh_seconds)
        self.taken.append(self.processor_seconds)


def _kept(say: Say) -> Outcome:
    """Ours: the part of a run's time for which its page holds a processor, wished every second; other: a twentieth."""
    shares, runs = [], []
    for is_kept in (False, True, False, True):
        _Watched.taken = []
        with scratch_folder() as folder:
            seconds = _run(folder, is_kept)
        runs.append(seconds)
        if is_kept:
            shares.append(sum(_Watched.taken) / seconds)
            say(f"{seconds:.1f} s, {len(_Watched.taken)} pages, {sum(_Watched.taken):.2f} s of them: {shares[-1]:.1%}")
        else:
            say(f"{seconds:.1f} s without a page")
    detail = f"{_MACHINES:,} machines that take no time, one at a time; seconds without, with, without, with: {_rounded(runs)}"
    return Outcome(statistics.median(shares), 0.05, (2, 1), detail)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(each, 1) for each in values]


def _run(folder: Path, is_kept: bool) -> float:
    source = folder / "disk.raw"
    source.write_bytes(b"x")
    machines = tuple(MachineJob(f"machine{number:04}", (source,), folder / "out") for number in range(_MACHINES))
    batch = Batch(machines, Budget(copies=1, appliances=1, jobs=1), folder / "jobs.p2v", folder / "jobs.yaml")
    usual: Any = keeping.Pages
    with Store.create(batch.store) as store:
        began = time.monotonic()
        local = LocalStarter(batch.store, ("true",))
        if not is_kept:
            run_batch(batch, store, _unheard, local=local)
            return time.monotonic() - began
        keeping.Pages = _Watched  # type: ignore[misc]
        try:
            with keeping.kept(folder / "fleet.html", batch, 1):
                run_batch(batch, store, _unheard, local=local)
        finally:
            keeping.Pages = usual  # type: ignore[misc]
        return time.monotonic() - began


def _unheard(event: JobEvent) -> None:
    pass


ROWS = (
    Row("batch-page", "a fleet's page of 1,000 machines is made, processor time against 1 s", "s", 1, _made),
    Row("batch-page-search", "the first search in it, in Chromium, against 200 ms", "ms", 1, _opened),
    Row("batch-page-kept", "the part of a run's time that its page costs, against a twentieth", "of 1", 1, _kept),
)

if __name__ == "__main__":
    print(json.dumps(one(int(sys.argv[1]), sys.argv[2] == "1")))
