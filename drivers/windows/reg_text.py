"""Edits of a hive as people read them: like a .reg file, with a minus for what was and a plus for what will be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from drivers.windows import c_regf as c
from drivers.windows.edits import AddKey, DeleteKey, DeleteValue, HiveEdit, SetValue, ValueData, bytes_of
from drivers.windows.regf import Value

_BYTES_SHOWN = 64


def reg_diff(edits: Sequence[HiveEdit]) -> Iterator[str]:
    """The lines, not escaped yet. What .reg files write as bytes though it is text stands here as text.

    A reason stands once, below all that it is the reason of.
    """
    at: str | None = None
    for edit, following in itertools.zip_longest(edits, edits[1:]):
        match edit:
            case AddKey():
                yield f"+[{edit.key}]"
            case DeleteKey():
                yield f"-[{edit.key}] and all below it (SHA-256 {edit.sha256})"
            case SetValue() | DeleteValue():
                if edit.key != at:
                    yield f" [{edit.key}]"
                yield from _value(edit)
        at = edit.key if not isinstance(edit, DeleteKey) else None
        if following is None or following.why != edit.why:
            yield f" ; {edit.why}"


def in_short(edit: HiveEdit) -> str:
    """One line that names what an edit does to what."""
    match edit:
        case SetValue():
            return f"set {edit.key}\\{edit.name or '@'}"
        case DeleteValue():
            return f"remove {edit.key}\\{edit.name or '@'}"
        case AddKey():
            return f"add the key {edit.key}"
        case DeleteKey():
            return f"remove the key {edit.key}"


def _value(edit: SetValue | DeleteValue) -> Iterator[str]:
    name = f'"{edit.name}"' if edit.name else "@"
    if edit.before is not None:
        yield f"-{name}={_data(edit.before)}"
    if isinstance(edit, SetValue):
        yield f"+{name}={_data(ValueData(edit.kind, edit.data))}"


def _data(data: ValueData) -> str:
    known = bytes_of(data)
    if known is None:
        return f"no data ({data.data[:_BYTES_SHOWN]})"
    value = Value("", data.kind, known)
    number = value.number()
    if data.kind in (c.REG_DWORD, c.REG_QWORD) and number is not None:
        return f"dword:{number:08x}" if data.kind == c.REG_DWORD else f"qword:{number:016x}"
    if data.kind == c.REG_SZ and (value.text() or "") + "\0" == _whole(value):
        return f'"{value.text()}"'
    if data.kind == c.REG_EXPAND_SZ and (value.text() or "") + "\0" == _whole(value):
        return f'expand_sz:"{value.text()}"'
    texts = value.texts()
    if texts is not None and "".join(f"{text}\0" for text in (*texts, "")) == _whole(value):
        return "multi_sz:" + ",".join(f'"{text}"' for text in texts)
    shown = ",".join(f"{byte:02x}" for byte in value.data[:_BYTES_SHOWN])
    more = f",... ({len(value.data)} bytes)" if len(value.data) > _BYTES_SHOWN else ""
    return f"{'hex' if data.kind == c.REG_BINARY else f'hex({data.kind:x})'}:{shown}{more}"


def _whole(value: Value) -> str | None:
    """The data as text to its last letter; None where it is none."""
    return value.data.decode("utf-16-le", "surrogatepass") if len(value.data) % 2 == 0 else None
