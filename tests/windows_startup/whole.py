"""A sample guest's whole plan, with a medium of drivers and a card: made in memory, all of it or all but one thing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from drivers.changes import Change, EditBootSector, EditHive
from drivers.plan import GuestPlan, PlanOptions
from drivers.planning import plan_guest
from drivers.windows.driver_changes import members_of
from drivers.windows.driver_choice import choose_drivers
from drivers.windows.edits import DeleteValue, HiveEdit, SetValue, ValueData
from drivers.windows.hive_edit import edit
from drivers.windows.media import MediumMember
from drivers.windows.offer import DriverOffer, target_of
from drivers.windows.virtio_win import DriverCatalogue, read_catalogue
from tests.drivers.memory_tree import InMemoryTree
from tests.fixtures import virtio_win
from tests.fixtures.windows import WindowsGuest, registry, regtext
from tests.windows_startup import devices
from tests.windows_startup.afterwards import Expected, Omission, omissions, omitted_drivers
from tests.windows_startup.devices import Device
from tests.windows_startup.guests import Sample
from tests.windows_startup.planned import described, facts_of, made, medium, placed, rewritten
from tests.windows_startup.startup import start
from tests.windows_startup.verdict import Doubt, Reason, Stopped, Target

Piece = HiveEdit | Change
Kind = Reason | Doubt | Omission
MAC = "52:54:00:12:34:56"
MAKERS = frozenset({
    "vmware", "vmscsi", "pvscsi", "virtualbox", "hyperv-integration", "virtual-pc", "xen", "xen-redhat", "parallels", "nutanix",
    "qemu-old", "hp", "dell", "ibm",
})  # fmt: skip
"""Sources of the registry that are a maker's of hypervisors or of machines."""
# drivers of real controllers that Windows brings itself: they wait for their controller
OF_WINDOWS = frozenset({"megasas", "percsas3i"})
_BUS_OF = {"viostor": "virtio-blk", "vioscsi": "virtio-scsi"}
_PLUG_AND_PLAY, _VISTA, _SEVEN = (5, 0), (6, 0), (6, 1)
_RUN = "Microsoft\\Windows\\CurrentVersion\\Run"


@functools.cache
def catalogue() -> DriverCatalogue:
    """What the medium has."""
    return read_catalogue(InMemoryTree(medium()), "/medium", "folder")


def whole_plan(found: Sample) -> GuestPlan:
    """The plan of a sample with all that a user can give it."""
    facts = facts_of(found)
    assert facts.windows is not None
    target = target_of(facts.windows)
    assert target is not None
    choice = choose_drivers(catalogue(), target)
    located = tuple(MediumMember(path, path, None, len(medium()[path]), "") for path in members_of(choice, catalogue()))
    options = PlanOptions(nic_macs=(MAC,), drivers=DriverOffer(catalogue(), choice, located), purge_tools=True)
    return plan_guest(facts, options)


@dataclass(frozen=True)
class Rewritten:
    """A sample, its plan, and the sample with all of that made."""

    before: Sample
    plan: GuestPlan
    whole: Sample

    @classmethod
    def of(cls, found: Sample) -> Rewritten:
        """With the whole plan."""
        plan = whole_plan(found)
        return cls(found, plan, rewritten(found, plan))

    def pieces(self) -> Iterator[Piece]:
        """Each thing that could be left out."""
        for change in self.plan.changes:
            yield from change.edits if isinstance(change, EditHive) else (change,)

    def without(self, piece: Piece) -> Sample:
        """The sample with all made but that. Raises ``BadHive`` where the rest cannot be made."""
        if isinstance(piece, EditBootSector):
            return rewritten(self.before, self.plan, lambda what: what != piece.path)
        change = next(each for each in self.plan.changes if each is piece or piece in getattr(each, "edits", ()))
        partition, path = placed(self.before, change.path)
        if isinstance(piece, SetValue | DeleteValue):
            return self.whole.with_files({path: edit(self.whole.read(path, partition), (), (_undone(piece),))}, partition)
        if isinstance(change, EditHive):
            rest = made(self.before, change, tuple(each for each in change.edits if each is not piece))
            return self.whole.with_files({path: rest.read(path, partition)}, partition)
        return self.whole.with_files({path: self.before.machine.volume(partition).read(path)}, partition)


def _undone(piece: SetValue | DeleteValue) -> HiveEdit:
    """What takes an edit back: quicker than to make all the others, and the same (a test says so)."""
    if isinstance(piece, DeleteValue):
        return SetValue(piece.key, piece.name, piece.before.kind, piece.before.data, None, piece.why)
    now = ValueData(piece.kind, piece.data)
    if piece.before is None:
        return DeleteValue(piece.key, piece.name, now, piece.why)
    return SetValue(piece.key, piece.name, piece.before.kind, piece.before.data, now, piece.why)


def label(piece: Piece) -> str:
    """What a piece is about: ``KEY: NAME``, or a path."""
    return piece.path if isinstance(piece, Change) else described(piece)


def targets(found: Sample, plan: GuestPlan) -> tuple[Target, ...]:
    """The machines that a plan says the guest can start on: all controllers of its buses, a BIOS' heads, AMD's processors.

    SATA as well where Windows has a driver for it, whatever the machine is that the plan takes.
    """
    heads = devices.seabios_heads(found.machine.disks[0].reader.virtual_size)
    has_card = "virtio" in plan.caps.nic_models
    return tuple(
        replace(found.target(controller, _card(controller) if has_card else None), heads=heads, intel=False)
        for bus in dict.fromkeys((*plan.caps.disk_buses, *(("sata",) if found.guest.version.nt >= _VISTA else ())))
        for controller in devices.CONTROLLERS[bus]
    )


def _card(controller: Device) -> Device:
    """One of the controller's kind."""
    legacy = controller in (devices.VIRTIO_BLK, devices.VIRTIO_SCSI)
    return devices.VIRTIO_NET if legacy else devices.VIRTIO_NET_MODERN


def expected_of(found: Sample, plan: GuestPlan) -> Expected:
    """What the sources of a guest and of the medium say, not the plan."""
    # what Hyper-V needs is a product on what came before Windows 7
    makers = MAKERS | ({"hyperv"} if found.guest.version.nt < _SEVEN else set())
    entries = [entry for name in found.guest.machine.sources if name in makers for entry in _entries(found.guest, name)]
    services = {entry.name.lower() for entry in entries if isinstance(entry, regtext.Driver)}
    values = [entry for entry in entries if isinstance(entry, regtext.Value)]
    started = [each.key for each in values if each.name == "Start" and each.key.startswith("CCS\\Services\\")]
    services |= {key.split("\\")[2].lower() for key in started}
    runs = frozenset(each.name.lower() for each in values if (each.hive, each.key) == ("SOFTWARE", _RUN))
    of_medium = {
        driver.service: _as_inf(driver)
        for driver in virtio_win.DRIVERS
        if driver.service and _BUS_OF.get(driver.name) in plan.caps.disk_buses
    }
    strangers = frozenset(services - OF_WINDOWS - set(of_medium))
    return Expected(strangers, runs, of_medium, first_start=found.guest.version.nt >= _PLUG_AND_PLAY)


def _entries(guest: WindowsGuest, source: str) -> Iterable[regtext.Entry]:
    return regtext.read(source, registry.blanks_of(guest))


def _as_inf(driver: virtio_win.Driver) -> dict[str, int | str]:
    assert driver.bus_type is not None
    return {
        "Type": 1, "Start": driver.start, "ErrorControl": 1, "Group": driver.group,
        "ImagePath": f"System32\\drivers\\{driver.name}.sys",
        "Parameters\\BusType": driver.bus_type, "Parameters\\PnpInterface\\5": 1,
    }  # fmt: skip


def kinds(ready: Sample, machines: Iterable[Target], expected: Expected) -> Iterator[tuple[Kind, str]]:
    """Everything that is wrong with a rewritten guest, on every machine and in both control sets; stops come first."""
    machines = tuple(machines)
    doubts = list[tuple[Kind, str]]()
    for target in machines:
        for last in (False, True):
            moved = start(ready.machine, target, last_known_good=last)
            if moved.stop is not None:
                yield moved.stop.reason, f"{target.controller.name}: {moved.stop.evidence}"
            doubts += moved.doubts
    sets = ready.guest.sets
    virtio = [target for target in machines if target.controller in devices.VIRTIO_STORAGE]
    others = [number for number in sets.existing if virtio and number not in (sets.default, sets.last_known_good)]
    for number in others:
        for target in virtio:
            moved = start(ready.machine, target, control_set=number)
            if moved.stop is not None:
                yield moved.stop.reason, f"{target.controller.name}, control set {number}: {moved.stop.evidence}"
    yield from doubts
    try:
        for last in (False, True):
            yield from omissions(ready.machine, machines[0], expected, last_known_good=last)
        for number in others:
            yield from omitted_drivers(ready.machine, machines[0], expected, number)
    except Stopped as stopped:
        yield stopped.stop.reason, stopped.stop.evidence
