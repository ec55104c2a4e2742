"""What a run goes by: its budget, where its machines' bytes are, and until when; kept in the store for those who watch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from p2v.batch.jobs import Budget, Share
from p2v.batch.lanes import Lanes
from p2v.batch.order import Place
from p2v.batch.scheduling import Setting
from p2v.core import jsonio


@dataclass(frozen=True, slots=True)
class Terms:
    """``until``: nothing begins from then on; ``stop_at``: what is under way is stopped then (seconds since 1970)."""

    budget: Budget = field(default_factory=Budget)
    setting: Setting = field(default_factory=lambda: Setting(host=None))
    until: float = math.inf
    stop_at: float = math.inf

    @property
    def sizes(self) -> Mapping[str, int]:
        """About how many bytes each machine has to copy, by its name."""
        return {name: place.size for name, place in self.setting.places.items()}

    def anew(self) -> Terms:
        """Of another run, which takes all machines and has all the time that it needs."""
        return replace(self, setting=replace(self.setting, chosen=None), until=math.inf, stop_at=math.inf)

    def with_budget(self, budget: Budget) -> Terms:
        """The same with another budget, as far as that says nothing of single storages."""
        lanes = self.setting.lanes
        usual = Share(budget.copies_per_storage, budget.bytes_per_second)
        setting = self.setting if lanes is None else replace(self.setting, lanes=replace(lanes, usual=usual))
        return replace(self, budget=budget, setting=setting)


@dataclass(frozen=True, slots=True)
class KeptTerms:
    """As it stands in the store; lanes by their names in place of the budget's paths."""

    budget: Budget
    places: Mapping[str, Place]
    usual: Share
    said: Mapping[str, Share]
    host: str | None
    chosen: tuple[str, ...] | None
    until: float | None
    stop_at: float | None


def terms_data(terms: Terms) -> Any:
    """As JSON data."""
    setting = terms.setting
    lanes = setting.lanes or Lanes.of(terms.budget)
    kept = KeptTerms(
        replace(terms.budget, storages={}, hosts={}),
        setting.places,
        lanes.usual,
        lanes.said,
        setting.host,
        None if setting.chosen is None else tuple(name for name in setting.places if name in setting.chosen),
        _finite(terms.until),
        _finite(terms.stop_at),
    )
    return jsonio.encode(jsonio.converter(), kept)


def terms_of(kept: KeptTerms) -> Terms:
    """As they were."""
    chosen = None if kept.chosen is None else frozenset(kept.chosen)
    setting = Setting(kept.places, kept.host, Lanes(kept.usual, kept.said), chosen)
    return Terms(kept.budget, setting, _or_never(kept.until), _or_never(kept.stop_at))


def _finite(at: float) -> float | None:
    return at if math.isfinite(at) else None


def _or_never(at: float | None) -> float:
    return math.inf if at is None or not math.isfinite(at) else at
