"""``p2v disk check SRC``: everything that is wrong with an image and its parents.

All tables are looked through, also behind the first thing that is wrong; with --data everything they lead to is read as
well. Exit status 0: nothing found; 65: something is wrong. What a writer did not finish is a note, not an error.
"""

from __future__ import annotations

import argparse
from typing import Any

from converters.check import Checked, Finding, Note, check_data, check_tables
from converters.layering import links
from converters.mapped import MappedDisk
from p2v.cli import console, options
from p2v.cli.disk.source import add_source, open_spec, spec_of
from p2v.core import events, jsontext
from p2v.core.errors import BadImage
from p2v.core.events import BytesDone, Reporter


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_source(parser)
    parser.add_argument("--data", action="store_true", help="read the whole disk too, and inflate what is compressed")
    parser.add_argument("--json", action="store_true", help="as a JSON document")
    options.add_progress(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check and print. 0 sound, 65 when something is wrong."""
    notes: list[Note] = []
    hint = ""
    try:
        with open_spec(spec_of(arguments)) as disk:
            notes = _notes(disk)
            checked = _check(disk, console.reporter(arguments.progress), data=arguments.data)
        findings, complete = checked.findings, checked.complete
        notes += checked.notes
    except BadImage as error:
        # it cannot even be opened, so nothing more can be said about it
        findings, complete, hint = (Finding(error.file, error.problem),), False, error.hint()
    if arguments.json:
        console.out_json(jsontext.pretty(_document(findings, notes, complete=complete)))
    else:
        console.out("\n".join(_text(findings, notes, complete=complete)))
        if hint:
            console.note(f"     {hint}")
    return BadImage.exit_code if findings else 0


def _check(disk: MappedDisk, report: Reporter, *, data: bool) -> Checked:
    with events.phase(report, "tables", "Looking through the tables"):
        tables = check_tables(disk)
    if not data:
        return tables
    with events.phase(report, "data", "Reading the disk", disk.virtual_size):
        read = check_data(disk, lambda count: report(BytesDone("data", count)))
    known = {(finding.image, finding.problem) for finding in tables.findings}
    further = tuple(finding for finding in read.findings if (finding.image, finding.problem) not in known)
    return Checked(tables.findings + further, tables.complete and read.complete, tables.notes)


def _notes(disk: MappedDisk) -> list[Note]:
    found: list[Note] = []
    for link in links(disk):
        image = link.sources[0].path if link.sources else disk.files[0]
        found += [Note(image, f"unfinished: {sign}") for sign in link.facts.dirty]
        found += [Note(image, note) for note in link.facts.notes]
    return found


def _text(findings: tuple[Finding, ...], notes: list[Note], *, complete: bool) -> list[str]:
    lines = [f"error: {each.image}: {each.problem}{_at(each)}" for each in findings]
    lines += [f"note: {each.image}: {each.note}" for each in notes]
    if not findings:
        return [*lines, "sound: nothing wrong was found"]
    more = "" if complete else " (there may be more)"
    return [*lines, f"{len(findings)} {'error' if len(findings) == 1 else 'errors'}{more}"]


def _at(finding: Finding) -> str:
    return "" if finding.offset is None else f" (met at byte {finding.offset} of the disk)"


def _document(findings: tuple[Finding, ...], notes: list[Note], *, complete: bool) -> dict[str, Any]:
    return {
        "sound": not findings,
        "complete": complete,
        "findings": [
            {"image": str(each.image), "problem": each.problem, "disk_offset": each.offset} for each in findings
        ],
        "notes": [{"image": str(each.image), "note": each.note} for each in notes],
    }
