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


def is_there(hive: HiveFile, path: str) -> bool:
    """Whether a key is known to be there: it was read, or one below it was."""
    start = c.upper(path) + "\\"
    return hive.key(path) is not None or any(c.upper(key).startswith(start) for key in hive.keys)


def number_value(key: str, name: str, value: int, why: str) -> WantedValue:
    """A REG_DWORD."""
    return WantedValue(key, name, c.REG_DWORD, struct.pack("<I", value).hex(), why)


def text_value(key: str, name: str, value: str, why: str) -> WantedValue:
    """A REG_SZ."""
    return WantedValue(key, name, c.REG_SZ, terminated(value).hex(), why)


def wanted_edits(hive: HiveFile, values: Iterable[WantedValue]) -> Iterator[HiveEdit]:
    """What gives a hive the values that it has not: keys first, each once.

    For keys that facts hold when they are there (``hives.PATTERNS``): what is not among them is taken to be missing.
    """
    spelt = {c.upper(key): key for key in reversed(tuple(hive.keys))}
    # a key is there as well when one below it was read
    there = {above for key in spelt for above in _way(key)}
    for value in values:
        for key in _way(value.key):
            if c.upper(key) not in there:
                there.add(c.upper(key))
                yield AddKey(key, value.why)
        known = spelt.get(c.upper(value.key))
        old = hive.value(known, value.name) if known is not None else None
        before = ValueData(old.type, old.data.hex()) if old is not None else None
        if before != ValueData(value.type, value.data):
            yield SetValue(value.key, value.name, value.type, value.data, before, value.why)


def unwanted_edits(hive: HiveFile, keys: Iterable[UnwantedKey]) -> Iterator[HiveEdit]:
    """What takes the effect from keys that must have none: an empty key has none."""
    for unwanted in keys:
        key = hive.key(unwanted.key)
        values = hive.keys[key] if key is not None else ()
        yield from one_each(DeleteValue(unwanted.key, v.name, ValueData(v.type, v.data), unwanted.why) for v in values)


def _way(path: str) -> Iterator[str]:
    """The paths down to a key, the key's own last."""
    names = path.split("\\")
    yield from ("\\".join(names[:depth]) for depth in range(1, len(names) + 1))
