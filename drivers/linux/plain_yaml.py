"""YAML from a guest as dicts, lists and strings: no anchors, no tags that make objects, nothing without bounds.

Built from the parser's events (https://pyyaml.org/wiki/PyYAMLDocumentation, Events), so that neither recursion nor
expansion is up to the text: an alias may stand for as much as its writer likes.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

TEXT_AT_MOST = 256 * 1024
_EVENTS_AT_MOST = 20_000
_DEPTH_AT_MOST = 32

Value = str | dict[str, "Value"] | list["Value"]


class BadYaml(Exception):
    """The text is no YAML, or more than configuration needs."""


@dataclass
class Node:
    """A value with the characters it stands on. A mapping has ``pairs``, a list ``items``, a scalar neither.

    ``is_flow``: it is written in brackets. Only scalars and what is in brackets know where they end by themselves; the end of
    anything else is that of the last thing in it.
    """

    start: int
    end: int
    text: str = ""
    pairs: list[tuple[Node, Node]] | None = None
    items: list[Node] | None = None
    is_flow: bool = False

    @property
    def value(self) -> Value:
        """As plain values; the last of several equal keys counts."""
        if self.pairs is not None:
            return {key.text: node.value for key, node in self.pairs}
        return [node.value for node in self.items] if self.items is not None else self.text

    def child(self, key: str) -> Node | None:
        """What a mapping has under a key."""
        return next((node for each, node in reversed(self.pairs or []) if each.text == key), None)


def load(text: str) -> Value:
    """The first document; every scalar is a string, an empty text is an empty mapping. Raises BadYaml."""
    root = locate(text)
    return root.value if root is not None else {}


def locate(text: str) -> Node | None:
    """The first document with the places of everything in it; None for an empty text. Raises BadYaml."""
    if len(text) > TEXT_AT_MOST:
        raise BadYaml(f"it has more than {TEXT_AT_MOST} characters")
    builder = _Builder()
    try:
        for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            if count > _EVENTS_AT_MOST:
                raise BadYaml(f"it has more than {_EVENTS_AT_MOST} elements")
            if isinstance(event, yaml.DocumentEndEvent):
                break
            builder.take(event)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise BadYaml(str(error)[:200]) from error
    return builder.root


def mapping(value: Value | None, *keys: str) -> dict[str, Value]:
    """The mapping below these keys; empty when there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


class _Builder:
    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []
        self._keys: list[Node | None] = []

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.AliasEvent():
                raise BadYaml("it has aliases")
            case yaml.ScalarEvent():
                self._add(Node(event.start_mark.index, event.end_mark.index, event.value))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if len(self._open) >= _DEPTH_AT_MOST:
                    raise BadYaml(f"it is nested deeper than {_DEPTH_AT_MOST}")
                made = Node(event.start_mark.index, event.end_mark.index, is_flow=bool(event.flow_style))
                if isinstance(event, yaml.MappingStartEvent):
                    made.pairs = []
                else:
                    made.items = []
                self._add(made)
                self._open.append(made)
                self._keys.append(None)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                closed = self._open.pop()
                self._keys.pop()
                inside = [node for pair in closed.pairs or [] for node in pair] + (closed.items or [])
                ends = [event.end_mark.index] if closed.is_flow else [node.end for node in inside]
                closed.end = max([closed.end, *ends])

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        into = self._open[-1]
        if into.items is not None:
            into.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            if node.pairs is not None or node.items is not None:
                raise BadYaml("a key is no word")
            self._keys[-1] = node
        elif into.pairs is not None:
            into.pairs.append((key, node))
            self._keys[-1] = None
