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
    utc_time: bool = False
    """The guest takes it for UTC, whatever the machine's description says; with neither, that decides."""
    machine: str = "q35"
    cpus_at_most: int | None = None
    memory_at_most_bytes: int | None = None
    """More CPUs or memory than that stop the guest, or it does not use them; None: no such limit is known."""
    sockets_at_most: int | None = None
    """It uses the CPUs of so many sockets; None: how CPUs are divided makes no difference that is known."""
    knows_cores: bool = True
    """CPUs may be cores of one socket; else each is found only in a socket of its own."""
    limits: str = ""
    """What sets these limits, as a part of a sentence; empty where that has been said elsewhere."""
    keeps_cards: bool = False
    """The guest has drivers for the network cards it had, and nothing puts in others: each stays as it is where KVM has it."""
    hyperv: tuple[str, ...] = ()
    """Hyper-V's interfaces that it makes use of where KVM has them (``Enlightenment`` values of ``p2v.targets.hyperv``)."""
    counts_ticks: bool = False
    """It tells time by counting timer interrupts: those that were missed are made up for, and it is given no HPET."""
    video: str = ""
    """The display it has a driver for (a ``Video`` value of ``p2v.targets.platforms``); empty: that of every such machine."""
    tablet: str = ""
    """The USB controller it has a driver for (a ``UsbController`` value), for a pointer that moves where the screen's does;
    empty: no such pointer."""
    cpu_model: str = ""
    """QEMU's name of a CPU that it starts on where it does not on today's; empty: any."""
    tpm: bool = False
    """It wants a TPM 2.0, whether the machine had one or not."""
    generation_id: bool = False
    """It looks at the generation id of its virtual machine, which it is to have in any case."""
    agent: bool = True
    """It can use the channel of the guest agent."""
