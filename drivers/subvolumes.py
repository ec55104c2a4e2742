"""Subvolumes of a Btrfs that the plan does not write to: a subvolume in which anything was changed is of a later generation.

Source: btrfs-subvolume(8). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_LINE = re.compile(r"ID (\d+) gen (\d+) (.* path (.*))", re.DOTALL)


def subvolume_problems(before: Sequence[str], after: Sequence[str], own: int, written: Sequence[str]) -> Iterator[str]:
    """What became of the others. ``own``: the number of the one that was walked; ``written``: mount options that name others
    that the plan writes to (``subvol=@``, ``subvolid=257``).
    """
    (old, others), (new, others_now) = _sorted(before), _sorted(after)
    if others != others_now:
        yield "another subvolume is the one that is mounted by default"
    names = {option.partition("=")[2].strip("/") for option in written}
    for number in sorted({*old, *new}):
        if number not in old or number not in new:
            yield f"a subvolume is {'new' if number in new else 'gone'}: {(new.get(number) or old[number])[2]}"
            continue
        generation, rest, path = old[number]
        if rest != new[number][1]:
            yield f"a subvolume is another: {path}"
        elif generation != new[number][0] and number != own and not {path, str(number)} & names:
            yield f"something was changed in a subvolume that nothing was planned in: {path}"


def _sorted(lines: Sequence[str]) -> tuple[dict[int, tuple[str, str, str]], list[str]]:
    """Generation, all else, and path of each subvolume; and the lines that are none."""
    found, others = {}, []
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            others.append(line)
        else:
            found[int(match[1])] = (match[2], match[3], match[4])
    return found, others
