"""What a hive is to hold, and the edits that bring it there from what it holds. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drivers.windows import c_regf as c
from drivers.windows.edits import AddKey, DeleteValue, HiveEdit, SetValue, ValueData, one_each
from drivers.windows.facts import HiveFile
from drivers.windows.inf_registry import terminated


@dataclass(frozen=True, slots=True)
class WantedValue:
    """A value that a hive is to have. ``key``: from its root; ``data`` in hex; ``name``: empty for the default value."""

    key: str
    name: str
    type: int
    data: str
    why: str


@dataclass(frozen=True, slots=True)
class UnwantedKey:
    """A key that a hive must not have, with all below it."""

    key: str
    why: str


def number_value(key: str, name: str, value: int, why: str) -> WantedValue:
    """A REG_DWORD."""
    return WantedValue(key, name, c.REG_DWORD, struct.pack("<I", value).hex(), why)


def text_value(key: str, name: str, value: str, why: str) -> WantedValue:
    """A REG_SZ."""
    return WantedValue(key, name, c.REG_SZ, terminated(value).hex(), why)


def wanted_edits(hive: HiveFile, values: Iterable[WantedValue]) -> Iterator[HiveEdit]:
    """What gives a hive the values that it has not: keys first, each once."""
    made: set[str] = set()
    for value in values:
        names = value.key.split("\\")
        for depth in range(1, len(names) + 1):
            key = "\\".join(names[:depth])
            if c.upper(key) not in made and not is_there(hive, key):
                made.add(c.upper(key))
                yield AddKey(key, value.why)
        old = hive.value(value.key, value.name)
        before = ValueData(old.type, old.data.hex()) if old is not None else None
        if before != ValueData(value.type, value.data):
            yield SetValue(value.key, value.name, value.type, value.data, before, value.why)


def unwanted_edits(hive: HiveFile, keys: Iterable[UnwantedKey]) -> Iterator[HiveEdit]:
    """What takes the effect from keys that must have none: an empty key has none."""
    for unwanted in keys:
        key = hive.key(unwanted.key)
        values = hive.keys[key] if key is not None else ()
        yield from one_each(DeleteValue(unwanted.key, v.name, ValueData(v.type, v.data), unwanted.why) for v in values)


def is_there(hive: HiveFile, path: str) -> bool:
    """Whether a key is known to be there: it was read, or one below it was."""
    start = c.upper(path) + "\\"
    return hive.key(path) is not None or any(c.upper(key).startswith(start) for key in hive.keys)
