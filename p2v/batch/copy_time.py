"""How long a batch's copies take, at rates that were measured or limits that were set; where there are none, there is no number."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from p2v.audit.sizing.values import Interval, Measured, Rate
from p2v.batch.jobs import Batch
from p2v.batch.lanes import Lanes
from p2v.batch.places import Places
from p2v.batch.planned import CopyTime, MachinePlan, StoragePlan
from p2v.batch.storages import storage_of


def copy_time(
    batch: Batch,
    machines: Sequence[MachinePlan],
    storages: Sequence[StoragePlan],
    measured: Sequence[Measured],
    places: Places,
) -> CopyTime:
    """The copies alone: rewriting and booting go on beside other machines' copies, and nobody knows them before.

    Waves go one after the other. Within one, the low end has all storages busy at the same time, the high end one after the other.
    """
    lanes = Lanes.of(batch.budget, places.devices)
    rates = storage_rates(lanes, [storage_of(each.folders[0]) for each in storages], measured)
    missing = [str(each.folders[0]) for each in storages if storage_of(each.folders[0]) not in rates]
    if missing:
        they = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
        return CopyTime(None, f"not known how quick {they} (--measure finds out)")
    if not storages:
        return CopyTime(Interval(0.0, 0.0))
    counted = [each for each in machines if not each.left_alone and not each.is_blocked]
    low, high = 0.0, 0.0
    bounded = True
    for wave in sorted({each.wave for each in counted}):
        quickest, slowest = _wave([each for each in counted if each.wave == wave], rates, lanes, places)
        low += quickest
        high += slowest or 0.0
        bounded = bounded and slowest is not None
    unknown = sum(each.copy_bytes is None for each in counted)
    why = [f"of {unknown} machines nobody knows what is to be copied"] if unknown else []
    if not bounded:
        why.append("a limit says only what it takes at least")
    return CopyTime(Interval(low, high if bounded and not unknown else None), "; ".join(why))


def _wave(
    machines: Sequence[MachinePlan], rates: Mapping[str, Interval], lanes: Lanes, places: Places
) -> tuple[float, float | None]:
    moved: dict[str, int] = {}
    for each in machines:
        storage = storage_of(each.folder)
        moved[storage] = moved.get(storage, 0) + (each.copy_bytes or 0)
    quick = [count / (rates[storage].high or 1.0) for storage, count in moved.items()]
    limited = _limited(machines, lanes, places, moved)
    if any(rates[storage].low == 0 for storage in moved):
        return max([*quick, *limited]), None
    return max([*quick, *limited]), sum(count / rates[storage].low for storage, count in moved.items()) + sum(limited)


def _limited(machines: Sequence[MachinePlan], lanes: Lanes, places: Places, targets: Container[str]) -> list[float]:
    """Seconds that each storage and server takes at its limit that is no target of these machines: what they come from."""
    moved: dict[str, int] = {}
    for each in machines:
        for lane in places.lanes_of(each.name):
            moved[lane] = moved.get(lane, 0) + (each.copy_bytes or 0)
    return [
        count / rate
        for lane, count in moved.items()
        if lane not in targets and (rate := lanes.over(lane).bytes_per_second) is not None
    ]


def storage_rates(lanes: Lanes, names: Sequence[str], measured: Sequence[Measured]) -> dict[str, Interval]:
    """Bytes a second of all copies to each storage (by its name) that something is known of; a ``low`` of 0 says that nothing is
    known of its slowest.
    """
    found: dict[str, Interval] = {}
    for name in names:
        limit = lanes.over(name).bytes_per_second
        rate = next((made for one in measured if _is_of(one, name) and (made := _slower(one)) is not None), None)
        if rate is not None and limit is not None:
            rate = Interval(min(rate.low, limit), min(rate.high or limit, limit))
        elif limit is not None:
            rate = Interval(0.0, float(limit))
        if rate is not None:
            found[name] = rate
    return found


def _is_of(measured: Measured, name: str) -> bool:
    return storage_of(Path(measured.folder)) == name


def _slower(measured: Measured) -> Interval | None:
    """What a copy gets: the slower of reading and writing decides."""
    known: list[Rate] = [rate for rate in (measured.read, measured.write) if rate is not None]
    if measured.write is None or any(rate.low <= 0 for rate in known):
        return None
    return Interval(min(rate.low for rate in known), min(rate.high for rate in known))
