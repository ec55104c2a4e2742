"""The name of a machine of which only disks are known."""

from __future__ import annotations

from pathlib import Path

from converters.formats import FORMATS
from p2v.core.text import plain_name


def name_from(disk: Path) -> str:
    """The disk's name without what tells its format, as far as it can be a machine's."""
    stem = disk.name
    known = [suffix for each in FORMATS for suffix in each.suffixes]
    for suffix in (".001", ".000", ".gz", ".ova", ".tar", ".zip", *sorted(known, key=len, reverse=True)):
        stem = stem.removesuffix(suffix)
    return plain_name(stem, 63) or "machine"
