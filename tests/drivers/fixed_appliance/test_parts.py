"""The name of an appliance's parts changes with each of them, and with nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.fixed_appliance import parts as parts_module
from drivers.fixed_appliance.parts import fingerprint, supermin_folder
from tests.drivers.fixed_appliance.made_parts import parts

CHANGES: dict[str, Callable[[Path], object]] = {
    "a package": lambda host: (host / "status").write_text("Package: bash\nVersion: 6\n"),
    "a description": lambda host: (host / "supermin.d/packages").write_text("bash\nlvm2\n"),
    "a further description": lambda host: (host / "supermin.d/more").write_text("x"),
    "the kernel": lambda host: os.utime(host / "boot/vmlinuz-6.1", ns=(0, 17)),
    "another kernel": lambda host: (host / "boot/vmlinuz-6.2").write_bytes(b"x"),
    "its modules": lambda host: (host / "modules/6.1/modules.dep").write_text("virtio.ko:\nx.ko:\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_part_changes_the_name(change: Callable[[Path], object], tmp_path: Path) -> None:
    host = parts(tmp_path)
    before = fingerprint(host)
    change(tmp_path)
    assert fingerprint(host) != before


def test_the_version_the_recipe_and_a_wished_kernel_change_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = parts(tmp_path)
    names = {fingerprint(host), fingerprint(replace(host, version="1.48.7"))}
    monkeypatch.setenv("SUPERMIN_KERNEL", "/boot/mine")
    names.add(fingerprint(host))
    monkeypatch.setattr(parts_module, "RECIPE", parts_module.RECIPE + 1)
    names.add(fingerprint(host))
    assert len(names) == 4


def test_a_package_database_that_was_only_written_anew_changes_nothing(tmp_path: Path) -> None:
    host = parts(tmp_path)
    before = fingerprint(host)
    (tmp_path / "status").write_text("Package: bash\nVersion: 5\n")
    os.utime(tmp_path / "status", ns=(0, 17))
    assert fingerprint(host) == before


def test_a_large_database_is_known_by_its_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = parts(tmp_path)
    monkeypatch.setattr(parts_module, "_LARGEST_READ_BYTES", 8)
    before = fingerprint(host)
    os.utime(tmp_path / "status", ns=(0, 17))
    assert fingerprint(host) != before


def test_an_appliance_that_somebody_built_comes_first_where_libguestfs_looks_first(tmp_path: Path) -> None:
    theirs, usual = tmp_path / "theirs", tmp_path / "usual"
    theirs.mkdir()
    (theirs / "README.fixed").touch()
    (usual / "supermin.d").mkdir(parents=True)
    assert supermin_folder(f"{theirs}:{usual}") is None
    assert supermin_folder(f"{usual}:{theirs}") == usual / "supermin.d"
    assert supermin_folder(str(tmp_path)) is None
