"""What copies have in common, and what may go over it at a time: storages by their devices, servers by their names; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from p2v.batch.jobs import Budget, Share

_SERVER = "server "
UNKNOWN = ""
"""The storage of a job of which nobody can tell: it may be any."""


def server_lane(name: str) -> str:
    """What a server is called among storages; no device is called so."""
    return _SERVER + name.casefold()


def servers_of(lanes: Iterable[str]) -> list[str]:
    """The names of the servers among lanes, each once."""
    return sorted({lane.removeprefix(_SERVER) for lane in lanes if lane.startswith(_SERVER)})


@dataclass(frozen=True, slots=True)
class Lanes:
    """What may go over each lane. ``usual``: over a storage of which nothing is said; a server has bounds only where
    they are said.
    """

    usual: Share = field(default_factory=Share)
    said: Mapping[str, Share] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, budget: Budget, devices: Mapping[Path, Sequence[str]] = MappingProxyType({})) -> Lanes:
        """Of a budget. ``devices``: the storage that each of its paths is on; one that is not told of counts for nothing."""
        said: dict[str, Share] = {}
        for path, share in budget.storages.items():
            for lane in devices.get(path, ()):
                said[lane] = said[lane].and_also(share) if lane in said else share
        for name, share in budget.hosts.items():
            said[server_lane(name)] = share
        return cls(Share(budget.copies_per_storage, budget.bytes_per_second), said)

    def over(self, lane: str) -> Share:
        """What may go over a lane."""
        said = self.said.get(lane)
        if lane.startswith(_SERVER):
            return said or Share()
        return self.usual if said is None else said.otherwise(self.usual)

    @property
    def has_rates(self) -> bool:
        """Whether any copy has a limit."""
        return any(each.bytes_per_second is not None for each in (self.usual, *self.said.values()))
