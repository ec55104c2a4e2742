"""Seeds as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def laid(folder: Path, seeds: Mapping[str, bytes]) -> Sequence[Path]:
    """Write seeds to a folder, each named for what it is."""
    made = {folder / f"seed-{name}": data for name, data in seeds.items()}
    for path, data in made.items():
        path.write_bytes(data)
    return tuple(made)
