"""What a file is taken for, and what is no source at all."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from converters.formats import FORMATS
from converters.image import open_disk, probe
from converters.source_file import open_source
from p2v.core.errors import (
    AmbiguousFormat,
    BadImage,
    NoSource,
    NotPermitted,
    P2vError,
    UnsupportedImage,
    Usage,
)
from tests.converters.images import MIB, VARIANTS
from tests.descriptors import descriptors

BOOT_SECTOR = bytes(510) + b"\x55\xaa"


@pytest.mark.parametrize("name", [variant.name for variant in VARIANTS])
def test_every_variant_is_recognized_whatever_it_is_called(name: str, images: dict[str, Path], tmp_path: Path) -> None:
    expected = next(variant.format for variant in VARIANTS if variant.name == name)
    assert probe(images[name]).format == expected
    nameless = tmp_path / "disk"
    shutil.copy(images[name], nameless)
    assert probe(nameless).format == expected


@pytest.mark.parametrize(
    ("offset", "sign"),
    [
        (510, b"\x55\xaa"),
        (512, b"EFI PART"),
        (4096, b"EFI PART"),
        (0, b"XFSB"),
        (1080, b"\x53\xef"),
        (65600, b"_BHRfS_M"),
        (512, b"LABELONE"),
        (0, b"LUKS\xba\xbe"),
        (4086, b"SWAPSPACE2"),
        (3, b"NTFS    "),
    ],
)
def test_disk_contents_at_the_start_make_a_raw_disk(offset: int, sign: bytes, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes((bytes(offset) + sign).ljust(MIB, b"\0"))
    found = probe(image)
    assert found.format == "raw"
    assert found.why


def test_file_systems_made_by_their_own_tools_are_raw_disks(tmp_path: Path) -> None:
    made = 0
    for program, options in (("mke2fs", ["-q", "-F"]), ("mkswap", []), ("mkfs.vfat", []), ("mkfs.xfs", ["-q", "-f"])):
        tool = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if tool is None:
            continue
        image = tmp_path / program
        with image.open("wb") as file:
            file.truncate(320 * MIB)
        subprocess.run([tool, *options, str(image)], check=True, capture_output=True, timeout=60)
        assert probe(image).format == "raw"
        made += 1
    if not made:
        pytest.skip("none of mke2fs, mkswap, mkfs.vfat and mkfs.xfs is installed")


@pytest.mark.parametrize("name", ["qcow2-v3", "vmdk-sparse", "vmdk-flat", "vhdx-dynamic", "vhd-dynamic", "vhd-fixed",
                                  "vdi-fixed", "qcow", "qed", "parallels"])  # fmt: skip
def test_container_that_is_called_raw_is_ambiguous(name: str, images: dict[str, Path]) -> None:
    with pytest.raises(AmbiguousFormat) as caught:
        open_disk(images[name], "raw")
    assert name.split("-")[0] in caught.value.sentence()


def test_raw_disk_that_begins_with_a_crafted_header_is_not_opened_as_raw_or_followed(tmp_path: Path) -> None:
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 512, 11, 16, MIB, 0, 1, 65536, 0, 0, 0, 0)
    image = tmp_path / "disk.raw"
    image.write_bytes(header.ljust(512, b"\0") + b"/etc/passwd".ljust(MIB, b"\0"))
    with pytest.raises(AmbiguousFormat):
        open_disk(image, "raw")
    with pytest.raises(P2vError):
        open_disk(image)


@pytest.mark.parametrize("content", [bytes(MIB), b"hello, world\n" * 1000, bytes(range(256)) * 4096])
def test_unknown_contents_are_ambiguous_until_the_user_says_raw(content: bytes, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(content)
    with pytest.raises(AmbiguousFormat, match="starts with"):
        probe(image)
    with open_disk(image, "raw") as disk:
        assert disk.pread(4096, 0) == content[:4096]


def test_sources_that_are_no_disk(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_bytes(b"abc")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        names = {"empty": "empty", "short": "truncated", "fifo": "FIFO", "socket": "socket", ".": "folder"}
        for name, word in names.items():
            with pytest.raises(NoSource, match=word):
                open_disk(tmp_path / name)
    for path in (Path("/dev/null"), tmp_path / "gone", tmp_path / "short" / "below"):
        with pytest.raises(NoSource):
            open_disk(path)


def test_link_that_leads_to_itself_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(P2vError):
        open_disk(tmp_path / "loop")


def test_unreadable_file_is_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal is the host's stand-in here."""
    image = tmp_path / "disk"
    image.write_bytes(BOOT_SECTOR)

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotPermitted):
        open_disk(image)


def test_file_owned_by_another_is_read_though_its_access_time_may_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "disk"
    image.write_bytes(BOOT_SECTOR)
    really_open = os.open

    def refuse_noatime(path: str, flags: int) -> int:
        if flags & os.O_NOATIME:
            raise PermissionError(1, "Operation not permitted")
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", refuse_noatime)
    file = open_source(image)
    assert file.pread(512, 0) == BOOT_SECTOR
    file.close()


@pytest.mark.parametrize("suffix", [".vhd", ".vhdx", ".vmdk", ".qcow2", ".vdi", ".qcow", ".qed", ".hdd"])
def test_container_name_without_its_signature_does_not_pass_for_raw(suffix: str, tmp_path: Path) -> None:
    image = tmp_path / f"disk{suffix}"
    image.write_bytes(BOOT_SECTOR.ljust(MIB, b"\0"))
    with pytest.raises(AmbiguousFormat, match=f"called {suffix}"):
        open_disk(image)
    with open_disk(image, "raw") as disk:
        assert disk.virtual_size == MIB


def test_flat_extent_is_a_raw_disk_though_it_is_called_vmdk(tmp_path: Path) -> None:
    for name in ("vm-flat.vmdk", "vm-f001.vmdk", "vm-rdmp.vmdk"):
        (tmp_path / name).write_bytes(BOOT_SECTOR.ljust(MIB, b"\0"))
        assert probe(tmp_path / name).format == "raw"


@pytest.mark.parametrize(
    ("offset", "sign", "word"),
    [(0, b"EVF\x09\x0d\x0a\xff\x00", "EnCase"), (0, b"\xfd7zXZ\0", "xz"), (0, b"MSWIM\0\0\0", "WIM")],
)
def test_known_but_unread_containers_are_named(offset: int, sign: bytes, word: str, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes((bytes(offset) + sign).ljust(MIB, b"\0"))
    with pytest.raises(UnsupportedImage, match=word):
        open_disk(image)
    with pytest.raises(AmbiguousFormat, match=word):
        open_disk(image, "raw")


def test_signatures_of_two_containers_are_ambiguous_until_one_is_named(
    images: dict[str, Path], content: bytes, tmp_path: Path
) -> None:
    image = tmp_path / "disk"
    image.write_bytes(images["qcow2-v3"].read_bytes() + images["vhd-fixed"].read_bytes()[-512:])
    with pytest.raises(AmbiguousFormat, match="qcow2"):
        open_disk(image)
    with open_disk(image, "qcow2") as disk:
        assert disk.pread(len(content), 0) == content


def test_format_the_contents_contradict_is_ambiguous_and_unknown_ones_are_usage(images: dict[str, Path]) -> None:
    for known in FORMATS:
        if known.id not in ("raw", "qcow2"):
            with pytest.raises(AmbiguousFormat, match=known.id):
                open_disk(images["qcow2-v3"], known.id)
    with pytest.raises(Usage):
        open_disk(images["qcow2-v3"], "floppy")


def test_failed_opening_gives_back_every_handle(images: dict[str, Path], tmp_path: Path) -> None:
    before = descriptors()
    bad = tmp_path / "x.qcow2"
    bad.write_bytes(images["qcow2-v3"].read_bytes()[:1000])
    (tmp_path / "one.bin").write_bytes(bytes(512))
    lines = 'RW 1 FLAT "one.bin" 0\nRW 1 FLAT "one.bin" 0\nRW 9 FLAT "one.bin" 0\n'
    (tmp_path / "y.vmdk").write_text("# Disk DescriptorFile\n" + lines)
    for image in (bad, tmp_path / "y.vmdk"):
        with pytest.raises(BadImage):
            open_disk(image)
    assert not descriptors() - before
