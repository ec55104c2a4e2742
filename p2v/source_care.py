"""How the user wants a source to be read, and what that means for the disks at hand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.care import Care, IoPriority, RateLimit, memory_bytes
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter, Warned
from p2v.core.workspace import allocated_bytes
from p2v.told_limits import heed

_CHOSEN = re.compile(r"\[([\w-]+)\]")
# these schedulers know no priorities
_DEAF = ("none", "kyber", "noop")


@dataclass(frozen=True, slots=True)
class SourceWish:
    """``limit``: bytes a second; ``share``: the same of who started us and tells us another one on standard input now and then; the
    lesser counts. ``skip_bad_sectors``: zeroes take the place of what cannot be read.
    """

    limit: int | None = None
    priority: IoPriority | None = None
    skip_bad_sectors: bool = False
    share: int | None = None

    def rate(self, share: int | None) -> int | None:
        """What counts when the share is this."""
        return min((each for each in (self.limit, share) if each is not None), default=None)


def care_of(wish: SourceWish, readers: Sequence[DiskReader], report: Reporter) -> Care:
    """How gently to read these disks.

    The page cache is spared for block devices (a live machine needs its memory for itself), where the user asked for gentleness,
    and where the disks are larger than half of this host's memory, so that they would not stay in it anyway.
    """
    files = {path for reader in readers for path in reader.files}
    if wish.priority is not None:
        for message in _unheard(files):
            report(Warned(message))
    rate = wish.rate(wish.share)
    limit = RateLimit(rate) if rate is not None else None
    if limit is not None and wish.share is not None:
        heed(lambda share: limit.change(wish.rate(share) or share), report)
    asked = limit is not None or wish.priority is not None
    spare = asked or any(path.is_block_device() for path in files) or sum(map(allocated_bytes, files)) > memory_bytes() // 2
    return Care(limit, wish.priority, spare)


def _unheard(files: Iterable[Path]) -> list[str]:
    """Where an I/O priority has no effect."""
    found = {}
    for path in sorted(files):
        name, scheduler = _scheduler(path)
        if scheduler in _DEAF:
            found[name] = f"{name}: its I/O scheduler is {scheduler!r}, which knows no priorities: --ionice has no effect there"
    return list(found.values())


def _scheduler(path: Path) -> tuple[str, str]:
    """The disk that a file stands on (or a device is), and its I/O scheduler; empty where that is not known."""
    try:
        status = path.stat()
        number = status.st_rdev if path.is_block_device() else status.st_dev
        folder = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
        disk = folder if (folder / "queue").exists() else folder.parent
        match = _CHOSEN.search((disk / "queue/scheduler").read_text())
    except OSError:
        return "", ""
    return f"/dev/{disk.name}", match[1] if match else ""
