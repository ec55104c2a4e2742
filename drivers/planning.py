"""From facts to a plan, for every kind of guest there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drivers.caps import GuestCaps
from drivers.facts import GuestFacts, OperatingSystem
from drivers.families import FAMILIES, UNKNOWN_FAMILY
from drivers.layout import Device, Layout, locked, place
from drivers.linux import image_based
from drivers.notes import of_notes
from drivers.plan import Finding, GuestPlan, PlanOptions
from drivers.windows.states import volumes

__all__ = ["GUESTS", "GuestKind", "PlanOptions", "plan_guest"]


@dataclass(frozen=True, slots=True)
class GuestKind:
    """Guests that one function plans: an operating system's ``kind``, and which families of it.

    The function imports what it plans with: a machine is of one kind, and each is a third of what there is.
    """

    kind: str
    families: frozenset[str]
    plan: Callable[[GuestFacts, PlanOptions], GuestPlan]


def _linux(facts: GuestFacts, options: PlanOptions) -> GuestPlan:
    from drivers.linux.planning import plan_linux

    return plan_linux(facts, options)


def _windows(facts: GuestFacts, options: PlanOptions) -> GuestPlan:
    from drivers.windows.planning import plan_windows

    return plan_windows(facts, options)


def _other(facts: GuestFacts, options: PlanOptions) -> GuestPlan:
    from drivers.other.planning import plan_other

    return plan_other(facts, options)


OTHER = "other"
# a Linux of no known family is converted by its parts
_LINUX_FAMILIES = frozenset({*(family.name for family in FAMILIES), UNKNOWN_FAMILY})

GUESTS: tuple[GuestKind, ...] = (
    GuestKind("linux", _LINUX_FAMILIES, _linux),
    GuestKind("windows", frozenset({"windows"}), _windows),
    GuestKind(OTHER, frozenset({OTHER}), _other),
)


def plan_guest(facts: GuestFacts, options: PlanOptions) -> GuestPlan:
    """The plan of the first of ``GUESTS`` that fits; for other guests a plan that changes nothing, with blockers."""
    system = facts.os
    if system is None and (closed := locked(Layout.of(facts), ())):
        message = f"no operating system was found, and {_listed(closed)} encrypted and not opened"
        hint = "Give its passphrase with --key, as in --key all:file:secret.txt."
        return _nothing(facts, Finding("guest.encrypted", message, hint))
    if system is None and (hidden := volumes.without_system(facts)) is not None:
        return _nothing(facts, hidden)
    if system is None:
        hint = "`p2v inspect` shows what was found; a disk may be missing, empty or encrypted."
        unknown = Finding("guest.no-os", "no operating system was found in the disks", hint)
        return _nothing(facts, image_based.closed(facts.image) or unknown)
    for guest in GUESTS:
        if guest.kind == system.kind and system.family in guest.families:
            return guest.plan(facts, options)
    return _nothing(facts, _unknown(system))


def load_planners() -> None:
    """Import every kind's planning now: who forks a process for each of many guests imports it once, and not in each of them."""
    import drivers.linux.planning
    import drivers.other.planning
    import drivers.windows.planning  # noqa: F401


def _listed(devices: Sequence[Device]) -> str:
    return f"{'; '.join(map(place, devices))} {'is' if len(devices) == 1 else 'are each'}"


def _unknown(system: OperatingSystem) -> Finding:
    name = system.name or system.id or system.kind
    if any(guest.kind == system.kind for guest in GUESTS):
        known = ", ".join(sorted(family for guest in GUESTS if guest.kind == system.kind for family in guest.families))
        message = f"{name} is of no family that is known how to rewrite ({known})"
        return Finding("guest.family-unsupported", message)
    return Finding("guest.os-unsupported", f"guests like {name} are not rewritten yet")


def _nothing(facts: GuestFacts, blocker: Finding) -> GuestPlan:
    # hardware that nearly every system brings drivers for
    arch = facts.os.arch if facts.os else ""
    caps = GuestCaps(("sata", "ide"), ("e1000e", "e1000"), facts.firmware, arch)
    warnings = tuple(of_notes(facts.notes))
    return GuestPlan((), warnings, (blocker,), caps)
