"""What two conversions of one guest did to it, and the list of the differences that are known, each with its reason."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.against_virt_v2v.contents import Contents

LIST = Path(__file__).with_name("differences.toml")
OURS, THEIRS, BOTH = SIDES = ("ours", "virt-v2v", "both")
#: Why a difference is none to be mended. Of the last one it is not said that it need not be: it is known, and told to users.
REASONS = ("more", "other way", "not needed", "on request", "wrong there", "missing here")
_WORDS = {"title", "what", "by", "reason", "why", "guests", "but_for"}


@dataclass(frozen=True)
class Difference:
    """Something that is not the same in two results. None: not there."""

    what: str
    source: str | None
    ours: str | None
    theirs: str | None

    @property
    def by(self) -> str:
        """Who changed it."""
        if self.theirs == self.source:
            return OURS
        return THEIRS if self.ours == self.source else BOTH

    def __str__(self) -> str:
        return f"[{self.by}] {self.what}\n    source {self.source}\n    ours   {self.ours}\n    theirs {self.theirs}"


@dataclass(frozen=True)
class Listed:
    """A row of the list, for one of its expressions.

    ``what``: an expression (of the re module, on all of a name, in any case). ``guests``: in which it has to be found; in all
    of them when empty, but for those of ``but_for``.
    """

    what: re.Pattern[str]
    title: str
    by: str
    reason: str
    why: str
    guests: tuple[str, ...] = ()
    but_for: tuple[str, ...] = ()

    def covers(self, difference: Difference) -> bool:
        return self.by == difference.by and self.what.fullmatch(difference.what) is not None

    def is_of(self, guest: str) -> bool:
        return guest in self.guests if self.guests else guest not in self.but_for


@dataclass(frozen=True)
class Judged:
    """What is not on the list, and what is on it for this guest and was not found."""

    unlisted: tuple[Difference, ...]
    stale: tuple[str, ...]


def differences(source: Contents, ours: Contents, theirs: Contents) -> list[Difference]:
    """What differs between two results, names in any case."""
    before, mine, other = (({name.lower(): value for name, value in each.items()}) for each in (source, ours, theirs))
    spelled = {name.lower(): name for each in (theirs, ours, source) for name in each}
    names = (name for name in sorted(spelled) if mine.get(name) != other.get(name))
    return [Difference(spelled[name], before.get(name), mine.get(name), other.get(name)) for name in names]


def listed(path: Path = LIST) -> tuple[Listed, ...]:
    """The list. Raises ValueError for a row that says too little."""
    return tuple(_rows(tomllib.loads(path.read_text("utf-8"))["difference"]))


def _rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[Listed]:
    for row in rows:
        title, by, reason, why = (str(row.get(name, "")).strip() for name in ("title", "by", "reason", "why"))
        what, guests, but_for = (tuple(row.get(name, ())) for name in ("what", "guests", "but_for"))
        is_known = not row.keys() - _WORDS and by in SIDES and reason in REASONS
        if not (is_known and title and why and what) or (guests and but_for):
            raise ValueError(f"a row that cannot be taken as it is: {title or row}")
        for each in what:
            yield Listed(re.compile(each, re.IGNORECASE), title, by, reason, why, guests, but_for)


def as_table(rows: Iterable[Listed]) -> str:
    """The list for people: a row each, in Markdown."""
    told = dict.fromkeys(f"| {row.title} | {row.by} | {row.reason} | {row.why} |" for row in rows)
    return "\n".join(("| what | changed by | reason | why |", "| --- | --- | --- | --- |", *told))


def judged(found: Sequence[Difference], rows: Sequence[Listed], guest: str) -> Judged:
    """Hold differences against the list; the first row that covers one is its row."""
    here = [row for row in rows if row.is_of(guest)]
    used, unlisted = set[Listed](), list[Difference]()
    for difference in found:
        row = next((each for each in here if each.covers(difference)), None)
        if row is None:
            unlisted.append(difference)
        else:
            used.add(row)
    return Judged(tuple(unlisted), tuple(f"[{row.by}] {row.what.pattern}" for row in here if row not in used))
