"""Files of a source that are opened when they are needed, and kept open: a split VMDK has one for every 2 GB."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

# What a source has more of is closed and opened again.
_FILES_AT_MOST = 32


class _Closable(Protocol):
    def close(self) -> None: ...


_F = TypeVar("_F", bound=_Closable)


class KeptOpen(Generic[_F]):
    """Open files by their paths; the one not asked for longest is closed for one too many. For one thread at a time."""

    def __init__(self, opener: Callable[[Path], _F]) -> None:
        self._opener = opener
        self._open: OrderedDict[Path, _F] = OrderedDict()

    def get(self, path: Path) -> _F:
        """A file, open until others are asked for. Raises what opening it raises."""
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        if len(self._open) >= _FILES_AT_MOST:
            self._open.popitem(last=False)[1].close()
        self._open[path] = opened = self._opener(path)
        return opened

    def close(self) -> None:
        """Close all of them; closing twice is harmless."""
        while self._open:
            self._open.popitem()[1].close()
