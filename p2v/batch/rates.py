"""How many bytes a second each copy may use, while copies begin and end beside it; pure.

Whoever copies over a lane (a storage, a server) shares its rate with the others that copy over it, as evenly as their other lanes
and own limits allow (the largest shares of which none can grow without making a smaller one smaller). One that has not begun to
copy has a small share, so that nothing lies idle while it plans; so much is kept for each free place.

A copy that is told to go slower may go at its old rate until it says that it has heard. Until then nobody else gets what it
gives back, so that all of them together never use more than a lane has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from p2v.batch.lanes import UNKNOWN, Lanes

_KEPT = 20
"""One part in so many of a lane's rate is for those that do not copy yet."""


@dataclass(frozen=True, slots=True)
class Copying:
    """One that copies, or will. ``lanes``: none: nobody knows, so all; ``limit``: bytes a second that it was told last;
    ``unheard``: more that it was told before, of which it may not have heard that it is over; ``most``: its own limit.
    """

    lanes: tuple[str, ...]
    has_begun: bool
    limit: int = 0
    unheard: int = 0
    most: int | None = None

    @property
    def uses(self) -> int:
        """Bytes a second that it may be using."""
        return max(self.limit, self.unheard)


@dataclass(frozen=True, slots=True)
class Rates:
    """``places``: copies that there may be at the same time."""

    lanes: Lanes
    places: int

    def first(self, lanes: Sequence[str], most: int | None = None) -> int | None:
        """What a job is told when it begins; None: no lane of its has a rate."""
        known = lanes or (UNKNOWN, *self.lanes.said)
        small = [self._small(lane) for lane in known if self._total(lane) is not None]
        if not small:
            return None
        return min(small if most is None else [*small, most])

    def changes(self, copying: Mapping[str, Copying]) -> dict[str, int]:
        """What is to be told now, by names: bytes a second. Those that must go slower first."""
        wanted = self.shares(copying)
        limited = {name: each for name, each in copying.items() if name in wanted}
        told = {name: wanted[name] for name, each in limited.items() if wanted[name] < each.limit}
        now = {
            name: replace(each, limit=told[name], unheard=each.uses) if name in told else each
            for name, each in limited.items()
        }
        for name, each in now.items():
            rate = min(wanted[name], each.uses + self._left(each, now.values()))
            if name not in told and rate > each.limit:
                told[name] = rate
                now[name] = replace(each, limit=rate)
        return told

    def shares(self, copying: Mapping[str, Copying]) -> dict[str, int]:
        """What each comes to, by names: bytes a second, of those that go over a lane with a rate."""
        limited = {name: lanes for name, each in copying.items() if (lanes := self._lanes_of(each, copying.values()))}
        open_ = {name: lanes for name, lanes in limited.items() if copying[name].has_begun}
        small = {name: copying[name] for name in limited if name not in open_}
        wanted = {name: min(each.limit, self.first(each.lanes, each.most) or 1) for name, each in small.items()}
        left = {lane: self._for_copies(lane, open_) for lane in {lane for lanes in open_.values() for lane in lanes}}
        while open_:
            users = {lane: sum(lane in lanes for lanes in open_.values()) for lane in left}
            even = {name: min(left[lane] // users[lane] for lane in lanes) for name, lanes in open_.items()}
            bounded = {name: min(share, copying[name].most or share) for name, share in even.items()}
            name = min(bounded, key=lambda each: bounded[each])
            wanted[name] = bounded[name]
            for lane in open_.pop(name):
                left[lane] -= wanted[name]
        return wanted

    def _total(self, lane: str) -> int | None:
        return self.lanes.over(lane).bytes_per_second

    def _places(self, lane: str) -> int:
        return min(self.lanes.over(lane).copies or self.places, self.places)

    def _small(self, lane: str) -> int:
        return max(1, (self._total(lane) or 0) // (_KEPT * self._places(lane)))

    def _lanes_of(self, each: Copying, all_of_them: Iterable[Copying]) -> list[str]:
        """Its lanes that have a rate."""
        names = each.lanes or dict.fromkeys([UNKNOWN, *(lane for other in all_of_them for lane in other.lanes)])
        return [lane for lane in names if self._total(lane) is not None]

    def _for_copies(self, lane: str, open_: Mapping[str, Sequence[str]]) -> int:
        """What those share that copy over a lane: all but a small part for each place where nobody copies yet."""
        others = self._places(lane) - sum(lane in lanes for lanes in open_.values())
        return max(1, (self._total(lane) or 0) - self._small(lane) * max(0, others))

    def _left(self, each: Copying, now: Iterable[Copying]) -> int:
        """What nobody may be using of its narrowest lane, but for what is kept."""
        everybody = list(now)
        open_ = {str(n): self._lanes_of(other, everybody) for n, other in enumerate(everybody) if other.has_begun}
        lefts = []
        for lane in self._lanes_of(each, everybody):
            used = sum(o.uses for o in everybody if o.has_begun and lane in self._lanes_of(o, everybody))
            lefts.append(self._for_copies(lane, open_) - used)
        return max(0, min(lefts))
