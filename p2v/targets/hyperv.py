"""Hyper-V's interfaces that KVM has for Windows guests, and what each target calls them. Pure.

Sources: QEMU, docs/system/i386/hyperv.rst (what needs what); libvirt, "Domain XML format", hyperv; KubeVirt's API, FeatureHyperv.
All of these are in Linux 4.20, QEMU 3.1 and libvirt 5.0 or later. Without KVM none is to be had: QEMU ends on some of them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType


class Enlightenment(enum.Enum):
    """One interface, by libvirt's name of it (the clock: of its timer)."""

    RELAXED = "relaxed"
    VAPIC = "vapic"
    SPINLOCKS = "spinlocks"
    CLOCK = "hypervclock"
    VPINDEX = "vpindex"
    RUNTIME = "runtime"
    SYNIC = "synic"
    STIMER = "stimer"
    RESET = "reset"
    FREQUENCIES = "frequencies"
    TLBFLUSH = "tlbflush"
    IPI = "ipi"


SPINLOCK_RETRIES = 8191
"""How often a guest tries before it tells the host that it waits."""
# all that each needs: what it needs itself, and what that needs
NEEDS: Mapping[Enlightenment, frozenset[Enlightenment]] = MappingProxyType({
    Enlightenment.SYNIC: frozenset({Enlightenment.VPINDEX}),
    Enlightenment.STIMER: frozenset({Enlightenment.VPINDEX, Enlightenment.SYNIC, Enlightenment.CLOCK}),
    Enlightenment.TLBFLUSH: frozenset({Enlightenment.VPINDEX}),
    Enlightenment.IPI: frozenset({Enlightenment.VPINDEX}),
})  # fmt: skip
_QEMU = {Enlightenment.CLOCK: "hv-time", Enlightenment.SPINLOCKS: f"hv-spinlocks={SPINLOCK_RETRIES:#x}"}


def usable(wanted: Iterable[str]) -> tuple[Enlightenment, ...]:
    """Those whose needs are met, in the order of ``Enlightenment``. Raises ValueError for a name that is none."""
    found = set(map(Enlightenment, wanted))
    return tuple(each for each in Enlightenment if each in found and NEEDS.get(each, frozenset()) <= found)


def cpu_flags(found: Iterable[Enlightenment]) -> str:
    """What is added to QEMU's CPU, with a comma before each."""
    return "".join(f",{_QEMU.get(each, f'hv-{each.value}')}" for each in found)
