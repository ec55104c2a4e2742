"""Registry hives of both sides of a proof: keys and values compared, and held against the edits that were planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from drivers.changes import EditHive
from drivers.facts import Mount
from drivers.listing import Listing
from drivers.planned import Outcomes, Unexplained
from drivers.walk import Walk, WalkedFileSystem
from drivers.windows.hive_edit import problems_confined
from drivers.windows.regf import HIVE_BYTES_AT_MOST


@dataclass
class EditedHives:
    """What is wrong with hives that were edited, and those of which nothing is (``stands``)."""

    problems: list[Unexplained] = field(default_factory=list)
    stands: set[str] = field(default_factory=set)


def edited_hives(
    walks: tuple[Walk, Walk], walked: Sequence[WalkedFileSystem], planned: Outcomes, listings: tuple[Listing, Listing], mount: Mount
) -> EditedHives:
    """The hives of one file system. ``mount``: where it is mounted. Raises ApplianceFailed, ReaderCrashed."""
    found = EditedHives()
    for path, outcome in planned.of.items():
        if outcome.edits is None:
            continue
        texts = tuple(_problems(walks, walked, listings, path, outcome.edits, mount))
        found.problems += [Unexplained(path, text) for text in texts]
        if not texts:
            found.stands.add(path)
    return found


def _problems(
    walks: tuple[Walk, Walk],
    walked: Sequence[WalkedFileSystem],
    listings: tuple[Listing, Listing],
    path: str,
    change: EditHive,
    mount: Mount,
) -> Iterator[str]:
    sizes = [_size(listing, path) for listing in listings]
    if any(size is None or size > HIVE_BYTES_AT_MOST for size in sizes):
        yield "is no file that can be compared as a hive"
        return
    before, after = (
        walk.read(system, path, 0, size or 0) for walk, system, size in zip(walks, walked, sizes, strict=True)
    )
    logs = []
    for log in change.logs:
        below = log.path if mount.mountpoint == "/" else log.path.removeprefix(mount.mountpoint.rstrip("/"))
        logs.append(walks[0].read(walked[0], below, 0, log.size))
    yield from (f"in its registry: {problem}" for problem in problems_confined(before, logs, after, change.edits))


def _size(listing: Listing, path: str) -> int | None:
    entry = listing.entries.get(path)
    return entry.size if entry is not None and entry.type == "f" else None
