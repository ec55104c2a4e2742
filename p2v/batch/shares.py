"""What a manifest's budget says of single storages and servers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from p2v.batch.jobs import Share
from p2v.batch.manifest_keys import SHARE_KEYS, ManifestKey, by_name
from p2v.batch.nodes import Node
from p2v.batch.values import Reading, shown

_AT_MOST = 1000
_KEYS = by_name(SHARE_KEYS)


def storages(reading: Reading, node: Node, key: ManifestKey, where: str) -> Mapping[Path, Share]:
    """By paths. What makes no sense is noted."""
    made: dict[Path, Share] = {}
    for name, share, node_of_name in _shares(reading, node, where):
        path = reading.folder / name
        if name.startswith("~"):
            reading.note(node_of_name, where, f"'{shown(name)}': only a shell knows what ~ is; write the folder out")
        elif path in made:
            reading.note(node_of_name, where, f"'{shown(name)}' stands there twice")
        else:
            made[path] = share
    return made


def hosts(reading: Reading, node: Node, key: ManifestKey, where: str) -> Mapping[str, Share]:
    """By names. What makes no sense is noted."""
    made: dict[str, Share] = {}
    for name, share, node_of_name in _shares(reading, node, where):
        if not re.fullmatch(key.form, name):
            reading.note(node_of_name, where, f"'{shown(name)}' is no name of a server; as in {key.example}")
        elif name.casefold() in {each.casefold() for each in made}:
            reading.note(node_of_name, where, f"'{shown(name)}' stands there twice")
        else:
            made[name] = share
    return made


def _shares(reading: Reading, node: Node, where: str) -> Iterator[tuple[str, Share, Node]]:
    if node.pairs is None:
        reading.note(node, where, f"is to be a mapping, each with {' and '.join(_KEYS)}")
        return
    if len(node.pairs) > _AT_MOST:
        reading.note(node, where, f"has more than {_AT_MOST} entries")
        return
    for name, value in node.pairs:
        place = f"{where}.{name.text}"
        if not name.text.strip() or re.search(r"[\x00-\x1f\x7f]", name.text):
            reading.note(name, where, "a name is empty, or has control characters in it")
        elif value.pairs is None:
            reading.note(value, place, f"is to be a mapping with {' or '.join(_KEYS)}")
        else:
            yield name.text, _share(reading, value, place), name


def _share(reading: Reading, node: Node, where: str) -> Share:
    values: dict[str, Any] = {}
    for name, value in node.pairs or ():
        place = f"{where}.{name.text}"
        if name.text not in _KEYS:
            reading.note(name, place, f"is not known here; there are {' and '.join(_KEYS)}")
        elif name.text in values:
            reading.note(name, place, "stands there twice")
        else:
            values[name.text] = None if value.is_nothing else reading.value(value, _KEYS[name.text], place)
    return Share(values.get("copies"), values.get("bytes-per-second"))
