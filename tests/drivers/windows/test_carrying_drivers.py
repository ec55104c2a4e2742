"""From a CD image to the files in a guest: what is planned from its catalogue is what applying puts there."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.apply import apply_changes
from drivers.changes import Change
from drivers.windows.driver_changes import DriverChanges, GuestPlace, driver_changes, members_of
from drivers.windows.driver_choice import choose_drivers
from drivers.windows.inf_targets import Architecture, Product, WindowsTarget
from drivers.windows.media import locate, read_media
from p2v.core.errors import PlanStale
from p2v.documents import document_converter
from tests.drivers.memory_guest import MemoryGuest, folder
from tests.fixtures.virtio_win import DRIVERS, Medium, medium, write_folder, write_iso

SERVER_2022 = WindowsTarget(10, 0, 20348, Architecture.X64, Product.SERVER)
PLACE = GuestPlace("/Windows", "/Windows/System32/drivers", (1,), has_driver_database=True)


@pytest.fixture(scope="module")
def made() -> Medium:
    return medium(DRIVERS[:3], releases=("2k19", "2k22"))


@pytest.fixture(params=["folder", "iso"])
def place(request: pytest.FixtureRequest, made: Medium, tmp_path: Path) -> Path:
    plain = write_folder(made.files, tmp_path / "cd")
    return plain if request.param == "folder" else write_iso(plain, tmp_path / "virtio-win.iso")


def planned(place: Path) -> DriverChanges:
    catalogue = read_media(place)
    choice = choose_drivers(catalogue, SERVER_2022)
    return driver_changes(choice, catalogue, locate(catalogue, members_of(choice, catalogue)), PLACE)


def guest() -> MemoryGuest:
    return MemoryGuest({"/Windows": folder(), "/Windows/System32": folder(), "/Windows/System32/drivers": folder()})


def test_the_guest_gets_the_very_files_of_the_medium(place: Path, made: Medium) -> None:
    there = guest()
    changes = planned(place).files
    assert not any(applied.skipped for applied in apply_changes(there, changes, {}))
    for name, release in (("netkvm", "NetKVM/2k22/amd64"), ("viostor", "amd64/2k22"), ("vioscsi", "amd64/2k22")):
        for ending in ("inf", "cat", "sys"):
            found = there.read(f"/Windows/Drivers/VirtIO/{name}/{name}.{ending}")
            assert found == made.files[f"/{release}/{name}.{ending}"]
    assert b"driver from /amd64/2k22/viostor.sys" in there.read("/Windows/System32/drivers/viostor.sys")
    # a second time nothing is left to do
    assert all(applied.skipped for applied in apply_changes(there, changes, {}))


def test_a_plan_with_them_goes_through_json(place: Path) -> None:
    for change in planned(place).files:
        data = document_converter().unstructure(change, unstructure_as=Change)
        assert document_converter().structure(data, Change) == change  # type: ignore[arg-type]


def test_a_medium_that_is_another_since_is_noticed_before_anything_is_written(place: Path) -> None:
    changes = planned(place).files
    if place.is_dir():
        (place / "NetKVM/2k22/amd64/netkvm.sys").write_bytes(b"another")
    else:
        offset = next(each.member.offset for each in changes if each.member and each.member.name.endswith("netkvm.sys"))
        with place.open("r+b") as image:
            image.seek(offset)
            image.write(b"another")
    there = guest()
    with pytest.raises(PlanStale, match=r"netkvm\.sys"):
        apply_changes(there, changes, {})
    assert there.writes == []


def test_a_file_of_the_guests_in_the_way_is_noticed(place: Path) -> None:
    there = guest()
    there.create("/Windows/System32/drivers/viostor.sys", b"own", 0o644)
    with pytest.raises(PlanStale, match=r"viostor\.sys"):
        apply_changes(there, planned(place).files, {})
