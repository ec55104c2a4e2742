"""What ``p2v inspect`` shows of a Windows guest's start and network, and what ``p2v plan`` shows of a start that leads nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2v.cli.main import main
from tests.drivers.windows.guest_disk import boot_store, ntfs_disk, system_tree, windows_files
from tests.drivers.windows.test_network import MAC, STATIC, adapter_keys
from tests.fixtures.hives import make_hive
from tests.fixtures.windows import bcd

_EXPRESS = "PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\005056FFFF8EC6EA00"


def _disk(folder: Path, place: bcd.MbrPlace | None = None) -> Path:
    system = make_hive({**system_tree(), **adapter_keys(STATIC, instance=_EXPRESS)})
    store = make_hive(boot_store(place) if place else boot_store(), name="BCD")
    return ntfs_disk(folder / "win.raw", {**windows_files(system=system), "/Boot/BCD": store})


def _told(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main([argv[0], "--input-format", "raw", "--progress", "none", *argv[1:]]) in (0, 4)
    return capsys.readouterr().out


def test_inspect_shows_what_starts_it_and_its_adapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = _told(capsys, "inspect", str(_disk(tmp_path)))
    for part in (
        "by the boot manager of disk 1, partition 1\n",
        "default: Windows Server 2019, \\Windows on the partition at byte 1048576 of the disk with signature 44332211",
        f"Ethernet {MAC}: 10.0.0.5/16, gateway 10.0.0.1, DNS 10.0.0.2 10.0.0.3 (a card)",
    ):
        assert part in text


def test_plan_shows_the_edit_of_an_entry_that_leads_nowhere_and_the_cards_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _told(capsys, "plan", str(_disk(tmp_path, bcd.MbrPlace(0x0BADF00D, 1048576))), "--mac", MAC)
    for part in (
        "of the registry in /Boot/BCD",
        "names a partition that is on none of these disks",
        f"[Objects\\{bcd.LOADER}\\Elements\\21000001]",
        f"at its first start its card {MAC} gets 10.0.0.5/16; gateway 10.0.0.1; DNS 10.0.0.2, 10.0.0.3 [windows.addresses]",
        "It takes the place of Ethernet.",
    ):
        assert part in text


def test_inspect_says_that_nothing_starts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = windows_files()
    del files["/Boot/BCD"]
    disk = ntfs_disk(tmp_path / "win.raw", files)
    assert "from disk 1, partition 1, without boot entries" in _told(capsys, "inspect", str(disk))
    assert "windows.no-boot-store" in _told(capsys, "plan", str(disk))


def test_card_of_a_bare_disk_is_set_by_the_address_that_it_will_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(_told(capsys, "plan", str(_disk(tmp_path, bcd.MbrPlace(0x0BADF00D, 1048576))), "--json"))
    (card,) = document["hardware"]["nics"]
    told = [each["message"] for each in document["plan"]["warnings"] if each["id"] == "windows.addresses"]
    assert len(told) == 1
    assert f"its card {card['mac']} gets 10.0.0.5/16" in told[0]
