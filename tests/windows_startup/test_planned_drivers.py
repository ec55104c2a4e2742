"""The drivers that are planned from a medium, put into every sample guest: it starts on every kind of virtio it has drivers for."""

from __future__ import annotations

import re

import pytest

from drivers.changes import CarryFile
from drivers.windows.driver_changes import members_of
from drivers.windows.driver_choice import choose_drivers
from drivers.windows.edits import SetValue
from drivers.windows.facts import SYSTEM
from drivers.windows.hive_edit import edit
from drivers.windows.media import MediumMember
from drivers.windows.offer import DriverOffer, target_of
from drivers.windows.reading import read_windows
from drivers.windows.virtio_drivers import contribute
from drivers.windows.virtio_win import DriverCatalogue, read_catalogue
from tests.drivers.memory_tree import InMemoryTree
from tests.fixtures import virtio_win
from tests.fixtures.windows import MACHINES, VERSIONS, WindowsGuest, pe
from tests.fixtures.windows.rows import rows
from tests.windows_startup import devices
from tests.windows_startup.guests import Sample, sample

MEDIUM = virtio_win.medium(virtio_win.DRIVERS[:3])
_VISTA = (6, 0)


@pytest.fixture(scope="module")
def catalogue() -> DriverCatalogue:
    return read_catalogue(InMemoryTree(MEDIUM.files), "/medium", "folder")


def converted(found: Sample, catalogue: DriverCatalogue, taken_out: str = "") -> Sample:
    """The guest as its plan leaves it, as far as drivers go: our reader, our choice, our editor.

    ``taken_out``: an expression (of the re module, on all of it) of edits that are not made, as ``KEY: NAME``, or of programs that
    are not put there, by their paths.
    """
    wanted = re.compile(taken_out, re.IGNORECASE)
    root = f"/{found.guest.version.folder}"
    names = ("system32/config/SYSTEM", "system32/config/SOFTWARE", "system32/ntoskrnl.exe", "system32/cmd.exe")
    files = {f"{root}/{name}": found.machine.volume(found.system).read(found.path(name)) for name in names}
    windows = read_windows(InMemoryTree({path: data for path, data in files.items() if data is not None}), root).facts
    target = target_of(windows)
    assert target is not None
    choice = choose_drivers(catalogue, target)
    located = [MediumMember(path, path, None, len(MEDIUM.files[path]), "") for path in members_of(choice, catalogue)]
    planned = contribute(windows, DriverOffer(catalogue, choice, tuple(located)))
    path = windows.registry[SYSTEM].path
    hive = files[path]
    assert hive is not None
    programs = {
        change.path.lstrip("/"): pe.program(found.guest.arch, pe.Subsystem.NATIVE, change.source)
        for change in planned.changes
        if isinstance(change, CarryFile) and change.path.lower().startswith(f"{root}/system32/drivers/".lower())
    }
    made = [
        each
        for each in planned.edits[SYSTEM]
        if not (isinstance(each, SetValue) and wanted.fullmatch(f"{each.key}: {each.name}"))
    ]
    there = {name: data for name, data in programs.items() if not wanted.fullmatch(name)}
    assert not taken_out or (len(made), len(there)) != (len(planned.edits[SYSTEM]), len(programs)), "nothing was taken out"
    return found.with_files({path.lstrip("/"): edit(hive, (), made), **there})


@pytest.mark.parametrize("guest", rows(guest for guest in (*VERSIONS, *MACHINES) if guest.version.nt >= (5, 1)))
def test_guest_starts_on_every_kind_of_virtio_that_the_medium_has_drivers_for(
    guest: WindowsGuest, catalogue: DriverCatalogue
) -> None:
    with sample(guest.name) as found:
        ready = converted(found, catalogue)
        for controller in devices.VIRTIO_STORAGE:
            moved = ready.start(controller)
            if "scsi" in controller.name and found.guest.version.nt < _VISTA:
                # virtio-win never had vioscsi for them
                assert moved.stop is not None
                continue
            assert moved.stop is None, moved
            assert moved.storage_service == ("vioscsi" if "scsi" in controller.name else "viostor")
        assert ready.start(devices.VIRTIO_BLK, last_known_good=True).stop is None
        assert ready.start(found.guest.machine.controller).stop is None


_ID = r"VEN_1AF4&DEV_1001(&REV_00)?"
_PACKAGE = r"DriverDatabase\\DriverPackages\\p2v-viostor\.inf_amd64_0{16}"


@pytest.mark.parametrize(
    "name, taken_out",
    [
        ("win7", r"windows/system32/drivers/viostor\.sys"),
        ("win7", r"{booted}\\Services\\viostor: Start"),
        ("win7", rf"{{booted}}\\Control\\CriticalDeviceDatabase\\PCI#{_ID}: Service"),
        ("xp", r"windows/system32/drivers/viostor\.sys"),
        ("xp", rf"{{booted}}\\Control\\CriticalDeviceDatabase\\PCI#{_ID}: Service"),
        ("win10", r"windows/system32/drivers/viostor\.sys"),
        ("win10", r"{booted}\\Services\\viostor: Start"),
        ("win10", rf"DriverDatabase\\DeviceIds\\PCI\\{_ID}: p2v-viostor\.inf"),
        ("win10", rf"{_PACKAGE}\\Descriptors\\PCI\\{_ID}: Configuration"),
        ("win10", rf"{_PACKAGE}\\Configurations\\viostor_conf: Service"),
        ("win10", rf"{_PACKAGE}: Version"),
        ("win10", r"DriverDatabase\\DriverInfFiles\\p2v-viostor\.inf: Active"),
    ],
)
def test_without_any_one_of_what_is_planned_it_does_not_start(name: str, taken_out: str, catalogue: DriverCatalogue) -> None:
    with sample(name) as found:
        wanted = taken_out.replace("{booted}", f"ControlSet{found.guest.sets.default:03d}")
        moved = converted(found, catalogue, wanted).start(devices.VIRTIO_BLK)
        assert moved.stop is not None


@pytest.mark.parametrize("name", ["win7", "win10"])
def test_the_last_known_good_set_needs_its_own_service(name: str, catalogue: DriverCatalogue) -> None:
    with sample(name) as found:
        last = f"ControlSet{found.guest.sets.last_known_good:03d}"
        without = converted(found, catalogue, rf"{last}\\Services\\viostor: Start")
        assert without.start(devices.VIRTIO_BLK).stop is None
        assert without.start(devices.VIRTIO_BLK, last_known_good=True).stop is not None
