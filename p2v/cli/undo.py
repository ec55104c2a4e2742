"""``p2v undo JOURNAL``: take a conversion in place back; the disks are then, to the byte, what they were before it."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from converters.claims import claimed_as
from converters.storage import HostStorage
from converters.undo import RestoredFile, Undone, undo
from converters.undo_journal import State
from p2v.cli import console
from p2v.core.units import format_bytes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="NAME.undo, which `p2v convert --in-place` made")
    parser.add_argument(
        "--force",
        action="store_true",
        help="also where a disk was written to since (a guest that ran from it): what it wrote and what is put back "
        "then stand side by side",
    )
    parser.add_argument(
        "--full", action="store_true", help="digests of the whole disks, before and after (reads them twice)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Undo and print the digests; undoing what is undone changes nothing and says so."""
    journal: Path = arguments.journal.absolute()
    open_files = partial(claimed_as, force=arguments.force)
    result = undo(HostStorage(), journal, open_files, force=arguments.force, full=arguments.full)
    console.out(render(result, journal))
    return 0


def render(result: Undone, journal: Path) -> str:
    """What was done, in lines."""
    if result.was is State.UNDONE:
        return f"{result.machine}: undone already; nothing was written"
    if result.was is State.PREPARED:
        return f"{result.machine}: that conversion never began to write; there is nothing to undo"
    how = {
        State.COMMITTED: "the conversion in place is undone",
        State.COMMITTING: "a conversion in place that was interrupted is taken back",
        State.UNDOING: "an undo that was interrupted is finished",
    }[result.was]
    lines = [f"{result.machine}: {how}"]
    for file in result.files:
        lines += ["", *_file_lines(file)]
    lines += [
        "",
        f"{journal} is not needed any more; definitions and record of that conversion tell of what is no longer so.",
    ]
    return "\n".join(lines)


def _file_lines(file: RestoredFile) -> list[str]:
    rows = [
        f"{file.path}: {format_bytes(file.length)} in {file.ranges} ranges put back",
        f"  SHA-256 of the ranges before the conversion  {file.original}",
        f"                        after it, until now    {file.found}",
        f"                        now                    {file.now}  {'equal' if file.now == file.original else 'DIFFERENT'}",
    ]
    if file.whole_now is not None:
        rows.append(f"  SHA-256 of all of it  until now              {file.whole_found}")
        rows.append(f"                        now                    {file.whole_now}")
    if file.whole_original is not None:
        same = "" if file.whole_now is None else "  equal" if file.whole_now == file.whole_original else "  DIFFERENT"
        rows.append(f"                        before the conversion  {file.whole_original}{same}")
    return rows
