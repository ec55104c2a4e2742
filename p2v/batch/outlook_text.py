"""A plan's outlook for people: how long, from when to when, and each night's waves in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from p2v.batch.estimate import about, idle_words, roughly
from p2v.batch.planned import Outlook, Stretch
from p2v.core.text import listed
from p2v.core.units import format_bytes


def outlook_words(outlook: Outlook) -> str:
    """How long it takes, and where that comes from."""
    low, high = roughly(outlook.seconds.low), roughly(outlook.seconds.high or outlook.seconds.low)
    words, latest = about(outlook.seconds.low), ""
    if low != high:
        words, latest = f"{words} to {high}", " at the latest"
    until = f", from {_clock(outlook.begin)} until {_clock(outlook.end)}{latest}"
    waits = idle_words(outlook.idle_seconds)
    idle = f", {waits}" if waits else ""
    known = [outlook.measured, f"assumed: {', '.join(outlook.assumed)}" if outlook.assumed else ""]
    return f"{words}{until}{idle}\n  ({'; '.join(each for each in known if each)})"


def timeline(outlook: Outlook, names: Mapping[str, str]) -> Iterator[str]:
    """A line for each wave of each night, then what goes on late and what is left. ``names``: how machines are called here."""
    rows = [(_span(each), str(each.wave), str(each.machines), format_bytes(each.copy_bytes)) for each in outlook.stretches]
    width = max([len("when"), *(len(row[0]) for row in rows)])
    if rows:
        yield f"{'when':{width}}  {'wave':>4}  {'machines':>8}  {'to copy':>10}"
    for when, wave, machines, size in rows:
        yield f"{when:{width}}  {wave:>4}  {machines:>8}  {size:>10}"
    if outlook.late:
        count = len(outlook.late)
        goes = "machine goes on after its window has" if count == 1 else "machines go on after their windows have"
        yield f"{count} {goes} closed: {listed([names.get(each, each) for each in outlook.late])}"
    if outlook.later:
        count = len(outlook.later)
        waits = "machine waits" if count == 1 else "machines wait"
        yield f"{count} {waits} for another run: {listed([names.get(each, each) for each in outlook.later])}"


def _span(stretch: Stretch) -> str:
    begin, end = _clock(stretch.begin), _clock(stretch.end)
    return f"{begin} - {end[4:] if begin[:3] == end[:3] and _hours(stretch) < 24 else end}"


def _hours(stretch: Stretch) -> float:
    return (datetime.fromisoformat(stretch.end) - datetime.fromisoformat(stretch.begin)).total_seconds() / 3600


def _clock(at: str) -> str:
    return f"{datetime.fromisoformat(at):%a %H:%M}"
