"""A disk and its conversion, made once for each kind of file system, and a copy of it for each test to spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.proof.bench import Bench, copied, make_disk
from tests.proof.sample import CHANGES, grow


@pytest.fixture(scope="session")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    """A disk and its conversion, by the kind of its file system."""
    made: dict[str, Bench] = {}

    def converted(kind: str) -> Bench:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            grow(folder / "tree")
            before, after = folder / "before.img", folder / "after.img"
            make_disk(before, folder / "tree", kind)
            copied(before, after)
            made[kind] = Bench(before, after, kind, CHANGES, folder)
            made[kind].carry_out()
        return made[kind]

    return converted


@pytest.fixture
def bench(kind: str, conversions: Callable[[str], Bench], tmp_path: Path) -> Bench:
    """The same, to be spoilt."""
    converted = conversions(kind)
    copied(converted.after, tmp_path / "after.img")
    return Bench(converted.before, tmp_path / "after.img", kind, CHANGES, tmp_path)
