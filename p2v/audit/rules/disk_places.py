"""How findings name what is on disks, and point at it."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.disk_sights import DiskSight
from drivers.layout import partition_place
from drivers.sights.values import PlaceSight
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence, EvidenceKind
from p2v.core.text import printable
from p2v.machine import Firmware

_WHERE_AT_MOST = 400


def at(examined: Examined, disk: int, offset: int, text: str = "") -> Evidence:
    """Bytes of a disk (counted from 0), which is named by its file."""
    return Evidence(EvidenceKind.BYTES, path_of(examined, disk), offset=offset, text=text)


def path_of(examined: Examined, disk: int) -> str:
    """A disk's file; its number where it has none."""
    sources = examined.document.sources
    return (
        printable(str(sources[disk].path), keep="")[:_WHERE_AT_MOST]
        if disk < len(sources)
        else partition_place(disk, 0)
    )


def places(examined: Examined) -> Iterator[tuple[DiskSight, PlaceSight]]:
    """Every partition of every disk, or the disk itself where it has none."""
    for disk in examined.sights:
        for place in disk.places:
            yield disk, place


def named(disk: DiskSight, place: PlaceSight) -> str:
    """How a finding names a place; disks count from 1 for people."""
    return partition_place(disk.index, place.number)


def starts_by_bios(examined: Examined) -> bool:
    """Whether a PC's BIOS starts the machine on KVM, and nobody but these rules says what it meets: of Windows the plan does."""
    document = examined.document
    is_pc = document.hardware.arch in ("x86_64", "i386")
    return is_pc and document.hardware.firmware is Firmware.BIOS and document.facts.windows is None


