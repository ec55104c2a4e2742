"""Makes a change's edits in a hive, and checks them: in a child without privileges, on bytes that this process fetched.

The child answers with the pages that differ. What they make of the hive is then read by another child, which tells whether every
edit is in it and everything else is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from drivers.confinement import DEFAULT_LIMITS, confined
from drivers.windows import c_regf as c
from drivers.windows.edits import VALUE_BYTES_AT_MOST, AddKey, DeleteKey, DeleteValue, HiveEdit, SetValue, bytes_of
from drivers.windows.hive_contents import holds, is_expected, problems
from drivers.windows.hive_editor import HiveEditor
from drivers.windows.hive_log import recover
from drivers.windows.regf import HIVE_BYTES_AT_MOST, BadHive, Hive
from p2v.core.errors import ReaderCrashed
from p2v.core.units import MIB

# a hive of 256 MiB twice over, and what differs as text
_LIMITS = replace(DEFAULT_LIMITS, seconds=300.0, cpu_seconds=240, result_bytes=80 * MIB)


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes that stand at an offset of the file from now on."""

    offset: int
    data: bytes


def edit(data: bytes, logs: Sequence[bytes], edits: Sequence[HiveEdit]) -> bytes:
    """The hive with its logs and the edits in it. To be used inside ``confined``.

    An edit that is there already is left out. Raises BadHive where it is as no edit expects it, or is damaged.
    """
    editor = HiveEditor(recover(data, logs).data, sum(len(e.data) // 2 for e in edits if isinstance(e, SetValue)))
    for each in edits:
        if holds(editor.hive, each):
            continue
        if not is_expected(editor.hive, each):
            raise BadHive(f"it is not as planned: {each.key[:200]}")
        _make(editor, each)
    if editor.hive.remarks:
        raise BadHive(f"it is damaged: {editor.hive.remarks[0]}")
    return editor.data()


def _make(editor: HiveEditor, each: HiveEdit) -> None:
    match each:
        case SetValue():
            data = bytes_of(each)
            if data is None or len(data) > VALUE_BYTES_AT_MOST:
                raise BadHive(f"what a value is to hold in {each.key[:200]} is no data, or too much of it")
            editor.set_value(each.key, each.name, each.kind, data)
        case DeleteValue():
            editor.delete_value(each.key, each.name)
        case AddKey():
            editor.add_key(each.key)
        case DeleteKey():
            editor.delete_key(each.key)


def edit_confined(path: str, data: bytes, logs: Sequence[bytes], edits: Sequence[HiveEdit]) -> tuple[Patch, ...]:
    """What is to be written to a hive's file, in order. ``path``: for errors.

    Raises BadHive as ``edit`` does, ReaderCrashed.
    """

    def work(_: object) -> Any:
        try:
            return {"patches": [[patch.offset, patch.data.hex()] for patch in patches(data, edit(data, logs, edits))]}
        except BadHive as error:
            return {"problem": str(error)}

    answer = confined(work, (), limits=_LIMITS)
    match answer:
        case {"problem": str(problem)}:
            raise BadHive(problem)
        case {"patches": list(found)}:
            return tuple(_patch(path, each, len(data)) for each in found)
    raise ReaderCrashed(path, "answered nonsense")


def _patch(path: str, each: object, size: int) -> Patch:
    match each:
        case [int(offset), str(text)] if 0 <= offset <= HIVE_BYTES_AT_MOST:
            try:
                return Patch(offset, bytes.fromhex(text))
            except ValueError:
                pass
    raise ReaderCrashed(path, f"answered nonsense for a hive of {size} bytes")


def patches(before: bytes, after: bytes) -> list[Patch]:
    """The pages that differ, those side by side as one."""
    found: list[Patch] = []
    for at in range(0, len(after), c.BIN_UNIT_BYTES):
        page = after[at : at + c.BIN_UNIT_BYTES]
        if page == before[at : at + c.BIN_UNIT_BYTES]:
            continue
        if found and found[-1].offset + len(found[-1].data) == at:
            found[-1] = Patch(found[-1].offset, found[-1].data + page)
        else:
            found.append(Patch(at, page))
    return found


def patched(data: bytes, written: Sequence[Patch]) -> bytes:
    """The file with patches written to it."""
    result = bytearray(data)
    for patch in written:
        result.extend(bytes(max(0, patch.offset - len(result))))
        result[patch.offset : patch.offset + len(patch.data)] = patch.data
    return bytes(result)


def problems_confined(
    before: bytes, logs: Sequence[bytes], after: bytes, edits: Sequence[HiveEdit]
) -> tuple[str, ...]:
    """What is in the second hive that is neither in the first nor in the edits, and what is missing. Raises ReaderCrashed."""

    def work(_: object) -> Any:
        try:
            new = c.BaseBlock.of(after)
            if new is None or new.is_dirty:
                return ["it was not written to its end"]
            old = recover(before, logs).data
            if _head(old) != _head(after):
                return ["its base block is another one"]
            return list(problems(Hive(old), Hive(after), edits))
        except BadHive as error:
            return [str(error)]

    answer = confined(work, (), limits=_LIMITS)
    return tuple(str(problem) for problem in answer) if isinstance(answer, list) else ("nothing could be told of it",)


def _head(data: bytes) -> bytes:
    """The base block without what every write changes: sequence numbers, size and checksum."""
    return data[12:40] + data[44 : c.CHECKSUM_OFFSET] + data[c.CHECKSUM_OFFSET + 4 : c.BASE_BLOCK_BYTES]


def holds_confined(data: bytes, edits: Sequence[HiveEdit]) -> bool:
    """Whether a hive is clean and every edit is in it already. Raises ReaderCrashed."""

    def work(_: object) -> Any:
        try:
            base = c.BaseBlock.of(data)
            hive = Hive(data)
            return base is not None and not base.is_dirty and all(holds(hive, each) for each in edits)
        except BadHive:
            return False

    return confined(work, (), limits=_LIMITS) is True
