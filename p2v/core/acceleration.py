"""How guests are run on this host, and why: found by the doctor, used by everyone who starts QEMU or an appliance."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Accelerator(enum.Enum):
    """What executes a guest's instructions; the value is QEMU's name of it."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class Acceleration:
    """The accelerator that works here, with the evidence.

    ``qemu_works``: a tiny guest ran (under whichever accelerator); False when QEMU is missing or broken.
    """

    accelerator: Accelerator
    evidence: str
    qemu_works: bool = True

    @property
    def kvm(self) -> bool:
        """Whether hardware virtualisation works (libguestfs hangs forever when this is guessed wrong)."""
        return self.accelerator is Accelerator.KVM
