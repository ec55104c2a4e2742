"""Where the disks of a machine go in a front end that has several places for them: pools, storages, classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Storage:
    """Names of places, in the front end's own words. ``every``: for all disks that have none of their own, None for its default.

    ``single``: by the index of a disk, from 0.
    """

    every: str | None = None
    single: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, index: int) -> str | None:
        """The place of a disk, by its index from 0; None for the front end's default."""
        return self.single.get(index, self.every)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name once, in the order of first use."""
        return tuple(dict.fromkeys([*([self.every] if self.every is not None else []), *self.single.values()]))


DEFAULT = Storage()
