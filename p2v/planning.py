"""Machine and facts to a plan document: joins what was found, what will be changed and what KVM will offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from drivers.keys import Key
from drivers.plan import Finding, GuestPlan, PlanOptions
from drivers.planning import load_planners, plan_guest
from p2v.consistency import LiveWish
from p2v.core.acceleration import Acceleration
from p2v.core.events import Reporter, phase
from p2v.core.run import SystemRunner
from p2v.documents import Inspection, PlanDocument, SourceDisk
from p2v.inspection import Reading, inspect
from p2v.live_sources import Sighting, held_still, look_over, require_plain
from p2v.machine import Machine
from p2v.sources import checks
from p2v.targets.hardware import (
    TargetDisk,
    TargetHardware,
    bus_blockers,
    copys_generation_id,
    copys_uuid,
    losses,
    sector_blockers,
    stable_mac,
    target_hardware,
)

_NOTHING_MORE = PlanOptions()
_NOT_LIVE = LiveWish()


def plan_machine(
    machine: Machine,
    reading: Reading,
    acceleration: Callable[[], Acceleration],
    report: Reporter,
    keys: Sequence[Key] = (),
    wanted: PlanOptions = _NOTHING_MORE,
    live: LiveWish = _NOT_LIVE,
) -> PlanDocument:
    """Inspect a machine's disks and plan its conversion. Raises what ``inspect`` raises; blockers are in the plan.

    ``wanted``: what the user asks for in the guest; the machine's network cards are added to it. ``live``: of disks in use,
    which are refused (SourceInUse) unless it allows them. Their contents are read in the way in which they are to be copied.
    """
    runner = SystemRunner()
    paths = [disk.path for disk in machine.disks]
    seen = look_over(paths, live, runner)
    with held_still(seen.live, paths, live, runner, report) as still:
        disks = tuple(replace(d, path=still.paths.get(i, d.path)) for i, d in enumerate(machine.disks))
        found = inspect(disks, reading, acceleration, report, keys)
        left = tuple(Finding("source.snapshot-left", sentence) for sentence in still.leftovers)
    require_plain(seen.live, [source.image.format for source in found.sources])
    found = replace(found, sources=tuple(_as_named(s, p) for s, p in zip(found.sources, paths, strict=True)))
    with phase(report, "plan", "Planning"):
        document = plan_found(machine, found, with_drivers(wanted, found, machine))
        return _with_sighting(document, replace(seen, warnings=(*left, *seen.warnings)))


def _as_named(source: SourceDisk, path: Path) -> SourceDisk:
    """The disk by the name that the user gave, whatever stood for it while it was read (a snapshot)."""
    if source.path == path:
        return source
    image = replace(source.image, files=(str(path),))
    identity = replace(source.identity, files=tuple(replace(file, path=str(path)) for file in source.identity.files))
    return replace(source, path=path, image=image, identity=identity)


def _with_sighting(document: PlanDocument, seen: Sighting) -> PlanDocument:
    """The plan with what is to be said of devices that are in use."""
    warnings = (*seen.warnings, *document.plan.warnings)
    return replace(document, plan=replace(document.plan, warnings=warnings), live=seen.live)


def load_all() -> None:
    """Import now what planning a guest of any kind needs; see ``drivers.planning.load_planners``."""
    import drivers.windows.media
    import drivers.windows.offer  # noqa: F401

    load_planners()


def plan_found(machine: Machine, found: Inspection, wanted: PlanOptions = _NOTHING_MORE) -> PlanDocument:
    """The plan for facts that are already known; pure."""
    if wanted.new_identity:
        # two machines must not have one serial number either; what names their maker and model may be the same
        numbers = {"serial": "", "board_serial": "", "board_asset": "", "chassis_serial": "", "asset_tag": ""}
        machine = replace(machine, uuid=copys_uuid(machine), smbios=replace(machine.smbios, **numbers))
        if machine.generation_id is not None:
            # a guest that looks at it is to see that it is a copy
            machine = replace(machine, generation_id=copys_generation_id(machine))
    plan = plan_guest(found.facts, _with_cards(wanted, machine, found))
    wanted_disks = tuple(_with_sectors(disk_names(machine.name, len(found.sources), "qcow2"), found))
    state = " ".join(f"{s.identity.metadata_sha256} {s.identity.sample_sha256}" for s in found.sources)
    hardware = target_hardware(machine, plan.caps, wanted_disks, state)
    plan = _with_machine_findings(plan, machine, found, hardware)
    if wanted.virtio_win is not None and found.facts.windows is None:
        unused = Finding("guest.virtio-win-unused", f"{wanted.virtio_win} is not used: the guest is no Windows")
        plan = replace(plan, warnings=(*plan.warnings, unused))
    if wanted.discard_hibernation and found.facts.windows is None:
        unused = Finding("guest.discard-hibernation-unused", "--discard-hibernation has nothing to do: the guest is no Windows")
        plan = replace(plan, warnings=(*plan.warnings, unused))
    if wanted.new_identity:
        plan = replace(plan, warnings=(*_kept_macs(machine), *plan.warnings))
    # absolute, so that a plan can be carried out from another folder
    sources = tuple(replace(s, path=s.path.absolute()) for s in found.sources)
    disks = tuple(replace(d, path=d.path.absolute()) for d in machine.disks)
    described = machine.description.absolute() if machine.description is not None else None
    nvram = machine.nvram.absolute() if machine.nvram is not None else None
    drives = tuple(replace(d, path=d.path.absolute() if d.path is not None else None) for d in machine.removable)
    placed = replace(machine, removable=drives, disks=disks, description=described, nvram=nvram)
    return PlanDocument(placed, sources, found.facts, plan, hardware)


def _with_machine_findings(
    plan: GuestPlan, machine: Machine, found: Inspection, hardware: TargetHardware
) -> GuestPlan:
    """What is to be said of the machine comes before what is to be said of its guest."""
    images = [source.image for source in found.sources]
    lost = losses(machine, plan.caps, hardware)
    warnings = (*machine.warnings, *checks.warnings(machine, images), *lost, *plan.warnings)
    # of a guest that is not understood nobody knows its drivers
    unfit = (*(bus_blockers(plan.caps) if found.facts.os is not None else ()), *sector_blockers(hardware))
    blockers = (*machine.blockers, *checks.blockers(machine, images), *unfit, *plan.blockers)
    return replace(plan, warnings=warnings, blockers=blockers)


def _with_sectors(disks: Sequence[TargetDisk], found: Inspection) -> Iterator[TargetDisk]:
    """The disks with the sectors that they had: what a partition table counts in goes before what the image says."""
    for index, (disk, source) in enumerate(zip(disks, found.sources, strict=True)):
        logical = found.facts.sector_bytes(index, source.image.logical_sector_size)
        physical = max(logical, source.image.physical_sector_size)
        yield replace(disk, logical_sector_bytes=logical, physical_sector_bytes=physical)


def with_drivers(wanted: PlanOptions, found: Inspection, machine: Machine) -> PlanOptions:
    """For a Windows guest, what the medium that was named offers it, or the one that is installed. Raises as ``read_media``."""
    windows = found.facts.windows
    if windows is None:
        return wanted
    from drivers.windows.media import find_media
    from drivers.windows.offer import offer_for

    medium = wanted.virtio_win or find_media()
    if medium is None:
        return wanted
    return replace(wanted, drivers=offer_for(windows, medium, machine.secure_boot))


def _with_cards(wanted: PlanOptions, machine: Machine, found: Inspection) -> PlanOptions:
    # a Windows finds a card that it is to set by nothing else, so it is told the address that the card will be given
    is_windows = found.facts.windows is not None
    given = (stable_mac(machine.name, index) if is_windows else None for index in range(len(machine.nics)))
    return replace(
        wanted,
        nic_macs=tuple(nic.mac or mac for nic, mac in zip(machine.nics, given, strict=True)),
        mac_changes=tuple((nic.source_mac, nic.mac) for nic in machine.nics if nic.source_mac and nic.mac),
        addressing=tuple(nic.addressing for nic in machine.nics),
    )


def _kept_macs(machine: Machine) -> Iterator[Finding]:
    """A copy that runs beside its source must not have its MAC addresses."""
    kept = [nic.mac for nic in machine.nics if nic.mac is not None and nic.source_mac is None]
    if kept:
        message = f"the copy has its source's MAC addresses ({', '.join(kept)}): on one network they take each other's traffic"
        yield Finding("machine.mac-kept", message, "Say --mac OLD=NEW for each, or keep the two on different networks.")


def disk_names(name: str, count: int, disk_format: str) -> tuple[TargetDisk, ...]:
    """The files a machine's disks become, relative to the folder of its definition, in boot order."""
    suffix = {"qcow2": "qcow2", "raw": "img"}[disk_format]
    if count == 1:
        return (TargetDisk(Path(f"{name}.{suffix}"), disk_format),)
    return tuple(TargetDisk(Path(f"{name}-disk{i + 1}.{suffix}"), disk_format) for i in range(count))
