"""The table of Windows guests in docs/support-matrix.md: what tests did with each sample guest, and how that was proven.

No Windows is booted in this project's tests, so no row says that one did. Tests leave rows in the folder that the environment's
``P2V_MATRIX_ROWS`` names: ``note`` for a guest that was planned for in memory, ``note_converted`` for one that was converted as a
whole, ``note_pieces`` for what was left out.
``python -m tests.support_matrix FOLDER`` puts them into the page.
"""

from __future__ import annotations

import enum
import json
import os
import posixpath
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drivers.changes import CarryFile, Change, CopyFile, EditBootSector, EditFile, EditHive, WriteFile
from drivers.facts import GuestFacts
from drivers.plan import GuestPlan
from p2v import __version__
from p2v.record import ConversionRecord
from tests.fixtures.windows import GUESTS, Firmware, WindowsGuest
from tests.windows_startup.devices import CONTROLLERS, Device

ROWS_FOLDER = "P2V_MATRIX_ROWS"
PREFIX = "windows+"
_SHOWN_PACKAGES = 3
_ARCHITECTURES = {"x86", "i386", "amd64", "arm64"}
_COLUMNS = (
    "system", "starts by", "read by", "drivers", "boot configuration", "first start", "disks on (machine, card)", "result", "how",
)  # fmt: skip


class Proof(enum.Enum):
    """What was done with a guest before its start was simulated; of several rows of a guest the first tells what was planned."""

    IN_MEMORY = "planned and applied in memory, start simulated"
    REFUSED = "planned by `p2v plan`"
    CONVERTED = "proven by `p2v prove`, start simulated"


@dataclass(frozen=True, slots=True)
class WindowsRow:
    """What was done with one guest. ``problems`` empty: all that was expected was seen. ``refused``: ids of blockers.

    ``before``: what kept the guest from starting already where it was, and does so afterwards.
    ``buses``: of disks, on each of which the start was simulated. ``suite``: the version that did it. ``options``: of a conversion.
    """

    name: str
    system: str
    starts_by: str
    read_by: str
    drivers: str
    boot: str
    first_start: str
    buses: tuple[str, ...]
    machine: str
    problems: tuple[str, ...]
    proof: str
    day: str
    suite: str
    refused: tuple[str, ...] = ()
    before: str = ""
    options: str = ""

    @classmethod
    def of(
        cls, guest: WindowsGuest, facts: GuestFacts, plan: GuestPlan, proof: Proof, problems: Sequence[str], before: str = ""
    ) -> WindowsRow:
        """From a plan that was carried out."""
        if facts.os is None:
            raise ValueError(f"{guest.name} was not recognised")
        caps, core = plan.caps, ", core" if guest.version.installation == "Server Core" else ""
        return cls(
            guest.name, f"{facts.os.name}{core} ({facts.os.version}), {facts.os.arch}", starts_by(guest), facts.read_by.value,
            _drivers(plan.changes), _boot(plan.changes), _first_start(plan.changes), caps.disk_buses,
            f"{caps.machine or '?'}, {caps.nic_models[0] if caps.nic_models else 'no card'}", tuple(problems), proof.value,
            _today(), __version__, before=before,
        )  # fmt: skip

    @classmethod
    def of_refused(cls, guest: WindowsGuest, blockers: Sequence[str]) -> WindowsRow:
        """From a plan that says why it is not carried out."""
        return cls(
            guest.name, f"{guest.version.product}, {guest.arch.value}", starts_by(guest), "host", "", "", "", (), "", (),
            Proof.REFUSED.value, _today(), __version__, tuple(blockers),
        )  # fmt: skip

    @property
    def how(self) -> str:
        """The last column."""
        options = f" with {self.options}" if self.options else ""
        whole = f"whole conversion to {self.buses[0]}{options} (drivers: {self.drivers}), " if self.is_whole else ""
        return f"{whole}{self.proof}, {self.day}, {self.suite}"

    @property
    def is_whole(self) -> bool:
        """Whether the guest was converted as users do it."""
        return self.proof == Proof.CONVERTED.value

    @property
    def file_stem(self) -> str:
        """Under which it is kept: a guest may be converted in several ways."""
        way = f"-{self.buses[0]}" if self.is_whole else ""
        return f"{self.name}+{Proof(self.proof).name.lower()}{way}"


def line(rows: Sequence[WindowsRow], pieces: Pieces | None) -> str:
    """A guest's rows as a line of the table: the first tells what was planned, all of them how it was proven."""
    first, *others = sorted(rows, key=lambda row: list(Proof).index(Proof(row.proof)))
    problems = [problem for row in rows for problem in row.problems]
    if first.refused:
        result = f"not converted: {', '.join(first.refused)}"
    elif first.before:
        result = f"rewritten; stops where it did before: {first.before}"
    else:
        result = "rewritten and checked by simulation" + (f", {pieces.told}" if pieces is not None else "")
    result = f"NOT as expected: {'; '.join(problems)}" if problems else result
    on = f"{', '.join(first.buses)} ({first.machine})" if first.buses else ""
    how = "; ".join(row.how for row in (first, *others))
    planned = (first.system, first.starts_by, first.read_by, first.drivers, first.boot, first.first_start, on)
    return f"| {' | '.join((first.name, *planned, result, how))} |"


@dataclass(frozen=True, slots=True)
class Pieces:
    """How many single things of a guest's plan were left out, one at a time, and those that nothing missed."""

    name: str
    count: int
    unnoticed: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """For the table."""
        missed = f"; NOT missed: {', '.join(self.unnoticed)}" if self.unnoticed else ""
        return f"each of {self.count} things missed when left out{missed}"


def starts_by(guest: WindowsGuest) -> str:
    """Firmware, partition table, disks."""
    table = "UEFI, GPT" if guest.firmware is Firmware.UEFI else "BIOS, MBR"
    return table + (f", {guest.disks} disks" if guest.disks > 1 else "")


def note(row: WindowsRow) -> None:
    """Keep a row, where that is asked for; also of a test that then fails."""
    _keep(row.file_stem, asdict(row))


def note_converted(
    guest: WindowsGuest, record: ConversionRecord, started: Iterable[Device], problems: Sequence[str] = (), options: str = ""
) -> None:
    """Keep that a guest was converted as a whole and proven. ``started``: controllers on which its start was simulated then."""
    controllers = set(started)
    document = record.document
    row = WindowsRow.of(guest, document.facts, document.plan, Proof.CONVERTED, problems)
    buses = tuple(bus for bus in row.buses if controllers & set(CONTROLLERS[bus]))
    first = record.hardware.disk_bus.value
    note(replace(row, buses=tuple(dict.fromkeys((first, *buses))), options=options))


def note_pieces(pieces: Pieces) -> None:
    """Keep what leaving out came to."""
    _keep(f"{pieces.name}+pieces", asdict(pieces))


def _keep(stem: str, data: Mapping[str, Any]) -> None:
    folder = os.environ.get(ROWS_FOLDER)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{PREFIX}{stem}.json").write_text(json.dumps(data), "utf-8")


def table(files: Iterable[Mapping[str, Any]]) -> str:
    """All guests in their order; those without a row say so."""
    rows: dict[str, list[WindowsRow]] = {}
    pieces = {}
    for data in files:
        if "count" in data:
            pieces[data["name"]] = Pieces(data["name"], data["count"], tuple(data["unnoticed"]))
            continue
        lists = {name: tuple(data[name]) for name in ("buses", "problems", "refused")}
        rows.setdefault(data["name"], []).append(WindowsRow(**{**data, **lists}))
    head = ("guest", *_COLUMNS)
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for guest in GUESTS:
        not_run = f"| {guest.name} | {guest.description} | {starts_by(guest)} | | | | | | not run | |"
        lines.append(line(rows[guest.name], pieces.get(guest.name)) if guest.name in rows else not_run)
    return "\n".join(lines)


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _drivers(changes: Sequence[Change]) -> str:
    """Packages that were carried in, and the releases of the medium that they are from."""
    packages = [
        change.member.name if change.member is not None else change.source
        for change in changes
        if isinstance(change, CarryFile) and change.path.lower().endswith(".inf")
    ]
    if not packages:
        return "its own"
    names = [posixpath.basename(path).removesuffix(".inf") for path in packages]
    more = len(names) - _SHOWN_PACKAGES
    shown = ", ".join(names[:_SHOWN_PACKAGES]) + (f" and {more} more" if more > 0 else "")
    releases = {part for path in packages for part in path.split("/")[-3:-1]} - _ARCHITECTURES
    return f"{shown} ({', '.join(sorted(releases))})"


def _boot(changes: Sequence[Change]) -> str:
    return ", ".join(_of_boot(changes)) or "as it was"


def _of_boot(changes: Sequence[Change]) -> Iterator[str]:
    for change in changes:
        match change:
            case EditHive() if change.path.lower().endswith("/bcd"):
                yield "boot entries"
            case EditFile() if change.path.lower().endswith("/boot.ini"):
                yield "boot.ini"
            case EditBootSector():
                yield "boot sector's geometry"
            case CopyFile():
                yield "fallback loader"


def _first_start(changes: Sequence[Change]) -> str:
    texts = [change.content for change in changes if isinstance(change, WriteFile) and change.path.endswith("/steps.txt")]
    steps = [line.split()[0] for text in texts for line in text.splitlines()[1:] if line and not line.startswith("#")]
    return ", ".join(steps) or "none"
