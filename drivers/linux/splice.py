"""Replacing pieces of a text while every other character stays where it is, and finding them line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Splice:
    """Put ``text`` in place of the characters from ``start`` up to ``end``."""

    start: int
    end: int
    text: str


def lines_of(text: str) -> Iterator[tuple[int, int, str]]:
    """Each line: its number from 1 on, where it begins, and its characters without the line end."""
    begin = 0
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, begin, line
        begin += len(line) + 1


def with_lines(text: str, more: str) -> str:
    """The text with lines behind it, which begin on a line of their own."""
    gap = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{gap}{more}"


def spliced(text: str, splices: Iterable[Splice]) -> str:
    """The text with all pieces replaced. Raises ValueError when two of them overlap."""
    pieces: list[str] = []
    at = 0
    for splice in sorted(splices):
        if splice.start < at:
            raise ValueError(f"two replacements overlap at character {splice.start}")
        pieces += (text[at : splice.start], splice.text)
        at = splice.end
    return "".join([*pieces, text[at:]])
