"""Which kernels find their disks on KVM once the plan is applied, and so what hardware the guest can be given."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping

from drivers.caps import GuestCaps
from drivers.changes import ExtendInitramfs
from drivers.facts import BootEntry, GuestFacts, Kernel
from drivers.linux import initramfs_copies, supplement, zipl
from drivers.linux.architectures import architecture_of
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames
from drivers.linux.fixed_names import FIXED_MAPS, buses_that_keep, fixed_root
from drivers.plan import Finding, PlanOptions

# A bus, and sets of modules of which one must be there in full before the root is mounted; best first. Disk drivers'
# own needs (libata, virtio) come with them, and sd_mod is built in as often as not. Before libata there was ide_disk.
# Virtio's buses need the architecture's transport besides.
DISK_BUSES: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("virtio-blk", (("virtio_blk",),)),
    ("virtio-scsi", (("virtio_scsi",),)),
    ("sata", (("ahci",),)),
    ("ide", (("ata_piix",), ("piix", "ide_disk"), ("ide_generic", "ide_disk"))),
)
NIC_MODELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("virtio", ("virtio_net",)),
    ("e1000e", ("e1000e",)),
    ("e1000", ("e1000",)),
    ("rtl8139", ("8139cp", "8139too")),
)
# Every Linux since 2.6.24 brings these; the facts need not list them.
USUAL_NICS = ("e1000e", "e1000")
_VIRTIO_BUSES = frozenset({"virtio-blk", "virtio-scsi"})
_MAPS = {"lilo": "LILO", "zipl": "zipl"}

_REBUILD = (
    "Rebuild it with virtio in the guest (dracut: --no-hostonly --omit squash; mkinitcpio and ukify: add the modules), "
    "or convert with --compatible: the guest then gets hardware it has drivers for, which is slower."
)


def plan_supplements(facts: GuestFacts, names: DeviceNames) -> dict[str, ExtendInitramfs]:
    """The initramfs changes by the image's path, in the kernels' order, for those that need one and can have it.

    An image that two kernels share is extended for the first of them only: a plan says of a file once what it expects.
    LILO's and zipl's maps name the blocks of an image as it was, so that what is appended would not be loaded.
    """
    changes: dict[str, ExtendInitramfs] = {}
    for kernel in facts.kernels if facts.boot_loader.kind not in FIXED_MAPS else ():
        if kernel.initramfs is not None and kernel.initramfs.path.startswith(zipl.FIRST_KERNEL_FOLDER):
            continue
        copies = initramfs_copies.overrides(facts, names, kernel.initramfs) if kernel.initramfs else ()
        change = supplement.plan_initramfs(kernel, copies)
        if change is not None:
            changes.setdefault(change.path, change)
    return changes


def contribute(
    facts: GuestFacts, names: DeviceNames, supplements: Mapping[str, ExtendInitramfs], options: PlanOptions
) -> Contribution:
    """What stands in the way of booting: entries without kernels, kernels without drivers."""
    if facts.boot_loader.kind == "none":
        return Contribution()
    entries = facts.boot_loader.starting
    if not entries:
        message = f"{facts.boot_loader.config} has no entry that starts a kernel"
        hint = (
            "The boot partition may be on a disk that was not given, or entries are kept where they are not looked for."
        )
        return Contribution(blockers=(Finding("linux.boot-loader.no-entries", message, hint),))
    missing = [entry for entry in entries if kernel_of(entry, facts.kernels) is None]
    if missing:
        message = f"the boot entry {missing[0].title} starts {missing[0].kernel}, which is none of the guest's kernels"
        hint = "Make an installed kernel the default in the guest; or its /boot is on a disk that was not given."
        return Contribution(blockers=(Finding("linux.boot.kernel-missing", message, hint),))
    warnings = [*_kernel_findings(facts, supplements), *_name_warnings(facts, names)]
    buses = _disk_buses(facts, names, supplements)
    blocker = _blocker(facts, names, supplements, buses, options)
    if blocker is not None:
        return Contribution(warnings=tuple(warnings), blockers=(blocker,))
    warnings += _hardware_warnings(buses, _usual_buses(facts)[0])
    return Contribution(warnings=tuple(warnings))


def plan_caps(
    facts: GuestFacts, names: DeviceNames, supplements: Mapping[str, ExtendInitramfs], options: PlanOptions
) -> GuestCaps:
    """What hardware the rewritten guest can use; cautious where nothing is known."""
    kernels = _default_kernels(facts)
    present = set.intersection(*(_present(kernel) for kernel in kernels)) if kernels else set()
    buses = _disk_buses(facts, names, supplements) or _usual_buses(facts)
    here = architecture_of(facts)
    nics = [model for model, modules in NIC_MODELS if model in here.nic_models and not present.isdisjoint(modules)]
    if options.compatible and buses[0] not in _VIRTIO_BUSES:
        nics.sort(key=lambda model: model == "virtio")
    # where a kernel lists its drivers, one that it lacks is no choice
    usual = () if any(model != "virtio" for model in nics) else [m for m in USUAL_NICS if m in here.nic_models]
    return GuestCaps(
        disk_buses=buses,
        nic_models=tuple(dict.fromkeys((*nics, *usual))),
        firmware=facts.firmware,
        arch=facts.os.arch if facts.os else "",
        rng="virtio_rng" in present,
        balloon="virtio_balloon" in present,
        machine=here.machine,
    )


def kernel_of(entry: BootEntry, kernels: Iterable[Kernel]) -> Kernel | None:
    """The kernel that an entry starts, with the initramfs that it loads; None when it is none of those."""
    base = posixpath.basename(entry.kernel)
    given = tuple(kernels)
    exact = [kernel for kernel in given if kernel.image == entry.kernel]
    # one image may be started with several initramfs
    named = [kernel for kernel in exact if kernel.initramfs and kernel.initramfs.path in entry.initramfs]
    alike = [kernel for kernel in given if base == posixpath.basename(kernel.image)]
    return next(iter((*named, *exact, *alike)), None)


def _default_kernels(facts: GuestFacts) -> tuple[Kernel, ...]:
    found = (kernel_of(entry, facts.kernels) for entry in facts.boot_loader.starting)
    return tuple(kernel for kernel in found if kernel is not None)


def _disk_buses(facts: GuestFacts, names: DeviceNames, supplements: Mapping[str, ExtendInitramfs]) -> tuple[str, ...]:
    """Buses on which every default kernel finds its disks, under the name of the root where that is fixed."""
    kernels = _default_kernels(facts)
    reach = [_at_boot(kernel, supplements) for kernel in kernels]
    each = [set(_buses_with(have, kernel.transport)) for kernel, have in zip(kernels, reach, strict=True)]
    found = [bus for bus in architecture_of(facts).disk_buses if each and all(bus in buses for buses in each)]
    roots = [root for entry in facts.boot_loader.starting if (root := fixed_root(facts, entry, names))]
    for root in roots:
        kept = buses_that_keep(root, set.union(set(), *reach))
        found = [bus for bus in found if bus in kept]
    return tuple(found)


def _buses_with(modules: set[str], transport: str) -> Iterator[str]:
    """Buses that a kernel with these modules at hand finds disks on."""
    for bus, ways in DISK_BUSES:
        needed = {transport} if bus in _VIRTIO_BUSES else set()
        if any(needed.union(names) <= modules for names in ways):
            yield bus


def _blocker(
    facts: GuestFacts,
    names: DeviceNames,
    supplements: Mapping[str, ExtendInitramfs],
    buses: tuple[str, ...],
    options: PlanOptions,
) -> Finding | None:
    if buses and (buses[0] in _VIRTIO_BUSES or options.compatible):
        return None
    for entry in facts.boot_loader.starting:
        kernel = kernel_of(entry, facts.kernels)
        reason = supplement.why_not(kernel) if kernel is not None else ""
        is_script = kernel is not None and kernel.initramfs is not None and kernel.initramfs.builder == "mkinitrd"
        if kernel is not None and reason and _has_virtio(kernel) and not (buses and is_script):
            if options.compatible and kernel.initramfs is not None and kernel.initramfs.is_opaque:
                return None
            hint = _REBUILD if not options.compatible else "Rebuild it with drivers for SATA or virtio in the guest."
            message = f"kernel {kernel.version} finds no virtio disk at its start, and cannot be helped: {reason}"
            return Finding("linux.initramfs.fixed", message, hint)
        root = fixed_root(facts, entry, names)
        if root and not buses:
            message = f"the entry {entry.title} names its root {root} where it cannot be edited, and no disk has that name on KVM"
            hint = "Name the root by UUID in the guest (kernel command line, then rebuild the image, or run lilo or zipl)."
            return Finding("linux.boot.root-name-fixed", message, hint)
        if root and kernel is not None and kernel.initramfs is not None and kernel.initramfs.unified:
            message = (
                f"the unified kernel image {kernel.image} names its root {root}, which is called otherwise on virtio"
            )
            hint = "Name the root by UUID in /etc/kernel/cmdline and rebuild the image in the guest; or convert with --compatible."
            return Finding("linux.unified.names-device", message, hint)
    if buses:
        return None
    if facts.boot_loader.kind == "zipl" and all(map(_has_virtio, _default_kernels(facts))):
        return zipl.without_driver(facts.boot_loader.starting)
    message = "no kernel that starts by default finds a disk on KVM: its initramfs has no driver for any bus there"
    hint = "Build its initramfs in the guest with all drivers (MODULES=most, dracut --no-hostonly), then try again."
    return Finding("linux.boot.no-disk-driver", message, hint)


def _has_virtio(kernel: Kernel) -> bool:
    have = _present(kernel) | set(kernel.initramfs.modules if kernel.initramfs else ())
    return {kernel.transport, "virtio_blk"} <= have


def _name_warnings(facts: GuestFacts, names: DeviceNames) -> Iterator[Finding]:
    for entry in facts.boot_loader.starting:
        if root := fixed_root(facts, entry, names):
            message = (
                f"the entry {entry.title} names its root {root} where it cannot be edited, so the disks keep that name"
            )
            yield Finding(
                "linux.disks.name-kept", message, "Name the root by UUID in the guest to give it virtio disks."
            )


def _hardware_warnings(buses: tuple[str, ...], usual: str) -> Iterator[Finding]:
    if not buses:
        message = f"what drivers the guest's initramfs has is not known; it gets {usual} disks, as was asked for"
        yield Finding("linux.disks.unknown", message, "Check with `p2v verify` that it starts.")
    elif buses[0] not in _VIRTIO_BUSES:
        message = f"the guest cannot start from a virtio disk, so it gets {buses[0]} disks, which are slower"
        yield Finding("linux.disks.not-virtio", message)


def _at_boot(kernel: Kernel, supplements: Mapping[str, ExtendInitramfs]) -> set[str]:
    """Modules that are at hand before the root is mounted."""
    if kernel.initramfs is None:
        return set(kernel.builtin)
    change = supplements.get(kernel.initramfs.path)
    added = change.modules if change and change.kernel_version == kernel.version else ()
    return {*kernel.builtin, *kernel.initramfs.modules, *(_module(path) for path in added)}


def _present(kernel: Kernel) -> set[str]:
    return set(kernel.builtin) | set(kernel.modules)


def _usual_buses(facts: GuestFacts) -> tuple[str, ...]:
    """What a guest may be given that nothing is known of, when the user wants it to."""
    offered = architecture_of(facts).disk_buses
    return tuple(bus for bus in offered if bus not in _VIRTIO_BUSES) or offered


def _module(path: str) -> str:
    return posixpath.basename(path).partition(".ko")[0].replace("-", "_")


def _kernel_findings(facts: GuestFacts, supplements: Mapping[str, ExtendInitramfs]) -> Iterator[Finding]:
    for kernel in facts.kernels:
        if not {kernel.transport, "virtio_blk"} <= _at_boot(kernel, supplements):
            yield Finding(
                "linux.kernel.no-virtio",
                f"kernel {kernel.version} does not find its disks on virtio: " + _why_without(facts, kernel),
                "Start another kernel, or build its initramfs anew in the converted guest.",
            )


def _why_without(facts: GuestFacts, kernel: Kernel) -> str:
    if reason := supplement.why_not(kernel):
        return reason
    if facts.boot_loader.kind in FIXED_MAPS:
        return f"{_MAPS[facts.boot_loader.kind]} loads the blocks of its initramfs that its map names, so nothing can be appended"
    return "it shares its initramfs with another kernel"
