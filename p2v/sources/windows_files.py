"""Files as programs on Windows name them: paths of a host that is not here, in any mix of small and capital letters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from p2v.core.errors import ForbiddenReference
from p2v.sources.description import Description


@dataclass(frozen=True)
class WindowsFiles:
    """The files around a description, found by the names Windows knows them by."""

    description: Description

    @cached_property
    def names(self) -> tuple[str, ...]:
        """See ``Surroundings.names``; looked up once."""
        return self.description.around.names()

    @cached_property
    def _by_last_name(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(PurePosixPath(name).name.casefold(), []).append(name)
        return {last: tuple(names) for last, names in found.items()}

    def named(self, *stated: str) -> str:
        """Of several ways to name one file the first by which it is there, in the letters it really has.

        Where it is there by none: the last of them that says anything, for the message that it is missing.
        """
        said = [name.strip() for name in stated if name.strip()]
        for name in said:
            if self._there(name) is not None:
                return name
        for name in said:
            # Windows does not tell small letters from capital ones
            same = self._by_last_name.get(PureWindowsPath(name).name.casefold(), ())
            if len(same) == 1 and self._there(same[0]) is not None:
                return same[0]
        return said[-1] if said else ""

    def has(self, *stated: str) -> bool:
        """Whether the file is there by any of the names."""
        name = self.named(*stated)
        return bool(name) and self._there(name) is not None

    def _there(self, name: str) -> Path | None:
        try:
            return self.description.disk(name)
        except ForbiddenReference:
            return None
