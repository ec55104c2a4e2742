"""Keys of a YAML mapping set and removed while the rest of the text stays as it is (YAML 1.1; ``plain_yaml`` reads it)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from drivers.linux.plain_yaml import Node
from drivers.linux.splice import Splice


def edits(text: str, mapping: Node, wanted: Mapping[str, str | None]) -> Iterator[Splice]:
    """The changes after which a mapping has these values (YAML in brackets, or a word), and not the keys with None.

    In a block, new keys come first, on lines of their own; a mapping in brackets is written anew on one line. What has no
    value yet (``eth0:``) gets one in brackets.
    """
    pairs = {key.text: (key, node) for key, node in mapping.pairs or []}
    if not pairs and not any(wanted.values()):
        return
    left = [name for name in {**pairs, **wanted} if wanted.get(name, "") is not None]
    if mapping.pairs is None or mapping.is_flow or not pairs or not left:
        kept: dict[str, str | None] = {name: rendered(text, node) for name, (_, node) in pairs.items()}
        kept.update(wanted)
        body = ", ".join(f"{name}: {value}" for name, value in kept.items() if value is not None)
        gap = " " if mapping.start and not text[mapping.start - 1].isspace() else ""
        yield Splice(mapping.start, mapping.end, f"{gap}{{{body}}}")
        return
    for name, value in wanted.items():
        if name in pairs:
            key, node = pairs[name]
            yield _removal(text, key, node) if value is None else _replacement(text, key, node, value)
    first = (mapping.pairs or [])[0][0]
    indent = " " * (first.start - (text.rfind("\n", 0, first.start) + 1))
    new = [f"{name}: {value}\n{indent}" for name, value in wanted.items() if value is not None and name not in pairs]
    if new:
        yield Splice(_line_start(text, first), _line_start(text, first), indent + "".join(new)[: -len(indent) or None])


def rendered(text: str, node: Node) -> str:
    """A value in brackets, or as it is written where that is on one line."""
    if node.pairs is not None:
        return "{" + ", ".join(f"{rendered(text, key)}: {rendered(text, each)}" for key, each in node.pairs) + "}"
    if node.items is not None:
        return listed([rendered(text, each) for each in node.items])
    raw = text[node.start : node.end]
    is_plain = "\n" not in raw and "#" not in raw and not raw.startswith(("|", ">"))
    return raw if raw and is_plain and not set(raw) & set(",[]{}") else json.dumps(node.text)


def listed(items: Sequence[str]) -> str:
    """A list in brackets."""
    return f"[{', '.join(items)}]"


def _line_start(text: str, node: Node) -> int:
    return text.rfind("\n", 0, node.start) + 1


def _removal(text: str, key: Node, node: Node) -> Splice:
    end = text.find("\n", max(node.end - 1, key.end))
    return Splice(_line_start(text, key), len(text) if end < 0 else end + 1, "")


def _replacement(text: str, key: Node, node: Node, value: str) -> Splice:
    if (node.pairs is None and node.items is None and node.end > node.start) or node.is_flow:
        return Splice(node.start, node.end, value)
    colon = text.index(":", key.end) + 1
    return Splice(colon, max(colon, len(text[: node.end].rstrip())), f" {value}")
