"""What the machines that KVM offers an architecture are like, as far as a guest's rewriting depends on it.

``q35`` for the PC; ``virt`` for aarch64 (QEMU, "'virt' generic virtual platform"), which starts by UEFI alone;
``pseries`` for ppc64le ("pSeries family boards"), whose firmware loads what stands in a PReP boot partition; and
``s390-ccw-virtio`` for s390x ("s390 virtual machines"), whose devices hang on channels and whose firmware follows zipl's map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drivers.facts import GuestFacts
from drivers.linux.contribution import Contribution
from drivers.partitions import PREP_GUID, PREP_MBR
from drivers.plan import Finding

_PC_LOADERS = frozenset({"grub2", "grub1", "systemd-boot", "extlinux", "lilo"})


@dataclass(frozen=True, slots=True)
class Architecture:
    """``machine``: QEMU's machine type. ``transport``: the kernel module through which virtio devices are found.
    ``console``: the kernel's name of the first serial line. ``gone``: consoles that a guest may have had elsewhere and has
    not on KVM. ``disk_buses``: what disks can hang on so that the firmware starts from them, best first.
    ``nic_models``: cards there are for it. ``card_paths``: what udev calls their places (``ID_PATH``), as patterns of
    systemd.link(5)'s ``Path=``. ``loaders``: boot loaders its firmware can start.
    """

    machine: str
    transport: str
    console: str
    gone: tuple[str, ...]
    disk_buses: tuple[str, ...]
    nic_models: tuple[str, ...]
    card_paths: str
    loaders: frozenset[str]


PC = Architecture(
    machine="q35",
    transport="virtio_pci",
    console="ttyS0",
    gone=("hvc0", "xvc0"),
    disk_buses=("virtio-blk", "virtio-scsi", "sata", "ide"),
    nic_models=("virtio", "e1000e", "e1000", "rtl8139"),
    card_paths="pci-*",
    loaders=_PC_LOADERS,
)

ARCHITECTURES: dict[str, Architecture] = {
    "x86_64": PC,
    "i386": PC,
    "i686": PC,
    # EC2's machines for Arm have a ttyS0
    "aarch64": Architecture(
        machine="virt",
        transport="virtio_pci",
        console="ttyAMA0",
        gone=("hvc0", "xvc0", "ttyS0"),
        disk_buses=("virtio-blk", "virtio-scsi"),
        nic_models=PC.nic_models,
        # a device tree in place of ACPI names the bridge before the card
        card_paths="pci-* *-pci-*",
        loaders=frozenset({"grub2", "systemd-boot"}),
    ),
    # hvc0 is the console of PowerVM, of OPAL and of KVM
    "ppc64le": Architecture(
        machine="pseries",
        transport="virtio_pci",
        console="hvc0",
        gone=(),
        disk_buses=("virtio-blk", "virtio-scsi"),
        nic_models=PC.nic_models,
        card_paths="pci-* *-pci-*",
        loaders=frozenset({"grub2"}),
    ),
    "s390x": Architecture(
        machine="s390-ccw-virtio",
        transport="virtio_ccw",
        console="ttysclp0",
        gone=(),
        disk_buses=("virtio-blk", "virtio-scsi"),
        nic_models=("virtio",),
        card_paths="ccw-*",
        loaders=frozenset({"zipl", "grub2"}),
    ),
}


def architecture_of(facts: GuestFacts) -> Architecture:
    """The guest's; the PC's where nothing tells, and for those that are refused."""
    return named(facts.os.arch if facts.os is not None else "")


def named(arch: str) -> Architecture:
    """An architecture by its name in ``OperatingSystem.arch``; the PC's for others."""
    return ARCHITECTURES.get(arch, PC)


def contribute(facts: GuestFacts) -> Contribution:
    """Blockers: what no machine of the guest's architecture on KVM would start."""
    return Contribution(blockers=tuple(_blockers(facts)))


def _blockers(facts: GuestFacts) -> Iterator[Finding]:
    arch = facts.os.arch if facts.os is not None else ""
    if not arch:
        return
    if arch not in ARCHITECTURES:
        known = ", ".join(name for name in ARCHITECTURES if name != "i686")
        yield Finding("linux.arch-unsupported", f"guests for {arch} are not rewritten, only those for {known}")
        return
    kind = facts.boot_loader.kind
    if kind != "none" and kind not in ARCHITECTURES[arch].loaders:
        message = f"{kind} ({facts.boot_loader.config}) starts no virtual machine for {arch} on KVM: its firmware does not know it"
        hint = f"Install a boot loader in the guest that can ({', '.join(sorted(ARCHITECTURES[arch].loaders))}), then try again."
        yield Finding("linux.boot-loader.not-here", message, hint)
    elif arch == "aarch64" and facts.firmware != "uefi":
        message = "the disks have no EFI system partition, and virtual machines for aarch64 on KVM start by UEFI only"
        hint = "Install GRUB for UEFI (grub-efi-arm64, grub2-efi-aa64) on such a partition in the guest; U-Boot does not follow."
        yield Finding("linux.aarch64.no-uefi", message, hint)
    elif arch == "ppc64le" and not any(partition.type_id in (PREP_GUID, PREP_MBR) for partition in facts.partitions):
        message = "the disks have no PReP boot partition, from which alone a virtual machine for ppc64le starts its GRUB"
        hint = "A machine with petitboot needs none: make one in the guest (8 MiB) and run grub-install on it."
        yield Finding("linux.ppc64le.no-prep", message, hint)
