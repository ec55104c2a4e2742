"""From the facts of a Windows guest to its plan. Pure: nothing is read, nothing is run, nothing is written."""

from __future__ import annotations

from drivers.caps import GuestCaps
from drivers.facts import GuestFacts
from drivers.plan import Finding, GuestPlan, PlanOptions
from drivers.windows import condition, crash_control, fallback, leftovers, processors, virtio_drivers
from drivers.windows.contribution import WindowsContribution, hive_changes, joined
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.hardware import plan_caps


def plan_windows(facts: GuestFacts, options: PlanOptions) -> GuestPlan:
    """All changes, warnings and blockers of a Windows guest, in an order that depends on nothing but the facts.

    Of ``options`` the drivers are looked at. No plan is carried out while the first start is not among what is planned.
    """
    windows = facts.windows
    if windows is None or facts.os is None:
        raise ValueError("no Windows to plan for")
    every = joined(_contributions(windows, options))
    not_yet = Finding(
        "windows.not-rewritten",
        f"{facts.os.name} is recognised and not rewritten yet: its first start on KVM is not prepared to its end",
        "This version inspects and plans Windows guests only.",
    )
    return GuestPlan(
        (*hive_changes(windows, every.edits), *every.changes),
        (*condition.warnings(facts, windows), *every.warnings),
        (*condition.blockers(facts, windows), *every.blockers, not_yet),
        _caps(facts, windows, options),
    )


def _caps(facts: GuestFacts, windows: WindowsFacts, options: PlanOptions) -> GuestCaps:
    """What the guest finds drivers for: its own as far as they are there, and those that it is given."""
    caps = plan_caps(facts, windows)
    if windows.registry[SYSTEM].state != "unreadable":
        caps = processors.with_processors(fallback.with_fallback(caps, windows), windows)
    return virtio_drivers.with_drivers(caps, options.drivers)


def _contributions(windows: WindowsFacts, options: PlanOptions) -> tuple[WindowsContribution, ...]:
    """Network and boot configuration belong here."""
    if windows.registry[SYSTEM].state == "unreadable":
        return ()
    return (
        crash_control.contribute(windows),
        fallback.contribute(windows),
        virtio_drivers.contribute(windows, options.drivers),
        leftovers.contribute(windows),
        processors.contribute(windows),
    )
