"""A plan as people read it: every change with its reason and its real differences, then what to know about it.

Contents come from guests, and a terminal obeys what it is sent: everything that does not print is shown as an
escape, so that no text of a guest's can colour, hide or reorder what is read here.
"""

from __future__ import annotations

import difflib
import posixpath
import shlex
from collections.abc import Iterator, Sequence

from drivers.changes import (
    CarryFile,
    Change,
    CopyFile,
    DeleteFile,
    DeleteSymlink,
    DiscardHibernation,
    EditBootSector,
    EditFile,
    EditHive,
    ExtendInitramfs,
    MakeSymlink,
    NewName,
    WriteFile,
    summary,
)
from drivers.plan import Finding, GuestPlan
from drivers.windows.reg_text import reg_diff
from p2v.core.text import printable
from p2v.core.units import format_bytes

CONTEXT_LINES = 3
_INDENT = "   "
_NO_NEWLINE = "\\ No newline at end of file"

_Opcode = tuple[str, int, int, int, int]


def render(plan: GuestPlan) -> str:
    """The whole plan as text with a newline at its end."""
    lines = [_header(plan)]
    for number, change in enumerate(plan.changes, start=1):
        lines += ["", f"{number}. {escaped(summary(change))}", f"{_INDENT}why: {escaped(change.why)}"]
        lines += [f"{_INDENT}{line}" for line in _details(change)]
        if change.path in plan.labels and isinstance(change, NewName):
            lines.append(f"{_INDENT}SELinux label: {escaped(plan.labels[change.path])}")
    lines += _programs(plan)
    lines += _findings("Warnings", plan.warnings)
    lines += _findings("Blockers", plan.blockers)
    return "\n".join([*lines, "", "What the guest can use afterwards", *_hardware(plan), ""])


def escaped(text: str) -> str:
    """The text on one line, with everything that does not print as an escape; tabs stay, they move no further."""
    return printable(text, keep="\t")


def unified_diff(before: str, after: str, path: str) -> Iterator[str]:
    """The lines of a unified diff, escaped. Only newlines end lines, as in the files themselves."""
    old, new = _lines(before), _lines(after)
    yield f"--- {escaped(path)}"
    yield f"+++ {escaped(path)}"
    for group in _hunks(_differences(old, new)):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"
        for tag, old_start, old_end, new_start, new_end in group:
            if tag == "equal":
                yield from _marked(" ", old[old_start:old_end])
                continue
            yield from _marked("-", old[old_start:old_end])
            yield from _marked("+", new[new_start:new_end])


def _header(plan: GuestPlan) -> str:
    counts = (
        _counted(len(plan.changes), "change"),
        _counted(len(plan.warnings), "warning"),
        _counted(len(plan.blockers), "blocker"),
    )
    state = "cannot be carried out" if plan.blockers else "nothing needs to be changed" if plan.is_idle else "ready"
    programs = f", {_counted(len(plan.programs), 'program')} of the guest's to run" if plan.programs else ""
    return f"Plan: {', '.join(counts)}{programs}; {state}"


def _programs(plan: GuestPlan) -> Iterator[str]:
    if plan.programs:
        yield ""
        yield "Programs of the guest's that are run in the appliance after the changes"
    for program in plan.programs:
        command = escaped(shlex.join(program.argv))
        yield f"- runs the guest's program {command} in the appliance, which writes {escaped(program.writes)}"
        yield f"{_INDENT}why: {escaped(program.why)}"


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _details(change: Change) -> Iterator[str]:
    match change:
        case WriteFile():
            yield "--- /dev/null"
            lines = _lines(change.content)
            of_windows = bool(lines) and all(line.endswith("\r\n") for line in lines)
            ends = ", CR and LF at the end of each line" if of_windows else ""
            yield f"+++ {escaped(change.path)} (mode {change.mode:04o}{ends})"
            if of_windows:
                lines = [line.replace("\r\n", "\n") for line in lines]
            if lines:
                yield f"@@ -0,0 +{_range(0, len(lines))} @@"
            yield from _marked("+", lines)
        case EditFile():
            yield from unified_diff(change.before, change.after, change.path)
        case CopyFile() | CarryFile():
            what = f"{format_bytes(change.size)}, mode {change.mode:04o}, SHA-256 {escaped(change.sha256)}"
            yield f"+ {escaped(change.path)} ({what})"
        case DeleteFile() | DiscardHibernation():
            gone = f"SHA-256 {escaped(change.sha256)}" if isinstance(change, DeleteFile) else format_bytes(change.size)
            yield f"- {escaped(change.path)} ({gone})"
        case MakeSymlink():
            was = "nothing" if change.replaces is None else f"-> {change.replaces}"
            yield f"+ {escaped(change.path)} -> {escaped(change.target)} (was {escaped(was)})"
        case DeleteSymlink():
            yield f"- {escaped(change.path)} -> {escaped(change.target)}"
        case EditBootSector():
            for mark, found in (("-", change.before), ("+", change.after)):
                yield f"{mark} heads: {found.heads}, hidden sectors: {found.hidden_sectors}"
        case ExtendInitramfs() | EditHive():
            yield from _inside(change)


def _inside(change: ExtendInitramfs | EditHive) -> Iterator[str]:
    match change:
        case ExtendInitramfs():
            yield f"{escaped(change.path)}, {format_bytes(change.size)}; appended, compression: {escaped(change.codec)}"
            for path in change.modules:
                yield f"+ {escaped(posixpath.join(change.archive_prefix, path))}"
            for file in change.files:
                yield from unified_diff(file.before, file.after, f"{change.path}:{file.path}")
        case EditHive():
            yield f"{escaped(change.path)}, {format_bytes(change.size)}"
            for log in change.logs:
                yield f"what {escaped(log.path)} ({format_bytes(log.size)}) holds for it is put into it first"
            yield from map(escaped, reg_diff(change.edits))


def _findings(title: str, findings: Sequence[Finding]) -> Iterator[str]:
    if findings:
        yield ""
        yield title
    for finding in findings:
        yield f"- {escaped(finding.message)} [{escaped(finding.id)}]"
        if finding.hint:
            yield f"  {escaped(finding.hint)}"


def _hardware(plan: GuestPlan) -> Iterator[str]:
    caps = plan.caps
    yield f"- disks: {escaped(', '.join(caps.disk_buses) or 'none')}"
    yield f"- network cards: {escaped(', '.join(caps.nic_models) or 'none')}"
    yield f"- machine: {escaped(caps.machine)}, {escaped(caps.firmware)}, {escaped(caps.arch or 'unknown architecture')}"
    extras = [name for name, wanted in (("random numbers", caps.rng), ("memory balloon", caps.balloon)) if wanted]
    if extras:
        yield f"- virtio devices besides: {', '.join(extras)}"
    if caps.local_time:
        yield "- the clock keeps local time"


def _lines(text: str) -> list[str]:
    """Lines with their newline; unlike ``str.splitlines`` nothing else ends one."""
    pieces = text.split("\n")
    return [f"{piece}\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def _differences(old: Sequence[str], new: Sequence[str]) -> Sequence[_Opcode]:
    """As ``difflib`` tells them. Edits mostly keep their lines; those cost no more than their length to compare."""
    if len(old) != len(new):
        return difflib.SequenceMatcher(None, old, new).get_opcodes()
    codes: list[_Opcode] = []
    for index, (left, right) in enumerate(zip(old, new, strict=True)):
        tag = "equal" if left == right else "replace"
        start = index
        if codes and codes[-1][0] == tag:
            start = codes.pop()[1]
        codes.append((tag, start, index + 1, start, index + 1))
    return codes


def _hunks(codes: Sequence[_Opcode]) -> Iterator[list[_Opcode]]:
    """Differences with their context; those that share context lines are one hunk."""
    hunk: list[_Opcode] = []
    for index, (tag, old_start, old_end, new_start, new_end) in enumerate(codes):
        if tag != "equal":
            hunk.append((tag, old_start, old_end, new_start, new_end))
            continue
        after = min(CONTEXT_LINES, old_end - old_start) if hunk else 0
        before = min(CONTEXT_LINES, old_end - old_start) if index + 1 < len(codes) else 0
        if hunk and before and old_end - old_start <= 2 * CONTEXT_LINES:
            hunk.append((tag, old_start, old_end, new_start, new_end))
            continue
        if hunk:
            yield [*hunk, (tag, old_start, old_start + after, new_start, new_start + after)]
        hunk = [(tag, old_end - before, old_end, new_end - before, new_end)] if before else []
    if hunk:
        yield hunk


def _range(start: int, end: int) -> str:
    """A hunk's place as ``diff -u`` writes it: an empty one names the line before it."""
    length = end - start
    begin = start + 1 if length else start
    return str(begin) if length == 1 else f"{begin},{length}"


def _marked(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield mark + escaped(line.removesuffix("\n"))
        if not line.endswith("\n"):
            yield _NO_NEWLINE
