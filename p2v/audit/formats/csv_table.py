"""The audit as CSV (RFC 4180, UTF-8): one line a finding, or one line a machine.

Spreadsheets run what begins like a formula. Texts come from guests and exports, so such a cell begins with an apostrophe, which
they take for "this is text"; a program that reads the file strips it. Control characters are escapes, so a record is one line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from p2v.audit.document import AuditDocument, MachineAudit
from p2v.audit.findings import AuditFinding, Evidence, Severity
from p2v.core.text import printable

Cell = str | int | float | None

CELL_LETTERS = 32_000
"""Spreadsheets hold 32,767 in a cell."""
_FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
"""What begins a formula; the full-width forms do so as well."""

FINDING_COLUMNS = (
    "machine", "verdict", "rule", "severity", "message", "remedy", "fixed_by_conversion", "suppressed", "evidence",
)  # fmt: skip
MACHINE_COLUMNS = (
    "machine", "verdict", "origin", "system", "version", "arch", "support", "standard_end", "extended_end", "firmware", "cpus",
    "memory_bytes", "disks", "virtual_bytes", "allocated_bytes", "used_bytes", "nics", "powered_on", "host", "cluster", "blockers",
    "warnings", "unknown", "information", "suppressed", "described_by", "paths",
)  # fmt: skip


def findings_csv(document: AuditDocument) -> str:
    """One line a finding. Those of the fleet have no machine and no verdict."""
    rows = [_finding("", "", each) for each in document.fleet]
    for machine in document.machines:
        rows += [_finding(machine.name, machine.verdict.value, each) for each in machine.findings]
    return _table(FINDING_COLUMNS, rows)


def machines_csv(document: AuditDocument) -> str:
    """One line a machine. Numbers of findings leave out what is suppressed; ``used_bytes`` needs it known of all disks."""
    return _table(MACHINE_COLUMNS, map(_machine, document.machines))


def _finding(machine: str, verdict: str, each: AuditFinding) -> Sequence[Cell]:
    evidence = "; ".join(map(told_evidence, each.evidence))
    return (
        machine,
        verdict,
        each.rule,
        each.severity.value,
        each.message,
        each.remedy,
        _yes(each.fixed_by_conversion),
        each.suppressed,
        evidence,
    )


def told_evidence(evidence: Evidence) -> str:
    """A piece of evidence in one text: ``file /etc/fstab:3: /dev/sda1 /``."""
    line = "" if evidence.line is None else f":{evidence.line}"
    offset = "" if evidence.offset is None else f" at byte {evidence.offset}"
    text = f": {evidence.text}" if evidence.text else ""
    return f"{evidence.kind.value} {evidence.where}{line}{offset}{text}"


def _machine(machine: MachineAudit) -> Sequence[Cell]:
    system, support = machine.system, machine.support
    counted = [each for each in machine.findings if not each.suppressed]
    used = [disk.used_bytes for disk in machine.disks]
    return (
        machine.name,
        machine.verdict.value,
        machine.origin.value,
        system.name if system else "",
        system.version if system else "",
        system.arch if system else "",
        support.state if support else "",
        support.standard_end if support else "",
        support.extended_end if support else "",
        machine.firmware,
        machine.cpus,
        machine.memory_bytes,
        len(machine.disks),
        sum(disk.virtual_bytes for disk in machine.disks),
        sum(disk.allocated_bytes for disk in machine.disks),
        None if None in used or not used else sum(each or 0 for each in used),
        machine.nics,
        "" if machine.powered_on is None else _yes(machine.powered_on),
        machine.host,
        machine.cluster,
        *(sum(each.severity is severity for each in counted) for severity in Severity),
        len(machine.findings) - len(counted),
        machine.described_by,
        "; ".join(machine.paths),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    text = printable(value[:CELL_LETTERS], keep="")[:CELL_LETTERS]
    # blanks and quotes before it do not keep a spreadsheet from seeing it
    return f"'{text}" if text.lstrip(" '\"")[:1] in tuple(_FORMULA) else text
