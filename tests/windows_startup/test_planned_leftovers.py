"""What is planned of leftovers, fallback drivers and processors, in every sample guest: it starts from IDE and SATA as well."""

from __future__ import annotations

import re

import pytest

from drivers.windows import crash_control, fallback, leftovers, processors, virtio_drivers
from drivers.windows.contribution import WindowsContribution
from drivers.windows.driver_changes import members_of
from drivers.windows.driver_choice import choose_drivers
from drivers.windows.edits import AddKey, SetValue
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts
from drivers.windows.leftover_catalogue import PRODUCTS
from drivers.windows.media import MediumMember
from drivers.windows.offer import DriverOffer, target_of
from drivers.windows.virtio_win import read_catalogue
from tests.drivers.memory_tree import InMemoryTree
from tests.fixtures.hives import dword, multi_sz, sz
from tests.fixtures.windows import GUESTS, WindowsGuest, pe, registry, regtext
from tests.fixtures.windows.pe import Arch
from tests.fixtures.windows.records import State
from tests.fixtures.windows.rows import rows
from tests.windows_startup import devices
from tests.windows_startup.devices import Device
from tests.windows_startup.editing import RemoveKey, Set
from tests.windows_startup.guests import Sample, on_virtio, sample
from tests.windows_startup.planning import Planner, converted, described, disabled, edited, planned
from tests.windows_startup.startup import start
from tests.windows_startup.test_planned_drivers import MEDIUM
from tests.windows_startup.verdict import Doubt, Reason

PLANNERS: tuple[Planner, ...] = (crash_control.contribute, fallback.contribute, leftovers.contribute, processors.contribute)
_VISTA = (6, 0)
_MAKERS = frozenset({
    "vmware", "vmscsi", "pvscsi", "virtualbox", "hyperv-integration", "virtual-pc", "xen", "xen-redhat", "parallels", "nutanix",
    "qemu-old", "hp", "dell", "ibm",
})  # fmt: skip
# drivers of real controllers that Windows brings itself: they wait for their controller
_OF_WINDOWS = frozenset({"megasas", "percsas3i"})
_READABLE = tuple(guest for guest in GUESTS if guest.state is not State.BITLOCKER)
_CURED = (Reason.HIVE_NOT_CLEAN, Reason.FILTER_MISSING)


def buses(guest: WindowsGuest) -> tuple[Device, ...]:
    """The controllers without virtio that KVM has for a guest."""
    if guest.version.nt < _VISTA:
        return (devices.PIIX_IDE,)
    return (devices.AHCI,) if guest.arch is Arch.ARM64 else (devices.AHCI, devices.PIIX_IDE)


@pytest.mark.parametrize("guest", rows(_READABLE))
def test_guest_starts_from_ide_and_sata_and_does_not_miss_what_is_disabled(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        at_home = found.start(guest.machine.controller).reason
        # what does not start where it is has no reason more not to
        expected = None if at_home in _CURED else at_home
        ready = converted(found, PLANNERS)
        for controller in buses(guest):
            for last_known_good in (False, True):
                moved = ready.start(controller, last_known_good=last_known_good)
                assert moved.reason is expected, moved
        if guest.version.nt >= (5, 1):
            assert on_virtio(ready).start(devices.VIRTIO_BLK).reason is expected
        assert planned(ready, PLANNERS).edits[SYSTEM] == ()


@pytest.mark.parametrize("guest", rows(_READABLE))
def test_what_a_maker_left_does_not_start(guest: WindowsGuest) -> None:
    makers = [name for name in guest.machine.sources if name in _MAKERS]
    blanks = registry.blanks_of(guest)
    entries = [entry for name in makers for entry in regtext.read(name, blanks)]
    services = {entry.name.lower() for entry in entries if isinstance(entry, regtext.Driver)}
    services |= {
        entry.key.split("\\")[2].lower()
        for entry in entries
        if isinstance(entry, regtext.Value) and entry.key.startswith("CCS\\Services\\") and entry.name == "Start"
    }
    with sample(guest.name) as found:
        ready = converted(found, PLANNERS)
        changed = disabled(planned(found, (leftovers.contribute,)).edits[SYSTEM])
        assert changed >= services - _OF_WINDOWS
        for last_known_good in (False, True):
            moved = ready.start(buses(guest)[0], last_known_good=last_known_good)
            assert not (services - _OF_WINDOWS) & {name.lower() for name in moved.boot_drivers}


def test_no_driver_that_windows_brings_is_in_the_catalogue() -> None:
    named = {name.lower() for product in PRODUCTS for name in product.services if product.before > (6, 1)}
    for guest in GUESTS:
        blanks = registry.blanks_of(guest)
        entries = [entry for name in guest.version.sources for entry in regtext.read(name, blanks)]
        assert not named & {entry.name.lower() for entry in entries if isinstance(entry, regtext.Driver)}


@pytest.mark.parametrize(
    "name, controller, taken_out",
    [
        ("nt4-server", devices.PIIX_IDE, r"{booted}\\Services\\atapi: Start"),
        ("2003", devices.PIIX_IDE, r"{booted}\\Services\\atapi: Start"),
        ("2003", devices.PIIX_IDE, r"{booted}\\Services\\intelide: Start"),
        ("2003", devices.PIIX_IDE, r"{booted}\\Control\\CriticalDeviceDatabase\\PCI#(VEN_8086&DEV_7010|CC_0101): Service"),
        ("win7", devices.PIIX_IDE, r"{booted}\\Services\\atapi: Start"),
        ("win7", devices.PIIX_IDE, r"{booted}\\Services\\intelide: Start"),
        ("win7", devices.AHCI, r"{booted}\\Services\\msahci: Start"),
        ("win7", devices.AHCI, r"{booted}\\Services\\atapi: Start"),
        ("2012", devices.AHCI, r"{booted}\\Services\\storahci: Start"),
        ("2012", devices.AHCI, r"{booted}\\Services\\storahci\\StartOverride: 0"),
        ("2012", devices.PIIX_IDE, r"{booted}\\Services\\atapi\\StartOverride: 0"),
        ("win10", devices.AHCI, r"{booted}\\Services\\storahci\\StartOverride: 0"),
        ("win10", devices.PIIX_IDE, r"{booted}\\Services\\intelide\\StartOverride: 0"),
        ("win8.1", devices.AHCI, r"{booted}\\Control\\Class\\.4D36E967.*: LowerFilters"),
        ("2012-r2", devices.PIIX_IDE, r"{booted}\\Control\\Class\\.4D36E96A.*: UpperFilters"),
    ],
)  # fmt: skip
def test_without_any_one_of_what_is_planned_it_does_not_start(name: str, controller: Device, taken_out: str) -> None:
    with sample(name) as found:
        booted = found.booted_set
        assert converted(found, PLANNERS).start(controller).stop is None
        moved = converted(found, PLANNERS, taken_out.replace("{booted}", booted)).start(controller)
        assert moved.stop is not None
        assert moved.stop.reason.value.startswith("0x7B") or name == "nt4-server", moved


# of two entries for a controller one is enough, pciide is for controllers that QEMU has not, a class matters to its filters
_MORE_THAN_ENOUGH = re.compile(r".*(pciide.*|PCI#(VEN_8086&DEV_(7\d+|2922)|CC_01\d+): Service|: ClassGUID)", re.IGNORECASE)


@pytest.mark.parametrize("name", ["nt4-server", "2003", "win7", "2012", "win10"])
def test_a_guest_needs_each_single_edit_for_one_of_its_starts(name: str) -> None:
    with sample(name) as found:
        every = planned(found, (fallback.contribute,)).edits[SYSTEM]
        singly = [each for each in every if not isinstance(each, AddKey) and not _MORE_THAN_ENOUGH.fullmatch(described(each))]
        assert singly
        for left_out in singly:
            ready = edited(found, [each for each in every if each is not left_out])
            starts = [ready.start(bus, last_known_good=last) for bus in buses(found.guest) for last in (False, True)]
            assert any(moved.stop for moved in starts), described(left_out)


def test_the_last_known_good_set_is_made_ready_by_itself() -> None:
    with sample("2012") as found:
        last = f"ControlSet{found.guest.sets.last_known_good:03d}"
        without = converted(found, PLANNERS, rf"{last}\\Services\\storahci.*")
        assert without.start(devices.AHCI).stop is None
        assert without.start(devices.AHCI, last_known_good=True).stop is not None


def test_a_filter_whose_service_is_gone_leaves_its_list_and_others_stay() -> None:
    with sample("win7") as found:
        key = f"{found.booted_set}\\Control\\Class\\{{4D36E967-E325-11CE-BFC1-08002BE10318}}"
        stale = found.with_hive("SYSTEM", [Set(key, "UpperFilters", multi_sz("partmgr", "gonefilter"))])
        assert converted(stale, (fallback.contribute,)).start(devices.AHCI).reason is Reason.FILTER_MISSING
        ready = converted(stale, PLANNERS)
        assert ready.start(devices.AHCI).stop is None
        made = [each for each in planned(stale, PLANNERS).edits[SYSTEM] if each.key == key]
        assert [each.data for each in made if isinstance(each, SetValue)] == [multi_sz("partmgr").data.hex()]


def _with_ia_stor(found: Sample) -> Sample:
    """Intel's driver, tied to the id that QEMU's AHCI controller has as well."""
    key = f"{found.booted_set}\\Services\\iaStor"
    entry = f"{found.booted_set}\\Control\\CriticalDeviceDatabase\\PCI#VEN_8086&DEV_2922&CC_0106"
    edits = [Set(key, "Type", dword(1)), Set(key, "Start", dword(0)), Set(key, "ErrorControl", dword(1))]
    edits += [Set(entry, "Service", sz("iaStor")), Set(entry, "ClassGUID", sz("{4D36E97B-E325-11CE-BFC1-08002BE10318}"))]
    file = {found.path("system32/drivers/iastor.sys"): found.read(found.path("system32/drivers/atapi.sys"))}
    return found.with_hive("SYSTEM", edits).with_files(file)


def test_a_driver_of_the_chip_that_qemus_controller_is_like_gives_way_before_it_is_disabled() -> None:
    with sample("win7") as found:
        intel = _with_ia_stor(found)
        assert intel.start(devices.AHCI).storage_service == "iaStor"
        ready = converted(intel, PLANNERS)
        assert (ready.start(devices.AHCI).stop, ready.start(devices.AHCI).storage_service) == (None, "msahci")
        without = converted(intel, PLANNERS, r".*DEV_2922&CC_0106: Service")
        assert without.start(devices.AHCI).reason is Reason.STORAGE_DRIVER_NOT_BOOT_START


def test_an_old_system_on_ide_that_lost_its_entries_and_services_gets_them_back() -> None:
    with sample("2003") as found:
        base = found.booted_set
        database = f"{base}\\Control\\CriticalDeviceDatabase"
        gone = [RemoveKey(f"{base}\\Services\\{name}") for name in ("atapi", "IntelIde", "PCIIde")]
        gone += [RemoveKey(f"{database}\\{name}") for name in ("Primary_IDE_Channel", "*PNP0600", "GenDisk")]
        bare = found.with_hive("SYSTEM", gone)
        assert converted(bare, PLANNERS).start(devices.PIIX_IDE).stop is None


@pytest.mark.parametrize("place", [r".*\\Control\\Class\\.4D36E96F.*", r".*\\Enum\\ACPI\\PNP0F13\\.*"])
def test_a_mouse_whose_filter_is_disabled_and_not_taken_out_does_not_move(place: str) -> None:
    with sample("win7") as found:
        without = converted(found, PLANNERS, rf"{place}: UpperFilters")
        assert [doubt for doubt, _ in without.start(devices.AHCI).doubts] == [Doubt.NO_INPUT]
        assert converted(found, PLANNERS).start(devices.AHCI).doubts == ()


def test_processors_of_another_maker_are_no_doubt_once_nt_5_is_rewritten() -> None:
    with sample("2003-x64") as found:
        target = found.target(devices.PIIX_IDE)
        amd = type(target)(target.controller, processors=1, intel=False)
        ready = converted(found, PLANNERS)
        assert Doubt.PROCESSOR_DRIVER not in [doubt for doubt, _ in start(ready.machine, amd).doubts]
        without = converted(found, PLANNERS, r".*\\Services\\intelppm: Start")
        assert Doubt.PROCESSOR_DRIVER in [doubt for doubt, _ in start(without.machine, amd).doubts]


@pytest.mark.parametrize("name", ["2003", "win7", "win10"])
def test_together_with_the_drivers_of_a_medium_one_plan_starts_the_guest_on_virtio_and_without(name: str) -> None:
    catalogue = read_catalogue(InMemoryTree(MEDIUM.files), "/medium", "folder")

    def of_medium(windows: WindowsFacts) -> WindowsContribution:
        target = target_of(windows)
        assert target is not None
        choice = choose_drivers(catalogue, target)
        located = [MediumMember(path, path, None, len(MEDIUM.files[path]), "") for path in members_of(choice, catalogue)]
        return virtio_drivers.contribute(windows, DriverOffer(catalogue, choice, tuple(located)))

    with sample(name) as found:
        files = {
            found.path(f"system32/drivers/{driver}.sys"): pe.program(found.guest.arch, pe.Subsystem.NATIVE, driver)
            for driver in ("viostor", "vioscsi")
        }
        ready = converted(found, (*PLANNERS, of_medium)).with_files(files)
        for controller in (devices.VIRTIO_BLK, devices.VIRTIO_BLK_MODERN, *buses(found.guest)):
            assert ready.start(controller).stop is None
        assert planned(ready, (*PLANNERS, of_medium)).edits[SYSTEM] == ()


def test_every_edit_says_why_and_none_is_made_twice() -> None:
    for name in ("xp", "win7", "2012-r2", "win8.1"):
        with sample(name) as found:
            every = planned(found, PLANNERS).edits[SYSTEM]
            assert all(each.why for each in every)
            assert len({described(each).upper() + type(each).__name__ for each in every}) == len(every)
            assert edited(found, every).start(buses(found.guest)[0]).stop is None


def test_what_runs_at_log_on_is_taken_out() -> None:
    with sample("win7") as found:
        gone = [described(each) for each in planned(found, PLANNERS).edits[SOFTWARE]]
        assert gone == ["Microsoft\\Windows\\CurrentVersion\\Run: VMware User Process"]
