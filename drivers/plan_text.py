"""A guest's plan as text for people: every change with its reason and its real diff.

Everything in it may come from a hostile guest, so control characters are written as escapes: no terminal
sequence passes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from drivers.changes import (
    Change,
    DeleteFile,
    DeleteSymlink,
    EditFile,
    ExtendInitramfs,
    MakeSymlink,
    WriteFile,
    summary,
)
from drivers.plan import Finding, GuestPlan

_INDENT = "     "


def render(plan: GuestPlan) -> str:
    """Changes numbered in their order, then warnings, then blockers; ends with a line feed."""
    lines = [f"Changes: {len(plan.changes)}" if plan.changes else "Changes: none; the guest is ready as it is"]
    for number, change in enumerate(plan.changes, 1):
        lines += ["", f"{number:>3}. {summary(change)}", f"{_INDENT}why: {change.why}"]
        lines += [_INDENT + line for line in _body(change)]
    lines += _findings("Warnings", plan.warnings)
    lines += _findings("Blockers: this guest cannot be converted", plan.blockers)
    return "".join(escaped(line) + "\n" for line in lines)


def escaped(text: str) -> str:
    """One line, with everything that a terminal might act on, and undecodable bytes, written as escapes."""
    return "".join(char if char == "\t" or char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # an undecodable byte, as surrogateescape keeps it
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _body(change: Change) -> Iterator[str]:
    match change:
        case WriteFile(path, content, mode):
            yield f"mode {mode:04o}, owner root"
            yield from _diff(path, "", content)
        case EditFile(path, before, after):
            yield from _diff(path, before, after)
        case DeleteFile(_, sha256):
            yield f"contents with SHA-256 {sha256}"
        case MakeSymlink(path, target, replaces):
            yield f"{path} -> {target}" + (f" (was -> {replaces})" if replaces else " (new)")
        case DeleteSymlink(path, target):
            yield f"{path} -> {target} goes away"
        case ExtendInitramfs():
            packed = "uncompressed" if change.codec == "none" else f"compressed with {change.codec}"
            yield f"an archive ({packed}) behind the {change.size} bytes that are there, with new module indexes and"
            yield from (f"+ {change.archive_prefix}/{module}" for module in change.modules)


def _diff(path: str, before: str, after: str) -> Iterator[str]:
    old, new = before.splitlines(), after.splitlines()
    names = (path if before else "/dev/null", path)
    yield from difflib.unified_diff(old, new, *names, lineterm="")
    if before and before.endswith("\n") != after.endswith("\n"):
        yield "\\ the line feed at the end of the file changes"


def _findings(title: str, findings: tuple[Finding, ...]) -> list[str]:
    if not findings:
        return []
    lines = ["", f"{title}:"]
    for finding in findings:
        lines.append(f"  [{finding.id}] {finding.message}")
        if finding.hint:
            lines.append(f"{_INDENT}{finding.hint}")
    return lines
