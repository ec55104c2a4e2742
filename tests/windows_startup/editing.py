"""Hives changed in memory, for tests: what a conversion writes, or one thing taken out of it. Written by hivex."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import hivex

from tests.fixtures.hives import Data


@dataclass(frozen=True)
class Set:
    """Give a key a value; the key, and those above it, are made when they are not there."""

    key: str
    name: str
    data: Data


@dataclass(frozen=True)
class RemoveValue:
    """Take a value away; it must be there."""

    key: str
    name: str


@dataclass(frozen=True)
class RemoveKey:
    """Take a key away with all below it; it must be there."""

    key: str


Edit = Set | RemoveValue | RemoveKey


def edited(hive: bytes, edits: Iterable[Edit]) -> bytes:
    """The hive with the edits made, in order. ``KeyError`` when something to be removed is not there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hive")
        path.write_bytes(hive)
        opened = hivex.Hivex(str(path), write=True)
        for edit in edits:
            _edit(opened, edit)
        opened.commit(None)
        return path.read_bytes()


def _edit(hive: hivex.Hivex, edit: Edit) -> None:
    node = hive.root()
    for part in edit.key.split("\\"):
        child = hive.node_get_child(node, part)
        if child is None and not isinstance(edit, Set):
            raise KeyError(edit.key)
        node = child or hive.node_add_child(node, part)
    if isinstance(edit, RemoveKey):
        hive.node_delete_child(node)
    elif isinstance(edit, Set):
        hive.node_set_value(node, {"key": edit.name, "t": edit.data.type, "value": edit.data.data})
    else:
        _remove_value(hive, node, edit)


def _remove_value(hive: hivex.Hivex, node: int, edit: RemoveValue) -> None:
    values = [(hive.value_key(value), *hive.value_value(value)) for value in hive.node_values(node)]
    kept = [{"key": key, "t": kind, "value": data} for key, kind, data in values if key.lower() != edit.name.lower()]
    if len(kept) == len(values):
        raise KeyError(f"{edit.key}, {edit.name}")
    hive.node_set_values(node, kept)
