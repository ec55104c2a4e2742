"""Whole plans of the sample guests: none is blocked, also without a medium of drivers, and the guest starts on what it is given."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.changes import CarryFile, WriteFile
from drivers.plan import GuestPlan, PlanOptions
from drivers.planning import plan_guest
from drivers.windows.facts import PlacedFile
from drivers.windows.offer import offer_for
from tests.fixtures import virtio_win
from tests.fixtures.windows import MACHINES, VERSIONS, WindowsGuest, pe
from tests.fixtures.windows.rows import rows
from tests.windows_startup import devices
from tests.windows_startup.devices import Device
from tests.windows_startup.guests import Sample, sample
from tests.windows_startup.planned import facts_of, plan_of, rewritten

_CONTROLLERS: dict[str, Device] = {
    "virtio-blk": devices.VIRTIO_BLK_MODERN, "virtio-scsi": devices.VIRTIO_SCSI_MODERN, "sata": devices.AHCI,
    "ide": devices.PIIX_IDE,
}  # fmt: skip


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return virtio_win.write_folder(virtio_win.startable(virtio_win.medium().files), tmp_path_factory.mktemp("virtio-win"))


@pytest.mark.parametrize("guest", rows((*VERSIONS, *MACHINES)))
def test_guest_of_every_version_is_planned_for_without_a_medium_and_starts_on_each_bus_of_its_plan(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        plan = plan_of(found)
        if guest.arch is pe.Arch.ARM64:
            # KVM's machine for it has disks on virtio only
            assert [blocker.id for blocker in plan.blockers] == ["windows.no-disk-driver"]
            return
        assert plan.blockers == ()
        assert plan.changes != ()
        after = rewritten(found, plan)
        assert _again(after, plan, PlanOptions()).changes == ()
        assert not any(bus.startswith("virtio") for bus in plan.caps.disk_buses)
        for bus in plan.caps.disk_buses:
            moved = after.start(_CONTROLLERS[bus])
            assert moved.stop is None, moved


@pytest.mark.parametrize("guest", rows((*VERSIONS, *MACHINES)))
def test_guest_of_every_version_is_planned_for_with_a_medium_and_starts_on_each_bus_of_its_plan(
    guest: WindowsGuest, medium: Path
) -> None:
    with sample(guest.name) as found:
        windows = facts_of(found).windows
        assert windows is not None
        options = PlanOptions(drivers=offer_for(windows, medium, secure_boot=False))
        plan = plan_of(found, options)
        assert plan.blockers == ()
        has_virtio = plan.caps.disk_buses[0] == "virtio-blk"
        assert has_virtio == (guest.version.nt >= (5, 1))
        after = rewritten(found, plan)
        again = _again(after, plan, options)
        assert again.changes == ()
        assert "driver.replaced" not in {finding.id for finding in again.warnings}
        for bus in plan.caps.disk_buses:
            moved = after.start(_CONTROLLERS[bus])
            assert moved.stop is None, moved



def _again(after: Sample, plan: GuestPlan, options: PlanOptions) -> GuestPlan:
    """The plan for what a plan has left, with its new files among the facts."""
    facts = facts_of(after)
    assert facts.windows is not None
    placed = tuple(_placed(change) for change in plan.changes if isinstance(change, CarryFile | WriteFile))
    return plan_guest(replace(facts, windows=replace(facts.windows, placed=placed)), options)


def _placed(change: CarryFile | WriteFile) -> PlacedFile:
    if isinstance(change, CarryFile):
        return PlacedFile(change.path, change.size, change.sha256)
    data = change.content.encode()
    return PlacedFile(change.path, len(data), hashlib.sha256(data).hexdigest())
