"""The disks of a conversion in place: fit for it, what QEMU will run from, and open for nobody else while it lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from converters.claims import claimed
from converters.in_place import RunsFrom, data_files, dependents, refuse_unsuitable
from converters.mapped import MappedDisk
from converters.qemu_img import QemuImg
from converters.storage import HostFile
from p2v.core.errors import DiskInUse, NotInPlace
from p2v.core.run import SystemRunner
from p2v.settling import lasting_name


@dataclass(frozen=True, slots=True)
class FitDisk:
    """A source that was found fit, and the open files its bytes stand in (by their place in the journal)."""

    reader: MappedDisk
    files: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClaimedDisks:
    """Everything that is written to, open and locked; ``paths`` are the names that stay (by-id for devices)."""

    disks: tuple[FitDisk, ...]
    handles: tuple[HostFile, ...]
    paths: tuple[Path, ...]


def refuse_unfit(reader: MappedDisk) -> None:
    """Raise NotInPlace for a disk that may not be written where it stands, also for the sake of others that are over it."""
    refuse_unsuitable(reader)
    child = next(dependents(reader), None)
    if child is not None:
        problem = f"{child.name} holds changes to it, and would be damaged"
        raise NotInPlace(
            reader.files[0], problem, "Name that one if it is the machine's present state, and convert with a copy."
        )


def require_same_sizes(run: Sequence[RunsFrom], readers: Sequence[MappedDisk]) -> None:
    """QEMU sizes some VHDs by rules of its own; a machine must not see another disk than was converted."""
    tool = QemuImg(SystemRunner())
    for each, reader in zip(run, readers, strict=True):
        size = tool.info(each.path, each.format).virtual_size if each.format != "raw" else reader.virtual_size
        if size != reader.virtual_size:
            raise NotInPlace(each.path, f"QEMU would show {size} bytes of its {reader.virtual_size}")


@contextmanager
def claimed_disks(readers: Sequence[MappedDisk]) -> Iterator[ClaimedDisks]:
    """Open everything the disks' bytes stand in for writing, until the context ends.

    Raises DiskInUse, also when a file was written to since the reader opened it, and what ``claimed`` raises.
    """
    paths: dict[Path, int] = {}
    disks = []
    for reader in readers:
        numbers = [paths.setdefault(lasting_name(file.path), len(paths)) for file in data_files(reader)]
        disks.append(FitDisk(reader, tuple(numbers)))
    with claimed(list(paths)) as handles:
        for disk in disks:
            for number, file in zip(disk.files, data_files(disk.reader), strict=True):
                state = handles[number].state()
                if (state.size, state.mtime_ns) != (file.size, 0 if file.is_block_device else file.mtime_ns):
                    raise DiskInUse(file.path, "it was written to just now")
        yield ClaimedDisks(tuple(disks), handles, tuple(paths))
