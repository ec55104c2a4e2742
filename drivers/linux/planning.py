"""From the facts of a Linux guest to its plan. Pure: nothing is read, nothing is run, nothing is written."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.changes import Change
from drivers.facts import GuestFacts
from drivers.families import UNKNOWN_FAMILY
from drivers.linux import (
    architectures,
    boot_check,
    boot_entries,
    cloud_init,
    console,
    crypttab,
    device_files,
    efi_fallback,
    firstboot,
    fstab,
    grub_edits,
    identity,
    image_based,
    initramfs_copies,
    initramfs_tools,
    lvm_config,
    mac_changes,
    mainframe,
    mdadm,
    next_initramfs,
    nic_names,
    old_drivers,
    readdressing,
    rebuild,
    resume,
    selinux,
    space,
    tools,
    udev_rules,
)
from drivers.linux.contribution import Contribution, joined
from drivers.linux.devices import DeviceNames
from drivers.notes import of_notes
from drivers.plan import Finding, GuestPlan, PlanOptions

_TEXT_LOADERS = frozenset({"grub2", "grub1", "extlinux"})


def plan_linux(facts: GuestFacts, options: PlanOptions) -> GuestPlan:
    """All changes, warnings and blockers of a Linux guest, in an order that depends on nothing but the facts.

    Other network addresses come first where they are asked for: all else is planned for the guest that has them. Then
    changes come as people would look for them: what is mounted, what is started, what the initramfs holds, then
    the network, then foreign tools, then what was asked for besides.
    """
    renamed = mac_changes.change_macs(facts, options.mac_changes)
    readdressed = readdressing.readdress(renamed.facts, options)
    rebuilt = rebuild.plan_rebuild(readdressed.facts, options)
    facts = rebuilt.facts
    names = device_names(facts)
    supplements = boot_check.plan_supplements(facts, names)
    caps = boot_check.plan_caps(facts, names, supplements, options)
    every = joined((
        Contribution(warnings=tuple(_condition(facts)), blockers=tuple(_unsupported(facts))),
        architectures.contribute(facts),
        mainframe.contribute(facts),
        renamed.contribution,
        readdressed.contribution,
        rebuilt.contribution,
        fstab.contribute(facts, names),
        crypttab.contribute(facts, names),
        mdadm.contribute(facts),
        lvm_config.contribute(facts),
        device_files.contribute(facts, names),
        grub_edits.contribute(facts, names),
        boot_entries.contribute(facts, names),
        boot_check.contribute(facts, names, supplements, options),
        Contribution(changes=tuple(supplements.values())),
        initramfs_copies.contribute(facts, names, supplements),
        efi_fallback.contribute(facts),
        resume.contribute(facts, names),
        initramfs_tools.contribute(facts),
        next_initramfs.contribute(facts, names),
        console.contribute(facts),
        nic_names.contribute(facts, options.nic_macs),
        udev_rules.contribute(facts, options.nic_macs),
        cloud_init.contribute(facts, options),
        old_drivers.contribute(facts, caps),
        tools.contribute(facts),
        tools.missing_agent(facts, options),
        identity.contribute(facts) if options.new_identity else Contribution(),
        firstboot.contribute(facts, options),
    ))  # fmt: skip
    changes, images = image_based.contribute(facts, _once(every.changes))
    if options.new_identity:
        changes = identity.forgotten(facts, changes)
    blockers = (*every.blockers, *images.blockers, *space.contribute(facts, changes))
    labels, unusable = selinux.labels_of(facts.label_policy, changes)
    warnings = (*every.warnings, *images.warnings, *_unusable_rules(unusable))
    return GuestPlan(changes, warnings, blockers, caps, labels, rebuilt.programs)


def device_names(facts: GuestFacts) -> DeviceNames:
    """The guest's device names, with what its own tables tell of them."""
    table = facts.texts.get(fstab.FSTAB)
    entries = fstab.parse_fstab(table.text) if table else ()
    uses = (*fstab.named_devices(entries), *crypttab.named_devices(facts.texts.get(crypttab.CRYPTTAB)))
    return DeviceNames.of(facts, uses)


def _once(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Without repetitions: two paths may lead to one file."""
    return tuple(dict.fromkeys(changes))


def _unusable_rules(patterns: tuple[str, ...]) -> Iterator[Finding]:
    if patterns:
        shown = ", ".join(patterns[:3])
        message = f"{len(patterns)} rules of the guest's file_contexts are not understood ({shown}), so they label nothing"
        yield Finding("linux.selinux.rule", message, "Run `restorecon -R /etc /boot` in the converted guest.")


def _unsupported(facts: GuestFacts) -> Iterator[Finding]:
    loader = facts.boot_loader
    if facts.root is None:
        yield Finding("linux.root-missing", "no root file system was found", "Name all disks of the machine.")
    for partition in facts.partitions:
        system = partition.filesystem
        if system is not None and system.kind == "swap" and system.why_not_host:
            message = (
                f"the swap area on partition {partition.number} of disk {partition.disk + 1}: {system.why_not_host}"
            )
            hint = "Start the source once more and shut it down; its memory does not fit other hardware."
            yield Finding("linux.hibernated", message, hint)
    if loader.kind == "none":
        hint = "The disk with /boot may be missing, or the guest is started by its hypervisor."
        yield Finding("linux.boot-loader.missing", "no boot loader's configuration was found", hint)
    elif loader.kind in _TEXT_LOADERS and grub_edits.menu_text(facts) is None:
        message = f"{loader.config} could not be read as a text, so its entries cannot be rewritten"
        yield Finding("linux.boot-loader.unreadable", message)


def _condition(facts: GuestFacts) -> Iterator[Finding]:
    """What makes the facts less sure, or the result."""
    yield from of_notes(facts.notes)
    if facts.os is not None and facts.os.family == UNKNOWN_FAMILY:
        message = f"{facts.os.name or facts.os.id} is of no family that is known; it is converted by the parts it has"
        yield Finding("linux.family-unknown", message, "Check with `p2v verify` that it starts and has its network.")
    for mount in {mount.mountpoint: mount for mount in (facts.root, *facts.mounts) if mount is not None}.values():
        system = facts.filesystem_of(mount)
        if system is not None and system.dirty:
            yield Finding(
                "linux.file-system.unclean",
                f"the file system at {mount.mountpoint}: {system.why_not_host}",
                "Shut the guest down properly before its disks are copied.",
            )
