"""What state a Windows guest is in, as far as it must be known before anything in it is changed. Pure; see ``states``."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import GuestFacts
from drivers.notes import of_notes
from drivers.plan import Finding
from drivers.windows.facts import WindowsFacts
from drivers.windows.states import activation, files, protection, roles, unfinished, volumes

_SHUT_DOWN = "Start it where it is, and shut it down with `shutdown /s /f /t 0`, which leaves no hibernation file."
_ARCHITECTURES = frozenset({"x86_64", "i386", "aarch64"})


def blockers(facts: GuestFacts, windows: WindowsFacts) -> Iterator[Finding]:
    """What keeps the guest from being changed at all."""
    where = windows.system_root.replace("/", "\\")
    if windows.hibernation == "hibernated":
        message = "it is hibernated (or was shut down by fast start-up): its file systems are in use by what its memory holds"
        yield Finding("windows.hibernated", message, _SHUT_DOWN)
    if windows.dirty:
        message = f"the file system of {where} was not left in order: {windows.dirty}"
        yield Finding("windows.dirty-volume", message, "Start it where it is, let Windows check the disk, and shut it down.")
    for name, hive in windows.registry.items():
        if hive.state == "unreadable":
            message = f"its registry cannot be read: {name}: {hive.problem}"
            yield Finding("windows.hive-unreadable", message, "Start it where it is: Windows repairs what it can, or says so.")
        elif hive.remarks:
            message = f"its registry is damaged: {name}: {hive.remarks[0]}"
            yield Finding("windows.hive-damaged", message, "Restore the hive from a backup, or start and repair it where it is.")
    sets = windows.control_sets
    if windows.registry and (sets.current is None or sets.current not in sets.present):
        message = f"its registry names no control set that is there (current: {sets.current}, present: {list(sets.present)})"
        yield Finding("windows.no-control-set", message)
    yield from volumes.blockers(facts, windows)
    if windows.arch not in _ARCHITECTURES:
        message = f"it is made for {windows.arch or 'a processor that nothing tells'}, and KVM has no such machine"
        yield Finding("windows.architecture", message)
    yield from unfinished.blockers(windows)
    yield from protection.blockers(windows)
    yield from files.blockers(windows)


def warnings(facts: GuestFacts, windows: WindowsFacts) -> Iterator[Finding]:
    """What is to be known besides."""
    yield from unfinished.warnings(windows)
    if windows.fast_startup and windows.hibernation == "none":
        message = "fast start-up is on: where it is shut down from its menu, it leaves a hibernated system"
        yield Finding("windows.fast-startup", message, "Turn it off with `powercfg /h off` before it is copied again.")
    for name, hive in windows.registry.items():
        if hive.state == "replayed":
            message = f"its registry ({name}) was in use when its disk was copied; what its logs hold belongs to it"
            hint = "Nothing has to be done. A copy of a machine that is shut down has none such."
            yield Finding("windows.hive-replayed", message, hint)
    yield from volumes.warnings(facts, windows)
    yield from files.warnings(windows)
    yield from roles.warnings(windows)
    yield from protection.warnings(windows)
    yield from activation.warnings(windows)
    yield from of_notes(facts.notes)
