"""Rules about processors and memory: what was promised to a machine, and what it was held to. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from p2v.audit.findings import AuditFinding
from p2v.audit.inventory.rows import CpuRow, MemoryRow
from p2v.audit.inventory.seen import HasLine, Seen
from p2v.core.units import MIB, format_bytes

READY_PERCENT = 5.0
_PLAIN_LEVELS = frozenset({"", "normal"})


def hot_add(seen: Seen) -> Iterator[AuditFinding]:
    """What can be added while it runs."""
    cpu, memory, vm = seen.machine.cpu, seen.machine.memory, seen.machine.info.vm
    what: list[tuple[str, HasLine]] = []
    if cpu is not None and (cpu.hot_add or cpu.hot_remove):
        what.append(("processors", cpu))
    if memory is not None and memory.hot_add:
        what.append(("memory", memory))
    if what:
        words = " and ".join(word for word, _ in what)
        yield seen.says(
            "inventory.hot-add",
            f"{vm} can be given more {words} while it runs.",
            *(seen.at(row, "Hot Add: True") for _, row in what),
        )
    if cpu is not None and cpu.numa_hot_add:
        yield seen.says(
            "inventory.numa-hot-add",
            f"{vm} sees NUMA nodes though processors can be added.",
            seen.at(cpu, "Numa Hotadd Exposed"),
        )


def processors(seen: Seen) -> Iterator[AuditFinding]:
    """What processors it was promised, held to, and waited for."""
    info, cpu = seen.machine.info, seen.machine.cpu
    if info.latency.casefold() in ("high", "medium"):
        yield seen.of_info(
            "inventory.latency-sensitivity",
            f"{info.vm} has a latency sensitivity of {info.latency}: processors of its own.",
            info.latency,
        )
    if (info.readiness or 0.0) > READY_PERCENT:
        yield seen.of_info(
            "inventory.cpu-ready",
            f"{info.vm} waited {info.readiness:.1f} % of the time for processors of its host.",
            f"{info.readiness:g} %",
        )
    if cpu is not None:
        yield from _promises(seen, cpu)
    host = seen.neighbours.hosts.get(seen.machine.host)
    if host is not None and host.cores and host.sockets and (info.cpus or 0) > host.cores // host.sockets:
        yield seen.of_info(
            "inventory.numa-wide",
            f"{info.vm} has {info.cpus} processors, more than the {host.cores // host.sockets} cores of one socket of its host.",
            f"{info.cpus}",
        )


def _promises(seen: Seen, cpu: CpuRow) -> Iterator[AuditFinding]:
    vm = seen.machine.info.vm
    if (cpu.reservation or 0) > 0:
        yield seen.says(
            "inventory.cpu-reservation",
            f"{cpu.reservation} MHz are reserved for {vm}.",
            seen.at(cpu, f"{cpu.reservation} MHz"),
        )
    if (cpu.limit or 0) > 0:
        yield seen.says("inventory.cpu-limit", f"{vm} is held to {cpu.limit} MHz.", seen.at(cpu, f"{cpu.limit} MHz"))
    if cpu.level.casefold() not in _PLAIN_LEVELS:
        yield seen.says("inventory.cpu-shares", f"{vm} has a {cpu.level} share of processors.", seen.at(cpu, cpu.level))


def memory(seen: Seen) -> Iterator[AuditFinding]:
    """What memory it was promised, held to, and lost."""
    row, vm = seen.machine.memory, seen.machine.info.vm
    if row is None:
        return
    if row.locked:
        yield seen.says(
            "inventory.memory-locked",
            f"All memory of {vm} is reserved and locked, as devices that are passed through need it.",
            seen.at(row, "Memory Reservation Locked To Max"),
        )
    elif row.reservation:
        size = format_bytes(row.reservation)
        yield seen.says("inventory.memory-reservation", f"{size} of memory are reserved for {vm}.", seen.at(row, size))
    if (row.limit or 0) > 0:
        yield from _limit(seen, row)
    if row.level.casefold() not in _PLAIN_LEVELS:
        yield seen.says("inventory.memory-shares", f"{vm} has a {row.level} share of memory.", seen.at(row, row.level))
    if row.swapped or row.ballooned:
        size = format_bytes((row.swapped or 0) + (row.ballooned or 0))
        yield seen.says(
            "inventory.memory-pressure", f"Its host has taken {size} of memory back from {vm}.", seen.at(row, size)
        )


def _limit(seen: Seen, row: MemoryRow) -> Iterator[AuditFinding]:
    limit = (row.limit or 0) * MIB
    if row.size is None or limit < row.size:
        yield seen.says(
            "inventory.memory-limit",
            f"{seen.machine.info.vm} is held to {format_bytes(limit)} of the memory that it sees.",
            seen.at(row, format_bytes(limit)),
        )


CHECKS = (hot_add, processors, memory)
