"""What only the disks themselves show an audit, looked at in a confined process: the one that reads the facts, where it can be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from converters.forgiving import ForgivingDisk
from converters.image import open_disk
from drivers import disk_sights, guest_sights
from drivers.confinement import confined, disks_name
from drivers.disk_sights import DiskSight
from drivers.facts import GuestFacts, ReadBy
from drivers.guest_sights import GuestSights
from drivers.inspection import facts_and_tree, facts_decoded, facts_encoded, inspect_confined
from p2v.core.disk import DiskReader
from p2v.core.errors import P2vError, ReaderCrashed
from p2v.machine import MachineDisk


@dataclass(frozen=True, slots=True)
class Looked:
    """``disks``: what the raw disks show. ``inside``: None where nobody could look. ``failed``: why nothing could be looked at."""

    disks: tuple[DiskSight, ...] = ()
    inside: GuestSights | None = None
    failed: P2vError | None = None


@dataclass(slots=True)
class Looking:
    """Reads facts as ``inspect_confined`` does, and looks in the same child: most of what either costs is the child."""

    _looked: Looked | None = None

    def facts(self, readers: Sequence[DiskReader], fds: Sequence[int]) -> GuestFacts:
        """Raises what ``inspect_confined`` raises; what is looked at besides never costs the facts."""
        try:
            facts, self._looked = _at_once(readers, fds)
        except ReaderCrashed:
            # of what was done in the child, it may have been the looking that ended it
            return inspect_confined(readers, keep_fds=fds)
        return facts

    def seen(self, disks: Sequence[MachineDisk], facts: GuestFacts) -> Looked:
        """What was seen; where nothing could be with the facts it is looked for now. Raises nothing of the suite's own."""
        if self._looked is None:
            return _look(disks, facts)
        return self._looked if _may_be_entered(facts) else replace(self._looked, inside=None)


def _at_once(readers: Sequence[DiskReader], fds: Sequence[int]) -> tuple[GuestFacts, Looked | None]:
    def work(disks: Sequence[DiskReader]) -> Any:
        facts, tree = facts_and_tree(disks)
        told = facts_encoded(facts)
        try:
            return {"facts": told, "disks": _raw(disks), "inside": guest_sights.encoded(guest_sights.look_over_host(tree))}
        except Exception:  # noqa: BLE001 - it is looked at once more by itself, and tells then what came to pass
            return {"facts": told}

    name = disks_name(readers)
    match confined(work, readers, keep_fds=fds):
        case {"facts": told, "disks": raw, "inside": inside}:
            looked = Looked(disk_sights.decoded(raw, name), guest_sights.decoded(inside, name))
            return facts_decoded(told, name), looked
        case {"facts": told}:
            return facts_decoded(told, name), None
    raise ReaderCrashed(name, "gave facts that are none")


def _look(disks: Sequence[MachineDisk], facts: GuestFacts) -> Looked:
    """Open the disks once more and look."""
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
    """Both in one child, with its limits for them alone: beside the facts they may have been too much."""

    def work(disks: Sequence[DiskReader]) -> Any:
        return {"disks": _raw(disks), "inside": guest_sights.encoded(guest_sights.look_at(disks))}

    name = disks_name(readers)
    match confined(work, readers, keep_fds=fds):
        case {"disks": disks, "inside": inside}:
            return Looked(disk_sights.decoded(disks, name), guest_sights.decoded(inside, name))
    raise ReaderCrashed(name, "gave sights that are none")


def _raw(disks: Sequence[DiskReader]) -> Any:
    return disk_sights.encoded(disk_sights.look_at(disks))
