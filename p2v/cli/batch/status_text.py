"""What a batch's jobs look like: in a few lines for a thousand machines, in a table with a line each, as a JSON document. Pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from p2v.batch.estimate import Look, forecast, left_words
from p2v.batch.failures import STILL_AT_IT
from p2v.batch.jobs import Failure, Job, State
from p2v.batch.kinds import COPY
from p2v.batch.status import is_expired, status_of, verified
from p2v.batch.terms import Terms
from p2v.core import jsonio
from p2v.core.text import printable
from p2v.core.units import format_bytes, format_seconds

_NAME_LETTERS = 40
_REASON_LETTERS = 300
_SHOWN_OF_A_STATE = 20
_NAMES_SHOWN = 60
_LINE_LETTERS = 76
_ORDER = (State.RUNNING, State.WAITING, State.PARKED, State.CANCELLED, State.DONE)


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch at a moment, ``now`` in seconds since 1970. ``title``: how the user calls it; ``terms``, ``goes_on``: as ``Look`` has
    them.
    """

    title: str
    jobs: tuple[Job, ...]
    now: float
    paused: bool = False
    terms: Terms = field(default_factory=Terms)
    goes_on: bool = False

    @property
    def look(self) -> Look:
        """What the estimate goes by."""
        return Look(self.jobs, self.terms, self.paused, self.goes_on)


def name_of(job: Job) -> str:
    """A machine's name, safe for a terminal and of bounded length."""
    name = printable(job.machine.name, keep="")
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"


def summary(seen: Seen) -> Iterator[str]:
    """The counts, and how far the copying is."""
    count = len(seen.jobs)
    yield f"{seen.title}: {count} {'machine' if count == 1 else 'machines'}: {', '.join(_counts(seen.jobs)) or 'none'}"
    if seen.paused:
        yield "paused: nothing more begins until `p2v batch resume`"
    ended = [job for job in seen.jobs if job.state is State.DONE]
    if ended:
        copied, seconds = sum(job.bytes_copied for job in ended), sum(max(0.0, job.ended - job.began) for job in ended)
        each = f"{format_seconds(seconds / len(ended))} a machine on average" if seconds else ""
        yield "converted: " + ", ".join(part for part in (f"{format_bytes(copied)} of disks", each) if part)
    left = forecast(seen.look, seen.now)
    if left is not None:
        yield f"left: {left_words(left, seen.now)}"


def _counts(jobs: Sequence[Job]) -> Iterator[str]:
    counts = Counter(job.state for job in jobs)
    for state in _ORDER:
        if counts[state]:
            more = ""
            if state is State.DONE:
                seen_to_boot = verified(jobs)
                more = f" ({seen_to_boot} of them verified)" if seen_to_boot else ""
            yield f"{counts[state]} {state.value}{more}"


def overview(seen: Seen) -> str:
    """Counts, what is under way, what is parked and why, and the first of what waits."""
    parts = [list(summary(seen))]
    parts += [list(_running(seen)), list(_parked(seen.jobs)), list(_waiting(seen))]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _of(jobs: Iterable[Job], state: State) -> list[Job]:
    return [job for job in jobs if job.state is state]


def _running(seen: Seen) -> Iterator[str]:
    running = _of(seen.jobs, State.RUNNING)
    if running:
        rows = [(name_of(job), *_progress(job, seen.now)) for job in running]
        yield "under way"
        yield from _table(*_with_hosts(("machine", "phase", "copied", "rate", "for", "attempt"), rows, running))


def _with_hosts(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], jobs: Sequence[Job]
) -> tuple[tuple[str, ...], Sequence[tuple[str, ...]]]:
    """A table's lines with a second column of hosts, where machines are on more than the runner's."""
    hosts = [host_of(job) for job in jobs]
    if not any(hosts):
        return head, rows
    return (head[0], "host", *head[1:]), [(row[0], host, *row[1:]) for row, host in zip(rows, hosts, strict=True)]


def host_of(job: Job) -> str:
    """The host that converts a machine or did; of one that has not begun there, the host that it is pinned to."""
    host = printable(job.host or job.machine.host, keep="")
    return host if len(host) <= _NAME_LETTERS else host[: _NAME_LETTERS - 1] + "…"


def _progress(job: Job, now: float) -> tuple[str, ...]:
    seconds = max(0.0, now - job.began)
    # of a copy that has ended it would only sink, as long as the machine is rewritten or booted
    copies = job.phase == COPY and seconds >= 1 and job.bytes_copied
    rate = f"{format_bytes(int(job.bytes_copied / seconds))}/s" if copies else ""
    doing = "waits for its turn" if job.phase == "turn" else printable(job.phase, keep="") or "beginning"
    phase = "not heard of any more" if is_expired(job, now) else doing
    return (phase, _share(job), rate, format_seconds(seconds), f"{job.attempts} of {job.machine.attempts}")


def _share(job: Job) -> str:
    if not job.bytes_total:
        return ""
    share = min(100, 100 * job.bytes_copied // job.bytes_total)
    return f"{share} % of {format_bytes(job.bytes_total)}"


def _parked(jobs: Iterable[Job]) -> Iterator[str]:
    parked = _of(jobs, State.PARKED)
    if parked:
        yield "parked (`p2v batch retry NAME` when the reason is gone; `p2v batch logs NAME` tells all)"
        shown = parked[: _SHOWN_OF_A_STATE * 2]
        groups: dict[tuple[str, str], list[Job]] = {}
        for job in shown:
            failure = job.failure
            groups.setdefault((failure.code, failure.hint) if failure is not None else ("", ""), []).append(job)
        for (_, hint), jobs_of_it in groups.items():
            yield from map(_reason, jobs_of_it)
            if hint:
                yield f"      {cut(hint)}"
        folders = {job.failure.bundle.parent for job in shown if job.failure is not None and job.failure.bundle is not None}
        yield from (f"  failure bundles: {printable(str(folder), keep='')}" for folder in sorted(folders))
        yield from _rest(len(parked) - _SHOWN_OF_A_STATE * 2, "parked")


def _reason(job: Job) -> str:
    return f"  {name_of(job)}: {said(job.failure)}" if job.failure is not None else f"  {name_of(job)}"


def said(failure: Failure) -> str:
    """A failure in one line."""
    return cut(f"{failure.message} ({failure.code})")


def cut(text: str) -> str:
    """A text of somebody else's, in one line of bounded length."""
    line = printable(" ".join(text.split()), keep="")
    return line if len(line) <= _REASON_LETTERS else line[: _REASON_LETTERS - 1] + "…"


def _waiting(seen: Seen) -> Iterator[str]:
    waiting = _of(seen.jobs, State.WAITING)
    if waiting:
        yield "waiting"
        reasons = [(name_of(job), _reasons_to_wait(job, seen.now)) for job in waiting]
        rows = [row for row in reasons if row[1]]
        yield from _table(None, rows[:_SHOWN_OF_A_STATE])
        names = [name for name, why in reasons if not why]
        yield from _just_names(names[:_NAMES_SHOWN])
        yield from _rest(max(0, len(rows) - _SHOWN_OF_A_STATE) + max(0, len(names) - _NAMES_SHOWN), "waiting")


def _just_names(names: Sequence[str]) -> Iterator[str]:
    """Names of which there is nothing to say, as many as go into a line."""
    indented = textwrap.wrap(", ".join(names), _LINE_LETTERS, break_long_words=False, break_on_hyphens=False)
    yield from (f"  {line}" for line in indented)


def why_waiting(job: Job, now: float) -> str:
    """What a job that waits is waiting for, as far as it says so itself."""
    parts = [f"wave {job.machine.wave}"] if job.machine.wave else []
    if job.machine.window is not None:
        parts.append(f"begins between {job.machine.window.begin:%H:%M} and {job.machine.window.end:%H:%M}")
    if job.not_before > now:
        parts.append(f"tried again in {format_seconds(job.not_before - now)}")
    if job.failure is not None and job.failure.code in STILL_AT_IT:
        parts.append(f"not counted as an attempt: somebody else is at it still: {said(job.failure)}")
    elif job.failure is not None:
        parts.append(f"attempt {job.attempts}: {said(job.failure)}")
    return "; ".join(parts)


def _reasons_to_wait(job: Job, now: float) -> str:
    """The same with its host, for lines that have no column of hosts."""
    pinned = f"for {host_of(replace(job, host=''))}" if job.machine.host else ""
    return "; ".join(part for part in (pinned, why_waiting(job, now)) if part)


def _rest(count: int, state: str) -> Iterator[str]:
    if count > 0:
        yield f"  and {count} more (`p2v batch status --state {state}` lists all)"


def table(seen: Seen, states: Sequence[State] = ()) -> str:
    """A line a machine, in the manifest's order; of the states wished, or of all."""
    shown = [job for job in seen.jobs if not states or job.state in states]
    rows = [(name_of(job), job.state.value, *_ended(job, seen.now)) for job in shown]
    if not rows:
        return "\n".join([*summary(seen), "", f"no machine is {' or '.join(state.value for state in states) or 'in it'}"])
    lines = _table(*_with_hosts(("machine", "state", "time", "copied", ""), rows, shown))
    return "\n".join([*summary(seen), "", *lines])


def _ended(job: Job, now: float) -> tuple[str, str, str]:
    copied = format_bytes(job.bytes_copied) if job.bytes_copied else ""
    match job.state:
        case State.RUNNING:
            return (format_seconds(max(0.0, now - job.began)), _share(job) or copied, _progress(job, now)[0])
        case State.WAITING:
            return ("", "", why_waiting(job, now))
        case State.DONE:
            boots = {True: "verified", False: "not verified", None: ""}[job.verified]
            return (format_seconds(max(0.0, job.ended - job.began)), copied, boots)
        case _:
            return ("", copied, said(job.failure) if job.failure is not None else "")


def _table(head: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [head, *rows] if head and rows else list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def document(seen: Seen) -> Any:
    """All of it as JSON data (docs/schema/batch-status-1.schema.json)."""
    return jsonio.encode(jsonio.converter(), status_of(seen.look, seen.now))
