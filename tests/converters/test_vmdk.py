"""VMDK: sparse files, streams, descriptors, and damage to them."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from converters import vmdk
from converters.image import describe, open_disk
from converters.vmdk_descriptor import MAX_DESCRIPTOR_BYTES, MAX_EXTENTS, parse_descriptor
from p2v.core.errors import BadImage, ForbiddenReference, P2vError, UnsupportedImage
from tests.converters.damage import patched, read_all, truncated
from tests.converters.images import MIB

VERSION, FLAGS, CAPACITY, GRAIN, DESCRIPTOR_AT, DESCRIPTOR_SIZE, GTES, GD, LINE_ENDS, ALGORITHM = (
    4, 8, 12, 20, 28, 36, 44, 56, 73, 77,
)  # fmt: skip
U32_MAX = struct.pack("<I", 0xFFFFFFFF)


def sector_field(image: Path, offset: int) -> int:
    value: int = struct.unpack_from("<Q", image.read_bytes(), offset)[0]
    return value


def first_grain_entry(image: Path) -> int:
    """Where the first grain table entry stands in the file."""
    raw = image.read_bytes()
    directory = sector_field(image, GD) * 512
    table: int = struct.unpack_from("<I", raw, directory)[0]
    return table * 512


def flags_without_redundancy(image: Path) -> bytes:
    """The header's flags, but the redundant grain directory not valid."""
    flags: int = struct.unpack_from("<I", image.read_bytes(), FLAGS)[0]
    return struct.pack("<I", flags & ~2)


def descriptor_of(folder: Path, *extents: str, head: str = "CID=12345678\nparentCID=ffffffff") -> Path:
    """A text descriptor with these extent lines."""
    text = "\n".join(("# Disk DescriptorFile", "version=1", head, 'createType="monolithicFlat"', *extents, ""))
    image = folder / "disk.vmdk"
    image.write_text(text)
    return image


def edited_descriptor(image: Path, target: Path, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a one-file image with its embedded descriptor changed."""
    raw = image.read_bytes()
    begin, room = sector_field(image, DESCRIPTOR_AT) * 512, sector_field(image, DESCRIPTOR_SIZE) * 512
    text = change(raw[begin : begin + room].rstrip(b"\0"))
    return patched(image, target, (begin, text.ljust(room, b"\0")[:room]))


def test_content_id_is_told_as_libvmdk_has_it(images: dict[str, Path]) -> None:
    for name in ("vmdk-sparse", "vmdk-stream", "vmdk-flat"):
        second = vmdk.independent_reader(images[name])
        try:
            with open_disk(images[name]) as disk:
                identifiers = dict(disk.facts.identifiers)
            assert int(identifiers["CID"], 16) == second.get_content_identifier()
        finally:
            second.close()


def test_variants_are_named_as_in_their_descriptors(images: dict[str, Path]) -> None:
    expected = {"vmdk-sparse": "monolithicSparse", "vmdk-stream": "streamOptimized", "vmdk-flat": "monolithicFlat"}
    for name, variant in expected.items():
        with open_disk(images[name]) as disk:
            assert disk.facts.variant == variant


def test_renamed_image_is_still_its_own_extent(images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    image = tmp_path / "other name.vmdk"
    shutil.copy(images["vmdk-sparse"], image)
    with open_disk(image) as disk:
        assert disk.files == (image,)
        assert disk.pread(len(content), 0) == content


def test_zeroed_grain_is_zero_and_allocated(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vmdk-sparse-zeroed"]
    with open_disk(patched(image, tmp_path / "x.vmdk", (first_grain_entry(image), struct.pack("<I", 1)))) as disk:
        extent = next(disk.extents())
        assert (extent.zero, extent.allocated, extent.length) == (True, True, 64 * 1024)
        assert disk.pread(64 * 1024, 0) == bytes(64 * 1024)


def test_grain_entry_one_is_no_zeroed_grain_without_the_flag(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vmdk-sparse"]
    flags: int = struct.unpack_from("<I", image.read_bytes(), FLAGS)[0]
    patches = ((first_grain_entry(image), struct.pack("<I", 1)), (FLAGS, struct.pack("<I", flags & ~4)))
    with open_disk(patched(image, tmp_path / "x.vmdk", *patches)) as disk, pytest.raises(BadImage, match="header"):
        disk.pread(512, 0)


def test_stream_with_its_directory_named_by_the_footer_is_read(
    images: dict[str, Path], content: bytes, tmp_path: Path
) -> None:
    """As ovftool writes it: the header has no place for the directory, a footer at the end has."""
    image = images["vmdk-stream"]
    raw = bytearray(image.read_bytes())
    footer = bytes(raw[:512])
    raw[GD : GD + 8] = b"\xff" * 8
    marker = struct.pack("<QII", 1, 0, 3).ljust(512, b"\0")
    target = tmp_path / "x.vmdk"
    target.write_bytes(bytes(raw) + marker + footer + bytes(512))
    with open_disk(target) as disk:
        assert disk.pread(len(content), 0) == content
    cut = truncated(target, tmp_path / "cut.vmdk", target.stat().st_size - 600)
    with pytest.raises(BadImage, match=str(cut.stat().st_size)):
        open_disk(cut)


def test_compressed_grain_says_the_exact_length_of_its_stream(images: dict[str, Path]) -> None:
    with open_disk(images["vmdk-stream"]) as disk:
        grain = next(extent for extent in disk.extents() if extent.compressed is not None)
    assert grain.compressed is not None
    raw = images["vmdk-stream"].read_bytes()
    assert struct.unpack_from("<I", raw, grain.compressed.offset - 4)[0] == grain.compressed.length


@pytest.mark.parametrize(
    ("at", "new"),
    [(0, struct.pack("<Q", 128)), (8, struct.pack("<I", 0)), (8, U32_MAX), (8, struct.pack("<I", 130 * 1024))],
)
def test_damaged_grain_markers_are_refused(at: int, new: bytes, images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vmdk-stream"]
    grain = struct.unpack_from("<I", image.read_bytes(), first_grain_entry(image))[0] * 512
    with open_disk(patched(image, tmp_path / "x.vmdk", (grain + at, new))) as disk, pytest.raises(BadImage):
        disk.pread(512, 0)


def test_damaged_stream_is_a_bad_image_when_it_is_read(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vmdk-stream"]
    grain = struct.unpack_from("<I", image.read_bytes(), first_grain_entry(image))[0] * 512
    with open_disk(patched(image, tmp_path / "x.vmdk", (grain + 12, b"\xff" * 64))) as disk:
        with pytest.raises(BadImage, match="damaged"):
            disk.pread(512, 0)


@pytest.mark.parametrize(
    ("offset", "new"),
    [
        (VERSION, struct.pack("<I", 9)),
        (CAPACITY, struct.pack("<Q", 1 << 63)),
        (CAPACITY, struct.pack("<Q", 1 << 50)),
        (CAPACITY, bytes(8)),
        (GRAIN, struct.pack("<Q", 0)),
        (GRAIN, struct.pack("<Q", 100)),
        (GRAIN, struct.pack("<Q", 1 << 40)),
        (GTES, struct.pack("<I", 0)),
        (GTES, U32_MAX),
        (DESCRIPTOR_AT, struct.pack("<Q", 1 << 60)),
        (DESCRIPTOR_SIZE, struct.pack("<Q", 1 << 60)),
        (LINE_ENDS, b"\n \n\n"),
        (DESCRIPTOR_AT, struct.pack("<Q", 0)),
    ],
)
def test_impossible_headers_are_refused(offset: int, new: bytes, images: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        open_disk(patched(images["vmdk-sparse"], tmp_path / "x.vmdk", (offset, new)))


@pytest.mark.parametrize("sector", [0, 1 << 40, 1 << 55, (1 << 64) - 1])
def test_directory_that_lies_nowhere_is_refused_where_no_redundant_one_is_said_to_be_valid(
    sector: int, images: dict[str, Path], tmp_path: Path
) -> None:
    damaged = patched(
        images["vmdk-sparse"],
        tmp_path / "x.vmdk",
        (GD, struct.pack("<Q", sector)),
        (FLAGS, flags_without_redundancy(images["vmdk-sparse"])),
    )
    with pytest.raises(BadImage, match="directory"):
        open_disk(damaged)


def test_unknown_compression_is_unsupported(images: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImage, match="compressed"):
        open_disk(patched(images["vmdk-stream"], tmp_path / "x.vmdk", (ALGORITHM, b"\7\0")))


def test_grain_or_table_past_the_end_is_a_bad_image(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vmdk-sparse"]
    directory = sector_field(image, GD) * 512
    for at, word in ((first_grain_entry(image), "grain 0"), (directory, "grain table")):
        damaged = patched(image, tmp_path / "x.vmdk", (at, U32_MAX), (FLAGS, flags_without_redundancy(image)))
        with open_disk(damaged) as disk, pytest.raises(BadImage, match=word):
            disk.pread(512, 0)
        with open_disk(damaged) as disk, pytest.raises(BadImage, match=word):
            list(disk.extents())


def test_two_grains_at_one_place_are_a_bad_image(images: dict[str, Path], tmp_path: Path) -> None:
    image = images["vmdk-sparse"]
    at = first_grain_entry(image)
    entry = image.read_bytes()[at : at + 4]
    with open_disk(patched(image, tmp_path / "x.vmdk", (at + 4, entry))) as disk:
        with pytest.raises(BadImage, match="also serves"):
            list(disk.extents())


def test_images_cut_short_never_read_as_whole(images: dict[str, Path], tmp_path: Path) -> None:
    for name in ("vmdk-sparse", "vmdk-stream"):
        whole = images[name].stat().st_size
        for size in (4, 300, 600, 5000, 65536, 70000, whole // 2, whole - 70000):
            with pytest.raises(BadImage):
                read_all(truncated(images[name], tmp_path / "x.vmdk", size))


def test_extent_cut_short_is_a_bad_image_with_its_name(images: dict[str, Path], tmp_path: Path) -> None:
    for name in ("vmdk-flat", "vmdk-split-flat", "vmdk-split-sparse"):
        folder = tmp_path / name
        shutil.copytree(images[name].parent, folder)
        extent = next(path for path in folder.iterdir() if path.name != images[name].name)
        with extent.open("r+b") as file:
            file.truncate(5 * MIB)
        with pytest.raises(BadImage) as caught:
            read_all(folder / images[name].name)
        assert extent.name in str(caught.value)


def test_extents_are_read_one_after_the_other_at_their_offsets(tmp_path: Path) -> None:
    (tmp_path / "one.bin").write_bytes(b"1" * 1024 + b"2" * 1024)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two.bin").write_bytes(b"3" * 512)
    image = descriptor_of(
        tmp_path, 'RW 2 FLAT "one.bin" 2', "RW 3 ZERO", 'RW 1 FLAT "sub/two.bin" 0', 'RW 1 FLAT "one.bin" 0'
    )
    with open_disk(image) as disk:
        assert disk.pread(1 << 20, 0) == b"2" * 1024 + bytes(1536) + b"3" * 512 + b"1" * 512
        assert disk.pread(600, 1000) == b"2" * 24 + bytes(576)
        assert len(disk.files) == 3
        assert describe(disk).allocated_size == 2048


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "sub/../../x", "..\\x", "nbd://h/x", "json:{}", "link", "sub/link", "a\0b", ""],
)
def test_extent_outside_the_folder_is_a_forbidden_reference(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "x").write_bytes(bytes(512))
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "sub" / "link").symlink_to("../../x")
    # A NUL ends a descriptor, so that name is cut before its closing quote.
    expected = BadImage if "\0" in name else ForbiddenReference
    with pytest.raises(expected):
        open_disk(descriptor_of(folder, f'RW 1 FLAT "{name}" 0'))


def test_link_that_stays_in_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"x" * 512)
    (tmp_path / "link.bin").symlink_to("real.bin")
    with open_disk(descriptor_of(tmp_path, 'RW 1 FLAT "link.bin" 0')) as disk:
        assert disk.pread(512, 0) == b"x" * 512


@pytest.mark.parametrize(
    "line",
    [
        'RW 8 FLAT "gone.bin" 0',
        "RW many FLAT gone",
        'RW 99999999999999999999999 FLAT "one.bin" 0',
        'RW 9999999999999999999 FLAT "one.bin" 0',
        'RW 8 FLAT "one.bin" 9999999999999999999',
        "RW 9999999999999999999 ZERO",
        'RW 1 SPARSE "one.bin"',
        'RW 0 FLAT "one.bin" 0',
        'RW 1 VMFSSPARSE "one.bin"',
        'RW 1 SESPARSE "one.bin"',
        'NOACCESS 1 FLAT "one.bin" 0',
        'RW 1 FLAT "." 0',
    ],
)
def test_impossible_extent_lines_are_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "one.bin").write_bytes(bytes(4096))
    with pytest.raises(BadImage):
        open_disk(descriptor_of(tmp_path, line))


def test_descriptor_that_names_itself_as_an_extent_does_not_loop(tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        open_disk(descriptor_of(tmp_path, 'RW 1 SPARSE "disk.vmdk"'))


def test_descriptors_have_limits(tmp_path: Path) -> None:
    for extents in ([f'RW 1 FLAT "{number}" 0' for number in range(MAX_EXTENTS + 1)], ["#" * MAX_DESCRIPTOR_BYTES], []):
        with pytest.raises(BadImage):
            open_disk(descriptor_of(tmp_path, *extents))


def test_one_file_image_that_names_other_extents_opens_none_of_them(images: dict[str, Path], tmp_path: Path) -> None:
    image = edited_descriptor(
        images["vmdk-sparse"],
        tmp_path / "x.vmdk",
        lambda text: text.replace(b"# Extent description", b'RW 2 FLAT "/etc/passwd" 0'),
    )
    with pytest.raises(BadImage, match="2 extents"):
        open_disk(image)


def test_extent_named_alone_asks_for_its_descriptor(images: dict[str, Path]) -> None:
    extent = next(path for path in images["vmdk-split-sparse"].parent.glob("*-s001.vmdk"))
    with pytest.raises(UnsupportedImage, match="several files") as caught:
        open_disk(extent)
    assert "text" in caught.value.hint()


def test_names_in_declared_and_undeclared_encodings_are_kept() -> None:
    line = 'RW 1 FLAT "Festplatte-ä.vmdk" 0\n'
    declared = parse_descriptor(('encoding="windows-1252"\n' + line).encode("cp1252"), Path("x"))
    assert declared.extents[0].file_name == "Festplatte-ä.vmdk"
    undeclared = parse_descriptor(line.encode("cp1252"), Path("x"))
    assert undeclared.extents[0].file_name.encode("utf-8", "surrogateescape") == "Festplatte-ä.vmdk".encode("cp1252")
    hostile = parse_descriptor(('encoding="unicode_escape"\n' + line).encode(), Path("x"))
    assert hostile.extents[0].file_name == "Festplatte-ä.vmdk"


def test_odd_descriptor_bytes_raise_only_our_errors(tmp_path: Path) -> None:
    image = tmp_path / "disk.vmdk"
    for junk in (b"\xff\xfe\x80", b"=\n=\n", b"RW\n", b"RW 1\n", b"RW 1 FLAT\n", b"\r\r\r", b"a=" * 3000):
        image.write_bytes(b"# Disk DescriptorFile\n" + junk)
        with pytest.raises(P2vError):
            open_disk(image)
