"""Every packing of the sample guest to every target format, each booted: the long rows (`make matrix`)."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from p2v.record import load_record
from tests.fixtures import PACKINGS, packed
from tests.pipeline.running import p2v, proven, state


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
@pytest.mark.parametrize("packing", [p.name for p in PACKINGS])
def test_every_packing_converts_and_boots(tmp_path: Path, packing: str, disk_format: str) -> None:
    source = packed("vmware", packing)
    before = state(source)
    words = ["convert", source, "-o", tmp_path / "out", "--name", "vm", "--format", disk_format, "--verify"]
    ran = p2v(*words)  # type: ignore[arg-type]
    assert ran.status == 0, ran.err
    proven(tmp_path / "out" / "vm.json")
    record = load_record(tmp_path / "out" / "vm.json")
    assert record.boot is not None
    assert record.boot.booted
    assert state(source) == before


@pytest.mark.matrix
@pytest.mark.boots
def test_every_bootable_kernel_is_made_to_find_its_root(tmp_path: Path) -> None:
    ran = p2v("convert", packed("vmware-two-kernels", "vmdk-sparse"), "-o", tmp_path, "--name", "vm", "--verify")
    assert ran.status == 0, ran.err
    proven(tmp_path / "vm.json")
    again = p2v("inspect", tmp_path / "vm.qcow2")
    assert again.out.count("finds a root on virtio") == 2
    assert "does NOT" not in again.out


def _ova(folder: Path) -> list[str | Path]:
    """A VMware export: a description, and the disk as a stream."""
    description = folder / "vm.ovf"
    description.write_text("<Envelope/>")
    archive = folder / "vm.ova"
    with tarfile.open(archive, "w") as made:
        made.add(description, "vm.ovf")
        made.add(packed("vmware", "vmdk-stream"), "vm-disk1.vmdk")
    return [archive]


def _vdi(folder: Path) -> list[str | Path]:
    disk = folder / "vm.vdi"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vdi", str(packed("vmware", "raw")), str(disk)], check=True)
    return [disk]


def _chain(folder: Path) -> list[str | Path]:
    """A snapshot over a disk that lies elsewhere."""
    parent, child = packed("vmware", "qcow2"), folder / "snapshot.qcow2"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(parent), str(child)]
    subprocess.run(words, check=True)
    return [child, "--allow", parent.parent]


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.parametrize("wrapped", [_ova, _vdi, _chain], ids=["ova", "vdi", "chain"])
def test_a_guest_in_an_archive_a_vdi_or_a_chain_converts_and_boots(
    tmp_path: Path, wrapped: Callable[[Path], list[str | Path]]
) -> None:
    ran = p2v("convert", *wrapped(tmp_path), "-o", tmp_path / "out", "--name", "vm", "--verify")
    assert ran.status == 0, ran.err
    proven(tmp_path / "out" / "vm.json")
    record = load_record(tmp_path / "out" / "vm.json")
    assert record.boot is not None
    assert record.boot.booted
