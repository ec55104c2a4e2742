"""YAML as values that know their lines: texts, lists and mappings, without aliases, tags or objects.

Built from the parser's events (https://pyyaml.org/wiki/PyYAMLDocumentation, Events). Every scalar stays the text it is written as:
what a value is to be is for its reader to say, so that a machine may be called ``no`` and an hour be ``22:00``.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

TEXT_BYTES_AT_MOST = 16 * 1024 * 1024
_EVENTS_AT_MOST = 2_000_000
_DEPTH_AT_MOST = 8
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
# the parser in C is ten times as quick, and not in every build
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotYaml(Exception):
    """The text is no YAML, or none that a manifest needs."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(slots=True)
class Node:
    """A value; a mapping has ``pairs``, a list ``items``, a scalar neither. ``is_plain``: a scalar without quotes."""

    line: int
    text: str = ""
    is_plain: bool = True
    pairs: list[tuple[Node, Node]] | None = None
    items: list[Node] | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether it is a text."""
        return self.pairs is None and self.items is None

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is said: an empty value, ``~`` or ``null``."""
        return self.is_scalar and self.is_plain and self.text in _NOTHING


def parse(text: str) -> Node | None:
    """The one document of a text; None where there is nothing in it. Raises NotYaml."""
    builder = _Builder()
    try:
        for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
            if count > _EVENTS_AT_MOST:
                raise NotYaml(_line(event), f"there are more than {_EVENTS_AT_MOST} values")
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        if mark is not None and _is_tab(text, mark.line, mark.column):
            said = "there is a tab here; YAML is indented by spaces alone"
        raise NotYaml(mark.line + 1 if mark is not None else 0, f"is no YAML: {said}") from error
    except yaml.YAMLError as error:
        raise NotYaml(0, "is no YAML: a character in it may not stand there") from error
    except RecursionError as error:
        raise NotYaml(0, "is nested too deeply") from error
    return builder.root


def _is_tab(text: str, line: int, column: int) -> bool:
    """Whether a tab is what the parser stumbled over, which it does not name."""
    return [each[column : column + 1] for each in text.split("\n")[line : line + 1]] == ["\t"]


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1


class _Builder:
    def __init__(self) -> None:
        self.root: Node | None = None
        self._documents = 0
        self._open: list[Node] = []
        self._keys: list[Node | None] = []

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise NotYaml(_line(event), "a second document begins here; a manifest is one")
            case yaml.AliasEvent():
                raise NotYaml(_line(event), f"*{event.anchor} is an alias; say it in `defaults`, or write it out")
            case yaml.ScalarEvent():
                _refuse_tag(event)
                self._add(Node(_line(event), event.value, not event.style))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
                self._keys.pop()

    def _begin(self, event: yaml.Event) -> None:
        _refuse_tag(event)
        if len(self._open) >= _DEPTH_AT_MOST:
            raise NotYaml(_line(event), f"is nested more than {_DEPTH_AT_MOST} deep")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        made = Node(_line(event), pairs=[] if is_mapping else None, items=None if is_mapping else [])
        self._add(made)
        self._open.append(made)
        self._keys.append(None)

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        into, key = self._open[-1], self._keys[-1]
        if into.items is not None:
            into.items.append(node)
        elif key is None:
            if not node.is_scalar:
                raise NotYaml(node.line, "a list or a mapping cannot be a key")
            self._keys[-1] = node
        elif into.pairs is not None:
            into.pairs.append((key, node))
            self._keys[-1] = None


def _refuse_tag(event: yaml.Event) -> None:
    if event.tag is not None:
        raise NotYaml(_line(event), f"the tag {event.tag} says nothing here; leave it out")
