"""Edits that give a hive a value, whatever is there now. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.windows import c_regf as c
from drivers.windows.edits import AddKey, HiveEdit, SetValue, ValueData
from drivers.windows.facts import HiveFile


def value_edits(hive: HiveFile, key: str, name: str, kind: int, data: bytes, why: str) -> Iterator[HiveEdit]:
    """What gives a value its type and bytes, the keys above it made where they are missing; nothing where it has them.

    To be used for keys that facts hold when they are there (``hives.PATTERNS``). Edits of several values may make the same key: of
    such the plan keeps one.
    """
    names = key.split("\\")
    for depth in range(1, len(names) + 1):
        path = "\\".join(names[:depth])
        if not is_there(hive, path):
            yield AddKey(path, why)
    old = hive.value(key, name)
    before = ValueData(old.type, old.data.hex()) if old is not None else None
    if before != ValueData(kind, data.hex()):
        yield SetValue(hive.key(key) or key, name, kind, data.hex(), before, why)


def number_edits(hive: HiveFile, key: str, name: str, number: int, why: str) -> Iterator[HiveEdit]:
    """The same for a REG_DWORD."""
    return value_edits(hive, key, name, c.REG_DWORD, number.to_bytes(4, "little"), why)


def is_there(hive: HiveFile, path: str) -> bool:
    """Whether a key is known to be there: it was read, or one below it was."""
    start = c.upper(path) + "\\"
    return hive.key(path) is not None or any(c.upper(key).startswith(start) for key in hive.keys)
