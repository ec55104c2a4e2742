"""Volumes that only Windows opens, as fuzzing targets: what is read of BitLocker's and of dynamic disks, up to the plan's words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from drivers.facts import GuestFacts, ReadBy
from drivers.layout import lay_out
from drivers.windows.names import Names
from drivers.windows.state_reading import file_version
from drivers.windows.states import volumes
from tests.drivers.memory_tree import InMemoryTree
from tests.drivers.raw_reader import RawReader
from tests.drivers.windows import bitlocker_writer as bitlocker
from tests.drivers.windows.dynamic_disks import dynamic_disk
from tests.fuzz.laying import laid


def locked(folder: Path) -> Iterable[Path]:
    """One of each form."""
    block = bitlocker.metadata([bitlocker.TPM, bitlocker.RECOVERY, bitlocker.CLEAR])
    older = bitlocker.metadata([bitlocker.TPM], version=1)
    forms = {"seven": bitlocker.volume(block), "to-go": bitlocker.volume(block, to_go=True)}
    forms["vista"] = bitlocker.volume(older, vista=True)
    return laid(folder, {name: bytes(raw) for name, raw in forms.items()})


def dynamic(folder: Path) -> Iterable[Path]:
    """A disk with an MBR."""
    return [dynamic_disk(folder / "seed-dynamic", disks=3)]


def read_disk(path: Path) -> None:
    """What is found on a disk, and what a plan says of it."""
    reader = RawReader(path)
    try:
        layout = lay_out([reader])
    finally:
        reader.close()
    facts = GuestFacts(ReadBy.HOST, layout.disks, layout.partitions)
    found = volumes.without_system(facts)
    assert found is None or (found.message.isprintable() and len(found.message) < 20_000)


def versions(folder: Path) -> Iterable[Path]:
    """A program with the version of Windows 7 in it."""
    return laid(folder, {"ci": b"MZ" + bytes(60) + bytes.fromhex("bd04effe00000100 01000600 0144b11d") + bytes(40)})


def read_version(path: Path) -> None:
    """The version of a program."""
    found = file_version(Names(InMemoryTree({"/ci.dll": path.read_bytes()})), "/ci.dll")
    assert all(0 <= number <= 0xFFFF for number in found)
    assert len(found) in (0, 4)
