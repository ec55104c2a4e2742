"""Every byte of a file system that differs, called by what it is: contents of a planned name, or the file system's own keeping.

The names were compared already (``drivers/differences.py``); what differs below them has to belong to them. Pure: reads through
the functions it is given.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from drivers.ext4_fields import (
    ATTRIBUTES_IN_INODE,
    INLINE_FLAG,
    flags_of,
    inode_differences,
    is_free,
    needs_recovery,
    new_inode_problems,
    odd_flags,
    superblock_differences,
)
from drivers.ext4_keeping import Keeping, Owned, owned_by, waiting
from drivers.ext4_layout import SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Ext4Layout, NotUnderstood, Read, Region
from drivers.listing import Entry, Listing, Runs
from drivers.planned import Unexplained

# Fields of an inode that belong to writing its contents, or names into its folder; all else that the lists do not show is not.
_OF_WRITING = frozenset({
    "size", "blocks", "map of blocks", "checksum", "version", "time of change", "time of the inode's change", "number of names",
})  # fmt: skip
_OF_OWN_FILES = _OF_WRITING - {"number of names"}
# regions whose every byte may differ: what they say is looked at by what it means
_KEPT_BY_MEANING = (
    "block bitmap", "inode bitmap", "group descriptors", "journal", "quota", "list of orphans", "who has it mounted",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ByteAccount:
    """``kinds``: bytes that differ, by what they are. ``notes``: what has to be said besides."""

    kinds: Mapping[str, int]
    unexplained: tuple[Unexplained, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sides:
    """A file system's device before and after, ``size`` bytes of it."""

    before: Read
    after: Read
    size: int


class _Owners:
    """Ranges (offset, length) with the paths whose contents they are; they may overlap."""

    def __init__(self, ranges: Iterable[tuple[int, int, str]]) -> None:
        self._ranges = sorted(ranges)
        self._ends = list(accumulate((start + length for start, length, _ in self._ranges), max))

    def of(self, offset: int, length: int) -> set[str]:
        """Whose contents any byte of a range is."""
        index = bisect_left(self._ranges, (offset + length, 0, "")) - 1
        found = set()
        while index >= 0 and self._ends[index] > offset:
            start, size, path = self._ranges[index]
            if start + size > offset:
                found.add(path)
            index -= 1
        return found


@dataclass
class _Ext4Account:
    """``planned``: paths that were found to differ as planned, and whether what stands there was made."""

    layouts: tuple[Ext4Layout, Ext4Layout]
    listings: tuple[Listing, Listing]
    planned: Mapping[str, bool]
    kinds: Counter[str] = field(default_factory=Counter)
    problems: dict[tuple[str, str], None] = field(default_factory=dict)
    _names: dict[int, set[str]] = field(default_factory=dict)
    _owners: _Owners = field(default_factory=lambda: _Owners(()))
    _owned: tuple[Owned, ...] = ()
    _bitmaps: set[int] = field(default_factory=set)

    def prepare(self, runs: Sequence[tuple[int, int]], owned: Owned) -> None:
        """Look up whose contents stand where something differs, and which inodes are whose."""
        touched = Runs(runs)
        owners: list[tuple[int, int, str]] = []
        for listing in self.listings:
            for path, entry in listing.entries.items():
                self._names.setdefault(entry.inode, set()).add(path)
            for path, places in listing.places.items():
                found = (place for place in places if touched.touched(place.offset, place.length))
                owners += [(place.offset, place.length, path) for place in found]
        self._owners = _Owners(owners)
        entries = self.listings[1].entries
        inodes = (entries[path].inode for path in self.planned if path in entries)
        self._owned = (owned, owned_by(self.layouts[1], inodes))

    def add(self, offset: int, length: int) -> None:
        """Account for a range that differs, which lies in one block and on one side of the superblock's ends."""
        layout = self.layouts[1]
        block = offset // layout.block_bytes
        region = layout.region_at(block)
        if offset < SUPERBLOCK_OFFSET:
            self._problem("", "the boot sectors of the file system differ")
        elif offset < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES:
            self._superblock(length)
        elif region is None:
            self._contents(block, offset, length)
        elif region.meaning == "inode table":
            self._inodes(region, offset, length)
        elif region.meaning in _KEPT_BY_MEANING:
            self.kinds[region.meaning] += length
            if region.meaning.endswith("bitmap"):
                self._bitmaps.add(region.group)
        else:
            self._problem("", f"{region.meaning} in group {region.group} differs")

    def structures(self) -> None:
        """Hold against the plan what the structures mean that differ."""
        before, after = self.layouts
        for problem in waiting(before, after):
            self._problem("", problem)
        folders = frozenset(
            entry.inode for path, is_new in self.planned.items()
            if is_new and (entry := self.listings[1].entries.get(path)) is not None and entry.type == "d"
        )  # fmt: skip
        keeping = Keeping(before, after, (self._owned[0], self._owned[1]), folders, frozenset(self._bitmaps))
        for problem in keeping.problems():
            self._problem("", problem)
        self._shared_blocks()
        for path, is_new in self.planned.items():
            entry = self.listings[1].entries.get(path)
            if entry is not None:
                self._ends(path, entry)
                if not after.counts_its_blocks(entry.inode):
                    self._problem(path, "its inode counts other blocks than it has")
                if is_new:
                    self._made(path, entry)

    def _shared_blocks(self) -> None:
        """No other file has a block of a planned one."""
        size = self.layouts[1].block_bytes
        ours = Runs([(first * size, count * size) for first, count in self._owned[1].blocks])
        for path, places in self.listings[1].places.items():
            is_other = path in self.listings[1].entries and self.listings[1].entries[path].inode not in self._owned[1].inodes
            if is_other and any(ours.touched(place.offset, place.length) for place in places):
                self._problem(path, "has blocks that belong to a planned name too")

    def _ends(self, path: str, entry: Entry) -> None:
        """Behind the end of what was written there is nothing: neither blocks, nor bytes in the last one."""
        size = self.layouts[1].block_bytes
        if entry.type != "f":
            return
        places = self.listings[1].places.get(path, ())
        end = -(-entry.size // size) * size
        if any(p.logical + p.length > end for p in places) and places != self.listings[0].places.get(path):
            self._problem(path, "has blocks behind its end")
        for place in places:
            if place.logical <= entry.size < place.logical + place.length and not place.is_unwritten and entry.size % size:
                self._last_block(path, place.offset + entry.size - place.logical, size - entry.size % size)

    def _last_block(self, path: str, offset: int, length: int) -> None:
        before, after = (layout.bytes_at(length, offset) for layout in self.layouts)
        if any(after) and before != after:
            self._problem(path, f"has bytes behind its end (byte {offset} of the file system)")

    def _made(self, path: str, entry: Entry) -> None:
        folder = self.listings[1].folder_of(path)
        if folder is not None:
            layout = self.layouts[1]
            inodes = layout.inode(entry.inode), layout.inode(folder.inode)
            for problem in new_inode_problems(*inodes, has_attributes=bool(entry.attributes)):
                self._problem(path, problem)

    def _superblock(self, length: int) -> None:
        names, others = superblock_differences(*(layout.superblock for layout in self.layouts))
        for at in others:
            self._problem("", f"the superblock differs at byte {at}")
        self.kinds[f"superblock ({', '.join(names)})"] += length

    def _contents(self, block: int, offset: int, length: int) -> None:
        owners = self._owners.of(offset, length)
        if owners & self.planned.keys():
            self.kinds["contents of planned names"] += length
        elif any(owned.has(block) for owned in self._owned):
            self.kinds["where the contents of planned names stand"] += length
        elif owners:
            self._problem(min(owners), f"bytes of it differ (byte {offset} of the file system), and nobody planned that")
        elif not self.layouts[1].is_used(block):
            self.kinds["free space"] += length
        else:
            self._problem("", f"byte {offset} differs, in a structure that belongs to nothing planned")

    def _inodes(self, region: Region, offset: int, length: int) -> None:
        for number in self.layouts[1].inodes_at(region, offset, length):
            before, after = (layout.inode(number) for layout in self.layouts)
            if before == after:
                continue
            self.kinds["inodes"] += len(after)
            if number < self.layouts[1].first_inode or not is_free(after):
                self._inode(number, before, after)

    def _inode(self, number: int, before: bytes, after: bytes) -> None:
        fields = inode_differences(before, after)
        names = self._names.get(number, set())
        if not names:
            own = self.layouts[1].own_inodes.get(number)
            odd = [name for name in fields if name not in _OF_OWN_FILES] if own in ("quota", "list of orphans") else fields
            what = "of the file system's own" if number < self.layouts[1].first_inode else "that no name leads to"
            if odd:
                self._problem("", f"inode {number}, {what}, differs: {', '.join(odd)}")
            return
        planned = sorted(names & self.planned.keys())
        if not planned:
            self._problem(min(names), f"its inode differs ({', '.join(fields)}), and nobody planned that")
        elif not is_free(before) and not any(self.planned[path] for path in planned):
            allowed = _OF_WRITING | (frozenset() if odd_flags(before, after) else {"flags"})
            if (flags_of(before) | flags_of(after)) & INLINE_FLAG:
                allowed |= {ATTRIBUTES_IN_INODE}  # contents, or names, stand among them
            odd = [name for name in fields if name not in allowed]
            if odd:
                self._problem(planned[0], f"its inode differs in {', '.join(odd)}, and nobody planned that")

    def _problem(self, path: str, problem: str) -> None:
        self.problems[path, problem] = None


def account_ext4(
    sides: Sides, runs: Sequence[tuple[int, int]], listings: tuple[Listing, Listing], planned: Mapping[str, bool]
) -> ByteAccount:
    """Account for all ranges (offset, length) of an ext file system in which bytes differ.

    ``planned``: the paths whose difference a change explained, and whether what stands there was made. Where the journal of
    the one before had to be replayed, its structures are old, and only the names were compared.

    Raises ``ext4_layout.NotUnderstood`` when the one before is not; damage of the one after is a problem.
    """
    before = Ext4Layout(sides.before, sides.size)
    inodes = [listings[0].entries[path].inode for path in planned if path in listings[0].entries]
    if before.regions and needs_recovery(before.superblock):
        return _replayed(sides, runs)
    owned = owned_by(before, inodes)
    try:
        after = Ext4Layout(sides.after, sides.size)
        if after.shape != before.shape or after.regions != before.regions:
            raise NotUnderstood("they stand at other places")
        account = _Ext4Account((before, after), listings, planned)
        account.prepare(runs, owned)
        for offset, length in _parts(runs, after.block_bytes):
            account.add(offset, length)
        account.structures()
    except NotUnderstood as error:
        damage = Unexplained("/", f"its structures were understood, and are not any more: {error}")
        return ByteAccount({"not understood": sum(n for _, n in runs)}, (damage,))
    return ByteAccount(dict(account.kinds), tuple(Unexplained(path or "/", text) for path, text in account.problems))


def _replayed(sides: Sides, runs: Sequence[tuple[int, int]]) -> ByteAccount:
    """Where the one before had to be replayed first, the one after is clean."""
    note = "its journal had to be replayed first: names and contents were compared, structures were not"
    try:
        after = Ext4Layout(sides.after, sides.size)
        problems = tuple(Unexplained("/", text) for text in waiting(after, after))
    except NotUnderstood as error:
        problems = (Unexplained("/", f"its structures were understood, and are not any more: {error}"),)
    return ByteAccount({"what the journal held, and planned names": sum(n for _, n in runs)}, problems, (note,))


def _parts(runs: Sequence[tuple[int, int]], block_bytes: int) -> Iterator[tuple[int, int]]:
    """The runs cut at the ends of blocks and of the superblock."""
    for offset, length in runs:
        end = offset + length
        while offset < end:
            stops = ((offset // block_bytes + 1) * block_bytes, SUPERBLOCK_OFFSET, SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES)
            part = min(end, *(stop for stop in stops if stop > offset)) - offset
            yield offset, part
            offset += part
