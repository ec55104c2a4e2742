"""``p2v report RECORD``: what a conversion found, changed and proved."""

from __future__ import annotations

import argparse
from pathlib import Path

from converters.allocation.left_out import LeftOut, LeftOutRange
from drivers.plan_text import render as render_plan
from p2v.cli import console, inspect_windows, windows_next
from p2v.cli.left_out_text import left_out_words, whole_rows
from p2v.cli.plan import hardware_rows
from p2v.consistency import Way
from p2v.core.owners import OwnerKind
from p2v.core.text import printable
from p2v.core.units import format_bytes, format_seconds
from p2v.record import ConversionRecord, load_record
from p2v.verify.text import render as render_boot

_SHOWN = 100
_WORST_FIRST = (OwnerKind.METADATA, OwnerKind.FOLDER, OwnerKind.FILE, OwnerKind.UNKNOWN, OwnerKind.OUTSIDE, OwnerKind.FREE)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("record", type=Path, metavar="RECORD", help="the JSON file beside the result")


def run(arguments: argparse.Namespace) -> int:
    """Print the record as text."""
    console.out(render(load_record(arguments.record), arguments.record.parent))
    return 0


def render(record: ConversionRecord, folder: Path) -> str:
    """The whole story: found, changed and why, phases, files, boot."""
    document = record.document
    system = document.facts.os
    found = (system.name or system.id) if system else "no known system"
    lines = [f"{document.machine.name}: {found}, converted {record.started}", "", "Found"]
    lines = [printable(line, keep="\t") for line in (*lines, *_found(record))]
    lines += ["", render_plan(document.plan).rstrip("\n")]
    lines += ["", "Carried out", *_carried_out(record)]
    lines += ["", "Time", *(f"  {name:<14}{format_seconds(seconds)}" for name, seconds in record.seconds.items())]
    lines += ["", "Hardware on KVM", *hardware_rows(document)]
    if record.undo_journal is not None:
        lines += ["", f"The disks were changed in place; `p2v undo {record.undo_journal}` takes that back."]
    lines += ["", f"Made in {folder}", *(f"  {o.name:<28}{format_bytes(o.size)}" for o in record.outputs)]
    written = [made for made, disk in zip(record.disks, record.hardware.disks, strict=True) if disk.is_device]
    written = [] if record.undo_journal is not None else written
    lines += [printable(f"Written to {made.target}: {format_bytes(made.virtual_size)}", keep="") for made in written]
    lines += ["", "Boot check", *_boot(record)]
    following = [f"  {printable(row, keep='')}" for row in windows_next.rows(record)]
    lines += ["", "What to do next", *following] if following else []
    return "\n".join(lines)


def _found(record: ConversionRecord) -> list[str]:
    facts = record.document.facts
    rows = [f"  {s.path} ({s.image.format}, {format_bytes(s.image.virtual_size)})" for s in record.document.sources]
    if facts.os is not None and facts.windows is not None:
        rows += [f"  {name:<18}{text}" for name, text in inspect_windows.rows(facts.os, facts.windows)]
    for kernel in facts.kernels:
        verdict = "finds" if kernel.finds_virtio_root() else "does not find"
        rows.append(f"  kernel {kernel.version} {verdict} a root on virtio as it is")
    rows += [f"  interface {i.name}, {i.method}, from {i.source}" for i in facts.network.interfaces]
    rows += [f"  {t.name} ({t.vendor})" for t in facts.tools]
    return rows


def _carried_out(record: ConversionRecord) -> list[str]:
    done = sum(not a.skipped for a in record.applied)
    rows = [f"  {done} changes made, {len(record.applied) - done} were so already"]
    for disk in record.disks:
        touched = sum(r.length for r in disk.changed)
        rows.append(
            f"  {disk.target}: {format_bytes(disk.written_bytes)} {'changed in place' if record.undo_journal else 'copied'}"
            + (f", {format_bytes(disk.shared_bytes)} shared with the source (reflink)" if disk.shared_bytes else "")
            + (f", compressed with {disk.compression}" if disk.compression else "")
            + (f" ({format_bytes(disk.resumed_bytes)} from an earlier run)" if disk.resumed_bytes else "")
            + f", {format_bytes(touched)} in {len(disk.changed)} ranges touched by the rewriting"
        )
        if disk.left_out:
            rows.append(f"    not copied: {left_out_words(disk.left_out)}")
        if disk.source_content:
            rows.append(f"    content of the source  {disk.source_content}")
            rows.append(f"    content of the result  {disk.result_content}")
    rows += _not_readable(record)
    rows += _not_copied(record)
    for live in record.live:
        rows.append(f"  disk {live.disk + 1} was in use ({'; '.join(live.users)}): {', '.join(live.done)}")
        if live.way is Way.AS_IT_RUNS:
            rows.append("    it was copied while it was written, so files may be of different moments")
    for check in record.checks:
        found = ("clean" if check.clean else "DAMAGED") if check.checked else f"not checked ({check.output})"
        rows.append(f"  file system {check.device} ({check.kind}) {check.when}: {found}")
    return rows


def _not_copied(record: ConversionRecord) -> list[str]:
    """What of the disks was left out, what was not and why, and what that means for who looks for deleted files."""
    rows = [*whole_rows(record.unneeded, record.allocation, is_copied=True)]
    if any(disk.left_out for disk in record.disks):
        rows.append("  what was deleted in the guest is not in the result; where that matters (recovery, forensics): --all-blocks")
    return rows


def _not_readable(record: ConversionRecord) -> list[str]:
    """What the disks have zeroes for: the worst first, for it is what has to be got from a backup."""
    rows = []
    for disk in record.disks:
        if not disk.unreadable:
            continue
        ranges = LeftOut(LeftOutRange(each.offset, each.length, "") for each in disk.unreadable)
        rows.append(f"  NOT READABLE: {ranges.total} bytes of {disk.source}, which are zeroes in {disk.target}; they held")
        lost: dict[str, int] = {}
        for each in sorted(disk.unreadable, key=lambda each: _WORST_FIRST.index(each.holds)):
            words = each.said + (" (no loss)" if each.holds is OwnerKind.FREE else "")
            lost[words] = lost.get(words, 0) + each.length
        rows += [f"    {words}: {length} bytes" for words, length in list(lost.items())[:_SHOWN]]
        if len(lost) > _SHOWN:
            rows.append(f"    and {len(lost) - _SHOWN} more, which the record has")
    return [printable(row) for row in rows]


def _boot(record: ConversionRecord) -> list[str]:
    if record.boot is None:
        return ["  not asked for; run `p2v verify` on the result, or convert with --verify"]
    return ["  " + line for line in render_boot(record.boot).splitlines()]
