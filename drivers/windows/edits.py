"""What a plan can do to a registry hive: a closed union of values, each with its reason and its expectation.

``key`` is a path from the hive's root with backslashes between its names (``ControlSet001\\Services\\viostor``), in any case.
Data is lower-case hexadecimal text. One hive is edited by one change, and no two of its edits have the same target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from drivers.windows.c_regf import upper
from p2v.core.units import MIB

VALUE_BYTES_AT_MOST = MIB
"""Larger values are for nobody: Windows advises against more than a few KiB."""
_LARGEST_KIND = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ValueData:
    """What a value holds: its type's number (``c_regf.REG_SZ``, ...), and its bytes in hexadecimal."""

    kind: int
    data: str


@dataclass(frozen=True, slots=True)
class SetValue:
    """Give a value of a key that is there its type and data. ``name``: empty for the default value.

    ``before``: what it holds now; None where there is no such value.
    """

    key: str
    name: str
    kind: int
    data: str
    before: ValueData | None
    why: str


@dataclass(frozen=True, slots=True)
class DeleteValue:
    """Remove a value that holds ``before``."""

    key: str
    name: str
    before: ValueData
    why: str


@dataclass(frozen=True, slots=True)
class AddKey:
    """Make a key that is not there; the one above it is. It gets the security descriptor of the key above."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Remove a key with everything below it; ``sha256`` as ``hive_contents.subtree_digest`` gives it."""

    key: str
    sha256: str
    why: str


def bytes_of(data: ValueData | SetValue) -> bytes | None:
    """The bytes that hexadecimal text stands for; None where it is none, or the type's number is none."""
    try:
        return bytes.fromhex(data.data) if 0 <= data.kind <= _LARGEST_KIND else None
    except ValueError:
        return None


HiveEdit = SetValue | DeleteValue | AddKey | DeleteKey


def target(edit: HiveEdit) -> tuple[str, str | None]:
    """What an edit is about, in upper case: the key, and the value's name where it is one."""
    name = upper(edit.name) if isinstance(edit, SetValue | DeleteValue) else None
    return upper(edit.key), name


def one_each(edits: Iterable[HiveEdit]) -> Iterator[HiveEdit]:
    """The edits without those whose target an earlier one has: a damaged hive may have a name twice."""
    seen = set()
    for edit in edits:
        if target(edit) not in seen:
            seen.add(target(edit))
            yield edit


def repeated(edits: Sequence[HiveEdit]) -> HiveEdit | None:
    """The first edit whose target another one has already."""
    seen = set()
    for edit in edits:
        if target(edit) in seen:
            return edit
        seen.add(target(edit))
    return None
