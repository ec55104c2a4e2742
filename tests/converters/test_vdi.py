"""VDI: differencing images and their parents against a model, what is refused, and damage."""

from __future__ import annotations

import os
import resource
import struct
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import c_vdi, references
from converters.extents import invariant_broken
from converters.image import describe, identity, open_disk
from converters.references import Lookup
from converters.source_file import SourceFile, open_source
from p2v.core.errors import AmbiguousFormat, BadImage, ParentMissing, UnsupportedImage, WrongParent
from tests.converters.damage import patched, read_all, truncated
from tests.converters.images import BY_NAME, MIB, make_image, patterned, qemu_img, rebuilt
from tests.converters.vdi_writer import BLOCK, KIB, MAP_OFFSET, header_of, rewritten, write_vdi
from tests.descriptors import descriptors

SIZE = 10 * BLOCK + 512


def content(number: int) -> bytes:
    return bytes([number]) * BLOCK


def whole(image: Path, lookup: Lookup | None = None) -> bytes:
    """A disk by its extents, after comparing that with reading it in odd pieces."""
    with open_disk(image, lookup=lookup or Lookup()) as disk:
        extents = list(disk.extents())
        assert invariant_broken(extents, disk.virtual_size) is None
        by_extents = rebuilt(extents, disk)
        assert b"".join(disk.pread(3001, at) for at in range(0, disk.virtual_size, 3001)) == by_extents
    return by_extents


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "vm"
    folder.mkdir()
    return write_vdi(folder / "base.vdi", SIZE, {n: content(n + 1) for n in (3, 0, 1, 10)})


@pytest.fixture
def child(base: Path) -> Path:
    return write_vdi(base.parent / "child.vdi", SIZE, {1: content(0xC1), 3: None, 5: content(0xC5)}, parent=base)


def expected() -> bytes:
    blocks = {0: content(1), 1: content(0xC1), 5: content(0xC5), 10: content(11)}
    return b"".join(blocks.get(n, bytes(BLOCK)) for n in range(11))[:SIZE]


def test_header_survives_packing(base: Path) -> None:
    header = replace(header_of(base), comment=b"my disk", block_extra=64, flags=1, uuid_linkage=uuid.uuid4())
    packed = c_vdi.pack_header(header)
    assert c_vdi.unpack_header(packed) == replace(header, text=packed[:64])
    assert len(packed) == c_vdi.PRE_HEADER_BYTES + c_vdi.HEADER_BYTES


def test_our_writers_image_reads_as_qemu_reads_it(tmp_path: Path) -> None:
    """QEMU reads blocks of 1 MiB only; that keeps the writer honest, which differencing images rest on."""
    image = write_vdi(tmp_path / "x.vdi", 4 * MIB + 512, {3: b"c" * MIB, 1: None, 0: b"a" * MIB, 4: b"e" * MIB},
                      block_size=MIB)  # fmt: skip
    qemu_img("convert", "-f", "vdi", "-O", "raw", str(image), str(tmp_path / "raw"))
    assert whole(image) == (tmp_path / "raw").read_bytes()


def test_a_child_counts_where_it_says_something_and_its_parent_elsewhere(child: Path, base: Path) -> None:
    assert whole(child) == expected()
    with open_disk(child) as disk:
        assert disk.files == (child, base)
        assert describe(disk).parents == ("vdi, dynamic",)
        assert disk.facts.notes == ()
        assert dict(disk.facts.identifiers)["uuid"] == str(header_of(child).uuid_create)


def test_a_chain_of_three_over_a_fixed_disk_from_qemu(tmp_path: Path) -> None:
    raw = patterned(3 * MIB + 512)
    bottom = make_image(tmp_path, BY_NAME["vdi-fixed"], raw)
    middle = write_vdi(tmp_path / "middle.vdi", len(raw), {2: b"m" * MIB}, parent=bottom, block_size=MIB)
    top = write_vdi(tmp_path / "top.vdi", len(raw), {0: b"t" * 65536}, parent=middle, block_size=65536)
    assert whole(top) == b"t" * 65536 + raw[65536 : 2 * MIB] + b"m" * MIB + raw[3 * MIB :]


def test_a_free_block_without_a_parent_is_a_hole_and_a_zero_block_hides_the_parents(child: Path, base: Path) -> None:
    with open_disk(base) as disk:
        free = [extent for extent in disk.extents() if extent.zero]
        assert free
        assert not any(extent.allocated for extent in free)
    with open_disk(child) as disk:
        assert disk.pread(BLOCK, 3 * BLOCK) == bytes(BLOCK)


@pytest.mark.parametrize("extra", [0, 512])
def test_bytes_before_each_blocks_data_are_passed_over(extra: int, tmp_path: Path) -> None:
    image = write_vdi(tmp_path / "x.vdi", SIZE, {n: content(n) for n in range(11)}, block_extra=extra)
    assert whole(image) == b"".join(map(content, range(11)))[:SIZE]


def test_a_size_that_is_no_whole_sector_is_rounded_up_as_in_qemu(tmp_path: Path) -> None:
    image = write_vdi(tmp_path / "x.vdi", MIB + 100, {0: b"a" * MIB, 1: b"b" * 512}, block_size=MIB)
    qemu_img("convert", "-f", "vdi", "-O", "raw", str(image), str(tmp_path / "raw"))
    assert whole(image) == (tmp_path / "raw").read_bytes() == b"a" * MIB + b"b" * 512


def test_holes_of_a_fixed_images_file_are_holes(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "vdi", "-o", "static=on", str(tmp_path / "x.vdi"), "64M")
    with (tmp_path / "x.vdi").open("r+b") as file:
        file.seek(32 * MIB)
        file.write(b"data")
    with open_disk(tmp_path / "x.vdi") as disk:
        assert describe(disk).allocated_size < MIB
        assert rebuilt(disk.extents(), disk) == disk.pread(disk.virtual_size, 0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_chains_of_random_blocks_read_as_in_a_model(data: st.DataObject) -> None:
    blocks = data.draw(st.integers(1, 12))
    size = blocks * 512 - data.draw(st.sampled_from([0, 1, 100]))
    model = bytearray(blocks * 512)
    # hypothesis and pytest's own folders do not go together
    with tempfile.TemporaryDirectory() as folder:
        image: Path | None = None
        for level in range(data.draw(st.integers(1, 4))):
            numbers = data.draw(st.lists(st.integers(0, blocks - 1), unique=True))
            made = {n: None if data.draw(st.booleans()) else data.draw(st.binary(min_size=1, max_size=512)) for n in numbers}
            image = write_vdi(Path(folder, f"{level}.vdi"), size, made, parent=image, block_size=512)
            for number, block in made.items():
                model[number * 512 : number * 512 + 512] = (block or b"").ljust(512, b"\0")
        assert image is not None
        assert whole(image) == bytes(model)
        with open_disk(image) as disk:
            offset, length = data.draw(st.integers(0, blocks * 512)), data.draw(st.integers(0, blocks * 512))
            assert disk.pread(length, offset) == model[offset : offset + length]


def test_the_parent_is_found_under_any_name_in_the_disks_folders(child: Path, base: Path, tmp_path: Path) -> None:
    moved = base.rename(base.parent / "{whatever}.VDI")
    assert whole(child) == expected()
    moved = moved.rename(tmp_path / "elsewhere.vdi")
    with pytest.raises(ParentMissing, match=str(header_of(moved).uuid_create)):
        open_disk(child)
    for lookup in (Lookup(folders=(tmp_path,)), Lookup(allowed=(tmp_path,)), Lookup(parents=(moved,))):
        assert whole(child, lookup) == expected()


def test_a_link_out_of_the_folder_is_not_followed_and_one_within_it_is(child: Path, base: Path, tmp_path: Path) -> None:
    outside = base.rename(tmp_path / "outside.bin")
    base.symlink_to(outside)
    with pytest.raises(ParentMissing):
        open_disk(child)
    base.unlink()
    outside.rename(base.parent / "inside.bin")
    base.symlink_to("inside.bin")
    assert whole(child) == expected()


def test_the_search_passes_over_what_is_no_parent(child: Path, base: Path) -> None:
    folder = base.parent
    os.mkfifo(folder / "a.vdi")
    (folder / "b.vdi").mkdir()
    (folder / "c.vdi").write_bytes(b"short")
    (folder / "d.vdi").symlink_to("d.vdi")
    write_vdi(folder / "e.vdi", SIZE, {})
    assert whole(child) == expected()
    base.unlink()
    with pytest.raises(ParentMissing):
        open_disk(child)


def test_the_search_has_a_limit(child: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.unlink()
    for number in range(50):
        (base.parent / f"{number}.vdi").touch()
    looked_at: list[Path] = []

    def counting(path: Path) -> SourceFile:
        looked_at.append(path)
        return open_source(path)

    monkeypatch.setattr(references, "MAX_CANDIDATES", 7)
    monkeypatch.setattr(references, "open_source", counting)
    with pytest.raises(ParentMissing):
        open_disk(child)
    assert len(looked_at) == 7


def test_of_two_copies_the_unchanged_one_is_taken(child: Path, base: Path) -> None:
    rewritten(base, base.parent / "a-changed.vdi", uuid_modify=uuid.uuid4())
    assert whole(child) == expected()
    with open_disk(child) as disk:
        assert disk.files[1] == base


def test_a_parent_that_was_written_since_is_the_wrong_one(child: Path, base: Path) -> None:
    rewritten(base, base, uuid_modify=uuid.uuid4())
    before = descriptors()
    with pytest.raises(WrongParent, match="written since"):
        open_disk(child)
    assert not descriptors() - before
    rewritten(child, child, uuid_parent_modify=c_vdi.NO_UUID)
    assert whole(child) == expected()
    with open_disk(child) as disk:
        assert any("state" in note for note in disk.facts.notes)


def test_a_named_parent_must_be_the_right_disk(child: Path, tmp_path: Path) -> None:
    other = write_vdi(tmp_path / "other.vdi", SIZE, {})
    with pytest.raises(WrongParent, match=r"over the disk .*other\.vdi"):
        open_disk(child, lookup=Lookup(parents=(other,)))
    raw = tmp_path / "other.img"
    raw.write_bytes(patterned(SIZE))
    with open_disk(child, lookup=Lookup(parents=(raw,))) as disk:
        assert disk.pread(BLOCK, 0) == raw.read_bytes()[:BLOCK]
        assert any("is no VDI" in note for note in disk.facts.notes)


def test_two_children_of_each_other_are_a_loop(child: Path, base: Path) -> None:
    header = header_of(child)
    base.unlink()
    second = write_vdi(base.parent / "second.vdi", SIZE, {}, parent=child)
    linked = {"uuid_linkage": header_of(second).uuid_create, "uuid_parent_modify": header_of(second).uuid_modify}
    rewritten(child, child, **linked)
    assert header_of(child).uuid_create == header.uuid_create
    with pytest.raises(BadImage, match="loop"):
        open_disk(child)
    rewritten(child, child, uuid_linkage=header.uuid_create)
    with pytest.raises(ParentMissing):
        open_disk(child)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"version": 1}, UnsupportedImage, r"version 0\.1"),
        ({"version": 0x10000}, UnsupportedImage, r"version 1\.0"),
        ({"version": 0x20000}, UnsupportedImage, r"version 2\.0"),
        ({"image_type": c_vdi.TYPE_UNDO}, UnsupportedImage, "undo"),
        ({"image_type": 0}, BadImage, "type 0"),
        ({"image_type": 5}, BadImage, "type 5"),
        ({"image_type": c_vdi.TYPE_DIFFERENCING}, BadImage, "names no parent"),
        ({"uuid_linkage": uuid.uuid4()}, BadImage, "names the parent"),
        ({"sector_size": 4096}, UnsupportedImage, "4096"),
        ({"header_size": 100}, BadImage, "header"),
        ({"header_size": 0xFFFFFFFF}, BadImage, "within the header"),
        ({"block_size": 0}, BadImage, "blocks have 0"),
        ({"block_size": 3 * KIB}, BadImage, "powers of two"),
        ({"block_size": 256}, BadImage, "blocks have 256"),
        ({"disk_size": 0}, BadImage, "disk of 0"),
        ({"disk_size": 1 << 63}, BadImage, str(1 << 63)),
        ({"disk_size": (1 << 64) - 1}, BadImage, "disk of"),
        ({"disk_size": (1 << 63) - 512}, BadImage, "too few"),
        ({"disk_size": 11 * BLOCK + 1}, BadImage, "too few"),
        ({"blocks": 1}, BadImage, "too few"),
        ({"blocks": 0xFFFFFFFF}, BadImage, "past the end"),
        ({"blocks_offset": 0}, BadImage, "within the header"),
        ({"blocks_offset": 0xFFFFFFFF}, BadImage, "past the end"),
        ({"data_offset": 512}, BadImage, "before the block map's end"),
        ({"data_offset": 0}, BadImage, "before the block map's end"),
    ],
)
def test_impossible_headers_are_refused(
    fields: dict[str, object], error: type[BadImage], words: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words) as caught:
        open_disk(rewritten(base, tmp_path / "x.vdi", **fields))
    assert isinstance(caught.value, UnsupportedImage) == (error is UnsupportedImage)
    assert caught.value.hint()


def test_a_block_past_the_files_end_is_bad(base: Path, tmp_path: Path) -> None:
    image = patched(base, tmp_path / "x.vdi", (MAP_OFFSET + 4, struct.pack("<I", 0xFFFFFFFD)))
    with open_disk(image) as disk:
        assert disk.pread(BLOCK, 0) == content(1)
        with pytest.raises(BadImage, match=r"block 1 .*past the end"):
            disk.pread(512, BLOCK)
        with pytest.raises(BadImage, match="block 1 "):
            list(disk.extents())


def test_two_blocks_at_one_place_are_bad(base: Path, tmp_path: Path) -> None:
    for extra in (0, 512):
        image = write_vdi(tmp_path / "x.vdi", SIZE, {0: content(1), 1: content(2)}, block_extra=extra)
        damaged = patched(image, image, (MAP_OFFSET + 9 * 4, struct.pack("<I", 1)))
        with open_disk(damaged) as disk, pytest.raises(BadImage, match="also serves"):
            list(disk.extents())


def test_a_last_block_cut_at_the_disks_end_is_read(base: Path, tmp_path: Path) -> None:
    whole_size = base.stat().st_size
    cut = truncated(base, tmp_path / "x.vdi", whole_size - BLOCK + 512)
    assert whole(cut) == whole(base)
    with pytest.raises(BadImage, match="block 10"):
        read_all(truncated(base, tmp_path / "x.vdi", whole_size - BLOCK + 511))


def test_images_cut_short_never_read_as_whole(images: dict[str, Path], tmp_path: Path) -> None:
    for name in ("vdi-dynamic", "vdi-fixed"):
        length = images[name].stat().st_size
        for size in (70, 100, 455, 520, 1024, MIB, length // 2, length - 2 * MIB):
            with pytest.raises(BadImage):
                read_all(truncated(images[name], tmp_path / "x.vdi", size))


def test_a_vdi_named_raw_or_without_its_signature_is_ambiguous(base: Path, tmp_path: Path) -> None:
    with pytest.raises(AmbiguousFormat, match="vdi"):
        open_disk(base, "raw")
    with pytest.raises(AmbiguousFormat):
        open_disk(patched(base, tmp_path / "x.vdi", (64, b"\0\0\0\0")))


def test_a_disk_of_64_tib_opens_at_once_in_little_memory(tmp_path: Path) -> None:
    image = write_vdi(tmp_path / "x.vdi", MIB, {}, block_size=MIB)
    blocks = 4 * MIB
    rewritten(image, image, disk_size=64 << 40, block_size=16 * MIB, blocks=blocks, data_offset=MAP_OFFSET + 4 * blocks)
    with image.open("r+b") as file:
        file.seek(MAP_OFFSET)
        file.write(b"\xff" * (4 * blocks))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with open_disk(image) as disk:
        identity(disk)
        assert describe(disk).allocated_size == 0
        assert disk.pread(512, disk.virtual_size - 512) == bytes(512)
        assert disk.virtual_size == 64 << 40
    assert time.process_time() - started < 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100 * MIB
