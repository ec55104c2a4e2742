"""Two listings of one file system, before and after: which names differ, and in what. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from drivers.listing import Entry, Listing, Runs

# Names for people, by the field of an entry.
FIELDS: Mapping[str, str] = {
    "type": "kind of file", "mode": "mode", "uid": "owner", "gid": "group", "links": "number of names", "size": "size",
    "inode": "inode number", "atime": "time of access", "mtime": "time of change", "ctime": "time of the inode's change",
    "target": "where the link leads", "number": "device number", "attributes": "extended attributes",
    "flags": "flags", "project": "project", "generation": "generation", "shown": "kind of file that its folder says",
}  # fmt: skip
CONTENTS = "contents"


@dataclass(frozen=True, slots=True)
class Difference:
    """A name that is not as it was. ``before`` None: it is new; ``after`` None: it is gone.

    ``what``: the fields that differ (keys of ``FIELDS``, and ``CONTENTS``).
    """

    path: str
    before: Entry | None
    after: Entry | None
    what: tuple[str, ...] = ()


def to_read(before: Listing, after: Listing, touched: Runs | None, *, same_inodes: bool = True) -> tuple[str, ...]:
    """Files that are in both and whose contents could differ, so that they have to be read.

    ``touched``: the ranges of the file system's device in which any byte differs; None when that is not known. A file whose
    contents stand at the same places in both, none of them touched, holds the same.
    """
    found = []
    for path, entry in after.entries.items():
        old = before.entries.get(path)
        if old is None or old.type != "f" or entry.type != "f" or not (entry.size or old.size):
            continue
        if touched is None or _may_differ(path, old, entry, (before, after), touched, same_inodes):
            found.append(path)
    return tuple(found)


def _may_differ(
    path: str, old: Entry, new: Entry, listings: tuple[Listing, Listing], touched: Runs, same_inodes: bool
) -> bool:
    before, after = (listing.places.get(path) for listing in listings)
    if before is None or before != after or (old.size, old.mtime) != (new.size, new.mtime):
        return True
    if same_inodes and old.inode != new.inode:
        return True
    return any(touched.touched(place.offset, place.length) for place in before)


def differences(
    before: Listing, after: Listing, digests: tuple[Mapping[str, str], Mapping[str, str]], *, same_inodes: bool = True
) -> Iterator[Difference]:
    """Every name that differs, in order. ``digests``: of the files that were read, before and after."""
    for path in sorted({*before.entries, *after.entries}):
        old, new = before.entries.get(path), after.entries.get(path)
        if old is None or new is None:
            yield Difference(path, old, new)
            continue
        what = [name for name in FIELDS if getattr(old, name) != getattr(new, name)]
        if not same_inodes and "inode" in what:
            what.remove("inode")
        if digests[0].get(path) != digests[1].get(path):
            what.append(CONTENTS)
        if what:
            yield Difference(path, old, new, tuple(what))


def words(difference: Difference) -> str:
    """What is different, for people: ``mode 0644 -> 0600, owner 0 -> 1000``."""
    old, new = difference.before, difference.after
    if new is None:
        return "is gone"
    if old is None:
        return "is new"
    return ", ".join(_field(name, old, new) for name in difference.what)


def _field(name: str, old: Entry, new: Entry) -> str:
    if name == CONTENTS:
        return "other contents"
    if name == "attributes":
        changed = sorted({key for key, _ in set(old.attributes) ^ set(new.attributes)})
        return f"{FIELDS[name]} {', '.join(changed)}"
    one, other = (f"{e.mode:04o}" if name == "mode" else str(getattr(e, name)) for e in (old, new))
    return f"{FIELDS[name]} {one} -> {other}"


