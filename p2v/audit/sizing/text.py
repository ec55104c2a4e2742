"""A sizing as lines for a terminal: each number, and under it what it rests on and where that comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2v.audit.sizing.values import (
    Assumption,
    Consolidation,
    HostsBefore,
    HostsNeeded,
    Interval,
    MigrationTime,
    MoneyLine,
    NamedReason,
    NumaFit,
    Savings,
    Sizing,
    StorageNeeded,
)
from p2v.core.text import printable
from p2v.core.units import format_bytes, format_seconds

_NAMED = 20
_LONGEST_LINE = 300


def sizing_text(sizing: Sizing) -> list[str]:
    """The lines, safe for a terminal: names come from guests and exports."""
    lines = [f"Sizing of {_count(sizing.machines, 'machine')}"]
    lines += _before(sizing.before) if sizing.before is not None else ["Hosts now: not known"]
    for needed in sizing.hosts:
        lines += _needed(needed)
    lines += [] if sizing.hosts else ["Hosts needed: no host type; say --host-cores and --host-memory"]
    lines += _numa(sizing.numa) if sizing.numa is not None else []
    for ratio in sizing.consolidation:
        lines += _consolidation(ratio)
    lines += _storage(sizing.storage)
    lines += _time(sizing.migration)
    lines += [f"    read of: {disk}" for disk in sizing.measured.read_disks] if sizing.measured is not None else []
    lines += [f"    note: {note}" for note in sizing.measured.notes] if sizing.measured is not None else []
    for money in sizing.savings:
        lines += _savings(money)
    lines += [f"Note: {note}" for note in sizing.notes[:_NAMED]]
    lines += [f"Note: {len(sizing.notes) - _NAMED} more of this kind"] if len(sizing.notes) > _NAMED else []
    return [_cut(printable(line, keep="")) for line in lines]


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."


def _assumed(assumptions: Iterable[Assumption]) -> list[str]:
    return [f"    {each.name}: {each.value} [{each.source.value}]" for each in assumptions]


def _named(title: str, reasons: Sequence[NamedReason]) -> list[str]:
    lines = [f"  {title}: {each.machine[:80]}: {each.why}" for each in reasons[:_NAMED]]
    more = len(reasons) - _NAMED
    return [*lines, f"  {title}: {more} more, all in the JSON document"] if more > 0 else lines


def _before(before: HostsBefore) -> list[str]:
    cores = "cores not known" if before.cores is None else f"{before.cores} cores"
    memory = "memory not known" if before.memory_bytes is None else f"{format_bytes(before.memory_bytes)} of memory"
    ratio = "" if before.vcpus_per_core is None else f", {before.vcpus_per_core:.1f} virtual CPUs a core"
    return [f"Hosts now: {before.hosts} ({cores}, {memory}{ratio})", *_assumed(before.assumptions)]


def _needed(needed: HostsNeeded) -> list[str]:
    if not needed.machines and needed.not_sized:
        words = f"Hosts needed {needed.basis.value}: not known: the needs of no machine are known"
        return [words, *_named("not sized", needed.not_sized), *_named("FITS NO HOST", needed.too_large)]
    left_out = [f"  left out, as wished: {', '.join(needed.left_out[:_NAMED])}"] if needed.left_out else []
    if len(needed.left_out) > _NAMED:
        left_out = [f"{left_out[0]} and {len(needed.left_out) - _NAMED} more"]
    decided = f", decided by {needed.decided_by}" if needed.decided_by else ""
    gap = f"at least {needed.lower_bound} (continuous {needed.continuous_bound}, L2 {needed.l2_bound}{decided}), gap {needed.gap}"
    return [
        f"Hosts needed {needed.basis.value}: {needed.total_hosts} ({needed.packed_hosts} for {_count(needed.machines, 'machine')}, "
        f"{needed.spare_hosts} spare)",
        f"  bound: {gap}: {needed.proof}",
        *_named("FITS NO HOST", needed.too_large),
        *_named("not sized", needed.not_sized),
        *left_out,
        *_assumed(needed.assumptions),
    ]


def _numa(fit: NumaFit) -> list[str]:
    node = f"{fit.node_cores} cores, {format_bytes(fit.node_memory_bytes)}"
    lines = [f"Larger than a NUMA node ({node}): {_count(len(fit.wider), 'machine')}", *_named("wider", fit.wider)]
    return lines + _assumed(fit.assumptions)


def _consolidation(ratio: Consolidation) -> list[str]:
    known = (ratio.machines_per_host_before, ratio.machines_per_host_after)
    before, after = ("not known" if each is None else f"{each:.1f}" for each in known)
    cpus = (
        ""
        if ratio.vcpus_per_core_after is None
        else f"; {ratio.vcpus_per_core_after:.1f} virtual CPUs a core afterwards"
    )
    words = f"Machines a host: {before} now, {after} afterwards ({ratio.basis.value}){cpus}"
    return [words, *_assumed(ratio.assumptions)]


def _storage(storage: StorageNeeded) -> list[str]:
    unknown = f" ({storage.allocated_unknown} not known)" if storage.allocated_unknown else ""
    not_used = f" ({storage.used_unknown} not known)" if storage.used_unknown else ""
    low, high = storage.after.low, storage.after.high
    after = format_bytes(low) if low == high else f"{format_bytes(low)} to {format_bytes(high)}"
    return [
        f"Storage of {_count(storage.disks, 'disk')}: {format_bytes(storage.virtual_bytes)} virtual, "
        f"{format_bytes(storage.allocated_bytes)} allocated{unknown}, {format_bytes(storage.used_bytes)} used{not_used}",
        f"  after copying what is used: {after}",
        *_assumed(storage.assumptions),
    ]


def _time(time: MigrationTime) -> list[str]:
    if time.seconds is None:
        return [f"Time to copy: {time.why}"]
    low, high = time.seconds.low, time.seconds.high
    words = f"at least {format_seconds(low)}" if high is None else f"{format_seconds(low)} to {format_seconds(high)}"
    why = f" ({time.why})" if time.why else ""
    return [f"Time to copy, {time.concurrent} disks at a time: {words}{why}", *_assumed(time.assumptions)]


def _savings(savings: Savings) -> list[str]:
    total = "no figure" if savings.saved is None else _money(savings.saved, savings.currency)
    lines = [f"Saved a year ({savings.basis.value}): {total}"]
    for line in savings.lines:
        lines += _money_line(line, savings.currency)
    return lines


def _money_line(line: MoneyLine, currency: str) -> list[str]:
    before, after, saved = (
        "no figure" if each is None else _money(each, currency) for each in (line.before, line.after, line.saved)
    )
    why = f" ({line.why})" if line.why else ""
    return [f"  {line.what}: before {before}, after {after}, saved {saved}{why}", *_assumed(line.assumptions)]


def _money(amount: Interval, currency: str) -> str:
    if amount.high is None:
        return f"at least {amount.low:,.2f} {currency}"
    if amount.low == amount.high:
        return f"{amount.low:,.2f} {currency}"
    return f"{amount.low:,.2f} to {amount.high:,.2f} {currency}"
