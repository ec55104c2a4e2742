"""Files that are for everybody are so as far as the user's umask lets them; private ones always are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2v.core.workspace import write_synced


@pytest.fixture
def umask() -> Iterator[Callable[[int], object]]:
    """To set it; afterwards it is what it was."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(
    ("mask", "usual", "program", "private"),
    [
        (0o022, 0o644, 0o755, 0o600),
        (0o077, 0o600, 0o700, 0o600),
        (0o027, 0o640, 0o750, 0o600),
        (0, 0o644, 0o755, 0o600),
    ],
)
def test_a_file_has_what_the_umask_leaves(
    mask: int, usual: int, program: int, private: int, tmp_path: Path, umask: Callable[[int], object]
) -> None:
    umask(mask)
    for name, mode, left in (("record", 0o644, usual), ("script", 0o755, program), ("store", 0o600, private)):
        # one of an interrupted run is there, as it was left
        (tmp_path / name).touch(0o666)
        write_synced(tmp_path / name, "x", mode)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == left
