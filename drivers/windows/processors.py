"""Processors as a Windows knows them: NT 5's drivers of power states, and the HAL that its set-up chose. Pure.

NT 5's intelppm ends in stop 0x7E on a processor that is none of Intel's, and its drivers find no power states on KVM. Later
versions choose the driver by the processor. Up to Server 2003 the HAL is one for a kind of machine, from Vista on one for all.

Sources: Microsoft Q309283 (HAL options), Q888372 (stop 0x7E in intelppm), Q237556 (HALs of Windows 2000). A HAL is not exchanged
here: the other's files may not be in the guest, and Plug and Play has to look at the whole machine anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from drivers.caps import GuestCaps
from drivers.plan import Finding
from drivers.windows import c_regf as c
from drivers.windows.contribution import WindowsContribution
from drivers.windows.edits import HiveEdit
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts
from drivers.windows.services import never_started, services_of
from drivers.windows.versions import CURRENT_VERSION

_XP, _VISTA = (5, 1), (6, 0)
_DRIVERS = ("intelppm", "AmdPPM", "AmdK7", "AmdK8", "P3", "Crusoe", "Processor")
_HAL_CLASS = "{4D36E966-E325-11CE-BFC1-08002BE10318}"


@dataclass(frozen=True, slots=True)
class _Hal:
    """A HAL by its id in hal.inf: how it is called, whether it uses several processors, whether the machine's ACPI."""

    title: str
    several: bool
    acpi: bool


_HALS = {
    "acpiapic_mp": _Hal("ACPI Multiprocessor PC", several=True, acpi=True),
    "acpiapic_up": _Hal("ACPI Uniprocessor PC", several=False, acpi=True),
    "acpipic_up": _Hal("Advanced Configuration and Power Interface (ACPI) PC", several=False, acpi=True),
    "mps_mp": _Hal("MPS Multiprocessor PC", several=True, acpi=False),
    "mps_up": _Hal("MPS Uniprocessor PC", several=False, acpi=False),
    "e_isa_up": _Hal("Standard PC", several=False, acpi=False),
}


# what each may be changed to; from one without an APIC there is no supported way (Q309283)
_SEVERAL = {"acpiapic_up": "acpiapic_mp", "mps_up": "mps_mp"}


def contribute(windows: WindowsFacts) -> WindowsContribution:
    """Drivers of power states disabled, and what its HAL means on KVM; nothing from Vista on."""
    if windows.version.number >= _VISTA:
        return WindowsContribution()
    return WindowsContribution({SYSTEM: tuple(_disabled(windows))}, warnings=tuple(_findings(windows)))


def with_processors(caps: GuestCaps, windows: WindowsFacts) -> GuestCaps:
    """One processor where the HAL or the kernel uses no more."""
    return replace(caps, cpus_at_most=1) if _uses_one(windows) else caps


def knows_cores(windows: WindowsFacts) -> bool:
    """Whether processors may be cores of one socket to it; else each must be in a socket of its own to be found.

    Windows counts cores since XP. What goes by the tables of the MPS finds one processor a socket in them: SeaBIOS
    (src/fw/mptable.c) lists no others.
    """
    version = windows.version.number
    if version >= _VISTA:
        return True
    hal = _HALS.get(_hal(windows))
    return version >= _XP and (hal is None or hal.acpi or not hal.several)


def _disabled(windows: WindowsFacts) -> Iterator[HiveEdit]:
    system = windows.registry[SYSTEM]
    for number in windows.control_sets.bootable:
        services = services_of(system, number)
        for name in _DRIVERS:
            service = services.get(c.upper(name))
            why = f"{name} is for power states that KVM shows none of, and may end in stop 0x7E on another maker's processor"
            edit = never_started(system, service, why) if service is not None else None
            if edit is not None:
                yield edit


def _hal(windows: WindowsFacts) -> str:
    """The id of the HAL in the control set that is started first, in lower case; empty where nothing tells (NT 4.0)."""
    sets = windows.control_sets.bootable
    key = f"ControlSet{sets[0]:03d}\\Control\\Class\\{_HAL_CLASS}\\0000" if sets else ""
    return windows.registry[SYSTEM].text(key, "MatchingDeviceId").lower()


def _uses_one(windows: WindowsFacts) -> bool:
    if windows.version.number >= _VISTA:
        return False
    hal = _HALS.get(_hal(windows))
    if hal is not None:
        return not hal.several
    software = windows.registry.get(SOFTWARE)
    return software is not None and software.text(CURRENT_VERSION, "CurrentType").lower().startswith("uniprocessor")


def _findings(windows: WindowsFacts) -> Iterator[Finding]:
    id_ = _hal(windows)
    hal = _HALS.get(id_)
    if id_ and hal is None:
        message = f"its HAL is one that nothing is known of for KVM ({id_[:40]!a})"
        hint = 'Start it where it is, change the driver of its computer to "Standard PC", and copy it again.'
        yield Finding("windows.hal-unknown", message, hint)
    if _uses_one(windows):
        message = f"its HAL ({hal.title if hal else 'for one processor'}) uses one processor: it gets one on KVM"
        other = _SEVERAL.get(_hal(windows))
        hint = (
            f'For more, change the driver of its computer to "{_HALS[other].title}" where it runs on several.'
            if other is not None
            else "Nothing, where one is enough; its set-up, run where there are several, chooses a HAL for them."
        )
        yield Finding("windows.hal-one-processor", message, hint)
    if hal is not None and not hal.acpi:
        message = (
            f"its HAL ({hal.title}) knows no ACPI: the host cannot ask it to shut down, nor does it turn itself off"
        )
        yield Finding("windows.hal-no-acpi", message, "Shut it down from within; it says when it can be turned off.")
