"""From a machine's disks to facts: on this host where its readers can be trusted, else in a read-only appliance."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from converters.forgiving import ForgivingDisk
from converters.image import describe, identity, open_disk
from converters.mapped import MappedDisk
from converters.pending import pending_journal
from converters.storage import HostStorage
from drivers.confinement import confined
from drivers.facts import GuestFacts
from drivers.inspection import inspect_confined, needs_appliance
from drivers.keys import EVERY, Key
from drivers.layout import Layout, lay_out, locked, place
from p2v.core import jsonio
from p2v.core.acceleration import Acceleration
from p2v.core.disk import DiskReader
from p2v.core.errors import BadImage, Interrupted
from p2v.core.events import Reporter, Warned, phase
from p2v.core.waiting import told_when_slow
from p2v.documents import Inspection, SourceDisk
from p2v.machine import MachineDisk

# what would be wanted of an appliance that can open everything
_ANY_KEY = (Key(EVERY, ""),)


HostReader = Callable[[Sequence[DiskReader], Sequence[int]], GuestFacts]
"""From opened disks, and the descriptors that their readers keep besides those of their files, to facts. Raises ReaderCrashed."""


class Reading(enum.Enum):
    """Which way the guest's files are read."""

    AUTO = "auto"
    HOST = "host"
    APPLIANCE = "appliance"


def _by_host(readers: Sequence[DiskReader], fds: Sequence[int]) -> GuestFacts:
    return inspect_confined(readers, keep_fds=fds)


def inspect(
    disks: Sequence[MachineDisk],
    reading: Reading,
    acceleration: Callable[[], Acceleration],
    report: Reporter,
    keys: Sequence[Key] = (),
    by_host: HostReader = _by_host,
) -> Inspection:
    """Find out what is in a machine's disks; nothing is written. ``by_host``: reads the facts where this host's readers do.

    Raises NoSource, BadImage and its kin, Interrupted, NotPermitted, ReaderCrashed, and what the appliance raises where it is
    needed. No operating system is no error here: ``facts.os`` is None and the notes say what was seen.
    """
    with ExitStack() as stack, phase(report, "inspect", "Reading the guest"):
        readers, sources = [], []
        for disk in disks:
            with told_when_slow(report, str(disk.path)):
                readers.append(stack.enter_context(open_disk(disk.path, disk.input_format, disk.lookup)))
                _refuse_half_written(readers[-1])
                sources.append(_source(disk, readers[-1]))
        return Inspection(tuple(sources), _facts(disks, readers, reading, acceleration, report, keys, by_host))


def _refuse_half_written(reader: MappedDisk) -> None:
    """Raise Interrupted where a conversion in place was killed while it wrote the disk."""
    storage = HostStorage()
    noted = [path for path in reader.files if pending_journal(storage, path.resolve()) is not None]
    if not noted:
        return
    from converters.transaction import interrupted_journal

    for path in noted:
        journal = interrupted_journal(storage, path.resolve())
        if journal is not None:
            raise Interrupted(path, journal)


def _source(disk: MachineDisk, reader: MappedDisk) -> SourceDisk:
    return SourceDisk(disk.path, disk.input_format, describe(reader), identity(reader), disk.lookup)


def _facts(
    disks: Sequence[MachineDisk],
    readers: Sequence[MappedDisk],
    reading: Reading,
    acceleration: Callable[[], Acceleration],
    report: Reporter,
    keys: Sequence[Key],
    by_host: HostReader,
) -> GuestFacts:
    if reading is not Reading.APPLIANCE:
        # what cannot be read is as it will be in a result: the child tells nobody of it, the copy does
        facts = by_host([ForgivingDisk(reader) for reader in readers], _kept_fds(readers))
        layout = Layout.of(facts)
        why = needs_appliance(layout, facts, keys)
        if reading is Reading.HOST or not why:
            return _with_what_is_missing(facts, layout, keys)
        report(Warned(f"{why}; reading it in an appliance, which takes longer"))
    else:
        layout, why = _confined_layout(readers), "asked for"
    # most guests need none, and a start has enough to read without it
    from p2v.appliance_facts import by_appliance

    return by_appliance(disks, readers, layout, why, acceleration(), report, keys)


def _with_what_is_missing(facts: GuestFacts, layout: Layout, keys: Sequence[Key]) -> GuestFacts:
    """The facts with a note for each container that was not opened, where that may be why something was not found."""
    if facts.root is not None and not needs_appliance(layout, facts, _ANY_KEY):
        return facts
    notes = (f"{place(device)} is encrypted, and no key was given for it (--key)" for device in locked(layout, keys))
    return replace(facts, notes=(*facts.notes, *notes))


def _confined_layout(readers: Sequence[MappedDisk]) -> Layout:
    conv = jsonio.converter()
    data = confined(
        lambda inner: jsonio.encode(jsonio.converter(), lay_out(inner)),
        [ForgivingDisk(reader) for reader in readers],
        keep_fds=_kept_fds(readers),
    )
    try:
        return jsonio.decode(conv, data, Layout)
    except jsonio.BadDocument as error:
        raise BadImage(readers[0].files[0], f"its layout cannot be understood: {error}") from error


def _kept_fds(readers: Sequence[MappedDisk]) -> tuple[int, ...]:
    return tuple(fd for reader in readers for fd in reader.kept_fds)
