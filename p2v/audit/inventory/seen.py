"""What a rule is given to look at: one machine of an inventory, with what it stands on; and how it says what it found. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from p2v.audit.catalogue_file import Rule, found
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.audit.inventory.hosts import DatastoreRow, HostRow
from p2v.audit.inventory.machines import Inventory, MachineRows
from p2v.audit.inventory.rows import PortRow, datastore_of
from p2v.audit.inventory.systems import Named

_SHOWN_AT_MOST = 5
# what VMware writes where a card has no address of its own
_NO_ADDRESS = frozenset({"", "0.0.0.0", "::", "127.0.0.1", "::1", "unknown", "none", "n/a"})


class HasLine(Protocol):
    """A row of a sheet."""

    @property
    def sheet(self) -> str:
        """The sheet's name."""
        ...

    @property
    def line(self) -> int:
        """The row, from 1."""
        ...


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What other sheets say by name of what machines stand on."""

    datastores: Mapping[str, DatastoreRow]
    hosts: Mapping[str, HostRow]
    ports: Mapping[str, PortRow]


@dataclass(frozen=True, slots=True)
class Seen:
    """One machine of an inventory. ``as_of``: the day of the audit."""

    machine: MachineRows
    inventory: Inventory
    neighbours: Neighbours
    system: Named | None
    rules: Mapping[str, Rule]
    as_of: date

    def at(self, row: HasLine, text: str = "") -> Evidence:
        """Where a row stands. ``text``: what it says."""
        place = f"{self.inventory.path.name}: {row.sheet}"
        return Evidence(EvidenceKind.DESCRIPTION, self.inventory.places.get(row.sheet, place), line=row.line, text=text)

    def says(self, rule: str, message: str, *evidence: Evidence, severity: Severity | None = None) -> AuditFinding:
        """A finding of a rule."""
        return found(self.rules[rule], message, *evidence, severity=severity)

    def of_info(self, rule: str, message: str, text: str = "") -> AuditFinding:
        """A finding that the machine's own row shows."""
        return self.says(rule, message, self.at(self.machine.info, text))

    def of_rows(self, rule: str, message: str, rows: Sequence[tuple[HasLine, str, str]]) -> Iterator[AuditFinding]:
        """A finding for all the rows that show it, none where there are none. A row, its name, and what it says.

        ``{}`` in the message stands for the names.
        """
        if rows:
            evidence = [self.at(row, text) for row, _, text in rows[:_SHOWN_AT_MOST]]
            yield self.says(rule, message.replace("{}", listed([name for _, name, _ in rows])), *evidence)


InventoryCheck = Callable[[Seen], Iterable[AuditFinding]]


def listed(names: Sequence[str]) -> str:
    """``a, b and c``; the first few of many."""
    shown = list(names[:_SHOWN_AT_MOST])
    if len(names) > _SHOWN_AT_MOST:
        shown.append(f"{len(names) - _SHOWN_AT_MOST} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)


def addresses_of(machine: MachineRows) -> tuple[str, ...]:
    """All addresses that VMware Tools told of; those that every machine has (link-local ones, say) left out."""
    texts = [machine.info.address, *(nic.address for nic in machine.nics)]
    words = (word.strip().casefold() for text in texts for word in text.replace(";", ",").split(","))
    plain = (word for word in words if word not in _NO_ADDRESS and not word.startswith(("fe80:", "169.254.")))
    return tuple(dict.fromkeys(plain))


def neighbours_of(inventory: Inventory) -> Neighbours:
    """What is needed of an inventory for each of its machines."""
    return Neighbours(
        {each.name: each for each in inventory.datastores},
        {each.name: each for each in inventory.hosts},
        {each.name: each for each in inventory.ports},
    )


def datastores_of(machine: MachineRows) -> tuple[str, ...]:
    """The datastores that its disks are in."""
    return tuple(dict.fromkeys(name for disk in machine.disks if (name := datastore_of(disk.file))))
