"""QEMU's own ways: what its program is called, how option values are written."""

from __future__ import annotations

from p2v.core.acceleration import Accelerator
from p2v.core.errors import ToolMissing
from p2v.core.run import PACKAGES, find_program

# In order of preference; the second is what RHEL and its relatives install, outside PATH.
QEMU_PROGRAMS = ("qemu-system-x86_64", "qemu-kvm")


def find_qemu() -> str | None:
    """The path of QEMU's program for x86, None when there is none."""
    return next((str(found) for name in QEMU_PROGRAMS if (found := find_program(name))), None)


def require_qemu() -> str:
    """The path of QEMU's program for x86. Raises ToolMissing."""
    found = find_qemu()
    if found is None:
        raise ToolMissing(QEMU_PROGRAMS[0], PACKAGES[QEMU_PROGRAMS[0]])
    return found


def cpu_model(accelerator: Accelerator) -> str:
    """The CPU guests are given: all that the host or the emulation has, as systems built for x86-64-v2 and v3 need it.

    Five-level paging is left out of the emulated one: nobody needs it here, and some kernels and boot loaders stumble.
    """
    return "host" if accelerator is Accelerator.KVM else "max,la57=off"


def option_value(text: str) -> str:
    """A value within a QEMU option (``key=value,key=value``): commas are doubled."""
    return text.replace(",", ",,")
