"""What a hive holds, in a form that can be compared: for checking edits, and for proofs. To be used inside ``confined``."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers.windows.c_regf import upper
from drivers.windows.edits import AddKey, DeleteKey, DeleteValue, HiveEdit, SetValue, ValueData
from drivers.windows.hive_cells import only_touched, touched
from drivers.windows.regf import Hive, Key, Value, walk

PROBLEMS_AT_MOST = 50
_SHOWN_CHARACTERS = 200


def subtree_digest(key: Key) -> str:
    """SHA-256 (hex) over a key and everything below it: names, classes, security, times and values."""
    total = hashlib.sha256()
    for path, each in walk(key):
        total.update(_packed(path) + _of_itself(each))
        for value in each.values():
            total.update(_of_value(value))
    return total.hexdigest()


def _packed(names: Sequence[str]) -> bytes:
    encoded = [name.encode("utf-16-le", "surrogatepass") for name in names]
    return struct.pack("<I", len(encoded)) + b"".join(struct.pack("<I", len(name)) + name for name in encoded)


def _of_itself(key: Key) -> bytes:
    """What a key has besides values and subkeys."""
    class_name, security = key.class_name(), key.security()
    sizes = struct.pack("<QHII", key.written, key.flags, len(class_name), len(security))
    return sizes + class_name + security


def _of_value(value: Value) -> bytes:
    return _packed((value.name,)) + struct.pack("<II", value.type, len(value.data)) + value.data


def holds(hive: Hive, edit: HiveEdit) -> bool:
    """Whether a hive is as an edit leaves it."""
    key = hive.key(edit.key)
    match edit:
        case SetValue():
            return key is not None and _data(key.value(edit.name)) == ValueData(edit.kind, edit.data)
        case DeleteValue():
            return key is None or key.value(edit.name) is None
        case AddKey():
            return key is not None
        case DeleteKey():
            return key is None


def is_expected(hive: Hive, edit: HiveEdit) -> bool:
    """Whether a hive is as an edit expects it."""
    key = hive.key(edit.key)
    match edit:
        case SetValue() | DeleteValue():
            return key is not None and _data(key.value(edit.name)) == edit.before
        case AddKey():
            above = hive.key(edit.key.rpartition("\\")[0])
            return key is None and above is not None
        case DeleteKey():
            return key is not None and subtree_digest(key) == edit.sha256


def _data(value: Value | None) -> ValueData | None:
    return ValueData(value.type, value.data.hex()) if value is not None else None


def problems(before: Hive, after: Hive, edits: Sequence[HiveEdit]) -> tuple[str, ...]:
    """What the second hive has that is neither in the first nor made by the edits, and what of these is missing.

    Keys and values are compared by name, class, type, data, security descriptor, flags and time; a key that an edit is about
    may have another time. None where all is as it should be.
    """
    found: list[str] = []
    for problem in _problems(before, after, edits):
        found.append(problem)
        if len(found) == PROBLEMS_AT_MOST:
            break
    return tuple(found)


def _problems(before: Hive, after: Hive, edits: Sequence[HiveEdit]) -> Iterator[str]:
    yield from (f"{_shown(edit.key)}: is not as planned" for edit in edits if not holds(after, edit))
    edited = _Edited.of(edits)
    is_known = only_touched(before, after, edits)
    pairs = ((path, before.key(path), after.key(path)) for path in touched(edits)) if is_known else ()
    waiting = [(path, old, new) for path, old, new in pairs if old is not None and new is not None]
    waiting = waiting if is_known else [("", before.root, after.root)]
    while waiting:
        path, old, new = waiting.pop()
        yield from _of_key(path, old, new, edited)
        old_keys, new_keys = _by_name(old), _by_name(new)
        for name in old_keys.keys() | new_keys.keys():
            below = f"{path}\\{name}" if path else name
            if name in old_keys and name in new_keys:
                # in cells that are the same in both there is nothing to be found
                waiting += [] if is_known else [(below, old_keys[name], new_keys[name])]
            elif name in old_keys and below not in edited.gone:
                yield f"the key {_shown(below)} is gone, and nobody planned that"
            elif name in new_keys and below not in edited.new:
                yield f"the key {_shown(below)} is new, and nobody planned it"
            elif name in new_keys:
                yield from _of_new(below, new_keys[name], new, edited)
    yield from (f"the hive is damaged: {_shown(remark)}" for remark in after.remarks)


@dataclass(frozen=True, slots=True)
class _Edited:
    """The targets of edits, in upper case."""

    values: Mapping[str, frozenset[str]]
    new: frozenset[str]
    gone: frozenset[str]

    @classmethod
    def of(cls, edits: Sequence[HiveEdit]) -> _Edited:
        values: dict[str, set[str]] = {}
        for edit in edits:
            if isinstance(edit, SetValue | DeleteValue):
                values.setdefault(upper(edit.key), set()).add(upper(edit.name))
        new = frozenset(upper(edit.key) for edit in edits if isinstance(edit, AddKey))
        gone = frozenset(upper(edit.key) for edit in edits if isinstance(edit, DeleteKey))
        return cls({key: frozenset(names) for key, names in values.items()}, new, gone)


def _of_key(path: str, old: Key, new: Key, edited: _Edited) -> Iterator[str]:
    """What differs in a key that was there before, its subkeys aside."""
    if old.name != new.name or _of_itself(old) != _of_itself(new):
        yield f"the key {_shown(path)} has another spelling, class, security descriptor or time, and nobody planned that"
    ours = edited.values.get(path, frozenset())
    old_values = [_of_value(value) for value in old.values() if upper(value.name) not in ours]
    new_values = [_of_value(value) for value in new.values() if upper(value.name) not in ours]
    if old_values != new_values:
        yield f"values of {_shown(path)} differ, and nobody planned that"


def _of_new(path: str, key: Key, above: Key, edited: _Edited) -> Iterator[str]:
    ours = edited.values.get(path, frozenset())
    if key.class_name() or key.security() != above.security():
        yield f"the new key {_shown(path)} has a class, or another security descriptor than the key above it"
    if any(upper(value.name) not in ours for value in key.values()):
        yield f"the new key {_shown(path)} has values that nobody planned"
    for name, child in _by_name(key).items():
        below = f"{path}\\{name}"
        if below in edited.new:
            yield from _of_new(below, child, key, edited)
        else:
            yield f"the key {_shown(below)} is new, and nobody planned it"


def _by_name(key: Key) -> dict[str, Key]:
    found: dict[str, Key] = {}
    for child in key.subkeys():
        name, count = upper(child.name), 1
        while name in found:  # Windows makes no two of one name
            count += 1
            name = f"{upper(child.name)}\0{count}"
        found[name] = child
    return found


def _shown(text: str) -> str:
    return text[:_SHOWN_CHARACTERS]
