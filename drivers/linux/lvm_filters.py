"""LVM's filters: a list of patterns of device names, of which the first that matches accepts or rejects (lvm.conf(5)).

A filter that accepts /dev/sda2 and nothing else hides the volume group on KVM, where the disk is /dev/vda. So the new
name of every physical volume that a filter accepts by its old name is accepted too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from drivers.facts import Partition
from drivers.linux.splice import Splice

_TOKEN = re.compile(r"#[^\n]*|\"[^\"]*\"|'[^'\n]*'|[A-Za-z_][A-Za-z0-9_/.-]*|\S")
_FILTERS = frozenset({"filter", "global_filter"})
_CLOSING = {"(": ")", "[": "]", "{": "}"}
# A guest's patterns are tried on short names; these bounds keep that from taking for ever.
_FILTERS_AT_MOST = 8
_PATTERNS_AT_MOST = 64
_PATTERN_AT_MOST = 200
_REPEATS_AT_MOST = 3
_VOLUMES_AT_MOST = 32
_NESTED_REPEAT = re.compile(r"\)\s*[*+?{]|\(\?")
_REPEAT = re.compile(r"[*+?{]")
_BY_PLACE = re.compile(r"by-(?:path|id)(?!/(?:lvm-pv-uuid|dm-|md-))")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One element of a filter and where it stands; ``regex`` is None when it is not understood."""

    accepts: bool
    regex: re.Pattern[str] | None
    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter's patterns in their order; ``line`` counts from 1. ``is_list``: they stand in brackets."""

    name: str
    line: int
    patterns: tuple[Pattern, ...]
    is_list: bool

    def is_understood(self) -> bool:
        """Whether every pattern could be read."""
        known = all(pattern.regex is not None for pattern in self.patterns)
        return known and self.is_list and len(self.patterns) < _PATTERNS_AT_MOST

    def first_match(self, name: str) -> Pattern | None:
        """The pattern that decides about a name; None: nothing does, so it is accepted."""
        return next((p for p in self.patterns if p.regex is not None and p.regex.search(name)), None)


def parse_filters(text: str) -> tuple[Filter, ...]:
    """Every filter that is set, in the order they stand in a configuration of LVM."""
    tokens = [match for match in _TOKEN.finditer(text) if not match[0].startswith("#")]
    found: list[Filter] = []
    for index, token in enumerate(tokens[:-2]):
        if len(found) == _FILTERS_AT_MOST:
            break
        if token[0].rpartition("/")[2] in _FILTERS and tokens[index + 1][0] == "=":
            is_list = tokens[index + 2][0] == "["
            values = list(itertools.islice(_values(tokens, index + 2), _PATTERNS_AT_MOST))
            line = text.count("\n", 0, token.start()) + 1
            found.append(Filter(token[0], line, tuple(map(_pattern, values)), is_list))
    return tuple(found)


def additions(found: Filter, volumes: Iterable[Partition]) -> tuple[Splice, ...]:
    """What a filter needs in front of its patterns to accept these physical volumes under their new names.

    A volume that was rejected by its old name (the disk below DRBD, a guest's disk) stays so.
    """
    wanted: dict[str, int] = {}
    for volume in itertools.islice(volumes, _VOLUMES_AT_MOST) if found.is_understood() else ():
        pattern = _accepting(found, volume)
        if pattern is not None:
            wanted.setdefault(_element(found, pattern, volume), pattern.start)
    starts = sorted(set(wanted.values()))
    return tuple(
        Splice(start, start, "".join(f"{element}, " for element, at in wanted.items() if at == start))
        for start in starts
    )


def _accepting(found: Filter, volume: Partition) -> Pattern | None:
    """The pattern that accepted a volume by a name it loses; None when it needs no help."""
    number = str(volume.number or "")
    letter = _letter(volume.disk)
    decided = [found.first_match(f"/dev/{kind}{letter}{number}") for kind in ("vd", "sd")]
    lasting = found.first_match(f"/dev/disk/by-id/lvm-pv-uuid-{volume.filesystem.uuid if volume.filesystem else ''}")
    if all(pattern is None or pattern.accepts for pattern in decided) or (lasting is not None and lasting.accepts):
        return None
    matched = [pattern for name in _old_names(volume) if (pattern := found.first_match(name)) is not None]
    accepted = [pattern for pattern in matched if pattern.accepts]
    accepted += [p for p in found.patterns if p.accepts and _BY_PLACE.search(p.text)]
    return accepted[0] if accepted else None


def _element(found: Filter, pattern: Pattern, volume: Partition) -> str:
    # a pattern that takes any disk takes any new one too; another one takes this volume alone
    any_disk = pattern.regex is not None and any(
        pattern.regex.search(f"/dev/{name}") for name in ("sdy9", "hdy9", "xvdy9")
    )
    name = "[a-z]+[0-9]*" if any_disk else f"{_letter(volume.disk)}{volume.number or ''}"
    sd_decides = found.first_match(f"/dev/sd{_letter(volume.disk)}{volume.number or ''}")
    kinds = "vd" if sd_decides is None or sd_decides.accepts else "[sv]d"
    return f'"a|^/dev/{kinds}{name}$|"'


def _old_names(volume: Partition) -> Iterator[str]:
    letter, number = _letter(volume.disk), volume.number
    yield from (f"/dev/{kind}{letter}{number or ''}" for kind in ("sd", "hd", "xvd", "vd"))
    piece = f"p{number}" if number else ""
    yield from (f"/dev/nvme{volume.disk}n1{piece}", f"/dev/nvme0n{volume.disk + 1}{piece}")
    yield f"/dev/cciss/c0d{volume.disk}{piece}"


def _letter(disk: int) -> str:
    letters = ""
    disk += 1
    while disk:
        disk, rest = divmod(disk - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def _values(tokens: Sequence[re.Match[str]], index: int) -> Iterator[re.Match[str]]:
    """The strings of a list, or the one string that stands in its place."""
    is_list = tokens[index][0] == "["
    while index < len(tokens) and tokens[index][0][0] in "[,\"'":
        if tokens[index][0][0] in "\"'":
            yield tokens[index]
        if not is_list:
            return
        index += 1


def _pattern(token: re.Match[str]) -> Pattern:
    text = token[0][1:-1]
    regex = None
    if len(text) > 2 and text[0] in "ar" and text[-1] == _CLOSING.get(text[1], text[1]):
        regex = _compiled(text[2:-1])
    return Pattern(text[:1] == "a", regex, text, token.start())


def _compiled(regex: str) -> re.Pattern[str] | None:
    if len(regex) > _PATTERN_AT_MOST or len(_REPEAT.findall(regex)) > _REPEATS_AT_MOST or _NESTED_REPEAT.search(regex):
        return None
    try:
        return re.compile(regex, re.ASCII)
    except (re.error, OverflowError, RecursionError):
        return None
