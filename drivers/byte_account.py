"""Every byte of a file system that differs, called by what it is: contents of a planned name, or the file system's own keeping.

The names were compared already (``drivers/differences.py``); what differs below them has to belong to them. Pure: reads through
the functions it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from drivers.ext4_layout import (
    SUPERBLOCK_BYTES,
    SUPERBLOCK_OFFSET,
    Ext4Layout,
    Read,
    Region,
    inode_differences,
    is_free,
    superblock_differences,
)
from drivers.listing import Listing, Runs
from drivers.planned import Unexplained

_FIRST_OF_FILES = 11
_NEEDS_RECOVERY_OFFSET, _NEEDS_RECOVERY = 0x60, 0x4
# Fields of an inode that belong to writing its contents, or names into its folder; all else that the lists do not show is not.
_OF_WRITING = frozenset({
    "size", "blocks", "map of blocks", "checksum", "version", "time of change", "time of the inode's change", "number of names",
})  # fmt: skip
_OF_FOLDERS = frozenset({"flags"})  # the index of a folder's names


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


@dataclass
class _Ext4Account:
    """``planned``: paths that were found to differ as planned, and whether what stands there was made."""

    layouts: tuple[Ext4Layout, Ext4Layout]
    listings: tuple[Listing, Listing]
    planned: Mapping[str, bool]
    kinds: Counter[str] = field(default_factory=Counter)
    problems: dict[tuple[str, str], None] = field(default_factory=dict)
    _names: dict[int, set[str]] = field(default_factory=dict)
    _owners: list[tuple[int, int, str]] = field(default_factory=list)
    _maps: set[int] = field(default_factory=set)

    def prepare(self, runs: Sequence[tuple[int, int]]) -> None:
        """Look up whose contents stand where something differs, and which inodes are whose."""
        touched = Runs(runs)
        for listing, layout in zip(self.listings, self.layouts, strict=True):
            for path, entry in listing.entries.items():
                self._names.setdefault(entry.inode, set()).add(path)
                if path in self.planned:
                    self._maps |= layout.map_blocks_of(entry.inode)
            for path, places in listing.places.items():
                found = (place for place in places if touched.touched(place.offset, place.length))
                self._owners += [(place.offset, place.length, path) for place in found]

    def add(self, offset: int, length: int) -> None:
        """Account for a range that differs, which lies in one block."""
        layout = self.layouts[1]
        block = offset // layout.block_bytes
        region = layout.region_at(block)
        if offset < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES:
            self._head(offset, length)
        elif region is None:
            self._contents(block, offset, length)
        elif region.meaning == "inode table":
            self._inodes(region, offset, length)
        elif region.meaning.startswith("copy of"):
            self._problem("", f"{region.meaning} in group {region.group} differs")
        else:
            self.kinds[region.meaning] += length

    def _head(self, offset: int, length: int) -> None:
        if offset < SUPERBLOCK_OFFSET:
            self._problem("", "the boot sectors of the file system differ")
        if offset + length > SUPERBLOCK_OFFSET:
            names, others = superblock_differences(*(layout.superblock for layout in self.layouts))
            for at in others:
                self._problem("", f"the superblock differs at byte {at}")
            self.kinds[f"superblock ({', '.join(names)})"] += length

    def _contents(self, block: int, offset: int, length: int) -> None:
        owners = {path for start, size, path in self._owners if start < offset + length and offset < start + size}
        if owners & self.planned.keys():
            self.kinds["contents of planned names"] += length
        elif block in self._maps:
            self.kinds["where the contents of planned names stand"] += length
        elif not self.layouts[1].is_used(block):
            self.kinds["free space"] += length
        elif owners:
            self._problem(min(owners), f"bytes of it differ (byte {offset} of the file system), and nobody planned that")
        else:
            self._problem("", f"byte {offset} differs, in a structure that belongs to nothing planned")

    def _inodes(self, region: Region, offset: int, length: int) -> None:
        for number in self.layouts[1].inodes_at(region, offset, length):
            before, after = (layout.inode(number) for layout in self.layouts)
            if before == after:
                continue
            self.kinds["inodes"] += len(after)
            if not is_free(after):
                self._inode(number, before, after)

    def _inode(self, number: int, before: bytes, after: bytes) -> None:
        fields = inode_differences(before, after)
        names = self._names.get(number, set())
        if not names:
            what = "of the file system's own" if number < _FIRST_OF_FILES else "that no name leads to"
            self._problem("", f"inode {number}, {what}, differs: {', '.join(fields)}")
            return
        planned = sorted(names & self.planned.keys())
        if not planned:
            self._problem(min(names), f"its inode differs ({', '.join(fields)}), and nobody planned that")
        elif not is_free(before) and not any(self.planned[path] for path in planned):
            entry = self.listings[1].entries.get(planned[0])
            allowed = _OF_WRITING | (_OF_FOLDERS if entry is not None and entry.type == "d" else frozenset())
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

    Raises ``ext4_layout.NotUnderstood``.
    """
    before, after = Ext4Layout(sides.before, sides.size), Ext4Layout(sides.after, sides.size)
    if before.superblock[_NEEDS_RECOVERY_OFFSET] & _NEEDS_RECOVERY:
        note = "its journal had to be replayed first: names and contents were compared, structures were not"
        return ByteAccount({"what the journal held, and planned names": sum(n for _, n in runs)}, (), (note,))
    account = _Ext4Account((before, after), listings, planned)
    account.prepare(runs)
    if before.regions != after.regions:
        account.problems["", "its structures stand at other places"] = None
    for offset, length in _by_block(runs, after.block_bytes):
        account.add(offset, length)
    return ByteAccount(dict(account.kinds), tuple(Unexplained(path or "/", text) for path, text in account.problems))


def _by_block(runs: Sequence[tuple[int, int]], block_bytes: int) -> Iterator[tuple[int, int]]:
    for offset, length in runs:
        end = offset + length
        while offset < end:
            part = min(end, (offset // block_bytes + 1) * block_bytes) - offset
            yield offset, part
            offset += part
