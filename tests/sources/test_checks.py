"""A description's numbers against its disks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from converters.info import ImageInfo
from p2v.core.units import GIB, MIB
from p2v.machine import Machine, MachineDisk
from p2v.sources import checks

FOLDER = Path("/vms/web")


def image(*files: str, size: int = 4 * GIB) -> ImageInfo:
    names = tuple(str(FOLDER / file) for file in files)
    return ImageInfo("vmdk", "sparse", size, 0, 0, names, 512, 512, "", "", (), (), ())


def machine(stated: int | None, *beside: str) -> Machine:
    disk = MachineDisk(FOLDER / "web-000001.vmdk", stated_bytes=stated)
    return Machine("web", (disk,), beside=tuple(FOLDER / name for name in beside))


@pytest.mark.parametrize("stated", [None, 4 * GIB, 4 * GIB + 8 * MIB, 4 * GIB - 8 * MIB])
def test_a_size_within_what_descriptions_round_is_right(stated: int | None) -> None:
    assert not list(checks.blockers(machine(stated), [image("web-000001.vmdk")]))


@pytest.mark.parametrize("stated", [3 * GIB, 5 * GIB, 0, 40 * GIB])
def test_another_size_than_stated_stops_the_conversion(stated: int) -> None:
    found = list(checks.blockers(machine(stated), [image("web-000001.vmdk")]))
    assert [finding.id for finding in found] == ["source.disk-size"]


def test_the_files_of_a_chain_are_the_machines_own() -> None:
    found = list(checks.warnings(machine(None, "web.vmdk", "web-000001.vmdk"), [image("web-000001.vmdk", "web.vmdk")]))
    assert not found


def test_disks_beside_that_nothing_uses_are_named() -> None:
    described = machine(None, "web.vmdk", "web-000001.vmdk", "web-000002.vmdk", "old\n.vmdk")
    (found,) = checks.warnings(described, [image("web-000001.vmdk", "web.vmdk")])
    assert "web-000002.vmdk" in found.message
    assert "old\\x0a.vmdk" in found.message
    assert "web-000001" not in found.message


def test_bare_disks_are_checked_against_nothing() -> None:
    bare = dataclasses.replace(machine(None), beside=())
    assert not [*checks.warnings(bare, [image("a.vmdk")]), *checks.blockers(bare, [image("a.vmdk")])]
