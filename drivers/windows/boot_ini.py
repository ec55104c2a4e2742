"""boot.ini of Windows NT 4.0 to Server 2003: which partition it starts, and the same with another one. Pure.

Source: Microsoft Q102873, "BOOT.INI and ARC Path Naming Conventions and Usage": multi(0)disk(0)rdisk(X)partition(Y) counts disks as
the BIOS does, from 0, and partitions from 1, primary ones first; scsi() and signature() go through NTBOOTDD.SYS, which is a driver
of the old machine's controller. Without a default NTLDR starts the first system of its list; without a file, the first partition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drivers.facts import Partition

TEXT_BYTES_AT_MOST = 64 * 1024
_EXTENDED = frozenset({"05", "0f", "85"})
_ARC = re.compile(
    r"(?P<bus>multi|scsi|signature)\((?P<number>[0-9a-f]{1,8})\)disk\((?P<disk>\d{1,4})\)rdisk\((?P<rdisk>\d{1,4})\)"
    r"partition\((?P<partition>\d{1,4})\)(?P<folder>\\[^\"=\r\n]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ArcPath:
    """Where a Windows is, as firmware tells it. ``disk`` from 0, ``partition`` from 1, ``folder`` with backslashes.

    ``needs_driver``: it goes through NTBOOTDD.SYS.
    """

    text: str
    disk: int
    partition: int
    folder: str
    needs_driver: bool


def default_path(text: str) -> str:
    """What boot.ini starts when nobody chooses, as it writes it; empty when it has nothing to start."""
    lines = list(_lines(text))
    named = next((value for section, key, value in lines if section == "boot loader" and key.lower() == "default"), "")
    return named or next((key for section, key, _ in lines if section == "operating systems"), "")


def parse(path: str) -> ArcPath | None:
    """An ARC path taken apart; None for what is none (``C:\\`` for a boot sector in a file)."""
    found = _ARC.fullmatch(path.strip())
    if found is None:
        return None
    needs_driver = found["bus"].lower() != "multi"
    # for scsi() the disk's number is in disk(), and rdisk() its logical unit
    disk = int(found["disk"]) if found["bus"].lower() == "scsi" else int(found["rdisk"])
    return ArcPath(path.strip(), disk, int(found["partition"]), (found["folder"] or "").rstrip("\\"), needs_driver)


def arc_number(partitions: Sequence[Partition], wanted: Partition) -> int | None:
    """The number of a partition as ARC paths count: primary ones in the table's order, then logical ones."""
    counted = [p for p in partitions if p.disk == wanted.disk and p.number and p.type_id not in _EXTENDED]
    counted.sort(key=lambda p: p.number)
    return counted.index(wanted) + 1 if wanted in counted else None


def partition_at(partitions: Sequence[Partition], path: ArcPath) -> Partition | None:
    """The partition that an ARC path names, where the BIOS has the disks in the guest's order."""
    return next((p for p in partitions if p.disk == path.disk and arc_number(partitions, p) == path.partition), None)


def arc_text(disk: int, partition: int, folder: str) -> str:
    """An ARC path that needs no driver of the loader's own."""
    return f"multi(0)disk(0)rdisk({disk})partition({partition}){folder}"


def with_path(text: str, old: str, new: str) -> str:
    """boot.ini with one path in the place of another, wherever it stands as a whole; all else stays, ends of lines too."""
    return re.sub(rf"(?im)(^\s*|=\s*){re.escape(old)}(?=\\?\s*(?:=|$))", lambda found: found[1] + new, text)


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    """Section (lower case), name and value of every line that has them."""
    section = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped.strip("[]").strip().lower()
        elif "=" in stripped and not stripped.startswith(";"):
            name, _, value = stripped.partition("=")
            yield section, name.strip(), value.strip()
