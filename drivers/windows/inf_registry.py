"""The registry values that sections of an INF file add, with the types that their flags mean.

Source: Microsoft, Windows driver documentation, "INF AddReg Directive" (the flags, and how values of each type are written).
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drivers.windows.inf_text import BadInf, InfText

ENTRIES_AT_MOST = 4096
REG_NONE, REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD, REG_MULTI_SZ = 0, 1, 2, 3, 4, 7
_ROOTS = ("HKCR", "HKCU", "HKLM", "HKU", "HKR")
_BINARY = 0x0000_0001
_NO_CLOBBER = 0x0000_0002
_DELETE_VALUE = 0x0000_0004
_APPEND = 0x0000_0008
_KEY_ONLY = 0x0000_0010
_OVERWRITE_ONLY = 0x0000_0020
_KEY_ONLY_COMMON = 0x0000_2000
_TYPE_SHIFT = 16
# 255 letters is what the registry takes
_KEY_NAME = re.compile(r"[^\\\x00-\x1f]{1,255}")
_TYPE_MASK = 0xFFFF_0000
# the high words that stand for other types than themselves
_TEXTUAL = {0: REG_SZ, 1: REG_MULTI_SZ, 2: REG_EXPAND_SZ}
_BINARY_TYPES = {0: REG_BINARY, 1: REG_DWORD, 2: REG_NONE}


class RegistryOperation(enum.Enum):
    """What an entry does."""

    SET = "set"
    APPEND = "append"
    """Adds its strings to a REG_MULTI_SZ."""
    DELETE = "delete"
    ADD_KEY = "add-key"


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """A line of an add-registry section. ``type`` as in the registry, ``data`` in hex; both mean nothing unless it sets.

    ``root``: HKR is the key that belongs to the section that leads here. ``keeps``: a value that is there already stays;
    ``replaces_only``: no value is made that is not there.
    """

    root: str
    key: str
    name: str
    operation: RegistryOperation
    type: int = REG_SZ
    data: str = ""
    keeps: bool = False
    replaces_only: bool = False


def number(text: str) -> int | None:
    """A number as INF files write them, decimal or ``0x...``; None when it is none, or needs more than 32 bits."""
    text = text.strip().lower()
    if not text.isascii() or len(text) > 12:
        return None
    try:
        found = int(text[2:], 16) if text.startswith("0x") else int(text, 10)
    except ValueError:
        return None
    return found & 0xFFFF_FFFF if -0x8000_0000 <= found <= 0xFFFF_FFFF else None


def registry_entries(text: InfText, section: str) -> Iterator[RegistryEntry]:
    """What the ``AddReg`` directives of a section lead to. Raises BadInf."""
    count = 0
    for values in text.directives(section, "addreg"):
        for name in values:
            for entry in text.entries(name) if name else ():
                count += 1
                if count > ENTRIES_AT_MOST:
                    raise BadInf(f"adds more than {ENTRIES_AT_MOST} registry values in [{section}]")
                found = _entry(entry.values)
                if found is not None:
                    yield found


def _entry(fields: Sequence[str]) -> RegistryEntry | None:
    root, key, name, flags_text, *values = (*fields, "", "", "", "")[: max(4, len(fields))]
    if root.upper() not in _ROOTS:
        return None
    flags = number(flags_text) or 0
    key = key.strip("\\")
    if not all(_KEY_NAME.fullmatch(part) for part in key.split("\\") if key):
        raise BadInf(f"names the registry key {key[:100]!r}")
    if flags & (_KEY_ONLY | _KEY_ONLY_COMMON) or (not name and not any(values) and not flags & _DELETE_VALUE):
        return RegistryEntry(root.upper(), key, "", RegistryOperation.ADD_KEY)
    if flags & _DELETE_VALUE:
        return RegistryEntry(root.upper(), key, name, RegistryOperation.DELETE)
    type_, data = _data(flags & (_TYPE_MASK | _BINARY), values)
    appends = bool(flags & _APPEND) and type_ == REG_MULTI_SZ
    operation = RegistryOperation.APPEND if appends else RegistryOperation.SET
    keeps, only = bool(flags & _NO_CLOBBER), bool(flags & _OVERWRITE_ONLY)
    return RegistryEntry(root.upper(), key, name, operation, type_, data.hex(), keeps, only)


def _data(flags: int, values: Sequence[str]) -> tuple[int, bytes]:
    word = flags >> _TYPE_SHIFT
    if not flags & _BINARY:
        type_ = _TEXTUAL.get(word, word)
        return type_, multi_text(values) if type_ == REG_MULTI_SZ else terminated(values[0] if values else "")
    type_ = _BINARY_TYPES.get(word, word)
    if type_ == REG_DWORD and len(values) <= 1:
        return type_, struct.pack("<I", number(values[0] if values else "") or 0)
    return type_, bytes(_byte(value) for value in values if value.strip())


def _byte(text: str) -> int:
    try:
        found = int(text.strip().lower().removeprefix("0x"), 16)
    except ValueError:
        found = -1
    if not 0 <= found <= 0xFF:
        raise BadInf(f"has {text!r} where a byte belongs")
    return found


def terminated(text: str) -> bytes:
    """A string as the registry stores it."""
    return f"{text}\0".encode("utf-16-le", "surrogatepass")


def multi_text(texts: Sequence[str]) -> bytes:
    """Several strings as a REG_MULTI_SZ stores them."""
    # an empty string would end the list
    return terminated("".join(f"{text}\0" for text in texts if text))
