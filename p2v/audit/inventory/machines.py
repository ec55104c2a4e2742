"""What an inventory holds: machines with all their rows, hosts, datastores, clusters, networks; and what it lacks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from p2v.audit.inventory.hosts import ClusterRow, DatastoreRow, HostRow
from p2v.audit.inventory.rows import (
    CdRow,
    CpuRow,
    DiskRow,
    DistributedPortRow,
    FloppyRow,
    HealthRow,
    InfoRow,
    MemoryRow,
    MetaRow,
    NicRow,
    PartitionRow,
    PortRow,
    Row,
    SnapshotRow,
    ToolsRow,
    UsbRow,
)
from p2v.audit.inventory.sheets import EXPECTED, SHEETS, Table, value
from p2v.core.errors import BadDescription
from p2v.core.units import MIB

_T = TypeVar("_T")
_R = TypeVar("_R", bound=Row)

MACHINES_AT_MOST = 250_000
_OVER_ANY_SIZE = (1 << 32) * MIB
"""No host has 4 PiB of memory: exports with names of data fields give bytes where others give MiB."""


@dataclass(frozen=True, slots=True)
class MachineRows:
    """One machine: its row, and those of the other sheets that are about it."""

    info: InfoRow
    cpu: CpuRow | None = None
    memory: MemoryRow | None = None
    disks: tuple[DiskRow, ...] = ()
    partitions: tuple[PartitionRow, ...] = ()
    nics: tuple[NicRow, ...] = ()
    cds: tuple[CdRow, ...] = ()
    floppies: tuple[FloppyRow, ...] = ()
    usbs: tuple[UsbRow, ...] = ()
    snapshots: tuple[SnapshotRow, ...] = ()
    tools: ToolsRow | None = None
    health: tuple[HealthRow, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether it was switched on."""
        return self.info.powerstate.casefold() == "poweredon"

    @property
    def host(self) -> str:
        """The host that it is on; old exports say it beside its memory only."""
        return self.info.host or (self.memory.host if self.memory else "") or (self.cpu.host if self.cpu else "")

    @property
    def cluster(self) -> str:
        """The cluster that it is in."""
        return (
            self.info.cluster or (self.memory.cluster if self.memory else "") or (self.cpu.cluster if self.cpu else "")
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """A sheet that is not in the export (``columns`` empty), or columns that a sheet of it lacks."""

    sheet: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """An export. ``places``: what to call each sheet that was found. ``strays``: rows, by sheet, that name no machine of it."""

    path: Path
    machines: tuple[MachineRows, ...]
    hosts: tuple[HostRow, ...] = ()
    datastores: tuple[DatastoreRow, ...] = ()
    clusters: tuple[ClusterRow, ...] = ()
    ports: tuple[PortRow, ...] = ()
    health: tuple[HealthRow, ...] = ()
    """What RVTools found that is about no machine."""
    made_by: str = "RVTools"
    places: Mapping[str, str] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    strays: Mapping[str, int] = field(default_factory=dict)

    def has(self, sheet: str) -> bool:
        """Whether the export has a sheet."""
        return sheet in self.places


def inventory(path: Path, tables: Mapping[str, Table]) -> Inventory:
    """The inventory that tables make. Raises BadDescription where they name no machines."""
    table = tables.get("vInfo")
    if table is None or not table.fields:
        raise BadDescription(path, "has no sheet vInfo with a column VM", "Export all sheets from RVTools again.")
    infos = [row for row in _rows(table, InfoRow) if row.vm]
    if len(infos) > MACHINES_AT_MOST:
        raise BadDescription(path, f"lists {len(infos)} machines, more than {MACHINES_AT_MOST}", "Export it in parts.")
    joined = _Joined(infos, tables)
    machines = _machines(infos, joined)
    meta = next(iter(_rows(tables.get("vMetaData"), MetaRow)), None)
    return Inventory(
        path,
        machines,
        tuple(_hosts(tables.get("vHost"))),
        _rows(tables.get("vDatastore"), DatastoreRow),
        tuple(
            replace(each, memory_bytes=_bytes(each.memory_bytes)) for each in _rows(tables.get("vCluster"), ClusterRow)
        ),
        (*_rows(tables.get("vPort"), PortRow), *_rows(tables.get("dvPort"), DistributedPortRow)),
        joined.other_health,
        f"RVTools {meta.version}".strip() if meta else "RVTools",
        {name: each.where for name, each in tables.items() if each.fields},
        tuple(_gaps(tables)),
        joined.strays,
    )


class _Joined:
    """Rows of other sheets by the place of their machine among ``infos``: by its id in its vCenter, else by UUID, else by name."""

    def __init__(self, infos: Sequence[InfoRow], tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self._ids = _unique(_id(row) for row in infos)
        self._uuids = _unique(row.vm_uuid.casefold() for row in infos)
        self._names = _unique(row.vm for row in infos)
        self.strays: dict[str, int] = {}
        health = _rows(tables.get("vHealth"), HealthRow)
        self.health = _grouped((self._names.get(row.name), row) for row in health)
        self.other_health = tuple(row for row in health if row.name not in self._names)

    def rows(self, kind: type[_R]) -> Mapping[int, tuple[_R, ...]]:
        """All rows of a sheet, by machine."""
        found = [(self._place(row), row) for row in _rows(self._tables.get(kind.sheet), kind) if row.vm or row.vm_id]
        strays = sum(1 for place, _ in found if place is None)
        if strays:
            self.strays[kind.sheet] = strays
        return _grouped(found)

    def _place(self, row: Row) -> int | None:
        for known, key in ((self._ids, _id(row)), (self._uuids, row.vm_uuid.casefold()), (self._names, row.vm)):
            if key and key in known:
                return known[key]
        return None


def _id(row: Row) -> str:
    return f"{row.server or row.server_name}\n{row.vm_id}" if row.vm_id else ""


def _unique(keys: Iterable[str]) -> dict[str, int]:
    """The place of each key; one that is there twice tells nothing."""
    places: dict[str, int] = {}
    twice: set[str] = set()
    for place, key in enumerate(keys):
        if key in places:
            twice.add(key)
        places[key] = place
    return {key: place for key, place in places.items() if key and key not in twice}


def _grouped(found: Iterable[tuple[int | None, _T]]) -> dict[int, tuple[_T, ...]]:
    groups: dict[int, list[_T]] = {}
    for place, row in found:
        if place is not None:
            groups.setdefault(place, []).append(row)
    return {place: tuple(rows) for place, rows in groups.items()}


def _machines(infos: Sequence[InfoRow], joined: _Joined) -> tuple[MachineRows, ...]:
    cpus, memories, tools = joined.rows(CpuRow), joined.rows(MemoryRow), joined.rows(ToolsRow)
    disks, partitions, nics = joined.rows(DiskRow), joined.rows(PartitionRow), joined.rows(NicRow)
    cds, floppies, usbs, snapshots = (
        joined.rows(CdRow),
        joined.rows(FloppyRow),
        joined.rows(UsbRow),
        joined.rows(SnapshotRow),
    )
    return tuple(
        MachineRows(
            info,
            next(iter(cpus.get(at, ())), None),
            next(iter(memories.get(at, ())), None),
            disks.get(at, ()),
            partitions.get(at, ()),
            nics.get(at, ()),
            cds.get(at, ()),
            floppies.get(at, ()),
            usbs.get(at, ()),
            snapshots.get(at, ()),
            next(iter(tools.get(at, ())), None),
            joined.health.get(at, ()),
        )
        for at, info in enumerate(infos)
    )


def _rows(table: Table | None, kind: Callable[..., _T]) -> tuple[_T, ...]:
    """A sheet's rows as values; ``kind`` has a field of every column's name."""
    return tuple(kind(line=line, **values) for line, values in _values(table))


def _values(table: Table | None) -> Iterator[tuple[int, dict[str, Any]]]:
    if table is None:
        return
    columns = {column.field: column for column in SHEETS[table.sheet.casefold()].columns}
    known = [(name, columns[name], unit) for name, unit in zip(table.fields, table.units, strict=True)]
    for line, cells in table.lines:
        yield line, {name: value(column, cell, unit) for (name, column, unit), cell in zip(known, cells, strict=True)}


def _hosts(table: Table | None) -> Iterator[HostRow]:
    for _, values in _values(table):
        cores, sockets, each = values.get("cores"), values.get("sockets"), values.get("cores_each")
        busy = values.get("busy")
        if values["name"]:
            yield HostRow(
                values["name"],
                cores or (sockets * each if sockets and each else None),
                sockets,
                _bytes(values.get("memory_bytes")),
                values.get("cpu_model", ""),
                values.get("cluster", ""),
                busy / 100 if busy is not None and 0 <= busy <= 100 else None,
            )


def _bytes(found: int | None) -> int | None:
    """A size that was read as MiB, and may have been bytes."""
    return found // MIB if found is not None and found >= _OVER_ANY_SIZE else found


def _gaps(tables: Mapping[str, Table]) -> Iterator[Gap]:
    for name in EXPECTED:
        if name not in tables or not tables[name].fields:
            yield Gap(name)
    for name, table in tables.items():
        old = [column for column in SHEETS[name.casefold()].columns if column.old_enough]
        lacking = tuple(column.headers[0] for column in old if column.field not in table.fields)
        if table.fields and lacking:
            yield Gap(name, lacking)
