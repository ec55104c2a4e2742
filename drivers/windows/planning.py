"""From the facts of a Windows guest to its plan. Pure: nothing is read, nothing is run, nothing is written."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.caps import GuestCaps
from drivers.changes import Change, DiscardHibernation
from drivers.facts import GuestFacts
from drivers.plan import GuestPlan, PlanOptions
from drivers.windows import (
    boot_entries,
    boot_start,
    condition,
    crash_control,
    disk_policy,
    drive_letters,
    edition_limits,
    fallback,
    fast_startup,
    hardware,
    hibernation,
    leftovers,
    network_setup,
    old_boot,
    processors,
    scope,
    virtio_drivers,
)
from drivers.windows.contribution import WindowsContribution, hive_changes, joined
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.firstboot import planning as firstboot
from drivers.windows.placed import still_to_do

_FIRST_WITH_BCD = (6, 0)


def plan_windows(facts: GuestFacts, options: PlanOptions) -> GuestPlan:
    """All changes, warnings and blockers of a Windows guest, in an order that depends on nothing but the facts.

    Of ``options`` the drivers, the machine's network cards and what is wanted of other hypervisors' tools are looked at.
    """
    windows = facts.windows
    if windows is None or facts.os is None:
        raise ValueError("no Windows to plan for")
    caps = _caps(facts, windows, options)
    every = joined((hardware.contribute(windows, caps), *_contributions(facts, windows, options)))
    is_known = windows.registry[SYSTEM].state != "unreadable"
    no_disk = fallback.blockers(caps, windows) if is_known else ()
    state = hibernation.blockers(condition.blockers(facts, windows), windows, options)
    return GuestPlan(
        _in_order((*hive_changes(windows, every.edits), *still_to_do(every.changes, windows))),
        (*condition.warnings(facts, windows), *scope.warnings(options), *every.warnings),
        (*state, *scope.blockers(facts, windows), *no_disk, *every.blockers),
        fallback.with_fallback(caps, windows) if is_known else caps,
    )


def _in_order(changes: Sequence[Change]) -> tuple[Change, ...]:
    """What has to be done before the file system can be written to comes first."""
    return tuple(sorted(changes, key=lambda change: not isinstance(change, DiscardHibernation)))


def _caps(facts: GuestFacts, windows: WindowsFacts, options: PlanOptions) -> GuestCaps:
    """What the guest finds drivers for: its own and those that it is given."""
    caps = virtio_drivers.with_drivers(hardware.plan_caps(facts, windows), options.drivers)
    return edition_limits.with_limits(processors.with_processors(caps, windows), windows)


def _contributions(facts: GuestFacts, windows: WindowsFacts, options: PlanOptions) -> tuple[WindowsContribution, ...]:
    if windows.registry[SYSTEM].state == "unreadable":
        return ()
    entries = boot_entries if _has_entries(windows) else old_boot
    left = leftovers.contribute(windows, purge=options.purge_tools)
    return (
        crash_control.contribute(windows),
        fallback.contribute(windows),
        virtio_drivers.contribute(windows, options.drivers),
        left,
        processors.contribute(windows),
        entries.contribute(facts, windows),
        boot_start.contribute(facts, windows),
        drive_letters.contribute(facts, windows),
        disk_policy.contribute(facts, windows),
        fast_startup.contribute(windows),
        hibernation.contribute(windows, options),
        network_setup.contribute(windows, options),
        firstboot.contribute(windows, options, left.first_boot),
    )


def _has_entries(windows: WindowsFacts) -> bool:
    """Whether a store of boot entries starts it: by its version, and where nothing tells that by what there is."""
    boot, version = windows.boot, windows.version
    if not version.major and boot is not None:
        return boot.boot_ini is None
    return version.number >= _FIRST_WITH_BCD
