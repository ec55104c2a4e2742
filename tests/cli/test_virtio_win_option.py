"""``--virtio-win``: a Windows guest's plan has the medium's drivers; other guests are told that it is not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2v.cli.main import main
from tests.drivers.windows.guest_disk import ntfs_disk, windows_files
from tests.fixtures.virtio_win import DRIVERS, medium, write_folder, write_iso


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("medium")
    return write_iso(write_folder(medium(DRIVERS[:3]).files, folder / "cd"), folder / "virtio-win.iso")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ntfs_disk(tmp_path_factory.mktemp("guest") / "win.raw", windows_files())


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["plan", "--input-format", "raw", "--progress", "none", *argv]) in (0, 4)
    return capsys.readouterr().out


def test_a_windows_guests_plan_has_the_drivers(image: Path, windows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = planned(capsys, str(windows), "--virtio-win", str(image))
    for part in (
        f"put /NetKVM/2k19/amd64/netkvm.sys of {image} to /Windows/Drivers/VirtIO/netkvm/netkvm.sys",
        r"+[ControlSet001\Services\viostor]",
        "- disks: virtio-blk, virtio-scsi",
    ):
        assert part in text


def test_the_medium_that_is_installed_is_taken_where_none_is_named(
    image: Path, windows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.windows.media.find_media", lambda: image.parent / "cd")
    document = json.loads(planned(capsys, str(windows), "--json"))
    assert document["plan"]["caps"]["nic_models"][0] == "virtio"
    monkeypatch.setattr("drivers.windows.media.find_media", lambda: None)
    assert "windows.no-drivers" in planned(capsys, str(windows))


def test_a_medium_that_is_none_is_an_error(windows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--input-format", "raw", str(windows), "--virtio-win", str(windows)]) == 65
    assert "no image of a CD" in capsys.readouterr().err


def test_a_guest_that_is_no_windows_is_told_that_it_is_not_used(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.raw").write_bytes(bytes(1 << 20))
    assert "guest.virtio-win-unused" in planned(capsys, str(tmp_path / "empty.raw"), "--virtio-win", str(image))
    assert "guest.discard-hibernation-unused" in planned(capsys, str(tmp_path / "empty.raw"), "--discard-hibernation")


def test_an_audit_plans_with_the_medium_and_tells_other_guests_nothing_of_it(
    image: Path, windows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.windows.media.find_media", lambda: None)
    empty = tmp_path / "empty.raw"
    empty.write_bytes(bytes(510) + b"\x55\xaa" + bytes(1 << 20))
    told = {}
    for name, options in (("with", ["--virtio-win", str(image)]), ("without", [])):
        assert main(["audit", str(windows), str(empty), "--json", "--progress", "none", *options]) == 0
        machines = json.loads(capsys.readouterr().out)["machines"]
        told[name] = {finding["rule"] for machine in machines for finding in machine["findings"]}
    assert "windows.no-drivers" in told["without"]
    assert not {"windows.no-drivers", "guest.virtio-win-unused"} & told["with"]


def test_a_medium_that_is_none_ends_an_audit_before_it_begins(
    windows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(windows), "--virtio-win", str(windows)]) == 65
    assert "no image of a CD" in capsys.readouterr().err
