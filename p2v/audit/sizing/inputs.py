"""What sizing starts from: the fleet, a kind of host, and what the user decided, measured or pays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from p2v.audit.document import MachineAudit
from p2v.audit.sizing.values import Assumption, AssumptionSource, HostType, Measured
from p2v.core.units import MIB

MOST_CPUS = 100_000
MOST_MEMORY_BYTES = 1 << 60


class HostLike(Protocol):
    """A host of an inventory, as far as sizing looks at it. None: the inventory does not tell."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def cores(self) -> int | None:
        """Of all sockets, without hyper-threading."""
        ...

    @property
    def memory_bytes(self) -> int | None:
        """All of its memory."""
        ...


@dataclass(frozen=True, slots=True)
class HostNow:
    """A host that the fleet runs on now."""

    name: str
    cores: int | None = None
    memory_bytes: int | None = None


def hosts_now(rows: Iterable[HostLike]) -> tuple[HostNow, ...]:
    """Hosts of an inventory, each once; a number that no machine can have is none."""
    by_name = {
        row.name: HostNow(row.name, sane(row.cores, MOST_CPUS), sane(row.memory_bytes, MOST_MEMORY_BYTES))
        for row in rows
    }
    return tuple(by_name.values())


def sane(value: int | None, most: int) -> int | None:
    """None too for what a description or inventory says that no machine can have."""
    return value if value is not None and 0 < value <= most else None


@dataclass(frozen=True, slots=True)
class Policy:
    """What is decided about sizing. ``given``: the fields that the user chose; the others are the suite's defaults.

    ``overcommit``: virtual CPUs a core. ``memory_headroom``, ``cpu_headroom``: the part of a host that is left free, 0 to below 1;
    that of CPUs counts where machines are taken by their use. ``machine_overhead_*``: what QEMU takes beside a guest's memory,
    and what a machine takes beside copying its disks.
    """

    overcommit: float = 4.0
    memory_headroom: float = 0.1
    cpu_headroom: float = 0.2
    spare_hosts: int = 1
    machine_overhead_bytes: int = 256 * MIB
    machine_overhead_seconds: float = 60.0
    concurrent: int = 4
    leave_out_powered_off: bool = False
    given: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, holds in (
                ("overcommit", 0 < self.overcommit < 1_000),
                ("memory_headroom", 0 <= self.memory_headroom < 1),
                ("cpu_headroom", 0 <= self.cpu_headroom < 1),
                ("spare_hosts", self.spare_hosts >= 0),
                ("machine_overhead_bytes", self.machine_overhead_bytes >= 0),
                ("machine_overhead_seconds", self.machine_overhead_seconds >= 0),
                ("concurrent", self.concurrent > 0),
            )
            if not holds
        ]
        if wrong:
            raise ValueError(f"out of range: {', '.join(f'{name} {getattr(self, name)}' for name in wrong)}")

    def assume(self, field: str, name: str, value: str) -> Assumption:
        """An assumption that one of the fields makes."""
        assert field in {each.name for each in fields(self)}
        return Assumption(name, value, AssumptionSource.GIVEN if field in self.given else AssumptionSource.DEFAULT)


@dataclass(frozen=True, slots=True)
class Use:
    """What a machine really uses: 95th percentiles. ``line`` of the file that says it; None: not said."""

    name: str
    line: int
    cpu_mhz: float | None = None
    cpu_percent: float | None = None
    """Of its own virtual CPUs."""
    memory_bytes: int | None = None
    memory_percent: float | None = None
    """Of its own memory."""


def key_of(name: str) -> str:
    """By which a machine's name is looked for: neither case nor spaces around it matter."""
    return name.strip().casefold()


@dataclass(frozen=True, slots=True)
class SidePrices:
    """Prices of one side, before or after. None: not given."""

    host_per_year: float | None = None
    licence_core_per_year: float | None = None
    tb_month: float | None = None
    host_watts: float | None = None
    kwh: float | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """The user's own prices, in ``currency`` (any text); ``file``: where they stand."""

    currency: str
    before: SidePrices
    after: SidePrices
    file: str = ""


@dataclass(frozen=True, slots=True)
class SizingInput:
    """All that sizing looks at. ``hosts_before`` are those of an inventory; without them, the hosts that machines name count."""

    machines: tuple[MachineAudit, ...]
    host: HostType | None = None
    policy: Policy = Policy()
    hosts_before: tuple[HostNow, ...] = ()
    utilisation: tuple[Use, ...] = ()
    prices: Prices | None = None
    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class SizingWish:
    """What the command line asks for, files of the user's read already. ``measure``: the folder to measure in."""

    host: HostType | None = None
    policy: Policy = Policy()
    utilisation: tuple[Use, ...] = ()
    prices: Prices | None = None
    measure: Path | None = None
