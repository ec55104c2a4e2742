"""QEMU's own ways: what its programs are called, which CPUs they have, how option values are written."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import ToolMissing
from p2v.core.run import PACKAGES, find_program


@dataclass(frozen=True, slots=True)
class Emulator:
    """QEMU for one architecture of guests: its program, the CPU that it emulates, which machines run such guests on KVM.

    The emulated CPU is all that QEMU has where that works: systems are built for x86-64-v2 and v3, or for ARMv8.2.
    """

    program: str
    emulated_cpu: str
    hosts: tuple[str, ...]


EMULATORS: Mapping[str, Emulator] = {
    # five-level paging is left out: nobody needs it here, and some kernels and boot loaders stumble
    "x86_64": Emulator("qemu-system-x86_64", "max,la57=off", ("x86_64",)),
    # signing pointers as the hardware does takes most of the time; kernels before 5.12 do not start with 52-bit addresses
    "aarch64": Emulator("qemu-system-aarch64", "max,pauth-impdef=on,lpa2=off", ("aarch64",)),
    "ppc64le": Emulator("qemu-system-ppc64", "power9", ("ppc64le", "ppc64")),
    "s390x": Emulator("qemu-system-s390x", "max", ("s390x",)),
}

# In order of preference; the second is what RHEL and its relatives install, outside PATH, for the host's own architecture.
QEMU_PROGRAMS = ("qemu-system-x86_64", "qemu-kvm")


def qemu_programs(arch: str, host: str | None = None) -> tuple[str, ...]:
    """Names of QEMU's program for guests of an architecture, in order of preference. ``host``: this one's, if not given."""
    emulator = emulator_of(arch)
    own = (host or platform.machine()) in emulator.hosts or arch not in EMULATORS or arch == "x86_64"
    return (emulator.program, *QEMU_PROGRAMS[1:]) if own else (emulator.program,)


def emulator_of(arch: str) -> Emulator:
    """The emulator for an architecture; the PC's for those that have none here."""
    return EMULATORS.get(arch, EMULATORS["x86_64"])


def find_qemu(arch: str = "x86_64") -> str | None:
    """The path of QEMU's program for guests of an architecture, None when there is none."""
    return next((str(found) for name in qemu_programs(arch) if (found := find_program(name))), None)


def require_qemu(arch: str = "x86_64") -> str:
    """The path of QEMU's program for guests of an architecture. Raises ToolMissing."""
    found = find_qemu(arch)
    if found is None:
        program = emulator_of(arch).program
        raise ToolMissing(program, PACKAGES[program])
    return found


def guest_acceleration(host: Acceleration, arch: str, machine: str | None = None) -> Acceleration:
    """How guests of an architecture run here: KVM runs those of the host's own only.

    ``host``: what works for the host's own guests; ``machine``: the host's architecture, this one's if not given.
    """
    own = machine or platform.machine()
    if not host.kvm or own in emulator_of(arch).hosts:
        return host
    return replace(host, accelerator=Accelerator.TCG, evidence=f"KVM on {own} runs no guests for {arch}")


def cpu_model(accelerator: Accelerator, arch: str = "x86_64") -> str:
    """The CPU guests are given: all that the host or the emulation has."""
    return "host" if accelerator is Accelerator.KVM else emulator_of(arch).emulated_cpu


def option_value(text: str) -> str:
    """A value within a QEMU option (``key=value,key=value``): commas are doubled."""
    return text.replace(",", ",,")
