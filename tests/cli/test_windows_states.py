"""What ``p2v inspect`` and ``p2v plan`` show of volumes that only Windows opens, and of how it was sold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from p2v.cli.main import main
from tests.drivers.windows import bitlocker_writer
from tests.drivers.windows.dynamic_disks import dynamic_disk
from tests.drivers.windows.guest_disk import CURRENT_VERSION, MIB, ntfs_disk, software_tree, windows_files
from tests.fixtures.hives import binary, make_hive


def told(capsys: pytest.CaptureFixture[str], verb: str, disks: Sequence[str]) -> str:
    assert main([verb, "--input-format", "raw", "--progress", "none", *disks]) in (0, 4)
    return capsys.readouterr().out


def test_what_only_windows_opens_and_the_licence_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    product = bytearray(1272)
    product[1016:1028] = "OEM:DM".encode("utf-16-le")
    values = {**software_tree()[CURRENT_VERSION], "DigitalProductId4": binary(bytes(product))}
    software = make_hive(software_tree(values), name="SOFTWARE")
    windows = ntfs_disk(tmp_path / "win.raw", windows_files(software=software))
    data = dynamic_disk(tmp_path / "data.raw", disks=3)
    locked = tmp_path / "locked.raw"
    volume = bitlocker_writer.volume(bitlocker_writer.metadata([bitlocker_writer.TPM, bitlocker_writer.RECOVERY]))
    locked.write_bytes(windows.read_bytes()[:MIB] + volume + bytes(59 * MIB))
    disks = [str(windows), str(data), str(locked)]
    seen = told(capsys, "inspect", disks)
    for part in ("Disk 2: MBR, dynamic disk of a group of 3", "(locked, opened by TPM, recovery password)", "licence"):
        assert part in seen
    plan = told(capsys, "plan", disks)
    for part in ("[windows.bitlocker-data]", "[windows.dynamic-data]", "[windows.dynamic-incomplete]", "[windows.activation-oem]"):
        assert part in plan
