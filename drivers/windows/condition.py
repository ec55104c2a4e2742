"""What state a Windows guest is in, as far as it must be known before anything in it is changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import GuestFacts
from drivers.plan import Finding
from drivers.windows.facts import WindowsFacts

_SHUT_DOWN = "Start it where it is, and shut it down with `shutdown /s /f /t 0`, which leaves no hibernation file."
_ARCHITECTURES = frozenset({"x86_64", "i386", "aarch64"})
# the logical disk manager's partitions: MBR type, and the GPT types of its data and of its database
_DYNAMIC = frozenset({"42", "af9b60a0-1431-4f62-bc68-3311714a69ad", "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"})
_SET_UP = "its own set-up"


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
    place = (facts.root.disk, facts.root.partition) if facts.root is not None else None
    if any((p.disk, p.number) == place and p.type_id in _DYNAMIC for p in facts.partitions):
        message = f"{where} is on a dynamic disk: what is written to it may belong to a mirror or a part that is elsewhere too"
        yield Finding("windows.dynamic-disk", message, "Make its disks basic ones where it runs, or back it up onto basic ones.")
    if windows.arch not in _ARCHITECTURES:
        message = f"it is made for {windows.arch or 'a processor that nothing tells'}, and KVM has no such machine"
        yield Finding("windows.architecture", message)
    if _SET_UP in windows.pending:
        message = "Windows has not finished setting itself up"
        yield Finding("windows.set-up", message, "Start it where it is until it asks for a log-on, and shut it down.")


def warnings(facts: GuestFacts, windows: WindowsFacts) -> Iterator[Finding]:
    """What is to be known besides."""
    for what in windows.pending:
        if what != _SET_UP:
            hint = "It goes on at the first start on KVM, which then takes longer; better, restart it once before."
            yield Finding("windows.pending", f"it has not finished: {what}", hint)
    if windows.fast_startup and windows.hibernation == "none":
        message = "fast start-up is on: where it is shut down from its menu, it leaves a hibernated system"
        yield Finding("windows.fast-startup", message, "Turn it off with `powercfg /h off` before it is copied again.")
    for name, hive in windows.registry.items():
        if hive.state == "replayed":
            message = f"its registry ({name}) was in use when its disk was copied; what its logs hold belongs to it"
            yield Finding("windows.hive-replayed", message)
    if windows.version.is_domain_controller:
        message = "it is a domain controller: a copy that runs beside it, or an older state of it, harms the whole domain"
        yield Finding("windows.domain-controller", message, "Never start the source again once the copy has run.")
    yield from (Finding("guest.reading", note) for note in facts.notes)
