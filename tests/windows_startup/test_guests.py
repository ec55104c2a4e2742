"""Every sample guest starts where it was installed, and nowhere on virtio before it is converted."""

from __future__ import annotations

import pytest

from tests.fixtures.windows import GUESTS, MACHINES, VERSIONS, State, WindowsGuest
from tests.fixtures.windows.rows import rows
from tests.windows_startup import devices
from tests.windows_startup.guests import on_virtio, sample
from tests.windows_startup.verdict import Doubt, Reason

#: What keeps a guest from starting even at home, in the model's eyes.
_STOPPED_AT_HOME = {
    "hibernated-xp": (Reason.HIBERNATED, "hibr"),
    "hibernated": (Reason.HIBERNATED, "HIBR"),
    "fast-started": (Reason.HIBERNATED, "HIBR"),
    "dirty-hive": (Reason.HIVE_NOT_CLEAN, "SYSTEM"),
    "dirty-hive-7": (Reason.HIVE_NOT_CLEAN, "SYSTEM"),
    "dirty-hive-xp": (Reason.HIVE_NOT_CLEAN, "SYSTEM"),
    "bitlocker": (Reason.VOLUME_ENCRYPTED, "disk 0 partition 3"),
    "missing-driver": (Reason.BOOT_DRIVER_MISSING, "oldraid"),
    "stale-filter": (Reason.FILTER_MISSING, "gonefilter"),
}


@pytest.mark.parametrize("guest", rows((*VERSIONS, *MACHINES)))
def test_guest_starts_at_home_and_not_on_virtio(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        at_home = found.start(found.guest.machine.controller, found.guest.machine.card.device)
        assert at_home.stop is None, at_home
        assert at_home.doubts == ()
        assert at_home.control_set == found.guest.sets.default
        assert at_home.storage_service.lower() == found.guest.machine.service.lower()
        for controller in (devices.VIRTIO_BLK_MODERN, devices.VIRTIO_SCSI_MODERN):
            moved = found.start(controller)
            assert moved.reason is Reason.NO_STORAGE_DRIVER
            assert controller.device_id in str(moved.stop)


@pytest.mark.parametrize("name", [guest.name for guest in GUESTS if guest.name in _STOPPED_AT_HOME])
def test_what_keeps_a_guest_from_starting_at_home_is_named(name: str) -> None:
    reason, evidence = _STOPPED_AT_HOME[name]
    with sample(name) as found:
        at_home = found.start(found.guest.machine.controller)
        assert (at_home.reason, evidence in str(at_home.stop)) == (reason, True), at_home


@pytest.mark.parametrize("name", ["dynamic", "multi-boot", "upgraded", "domain-controller", "pending", "utc-clock"])
@pytest.mark.matrix
def test_variant_that_changes_nothing_about_the_start_starts_at_home(name: str) -> None:
    with sample(name) as found:
        at_home = found.start(found.guest.machine.controller)
        assert at_home.stop is None, at_home


def test_volume_that_is_marked_dirty_is_checked_at_start() -> None:
    with sample("dirty-ntfs") as found:
        assert found.guest.state is State.DIRTY_VOLUME
        at_home = found.start(found.guest.machine.controller)
        assert at_home.stop is None
        assert [kind for kind, _ in at_home.doubts] == [Doubt.CHECK_AT_START]


@pytest.mark.parametrize("guest", rows(guest for guest in (*VERSIONS, *MACHINES) if guest.version.nt >= (5, 0)))
def test_guest_with_drivers_for_virtio_starts_on_every_kind_of_it(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        ready = on_virtio(found)
        for controller in devices.VIRTIO_STORAGE:
            moved = ready.start(controller)
            assert moved.stop is None, moved
            assert moved.storage_service == ("vioscsi" if "scsi" in controller.name else "viostor")
            assert moved.control_set == guest.sets.default
        assert ready.start(devices.VIRTIO_BLK, last_known_good=True).stop is None
        assert ready.start(found.guest.machine.controller).stop is None


@pytest.mark.parametrize(
    "name, controller, reason",
    [
        # what a machine did not need at home is off: these are what the fallback drivers are for
        pytest.param("win10", devices.AHCI, Reason.STORAGE_DRIVER_NOT_BOOT_START, id="10: StartOverride keeps storahci off"),
        pytest.param("win10", devices.PIIX_IDE, Reason.STORAGE_DRIVER_NOT_BOOT_START, id="10: StartOverride keeps intelide off"),
        pytest.param("win7", devices.AHCI, Reason.STORAGE_DRIVER_NOT_BOOT_START, id="7: msahci has Start 3"),
        pytest.param("2003", devices.PIIX_IDE, Reason.NO_STORAGE_DRIVER, id="2003: nothing merged for IDE"),
        pytest.param("win8.1", devices.AHCI, None, id="8.1 on AHCI goes on on another AHCI"),
        pytest.param("nt4-workstation", devices.PIIX_IDE, None, id="NT 4.0 on IDE goes on on another IDE"),
        pytest.param("xp", devices.PIIX_IDE, Reason.NO_STORAGE_DRIVER, id="XP knows the one IDE controller it was installed on"),
    ],
)
def test_guest_moves_to_emulated_storage_only_where_its_drivers_are_on(
    name: str, controller: devices.Device, reason: Reason | None
) -> None:
    with sample(name) as found:
        assert found.start(controller).reason is reason
