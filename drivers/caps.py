"""What the rewritten guest can use: the bridge from a plan to the hardware a target offers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuestCaps:
    """Devices the guest will find drivers for once the plan is applied; values are DiskBus/NicModel values of ``p2v.machine``."""

    disk_buses: tuple[str, ...]
    """In order of preference: ``virtio-blk``, ``virtio-scsi``, ``sata``, ``ide``."""
    nic_models: tuple[str, ...]
    firmware: str
    """``bios`` or ``uefi``."""
    arch: str
    rng: bool = False
    balloon: bool = False
    local_time: bool = False
    """The guest takes the hardware clock for local time (Windows)."""
    machine: str = "q35"
    cpus_at_most: int | None = None
    memory_at_most_bytes: int | None = None
    """More CPUs or memory than that stop the guest; None: no such limit is known."""
    keeps_cards: bool = False
    """The guest has drivers for the network cards it had, and nothing puts in others: each stays as it is where KVM has it."""
