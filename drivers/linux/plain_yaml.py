"""YAML from a guest as dicts, lists and strings: no anchors, no tags that make objects, nothing without bounds.

Built from the parser's events (https://pyyaml.org/wiki/PyYAMLDocumentation, Events), so that neither recursion nor
expansion is up to the text: an alias may stand for as much as its writer likes.
"""

from __future__ import annotations

import yaml

TEXT_AT_MOST = 256 * 1024
_EVENTS_AT_MOST = 20_000
_DEPTH_AT_MOST = 32

Value = str | dict[str, "Value"] | list["Value"]


class BadYaml(Exception):
    """The text is no YAML, or more than configuration needs."""


def load(text: str) -> Value:
    """The first document; every scalar is a string, an empty text is an empty mapping. Raises BadYaml."""
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
    return builder.root if builder.root is not None else {}


def mapping(value: Value | None, *keys: str) -> dict[str, Value]:
    """The mapping below these keys; empty when there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


class _Builder:
    def __init__(self) -> None:
        self.root: Value | None = None
        self._open: list[dict[str, Value] | list[Value]] = []
        self._keys: list[str | None] = []

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.AliasEvent():
                raise BadYaml("it has aliases")
            case yaml.ScalarEvent():
                self._add(event.value)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if len(self._open) >= _DEPTH_AT_MOST:
                    raise BadYaml(f"it is nested deeper than {_DEPTH_AT_MOST}")
                made: dict[str, Value] | list[Value] = {} if isinstance(event, yaml.MappingStartEvent) else []
                self._add(made)
                self._open.append(made)
                self._keys.append(None)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
                self._keys.pop()

    def _add(self, value: Value) -> None:
        if not self._open:
            self.root = value
            return
        into = self._open[-1]
        if isinstance(into, list):
            into.append(value)
            return
        key = self._keys[-1]
        if key is None:
            if not isinstance(value, str):
                raise BadYaml("a key is no word")
            self._keys[-1] = value
        else:
            into[key] = value
            self._keys[-1] = None
