"""What sizing says, as values. Every part carries the assumptions that its numbers rest on; what is not known is an interval."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AssumptionSource(enum.Enum):
    """Where an assumption's value comes from."""

    DEFAULT = "default"
    """The suite's own choice, which the user may change."""
    GIVEN = "given"
    """The user said it: an option, a utilisation file, prices."""
    MEASURED = "measured"
    """``--measure`` found it on this host and storage."""
    INVENTORY = "inventory"
    """Disks, descriptions or inventory exports tell it."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something a number rests on; ``value`` in words."""

    name: str
    value: str
    source: AssumptionSource


class Basis(enum.Enum):
    """What a machine is taken to need."""

    CONFIGURED = "as configured"
    """Its virtual CPUs (overcommitted) and all of its memory."""
    USE = "by use"
    """Its measured use, where that is known; else as configured."""


@dataclass(frozen=True, slots=True)
class HostType:
    """A kind of host. ``cores`` and ``threads`` of all sockets together; a thread is what a virtual CPU runs on.

    ``numa_nodes``: None where each socket is one. ``core_mhz``: what use in MHz is divided by. ``disk_bytes``: room on its own
    disks for machines; None: they stand elsewhere.
    """

    cores: int
    memory_bytes: int
    threads: int
    sockets: int = 1
    numa_nodes: int | None = None
    core_mhz: int | None = None
    disk_bytes: int | None = None

    @property
    def nodes(self) -> int:
        """How many NUMA nodes it has."""
        return self.numa_nodes or self.sockets


@dataclass(frozen=True, slots=True)
class ByteInterval:
    """Between ``low`` and ``high`` bytes, ends included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Interval:
    """Between two numbers, ends included."""

    low: float
    """The least."""
    high: float | None
    """The most; null: nothing bounds it from above."""


@dataclass(frozen=True, slots=True)
class NamedReason:
    """A machine, and why something is so for it."""

    machine: str
    why: str


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What one host carries; ``cores`` are those that its virtual CPUs count for. A spare host has no machines."""

    machines: tuple[str, ...]
    vcpus: int
    cores: float
    memory_bytes: int
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HostsNeeded:
    """Hosts for the fleet: ``packed_hosts`` carry it, ``spare_hosts`` stand by, ``total_hosts`` are both.

    ``lower_bound``: no packing of these machines takes fewer hosts (spares aside), the larger of ``continuous_bound`` and
    ``l2_bound``, or the result where a search proved it. ``gap``: how many hosts fewer might do. ``decided_by``: the resource
    whose bound is the largest. ``too_large``, ``not_sized`` and ``left_out`` (as the user wants it) are in no host.
    """

    basis: Basis
    machines: int
    packed_hosts: int
    spare_hosts: int
    total_hosts: int
    lower_bound: int
    continuous_bound: int
    l2_bound: int
    gap: int
    proof: str
    decided_by: str
    hosts: tuple[HostLoad, ...]
    too_large: tuple[NamedReason, ...]
    not_sized: tuple[NamedReason, ...]
    left_out: tuple[str, ...]
    assumptions: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class NumaFit:
    """Machines that are larger than one NUMA node of the host type (``node_cores``, ``node_memory_bytes``)."""

    node_cores: int
    node_memory_bytes: int
    wider: tuple[NamedReason, ...]
    assumptions: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class HostsBefore:
    """What the fleet runs on now. A number is None where one of the hosts does not tell it."""

    hosts: int
    cores: int | None
    memory_bytes: int | None
    vcpus_per_core: float | None
    assumptions: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class Consolidation:
    """Machines a host, spare hosts included: now (None: not known) and afterwards."""

    basis: Basis
    machines_per_host_before: float | None
    machines_per_host_after: float | None
    vcpus_per_core_after: float | None
    assumptions: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class StorageNeeded:
    """Sums over all disks. ``used_bytes`` is of those whose file systems could be read; ``after`` is what is to be copied.

    ``used_unknown`` and ``allocated_unknown`` count the disks of which that is not known.
    """

    disks: int
    virtual_bytes: int
    allocated_bytes: int
    allocated_unknown: int
    used_bytes: int
    used_unknown: int
    after: ByteInterval
    assumptions: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes a second, of all streams together."""

    median: float
    """Of all runs, in bytes a second."""
    low: float
    """Of the slowest run, in bytes a second."""
    high: float
    """Of the quickest run, in bytes a second."""
    repeats: int
    """How many runs there were."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What ``--measure`` found."""

    folder: str
    """The one that was written to, or whose storage was."""
    streams: int
    """Files that were written, or disks that were read, at the same time."""
    write: Rate | None
    """How quickly files are written there; null: not measured, and the notes say why."""
    read: Rate | None
    """How quickly disks are read; null: not measured, and the notes say why."""
    read_disks: tuple[str, ...] = ()
    """The disks that were read."""
    notes: tuple[str, ...] = ()
    """What else is to be known of it, in words."""


@dataclass(frozen=True, slots=True)
class MigrationTime:
    """How long copying takes. ``seconds`` None: not measured, and nothing is made up; ``why`` says what is missing."""

    seconds: Interval | None
    concurrent: int
    why: str
    assumptions: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class MoneyLine:
    """One kind of cost a year. ``before``, ``after`` None: no price, or nothing known to multiply it with (``why``)."""

    what: str
    before: Interval | None
    after: Interval | None
    saved: Interval | None
    why: str
    assumptions: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class Savings:
    """What is saved a year, in ``currency``: the sum of those lines that have both sides; None where none has."""

    basis: Basis
    currency: str
    lines: tuple[MoneyLine, ...]
    saved: Interval | None


@dataclass(frozen=True, slots=True)
class Sizing:
    """The whole answer. ``hosts`` has one entry for each basis, and none without a host type."""

    machines: int
    storage: StorageNeeded
    migration: MigrationTime
    host: HostType | None = None
    hosts: tuple[HostsNeeded, ...] = ()
    numa: NumaFit | None = None
    before: HostsBefore | None = None
    consolidation: tuple[Consolidation, ...] = ()
    savings: tuple[Savings, ...] = ()
    measured: Measured | None = None
    notes: tuple[str, ...] = ()
