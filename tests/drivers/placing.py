"""Looking for the places of files, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from drivers.facts import GuestFacts
from drivers.file_places import FilePlaces, places_confined
from drivers.inspection import inspect_disks
from drivers.unneeded import unneeded_files
from tests.drivers.making import MIB, run
from tests.drivers.raw_reader import RawReader

SWAP_BYTES = 3 * MIB


def swap_file(path: Path, size: int = SWAP_BYTES) -> bytes:
    """A swap file without a zero in its first page, which would be a hole where mke2fs or debugfs copies it; its bytes."""
    path.write_bytes(os.urandom(size))
    run("mkswap", path)
    head = path.read_bytes()[:4096]
    with path.open("r+b") as file:
        file.write(b"\x55" * 1024 + head[1024:1536] + b"\x55" * 2550 + head[4086:])
    return path.read_bytes()


@contextmanager
def opened(*disks: Path) -> Iterator[list[RawReader]]:
    with ExitStack() as stack:
        readers = [RawReader(disk) for disk in disks]
        for reader in readers:
            stack.callback(reader.close)
        yield readers


def facts_of(disk: Path) -> GuestFacts:
    with opened(disk) as readers:
        return inspect_disks(readers)


def found(disk: Path, facts: GuestFacts, *, hibernation: bool = False) -> tuple[FilePlaces, ...]:
    with opened(disk) as readers:
        return places_confined(unneeded_files(facts, hibernation=hibernation), facts, readers)


def contents(disk: Path, places: FilePlaces) -> bytes:
    """What stands there, in the file's order."""
    assert not places.why_whole
    position, parts = 0, []
    with opened(disk) as (reader,):
        for segment in places.segments:
            assert segment.offset == position
            parts.append(reader.pread(segment.length, segment.disk_offset))
            position += segment.length
    return b"".join(parts)
