"""What is read from an initramfs: images by the real programs, and images made to do harm."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.facts import Initramfs
from drivers.linux.cpio import BadArchive, ByteStream, NewEntry, write_archive
from drivers.linux.inflate import Budget, inflated, lz4_legacy
from drivers.linux.initramfs import ENTRIES_AT_MOST, MEMBERS_AT_MOST, module_name, read_initramfs
from tests.drivers.linux.archives import MERGED_USR, PACKERS, aligned, gnu_cpio, microcode, pack, tree_with
from tests.drivers.memory_tree import InMemoryTree, Link, Node

V = "6.1.0-9-amd64"
PREFIX = f"usr/lib/modules/{V}"
FILES: Mapping[str, Node] = {
    **MERGED_USR,
    f"{PREFIX}/kernel/drivers/ata/ahci.ko": b"ahci" * 1000,
    f"{PREFIX}/kernel/drivers/char/virtio-rng.ko.xz": b"rng",
    f"{PREFIX}/modules.dep": "kernel/drivers/ata/ahci.ko:\n",
}
MODULES = ("ahci", "virtio_rng")


def read(image: bytes) -> Initramfs:
    return read_initramfs(tree_with(image), "/boot/initrd.img", V)


def archive(files: Mapping[str, bytes | Link]) -> bytes:
    """A small archive without the programs: files, links, and the folders above them."""
    made: dict[str, NewEntry] = {}
    for name, node in files.items():
        parts = name.split("/")
        for depth in range(1, len(parts)):
            made.setdefault("/".join(parts[:depth]), NewEntry("/".join(parts[:depth]), stat.S_IFDIR | 0o755))
        is_link = isinstance(node, Link)
        data = node.target.encode() if isinstance(node, Link) else node
        made[name] = NewEntry(name, (stat.S_IFLNK | 0o777) if is_link else (stat.S_IFREG | 0o644), data)
    return write_archive(made.values())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return gnu_cpio(tmp_path_factory.mktemp("base") / "root", FILES)


@pytest.mark.parametrize("codec", PACKERS)
def test_an_image_of_every_compression_is_read(base: bytes, codec: str) -> None:
    image = pack(codec, base)
    found = read(image)
    assert found == Initramfs(
        "/boot/initrd.img", len(image), hashlib.sha256(image).hexdigest(), (codec,), "initramfs-tools", MODULES, PREFIX
    )


@pytest.mark.parametrize("codec", [codec for codec in PACKERS if codec != "none"])
def test_early_microcode_and_an_appended_archive_are_walked_too(base: bytes, codec: str, tmp_path: Path) -> None:
    added = gnu_cpio(tmp_path / "added", {f"{PREFIX}/kernel/virtio_blk.ko": b"blk"})
    if codec == "lz4":
        added = pack("lz4", added)
    image = microcode(tmp_path / "early") + bytes(1024) + pack(codec, base)
    found = read((aligned(image) if codec != "lz4" else image) + added)
    assert found.problem == ""
    assert found.members == ("none", codec, "lz4" if codec == "lz4" else "none")
    assert found.modules == ("ahci", "virtio_blk", "virtio_rng")


def test_a_plain_archive_straight_behind_lz4_is_a_problem_as_it_is_for_the_kernel(base: bytes) -> None:
    found = read(pack("lz4", base) + base)
    assert "lz4" in found.problem


def test_a_plain_archive_off_the_boundary_is_a_problem_as_it_is_for_the_kernel(base: bytes) -> None:
    packed = pack("gzip", base)
    assert read(packed + bytes(-len(packed) % 4 + 1) + base).problem != ""
    assert read(aligned(packed) + base).problem == ""


def test_lz4_in_several_chunks_is_read_in_full() -> None:
    noise = random.Random(1).randbytes(9 << 20)
    image = archive({"big": noise, f"lib/modules/{V}/last.ko": b""})
    for packed in (pack("lz4", image), lz4_legacy(image)):
        assert (read(packed).problem, read(packed).modules) == ("", ("last",))


def test_modules_are_those_that_the_archives_own_links_lead_to() -> None:
    plain = archive({f"lib/modules/{V}/a.ko": b"", f"usr/lib/modules/{V}/hidden.ko": b""})
    assert (read(plain).module_prefix, read(plain).modules) == (f"lib/modules/{V}", ("a",))
    absolute = archive({"lib": Link("/usr/lib"), f"usr/lib/modules/{V}/a.ko": b""})
    assert (read(absolute).module_prefix, read(absolute).modules) == (PREFIX, ("a",))
    elsewhere = archive({"lib/modules": Link("/opt/modules"), f"opt/modules/{V}/a.ko": b""})
    assert (read(elsewhere).module_prefix, read(elsewhere).modules) == (f"opt/modules/{V}", ("a",))
    through = archive({"usr/lib/modules/x": b"", "lib": Link("usr/lib")}) + archive(
        {f"./lib/modules/{V}/b.ko.zst": b""}
    )
    assert read(through).modules == ("b",)


def test_a_folder_in_the_place_of_a_link_replaces_it() -> None:
    image = archive({"lib": Link("usr/lib"), f"usr/lib/modules/{V}/a.ko": b""}) + archive({"lib/x": b""})
    assert (read(image).module_prefix, read(image).modules) == (f"lib/modules/{V}", ())


def test_modules_of_another_kernel_are_not_counted() -> None:
    assert read(archive({"lib/modules/5.10.0-8/a.ko": b"", f"lib/modules/{V}/b.ko": b""})).modules == ("b",)


@pytest.mark.parametrize(
    ("files", "builder", "squashed"),
    [
        ({"conf/initramfs.conf": b""}, "initramfs-tools", False),
        ({"scripts/functions": b""}, "initramfs-tools", False),
        ({"usr/lib/dracut/hooks/x": b""}, "dracut", False),
        ({"etc/initrd-release": b'ID=debian\nVERSION="12 dracut-059-4"\n'}, "dracut", False),
        ({"etc/initrd-release": b"ID=mkosi\n"}, "unknown", False),
        ({"squashfs-root.img": b"hsqs"}, "dracut", True),
        ({"squash/root.img": b"hsqs"}, "dracut", True),
        ({"bin/nash": b"", "init": b"insmod /lib/ext3.ko"}, "mkinitrd", False),
        ({"init": b""}, "unknown", False),
    ],
)
def test_the_builder_is_known_by_what_it_leaves(files: Mapping[str, bytes], builder: str, squashed: bool) -> None:
    found = read(archive(files))
    assert (found.builder, found.squashed, found.problem) == (builder, squashed, "")


def test_the_fact_names_the_file_that_a_link_leads_to() -> None:
    tree = InMemoryTree({"/boot/initrd": Link("initrd-5.14"), "/boot/initrd-5.14": archive({"init": b""})})
    assert read_initramfs(tree, "/boot/initrd", V).path == "/boot/initrd-5.14"
    with pytest.raises(FileNotFoundError):
        read_initramfs(tree, "/boot", V)
    with pytest.raises(FileNotFoundError):
        read_initramfs(tree, "/boot/none", V)


def test_names_of_modules() -> None:
    assert module_name("kernel/drivers/char/virtio-rng.ko.xz") == "virtio_rng"
    assert [module_name(name) for name in ("a.ko", "a.ko.zst", "a.ko.gz")] == ["a", "a", "a"]
    assert [module_name(name) for name in ("modules.dep", "a.ko.bz2", ".ko", "a.kod")] == [None] * 4


# Harm.


def _zeroes(codec: str) -> bytes:
    """200 MiB of zeroes in one file of an archive."""
    whole = write_archive([NewEntry("zeroes", stat.S_IFREG | 0o644, bytes(200 << 20))])
    return pack(codec, whole)


@pytest.mark.parametrize("codec", ["gzip", "bzip2", "xz", "zstd", "lz4"])
def test_a_bomb_is_a_problem_and_takes_little_memory(codec: str, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    bomb.write_bytes(_zeroes(codec))
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from tests.drivers.linux.archives import tree_with\n"
        "from drivers.linux.initramfs import read_initramfs\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"found = read_initramfs(tree_with(Path({str(bomb)!r}).read_bytes(), '/i'), '/i', '6.1')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, found.problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    grown_kib, _, problem = done.stdout.partition(" ")
    assert int(grown_kib) < 64 * 1024
    assert "inflates more than" in problem


def test_no_more_is_inflated_than_the_budget_has() -> None:
    noise = random.Random(2).randbytes(300_000)
    for left in (300_000, 299_999):
        pieces = inflated("gzip", ByteStream([gzip.compress(noise, mtime=0)]), Budget(left_bytes=left), lambda: None)
        if left < len(noise):
            with pytest.raises(BadArchive, match="limit"):
                b"".join(pieces)
        else:
            assert b"".join(pieces) == noise


def test_too_many_entries_are_a_problem() -> None:
    entry = write_archive([NewEntry("a", stat.S_IFREG)])[:112]
    assert "entries" in read(entry * (ENTRIES_AT_MOST + 1)).problem
    assert read(entry * 1000).problem == ""


def test_too_many_archives_are_a_problem() -> None:
    assert "archives" in read(gzip.compress(b"", mtime=0) * (MEMBERS_AT_MOST + 1)).problem


def test_names_beyond_what_is_remembered_are_a_problem() -> None:
    links = (NewEntry(f"{number:05}" + "n" * 2000, stat.S_IFLNK | 0o777, b"t" * 2000) for number in range(9000))
    assert "names" in read(write_archive(links)).problem


@pytest.mark.parametrize(
    "files",
    [
        {"lib": Link("lib")},
        {"lib": Link("usr"), "usr": Link("lib")},
        {"lib": Link("lib/" * 40 + "lib")},
        {"lib": Link("x/" * 2000)},
    ],
)
def test_links_that_lead_nowhere_are_a_problem(files: Mapping[str, bytes | Link]) -> None:
    assert read(archive(files)).problem != ""


@pytest.mark.parametrize("image", [b"", bytes(4096)])
def test_an_image_without_an_archive_is_a_problem(image: bytes) -> None:
    assert read(image).problem == "holds no archive"


@pytest.mark.parametrize(
    "image", [b"\x89LZO\0\r\n\x1a\n", b"#!/bin/sh\n", b"\x04\x22\x4d\x18", gzip.compress(b"ext2", mtime=0)]
)
def test_what_the_kernel_or_we_cannot_unpack_is_a_problem_with_a_digest(image: bytes) -> None:
    found = read(image + bytes(2 << 20))
    assert found.problem != ""
    assert found.sha256 == hashlib.sha256(image + bytes(2 << 20)).hexdigest()


@pytest.mark.parametrize("codec", PACKERS)
def test_an_image_cut_off_is_a_problem(base: bytes, codec: str) -> None:
    image = pack(codec, base)
    for part in (3, 20, len(image) // 3, len(image) * 2 // 3):
        assert read(image[:part]).problem != "", part


def test_a_zstd_frame_with_a_window_beyond_the_kernels_is_a_problem() -> None:
    # Descriptor without single segment, window byte for 2 GiB, one empty raw block that is the last.
    frame = bytes.fromhex("28b52ffd 00 a8 010000")
    assert "zstd" in read(frame).problem


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_image_gives_facts_and_never_an_exception(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from(["none", "gzip", "zstd", "lz4", "xz"]))
    image = bytearray(_small_images[codec]())
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    found = read(bytes(image))
    assert found.size == len(image)


def _small(codec: str) -> Callable[[], bytes]:
    known: list[bytes] = []

    def image() -> bytes:
        if not known:
            known.append(pack(codec, archive({"lib": Link("usr/lib"), f"{PREFIX}/a.ko": b"a" * 300})))
        return known[0]

    return image


_small_images = {codec: _small(codec) for codec in PACKERS}


def test_this_hosts_own_initramfs_is_read_as_lsinitramfs_lists_it() -> None:
    images = sorted(Path("/boot").glob("initrd.img-*"))
    if not images or not Path("/usr/bin/lsinitramfs").exists():
        pytest.skip("no /boot/initrd.img-* or no lsinitramfs on this host (initramfs-tools)")
    version = images[-1].name.removeprefix("initrd.img-")
    listing = subprocess.run(["lsinitramfs", str(images[-1])], capture_output=True, text=True, check=True).stdout
    expected = {
        m[1].replace("-", "_") for m in re.finditer(rf"/modules/{re.escape(version)}/.*?([^/\n]+)\.ko", listing)
    }
    image = images[-1].read_bytes()
    begin = resource.getrusage(resource.RUSAGE_SELF)
    found = read_initramfs(tree_with(image), "/boot/initrd.img", version)
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - begin.ru_utime
    assert set(found.modules) == expected
    assert found.size == os.path.getsize(images[-1])
    # 34 MB of zstd take a quarter of a second; the limit only catches a change of kind.
    assert spent < 3.0
