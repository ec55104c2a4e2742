"""A host that answers for names from memory, as an NFS client does: what another has changed is seen when the folder is opened."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_STAT, _OPEN = os.stat, os.open


@dataclass
class Remembering:
    """Remembers what it was told of names in one folder, also that there was nothing. ``asked``: how often it was to look anew."""

    folder: Path
    asked: int = 0
    _known: dict[Path, os.stat_result | FileNotFoundError] = field(default_factory=dict)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the calls' places."""
        patch.setattr(os, "stat", self._stat)
        patch.setattr(os, "open", self._open)

    def _stat(self, path: Any, **how: Any) -> os.stat_result:
        named = not isinstance(path, int) and Path(path).parent == self.folder
        if not named:
            return _STAT(path, **how)
        if Path(path) not in self._known:
            try:
                self._known[Path(path)] = _STAT(path, **how)
            except FileNotFoundError as error:
                self._known[Path(path)] = error
        known = self._known[Path(path)]
        if isinstance(known, FileNotFoundError):
            raise known
        return known

    def _open(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if not isinstance(path, int) and Path(path) == self.folder:
            self.asked += 1
            self._known.clear()
        return _OPEN(path, flags, mode, **more)


def taken_away_before_its_lock(path: Path, patch: pytest.MonkeyPatch) -> None:
    """A file that is remembered, and that another host takes away just before it is locked here for the first time."""
    real = fcntl.flock
    Remembering(path.parent).install(patch)
    os.stat(path)

    def after_the_other(handle: int, operation: int) -> None:
        path.unlink(missing_ok=True)
        patch.setattr(fcntl, "flock", real)
        real(handle, operation)

    patch.setattr(fcntl, "flock", after_the_other)
