"""Which kernels find their disks on KVM once the plan is applied, and so what hardware the guest can be given."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping

from drivers.caps import GuestCaps
from drivers.changes import ExtendInitramfs
from drivers.facts import BootEntry, GuestFacts, Kernel
from drivers.linux import supplement
from drivers.linux.contribution import Contribution
from drivers.plan import Finding

# A bus, and the modules of which each must be there before the root is mounted; best first. Disk drivers' own
# needs (libata, virtio) come with them, and sd_mod is built in as often as not.
DISK_BUSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("virtio-blk", ("virtio_pci", "virtio_blk")),
    ("virtio-scsi", ("virtio_pci", "virtio_scsi")),
    ("sata", ("ahci",)),
    ("ide", ("ata_piix",)),
)
NIC_MODELS: tuple[tuple[str, str], ...] = (("virtio", "virtio_net"), ("e1000e", "e1000e"), ("e1000", "e1000"))
# Every Linux since 2.6.24 brings these; the facts need not list them.
USUAL_NICS = ("e1000e", "e1000")


def plan_supplements(kernels: Iterable[Kernel]) -> dict[str, ExtendInitramfs]:
    """The initramfs changes by the image's path, in the kernels' order, for those that need one and can have it.

    An image that two kernels share is extended for the first of them only: a plan says of a file once what it expects.
    """
    changes: dict[str, ExtendInitramfs] = {}
    for kernel in kernels:
        change = supplement.plan_initramfs(kernel)
        if change is not None:
            changes.setdefault(change.path, change)
    return changes


def contribute(facts: GuestFacts, supplements: Mapping[str, ExtendInitramfs]) -> Contribution:
    """What stands in the way of booting: entries without kernels, kernels without drivers."""
    if facts.boot_loader.kind != "grub2":
        return Contribution()
    entries = default_entries(facts)
    if not entries:
        message = f"{facts.boot_loader.config} has no entry that starts a kernel"
        hint = "Entries kept elsewhere (/boot/loader/entries) are not read yet."
        return Contribution(blockers=(Finding("linux.boot-loader.no-entries", message, hint),))
    missing = [entry for entry in entries if _kernel(entry, facts.kernels) is None]
    if missing:
        message = f"the boot entry {missing[0].title} starts {missing[0].kernel}, which is none of the guest's kernels"
        hint = "Make an installed kernel the default in the guest; or its /boot is on a disk that was not given."
        return Contribution(blockers=(Finding("linux.boot.kernel-missing", message, hint),))
    buses = _disk_buses(facts, supplements)
    warnings = list(_kernel_findings(facts, supplements))
    if not buses:
        message = "no kernel that starts by default finds a disk on KVM: its initramfs has no driver for any bus there"
        hint = "Run update-initramfs in the guest with MODULES=most, then try again."
        return Contribution(warnings=tuple(warnings), blockers=(Finding("linux.boot.no-disk-driver", message, hint),))
    if buses[0] != "virtio-blk":
        message = f"the guest cannot start from a virtio disk, so it gets {buses[0]} disks, which are slower"
        warnings.append(Finding("linux.disks.not-virtio", message))
    return Contribution(warnings=tuple(warnings))


def plan_caps(facts: GuestFacts, supplements: Mapping[str, ExtendInitramfs]) -> GuestCaps:
    """What hardware the rewritten guest can use; cautious where nothing is known."""
    kernels = _default_kernels(facts)
    present = set.intersection(*(_present(kernel) for kernel in kernels)) if kernels else set()
    nics = tuple(model for model, module in NIC_MODELS if module in present)
    return GuestCaps(
        disk_buses=_disk_buses(facts, supplements) or ("sata", "ide"),
        nic_models=tuple(dict.fromkeys((*nics, *USUAL_NICS))),
        firmware=facts.firmware,
        arch=facts.os.arch if facts.os else "",
        rng="virtio_rng" in present,
        balloon="virtio_balloon" in present,
    )


def default_entries(facts: GuestFacts) -> tuple[BootEntry, ...]:
    """The entry that starts by default; all of them when that one starts no kernel (a firmware menu, say)."""
    loader = facts.boot_loader
    default = next((entry for entry in loader.entries if entry.title == loader.default), None)
    return (default,) if default else loader.entries


def _kernel(entry: BootEntry, kernels: Iterable[Kernel]) -> Kernel | None:
    base = posixpath.basename(entry.kernel)
    given = tuple(kernels)
    exact = next((kernel for kernel in given if kernel.image == entry.kernel), None)
    return exact or next((kernel for kernel in given if base == posixpath.basename(kernel.image)), None)


def _default_kernels(facts: GuestFacts) -> tuple[Kernel, ...]:
    found = (_kernel(entry, facts.kernels) for entry in default_entries(facts))
    return tuple(kernel for kernel in found if kernel is not None)


def _disk_buses(facts: GuestFacts, supplements: Mapping[str, ExtendInitramfs]) -> tuple[str, ...]:
    kernels = _default_kernels(facts)
    reach = [_at_boot(kernel, supplements) for kernel in kernels]
    return tuple(bus for bus, needs in DISK_BUSES if reach and all(set(needs) <= have for have in reach))


def _at_boot(kernel: Kernel, supplements: Mapping[str, ExtendInitramfs]) -> set[str]:
    """Modules that are at hand before the root is mounted."""
    if kernel.initramfs is None:
        return set(kernel.builtin)
    change = supplements.get(kernel.initramfs.path)
    added = change.modules if change and change.kernel_version == kernel.version else ()
    return {*kernel.builtin, *kernel.initramfs.modules, *(_module(path) for path in added)}


def _present(kernel: Kernel) -> set[str]:
    return set(kernel.builtin) | set(kernel.modules)


def _module(path: str) -> str:
    return posixpath.basename(path).partition(".ko")[0].replace("-", "_")


def _kernel_findings(facts: GuestFacts, supplements: Mapping[str, ExtendInitramfs]) -> Iterator[Finding]:
    for kernel in facts.kernels:
        if not {"virtio_pci", "virtio_blk"} <= _at_boot(kernel, supplements):
            yield Finding(
                "linux.kernel.no-virtio",
                f"kernel {kernel.version} does not find its disks on virtio: "
                + (supplement.why_not(kernel) or "it shares its initramfs with another kernel"),
                "Start another kernel, or run update-initramfs for this one in the converted guest.",
            )
