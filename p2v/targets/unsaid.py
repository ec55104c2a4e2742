"""What front ends cannot be told of a guest's hardware that it needs; pure."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import OperatingSystem
from p2v.machine import Clock
from p2v.targets.front_ends import FrontEnd
from p2v.targets.hardware import TargetHardware


def hardware_lost(hardware: TargetHardware, front_end: FrontEnd, system: OperatingSystem | None) -> tuple[str, ...]:
    """A sentence about each: nothing in Nova's image properties or KubeVirt's API says it. ``system``: what runs in it."""
    return tuple(_lost(hardware, front_end, is_windows=system is not None and system.kind == "windows"))


def _lost(hardware: TargetHardware, front_end: FrontEnd, *, is_windows: bool) -> Iterator[str]:
    if hardware.cpu_model and front_end is FrontEnd.OPENSTACK:
        yield (
            f"an image for openstack does not say which CPU its guest starts on, and this one starts on a {hardware.cpu_model}: "
            "give it to a host, or an aggregate of them, whose cpu_model is that"
        )
    if hardware.clock is Clock.LOCAL_TIME and front_end is FrontEnd.KUBEVIRT:
        yield (
            "the guest's clock shows local time, and kubevirt is to be told of which zone: it stands as Etc/UTC in what is written "
            "(spec.template.spec.domain.clock.timezone)"
        )
    if is_windows and hardware.clock is Clock.UTC and front_end is FrontEnd.OPENSTACK:
        yield (
            "the guest's clock shows UTC, and openstack gives every Windows a clock of local time: that of its hosts has to be "
            "UTC"
        )
    # a Linux reads random numbers anew when it changes, and does nothing else with it
    if is_windows and hardware.generation_id and front_end in (FrontEnd.OPENSTACK, FrontEnd.KUBEVIRT):
        yield (
            f"{front_end.value} has no generation id for virtual machines: the guest does not notice when it is brought back "
            "to an older state"
        )
