"""What only the disks themselves show an audit, looked at in a confined process once the facts are known."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from converters.forgiving import ForgivingDisk
from converters.image import open_disk
from drivers import disk_sights, guest_sights
from drivers.confinement import confined
from drivers.disk_sights import DiskSight
from drivers.facts import GuestFacts, ReadBy
from drivers.guest_sights import GuestSights
from p2v.core.disk import DiskReader
from p2v.core.errors import P2vError, ReaderCrashed
from p2v.machine import MachineDisk


@dataclass(frozen=True, slots=True)
class Looked:
    """``disks``: what the raw disks show. ``inside``: None where nobody could look. ``failed``: why nothing could be looked at."""

    disks: tuple[DiskSight, ...] = ()
    inside: GuestSights | None = None
    failed: P2vError | None = None


def look(disks: Sequence[MachineDisk], facts: GuestFacts) -> Looked:
    """Open the disks once more and look; raises nothing of the suite's own."""
    try:
        with ExitStack() as stack:
            opened = [stack.enter_context(open_disk(disk.path, disk.input_format, disk.lookup)) for disk in disks]
            fds = tuple(fd for reader in opened for fd in reader.kept_fds)
            # what cannot be read is as it will be in a result
            return _looked([ForgivingDisk(reader) for reader in opened], fds, _may_be_entered(facts))
    except P2vError as error:
        return Looked(failed=error)


def _may_be_entered(facts: GuestFacts) -> bool:
    """Whether it is a Linux that this host's readers have read already."""
    return facts.os is not None and facts.os.kind == "linux" and facts.read_by is ReadBy.HOST


def _looked(readers: Sequence[ForgivingDisk], fds: tuple[int, ...], enter: bool) -> Looked:
    if enter:
        try:
            return _together(readers, fds)
        except P2vError:
            pass  # the guest's files ended it, most likely: that nobody looked inside is a finding of its own
    return Looked(disk_sights.sights_confined(readers, fds))


def _together(readers: Sequence[ForgivingDisk], fds: tuple[int, ...]) -> Looked:
    """Both in one child: most of what either costs is the child."""

    def work(disks: Sequence[DiskReader]) -> Any:
        raw = disk_sights.encoded(disk_sights.look_at(disks))
        return {"disks": raw, "inside": guest_sights.encoded(guest_sights.look_at(disks))}

    name = str(readers[0].files[0]) if readers and readers[0].files else "disk"
    match confined(work, readers, keep_fds=fds):
        case {"disks": disks, "inside": inside}:
            return Looked(disk_sights.decoded(disks, name), guest_sights.decoded(inside, name))
    raise ReaderCrashed(name, "gave sights that are none")
