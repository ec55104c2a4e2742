"""Chains of child disks: whose bytes count, where parents are looked for, and what is never opened."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from converters.image import describe, open_disk
from converters.references import MAX_CHAIN, Lookup
from p2v.core.errors import BadImage, ForbiddenReference, NoSource, ParentMissing
from tests.converters.images import BY_NAME, MIB, make_image, patterned, qemu_img, whole_disk
from tests.descriptors import descriptors
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device

SIZE = 6 * MIB + 512


def child_of(base: Path, child: Path, *, base_format: str = "raw", size: int | None = None, name: str = "") -> Path:
    """A qcow2 child that names its parent by ``name`` (default: the last component)."""
    options = [str(size)] if size else [str(SIZE)]
    words = ["create", "-q", "-u", "-f", "qcow2", "-F", base_format, "-b", name or base.name, str(child), *options]
    qemu_img(*words)
    return child


def write(image: Path, pattern: int, offset: int, length: int) -> None:
    """Bytes written into a child by QEMU itself, through its whole chain."""
    command = f"write -P {pattern} {offset} {length}"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(image)], check=True, capture_output=True, timeout=60)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "vm" / "base.raw"
    path.parent.mkdir()
    path.write_bytes(patterned(SIZE))
    return path


@pytest.mark.parametrize("parent", ["raw", "qcow2-v3", "qcow2-deflate", "qcow2-zstd", "vmdk-stream", "vmdk-sparse",
                                    "vdi-dynamic", "vhdx-dynamic", "vhd-dynamic-exact", "qcow2-subclusters",
                                    "qcow2-data-file"])  # fmt: skip
def test_three_disks_read_as_qemu_reads_them(tmp_path: Path, parent: str) -> None:
    variant = BY_NAME[parent]
    bottom = make_image(tmp_path, variant, patterned(SIZE))
    middle = child_of(bottom, tmp_path / "middle.qcow2", base_format=variant.qemu_format)
    for at in (0, 70_000, 3 * MIB + 5 * 512):
        write(middle, 0xA5, at, 9 * 512)
    top = child_of(middle, tmp_path / "top.qcow2", base_format="qcow2")
    write(top, 0x5A, 2 * 512, 512)
    write(top, 0, MIB, MIB)
    expected = tmp_path / "expected"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(top), str(expected))
    assert whole_disk(top) == expected.read_bytes()
    with open_disk(top) as disk:
        assert disk.files[:3] == (top, middle, bottom)
        assert len(describe(disk).parents) == 2


def test_a_child_larger_than_its_parent_ends_in_zeroes(base: Path, tmp_path: Path) -> None:
    child = child_of(base, base.parent / "child.qcow2", size=SIZE + 3 * MIB)
    assert whole_disk(child) == base.read_bytes() + bytes(3 * MIB)


def test_a_child_smaller_than_its_parent_is_cut(base: Path) -> None:
    child = child_of(base, base.parent / "child.qcow2", size=MIB)
    assert whole_disk(child) == base.read_bytes()[:MIB]


def test_a_missing_parent_is_said_with_its_name(base: Path) -> None:
    child = child_of(base, base.parent / "child.qcow2")
    base.unlink()
    with pytest.raises(ParentMissing, match=r"base\.raw"):
        open_disk(child)


@pytest.mark.parametrize("name", ["/srv/images/base.raw", "../other/base.raw", r"C:\VMs\base.raw", r"\\host\share\base.raw"])
def test_a_parent_named_elsewhere_is_found_when_it_was_moved_beside_the_child(base: Path, name: str) -> None:
    child = child_of(base, base.parent / "child.qcow2", name=name)
    assert whole_disk(child) == base.read_bytes()


def test_a_parent_elsewhere_is_opened_only_where_the_user_allows_it(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    moved = base.rename(other / "base.raw")
    child = child_of(moved, tmp_path / "vm" / "child.qcow2", name="../other/base.raw")
    with pytest.raises(ForbiddenReference):
        open_disk(child)
    assert whole_disk(child, Lookup(allowed=(other,))) == moved.read_bytes()
    assert whole_disk(child, Lookup(folders=(other,))) == moved.read_bytes()
    assert whole_disk(child, Lookup(parents=(moved,))) == moved.read_bytes()
    with pytest.raises(NoSource):
        open_disk(child, lookup=Lookup(allowed=(tmp_path / "nowhere",)))


@pytest.mark.parametrize("name", ["link.raw", "folder/secret", "/etc/hostname", "../secret", "./../secret", "file:secret",
                                  "nbd:unix:/x", "json:{}", "ssh://h/secret", "http://h/x"])  # fmt: skip
def test_nothing_outside_the_images_folder_is_opened(base: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xeb" * SIZE)
    (base.parent / "link.raw").symlink_to(secret)
    (base.parent / "folder").symlink_to(tmp_path)
    child = child_of(base, base.parent / "child.qcow2", name=name)
    with pytest.raises(ForbiddenReference):
        open_disk(child)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/base.raw", "a/" * 200 + "base.raw", "/srv/" + "y" * 1000])
def test_names_longer_than_names_can_be_are_not_there(base: Path, name: str) -> None:
    child = child_of(base, base.parent / "child.qcow2", name="short")
    base.unlink()
    raw = bytearray(child.read_bytes())
    raw[8:20] = (4096).to_bytes(8, "big") + len(name).to_bytes(4, "big")
    raw[4096 : 4096 + len(name)] = name.encode()
    child.write_bytes(raw)
    with pytest.raises((ParentMissing, ForbiddenReference)):
        open_disk(child)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_a_parent_that_is_no_file_is_not_waited_for(base: Path, kind: str) -> None:
    base.unlink()
    if kind == "fifo":
        os.mkfifo(base)
    elif kind == "folder":
        base.mkdir()
    else:
        base.symlink_to("/dev/zero")
    with pytest.raises(BadImage):
        open_disk(child_of(base, base.parent / "child.qcow2"))


def test_a_loop_is_noticed(tmp_path: Path) -> None:
    first, second = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    child_of(second, first, base_format="qcow2")
    child_of(first, second, base_format="qcow2")
    with pytest.raises(BadImage, match="loop"):
        open_disk(first)
    os.link(first, tmp_path / "c.qcow2")
    child_of(tmp_path / "c.qcow2", first, base_format="qcow2")
    with pytest.raises(BadImage, match="loop"):
        open_disk(first)


def test_a_chain_has_a_limit(base: Path) -> None:
    below, below_format = base, "raw"
    for number in range(MAX_CHAIN + 1):
        child = child_of(below, base.parent / f"{number}.qcow2", base_format=below_format, size=MIB)
        below, below_format = child, "qcow2"
    with pytest.raises(BadImage, match="longer"):
        open_disk(below)
    with open_disk(base.parent / f"{MAX_CHAIN - 1}.qcow2") as disk:
        assert disk.pread(512, 0) == base.read_bytes()[:512]


def test_a_raw_parent_with_a_containers_header_is_ambiguous(base: Path) -> None:
    base.write_bytes((base.parent / child_of(base, base.parent / "x.qcow2").name).read_bytes().ljust(SIZE, b"\0"))
    with pytest.raises(BadImage, match="raw"):
        open_disk(child_of(base, base.parent / "child.qcow2"))


@NEEDS_LOOP_DEVICES
def test_a_guest_cannot_have_the_hosts_other_devices_read_as_its_parent(base: Path, tmp_path: Path) -> None:
    """Whoever runs a machine on a block device can write a header onto it that names its neighbour in /dev."""
    with loop_device(base, options=("--read-only",)) as secret:
        child = child_of(base, tmp_path / "child.qcow2", name=secret.name)
        for name in (secret.name, str(secret), f"shm/../{secret.name}"):
            os.truncate(child_of(base, child, name=name), MIB)
            with loop_device(child) as device, pytest.raises(ForbiddenReference):
                open_disk(device)
        # nor through a folder that the user allowed, or a file beside the image
        child_of(base, child, name=str(secret))
        with pytest.raises(ForbiddenReference):
            open_disk(child, lookup=Lookup(allowed=(Path("/dev"),)))
        # the user may name a device himself
        assert whole_disk(child, Lookup(parents=(secret,)))[:SIZE] == base.read_bytes()[:SIZE]


def test_closing_the_child_closes_its_parents(base: Path) -> None:
    before = descriptors()
    disk = open_disk(child_of(base, base.parent / "child.qcow2"))
    assert len(descriptors() - before) == 2
    disk.close()
    assert not descriptors() - before
