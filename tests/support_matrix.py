"""The tables of booted guests in docs/support-matrix.md, from what the last ``make matrix`` really saw.

Each test of ``tests/pipeline/test_families.py``, and each that looks at what a converted guest does afterwards, leaves a row
in the folder that the environment's ``P2V_MATRIX_ROWS`` names;
``python -m tests.support_matrix FOLDER`` puts them into the page, with those of ``tests.support_matrix_windows``. A guest without
a row is said not to have run; a table that has no row at all stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2v.record import ConversionRecord
from tests.fixtures.families import FAMILIES
from tests.fixtures.records import Guest
from tests.support_matrix_windows import PREFIX, ROWS_FOLDER
from tests.support_matrix_windows import table as windows_table

__all__ = ["ROWS_FOLDER", "Row"]
PAGE = Path("docs/support-matrix.md")
BEGIN, END = "<!-- booted guests: written by make matrix -->", "<!-- end of booted guests -->"
BEGIN_AFTERWARDS, END_AFTERWARDS = "<!-- guests afterwards: written by make matrix -->", "<!-- end of guests afterwards -->"
BEGIN_WINDOWS, END_WINDOWS = "<!-- Windows guests: written by make matrix -->", "<!-- end of Windows guests -->"


@dataclass(frozen=True, slots=True)
class Row:
    """What one guest did. ``problems`` empty: all that was expected was seen.

    ``afterwards``: what the converted guest had done itself; empty for what was seen at once.
    """

    name: str
    what: str
    read: str
    changes: int
    bus: str
    kernel: str
    root: str
    address: str
    boot_seconds: float
    problems: tuple[str, ...]
    day: str
    afterwards: str = ""

    @classmethod
    def of(cls, guest: Guest, record: ConversionRecord | None, problems: list[str], afterwards: str = "") -> Row:
        """From a conversion's record; None where there is none."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        if record is None or record.boot is None:
            return cls(guest.name, guest.description, "", 0, "", "", "", "", 0.0, tuple(problems), day, afterwards)
        report = record.boot.report
        addresses = [f"{each.name} {each.addresses[0]}" for each in report.interfaces if each.addresses] if report else []
        return cls(
            guest.name,
            guest.description,
            record.document.facts.read_by.value,
            len(record.applied),
            record.hardware.disk_bus.value,
            report.kernel if report else "",
            (report.root_source or report.root_device or "") if report else "",
            ", ".join(address for address in addresses if not address.startswith("lo ")),
            record.boot.seconds,
            tuple(problems),
            day,
            afterwards,
        )

    @property
    def file_stem(self) -> str:
        """Under which it is kept: one guest may have several rows."""
        digest = hashlib.sha256(self.afterwards.encode()).hexdigest()[:8]
        return f"{self.name}+{digest}" if self.afterwards else self.name

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def line(self) -> str:
        """As a line of the table."""
        what = f"{self.what} | {self.read} | {self.changes}" if not self.afterwards else self.afterwards
        result = "booted" if not self.problems else "NOT as expected: " + "; ".join(self.problems)
        seen = f"root {self.root}, {self.address}" if self.root else "seen from outside only"
        return (
            f"| {self.name} | {what} | {self.bus} | {result} | "
            f"{seen}, kernel {self.kernel or 'unknown'}, {self.boot_seconds:.0f} s, {self.day} |"
        )


def table(rows: list[Row]) -> str:
    """All guests in their order; those without a row say so."""
    known = {row.name: row for row in rows if not row.afterwards}
    lines = [
        "| guest | what it is | read by | changes | disks on | result | seen in the booted guest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for guest in FAMILIES:
        row = known.get(guest.name)
        lines.append(row.line() if row else f"| {guest.name} | {guest.description} | | | | not run | |")
    return "\n".join(lines)


def table_afterwards(rows: list[Row]) -> str:
    """What converted guests did afterwards, guest by guest."""
    lines = ["| guest | afterwards | disks on | result | seen in the booted guest |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(row.line() for row in sorted(rows, key=lambda r: (r.afterwards, r.name)) if row.afterwards)])


def main() -> int:
    """Rewrite the page."""
    files = {path.name: json.loads(path.read_text("utf-8")) for path in sorted(Path(sys.argv[1]).glob("*.json"))}
    of_windows = [data for name, data in files.items() if name.startswith(PREFIX)]
    rows = [_row(data) for name, data in files.items() if not name.startswith(PREFIX)]
    text = PAGE.read_text("utf-8")
    if any(not row.afterwards for row in rows):
        text = _between(text, BEGIN, END, table(rows))
    if any(row.afterwards for row in rows):
        text = _between(text, BEGIN_AFTERWARDS, END_AFTERWARDS, table_afterwards(rows))
    if of_windows:
        text = _between(text, BEGIN_WINDOWS, END_WINDOWS, windows_table(of_windows))
    PAGE.write_text(text, "utf-8")
    return 0


def _between(text: str, begin: str, end: str, lines: str) -> str:
    head, rest = text.split(begin)
    return f"{head}{begin}\n\n{lines}\n\n{end}{rest.split(end)[1]}"


def _row(data: dict[str, Any]) -> Row:
    return Row(**{**data, "problems": tuple(data["problems"])})


if __name__ == "__main__":
    sys.exit(main())
