"""Hosts, storage, time and money, in the words of the terminal: each number, and below it what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p2v.audit.sizing.text import sizing_text
from p2v.audit.sizing.values import Sizing
from p2v.pages.markup import NOTHING, Markup, element

_ASSUMED = "    "


def sizing_blocks(sizing: Sizing) -> Iterator[Markup]:
    """A block for each number: its line, what belongs to it, what it rests on."""
    for head, *rest in _blocks(sizing_text(sizing)[1:]):
        told = [element("li", each.strip()) for each in rest if not each.startswith(_ASSUMED)]
        assumed = [element("li", each.strip()) for each in rest if each.startswith(_ASSUMED)]
        yield element(
            "div",
            element("p", head, class_="rule"),
            element("ul", *told) if told else NOTHING,
            element("ul", *assumed, class_="note", aria_label="What it rests on") if assumed else NOTHING,
            class_="number-block",
        )


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines that begin at the margin, each with those that are indented below it."""
    block: list[str] = []
    for line in lines:
        if block and not line.startswith(" "):
            yield block
            block = []
        block.append(line)
    if block:
        yield block
