"""Block devices in place of the files that disks become: which disk goes where, and whether it can.

All of it is found out before anything is written: the devices are there and fit, nobody uses them, none is or carries a disk
of the source. ``converters.device_target`` does the writing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from converters.device_target import ClaimedDevice, claimed_device
from converters.target import Target, journal_path
from converters.target_formats import PLAIN, TargetOptions
from p2v.core import events
from p2v.core.block_devices import THIS_HOST, BlockDevice, HostFiles, ground_of, look_at, stable_names, users_of
from p2v.core.errors import DeviceInUse, UnfitDevice, Usage
from p2v.core.units import format_bytes
from p2v.core.workspace import Outputs, remove_quietly
from p2v.documents import PlanDocument, SourceDisk
from p2v.targets.hardware import TargetDisk

# What the kernel calls devices in the order in which it finds them.
_UNSTABLE = ("sd", "hd", "vd", "xvd", "nvme", "mmcblk")


@dataclass(frozen=True, slots=True)
class DeviceWish:
    """What the user says about block devices: (disk, device) pairs, disks counted from 1, None where there is only one.

    ``overwrite``: what is on them may be lost. ``discard``: they are told first that nothing on them is needed.
    """

    devices: tuple[tuple[int | None, Path], ...] = ()
    overwrite: bool = False
    discard: bool = False

    def placed(self, disks: Sequence[TargetDisk]) -> tuple[TargetDisk, ...]:
        """The disks, with devices for files where that is wished. Raises Usage."""
        found = list(disks)
        for number, path in self.devices:
            if number is None and len(disks) != 1:
                message = f"--to-device {path}: the machine has {len(disks)} disks"
                raise Usage(message, f"Say which one, as in --to-device 1={path}; those without a device become files.")
            if number is not None and not 1 <= number <= len(disks):
                has = f"{len(disks)} disks" if len(disks) != 1 else "one disk"
                raise Usage(f"--to-device {number}={path}: the machine has {has}", "They are counted from 1.")
            index = (number or 1) - 1
            if found[index].is_device:
                raise Usage(f"--to-device {path}: disk {index + 1} goes to {found[index].path} already")
            found[index] = replace(found[index], path=path.absolute(), format="raw", is_device=True)
        return tuple(found)


def refuse_layout(disks: Sequence[TargetDisk], layout: TargetOptions) -> None:
    """Raise Usage for a layout of files where no disk becomes one; whether blocks are shared says nothing of a device."""
    if all(disk.is_device for disk in disks) and replace(layout, shares=True) != PLAIN:
        message = "a block device holds the disk as it is: there is nothing to compress, no cluster, nothing to reserve"
        raise Usage(message, "Leave --compress, --cluster-size and --preallocation away.")


def check_devices(
    document: PlanDocument, disks: Sequence[TargetDisk], report: events.Reporter, host: HostFiles = THIS_HOST
) -> Mapping[int, BlockDevice]:
    """The devices among the disks, by their place. Nothing is opened; what the user should know is reported.

    Raises UnfitDevice (none there, too small, read-only, other sectors, a source's), DeviceInUse, Usage (one for two disks).
    """
    found = {index: look_at(disk.path, host) for index, disk in enumerate(disks) if disk.is_device}
    for index, device in found.items():
        _require_apart(device, {other: each for other, each in found.items() if other < index}, document.sources, host)
        _require_fit(device, document.sources[index])
        users = users_of(device.number, host)
        if users:
            raise DeviceInUse(device.path, users)
    for index, device in found.items():
        for message in _remarks(device, index, document):
            report(events.Warned(message))
    return found


def claim_devices(
    stack: ExitStack,
    devices: Mapping[int, BlockDevice],
    wish: DeviceWish,
    document: PlanDocument,
    outputs: Outputs,
    identity: Callable[[int], str],
    *,
    fresh: bool,
    skip_unreadable: bool = False,
) -> Mapping[int, ClaimedDevice]:
    """Take all devices for this run, until ``stack`` ends; nothing is written to any of them yet.

    ``identity``: of what goes to each. ``fresh``: earlier runs are forgotten. ``skip_unreadable``: as for ``open_target``.
    Raises as ``claimed_device``.
    """
    claimed: dict[int, ClaimedDevice] = {}
    for index, device in devices.items():
        record = record_of(outputs, document.machine.name, index)
        if fresh:
            remove_quietly([journal_path(record)])
        size = document.sources[index].image.virtual_size
        taken = claimed_device(
            device, record, size, identity(index), overwrite=wish.overwrite, skip_unreadable=skip_unreadable
        )
        claimed[index] = stack.enter_context(taken)
    return claimed


def start_device(claimed: ClaimedDevice, wish: DeviceWish, report: events.Reporter) -> Target:
    """Begin to write to a claimed device. Raises as ``ClaimedDevice.start``."""
    target = claimed.start(discard=wish.discard)
    if target.restart_reason:
        report(events.Warned(f"{target.path}: begun anew: {target.restart_reason}"))
    if not claimed.discards:
        report(events.Warned(f"{target.path}: takes no discard; it is written as it is"))
    return target


def record_of(outputs: Outputs, machine: str, index: int) -> Path:
    """The name beside which the journal of a device stands; nothing has that name itself."""
    return outputs.partial(f"{machine}-disk{index + 1}.device")


def tell_unfinished(targets: Sequence[Target], report: events.Reporter) -> None:
    """Say of devices what files say by their names."""
    for target in targets:
        if target.is_device:
            message = f"{target.path}: holds a part of the disk only; do not use it. The same command goes on where this one ended"
            report(events.Warned(message))


def _require_apart(
    device: BlockDevice, others: Mapping[int, BlockDevice], sources: Sequence[SourceDisk], host: HostFiles
) -> None:
    ground = ground_of(device.path, host)
    for index, other in others.items():
        if ground.touches(ground_of(other.path, host)):
            same = "is" if other.number == device.number else "stands on, or carries,"
            raise Usage(f"{device.path}: {same} the device of disk {index + 1} ({other.path})")
    for source in sources:
        for path in (source.path, *(Path(file.path) for file in source.identity.files)):
            if ground.touches(ground_of(path, host)):
                raise UnfitDevice(device.path, f"is the source's disk {path}, or stands on it, or carries it")


def _require_fit(device: BlockDevice, source: SourceDisk) -> None:
    size, sectors = source.image.virtual_size, source.image.logical_sector_size
    if device.read_only:
        raise UnfitDevice(device.path, "is read-only")
    if device.size < size:
        short = f"has {device.size} bytes ({format_bytes(device.size)}), {size - device.size} less than the disk"
        raise UnfitDevice(device.path, f"{short} ({source.path}: {size})")
    if device.logical_sector_size > sectors:
        problem = f"has sectors of {device.logical_sector_size} bytes, and the disk has sectors of {sectors}"
        raise UnfitDevice(device.path, problem, "The guest could not read its partition table there. Convert to a file.")


def _remarks(device: BlockDevice, index: int, document: PlanDocument) -> list[str]:
    """What is no obstacle, and should be known."""
    more = device.size - document.sources[index].image.virtual_size
    found = []
    if more:
        message = f"{device.path}: is {format_bytes(more)} larger than the disk; the guest sees all of it"
        has_gpt = any(disk.index == index and disk.table == "gpt" for disk in document.facts.disks)
        if has_gpt:
            message += ". The copy of its GUID partition table stays where the disk ended: in the guest, `sgdisk -e` moves it"
        found.append(message)
    stable = stable_names(device.number)
    if device.path.name == device.name and device.name.startswith(_UNSTABLE):
        advice = f"; {stable[0]} stays the same" if stable else ""
        found.append(f"{device.path}: another device may have this name when the host starts again{advice}")
    return found
