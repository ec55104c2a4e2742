"""What looking for unused bytes comes to: values, apart from all that finds them, which a plain copy need not load."""

from __future__ import annotations

from dataclasses import dataclass

from converters.allocation.left_out import LeftOut


@dataclass(frozen=True, slots=True)
class FileFinding:
    """What became of a file: the bytes left out (a mirror's once), or why all of it travels."""

    left_out_bytes: int = 0
    why_whole: str = ""


@dataclass(frozen=True, slots=True)
class VolumeFinding:
    """What is known of one volume. ``why_whole``: why all of it travels; empty when its allocation was read.

    ``name``: "disk 1, partition 2" (both count from 1), a logical volume's name, or what its members are called.
    ``left_out_bytes`` counts a mirror's once.
    """

    name: str
    kind: str
    size_bytes: int
    left_out_bytes: int = 0
    why_whole: str = ""


@dataclass(frozen=True, slots=True)
class Unused:
    """What need not travel: one ``LeftOut`` a disk, in the disks' order, what was found of each volume, and of each known file."""

    disks: tuple[LeftOut, ...]
    volumes: tuple[VolumeFinding, ...]
    files: tuple[FileFinding, ...] = ()
