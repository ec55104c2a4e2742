"""What only the disks themselves show an audit, looked at in confined processes once the facts are known."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from converters.forgiving import ForgivingDisk
from converters.image import open_disk
from drivers.facts import GuestFacts, ReadBy
from drivers.guest_sights import GuestSights, look_confined
from p2v.core.errors import P2vError
from p2v.machine import MachineDisk


@dataclass(frozen=True, slots=True)
class Looked:
    """``inside``: None where nobody could look. ``failed``: what went wrong while the raw disks were looked at."""

    inside: GuestSights | None = None
    failed: P2vError | None = None


def look(disks: Sequence[MachineDisk], facts: GuestFacts) -> Looked:
    """Open the disks once more and look; raises nothing of the suite's own."""
    try:
        with ExitStack() as stack:
            opened = [stack.enter_context(open_disk(disk.path, disk.input_format, disk.lookup)) for disk in disks]
            fds = tuple(fd for reader in opened for fd in reader.kept_fds)
            # what cannot be read is as it will be in a result
            readers = [ForgivingDisk(reader) for reader in opened]
            return Looked(_inside(readers, facts, fds))
    except P2vError as error:
        return Looked(failed=error)


def _inside(readers: Sequence[ForgivingDisk], facts: GuestFacts, fds: tuple[int, ...]) -> GuestSights | None:
    if facts.os is None or facts.os.kind != "linux" or facts.read_by is not ReadBy.HOST:
        return None
    try:
        return look_confined(readers, keep_fds=fds)
    except P2vError:
        return None  # the rule that says so fires on nothing having been seen
