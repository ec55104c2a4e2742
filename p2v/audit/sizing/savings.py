"""What moving saves a year at the user's own prices. No price, or nothing to multiply it with: no figure, and the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from p2v.audit.sizing.inputs import Prices, SidePrices
from p2v.audit.sizing.values import (
    Assumption,
    AssumptionSource,
    HostsBefore,
    HostsNeeded,
    HostType,
    Interval,
    MoneyLine,
    Savings,
    StorageNeeded,
)

_TB = 1_000_000_000_000
_HOURS = 8760
_GIVEN, _INVENTORY = AssumptionSource.GIVEN, AssumptionSource.INVENTORY


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of cost: so many of ``counted``, at the product of ``prices``, ``factor`` times a year."""

    what: str
    counted: str
    prices: tuple[str, ...]
    factor: float = 1.0


_KINDS = (
    _Kind("hosts", "hosts", ("host_per_year",)),
    _Kind("licences", "cores", ("licence_core_per_year",)),
    _Kind("storage", "TB", ("tb_month",), 12.0),
    _Kind("electricity", "hosts", ("host_watts", "kwh"), _HOURS / 1000),
)
# what follows a price, the currency put in
_UNITS = {
    "host_per_year": "{} a host a year",
    "licence_core_per_year": "{} a licensed core a year",
    "tb_month": "{} a TB (10^12 bytes) a month",
    "host_watts": "W a host, all year",
    "kwh": "{} a kWh",
}
Quantities = dict[str, tuple[Interval, AssumptionSource]]
"""How many hosts, cores and TB one side has, as far as that is known, and where it is known from."""


def savings(
    prices: Prices, before: HostsBefore | None, needed: HostsNeeded, host: HostType, storage: StorageNeeded
) -> Savings:
    """A year's costs before and after, line by line."""
    old, new = _before(before, storage), _after(needed, host, storage)
    lines = tuple(_line(kind, prices, old, new, complete=not _unplaced(needed)) for kind in _KINDS)
    return Savings(needed.basis, prices.currency, lines, _total(line.saved for line in lines))


def _before(before: HostsBefore | None, storage: StorageNeeded) -> Quantities:
    # with disks of unknown allocation, it is at least what is known
    taken = storage.allocated_bytes / _TB
    known: Quantities = {"TB": (Interval(taken, None if storage.allocated_unknown else taken), _INVENTORY)}
    if before is not None:
        known["hosts"] = (_just(before.hosts), _INVENTORY)
        if before.cores is not None:
            known["cores"] = (_just(before.cores), _INVENTORY)
    return known


def _after(needed: HostsNeeded, host: HostType, storage: StorageNeeded) -> Quantities:
    known: Quantities = {"TB": (Interval(storage.after.low / _TB, storage.after.high / _TB), _INVENTORY)}
    # hosts for machines that were not placed are not counted: to call the rest a saving would be a promise
    if not _unplaced(needed):
        known["hosts"] = (_just(needed.total_hosts), _GIVEN)
        known["cores"] = (_just(needed.total_hosts * host.cores), _GIVEN)
    return known


def _unplaced(needed: HostsNeeded) -> bool:
    return bool(needed.too_large or needed.not_sized)


def _just(count: int) -> Interval:
    return Interval(float(count), float(count))


def _line(kind: _Kind, prices: Prices, old: Quantities, new: Quantities, *, complete: bool) -> MoneyLine:
    why: list[str] = []
    costs: list[Interval | None] = []
    beside: list[Assumption] = []
    for side, known, of in (("before", old, prices.before), ("after", new, prices.after)):
        why += [f"no price ({name}) {side}" for name in kind.prices if getattr(of, name) is None]
        if kind.counted not in known:
            why.append(f"how many {kind.counted} {side} is not known")
        costs.append(_cost(kind, known, of))
        beside += _assumptions(kind, side, known, of, prices.currency)
    if not complete and kind.counted != "TB":
        why.append("some machines are in no host")
    before, after = costs
    return MoneyLine(kind.what, before, after, _difference(before, after), "; ".join(why), tuple(beside))


def _cost(kind: _Kind, known: Quantities, prices: SidePrices) -> Interval | None:
    each = [getattr(prices, name) for name in kind.prices]
    if kind.counted not in known or None in each:
        return None
    count, price = known[kind.counted][0], prod(each) * kind.factor
    return Interval(count.low * price, None if count.high is None else count.high * price)


def _assumptions(kind: _Kind, side: str, known: Quantities, prices: SidePrices, currency: str) -> Iterable[Assumption]:
    """What a cost was multiplied from; nothing beside a figure that is not there."""
    if _cost(kind, known, prices) is None:
        return
    count, source = known[kind.counted]
    words = f"{count.low:.12g}" if kind.counted != "TB" else f"{count.low:.3f}"
    if count.high != count.low:
        words = f"at least {words}" if count.high is None else f"{words} to {count.high:.3f}"
    yield Assumption(f"{kind.counted} {side}", words + _HOW.get((kind.counted, side), ""), source)
    for name in kind.prices:
        unit = _UNITS[name].format(currency)
        yield Assumption(f"{name} {side}", f"{getattr(prices, name):.12g} {unit}", _GIVEN)


_HOW = {
    ("hosts", "after"): ", spare ones too",
    ("cores", "after"): ", those of spare hosts too",
    ("TB", "before"): ", allocated",
    ("TB", "after"): ", copied; without room to grow",
}


def _difference(old: Interval | None, new: Interval | None) -> Interval | None:
    """Between the least that is saved and the most."""
    if old is None or new is None or new.high is None:
        return None
    return Interval(old.low - new.high, None if old.high is None else old.high - new.low)


def _total(saved: Iterable[Interval | None]) -> Interval | None:
    known = [each for each in saved if each is not None]
    if not known:
        return None
    highs = [each.high for each in known if each.high is not None]
    return Interval(sum(each.low for each in known), sum(highs) if len(highs) == len(known) else None)
