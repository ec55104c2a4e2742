"""Differencing VHDs: whose sectors count, how the parent is found, and which parent is the wrong one."""

from __future__ import annotations

import os
import random
import struct
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.image import describe, open_disk
from converters.references import Lookup, SizeBy
from p2v.core.errors import BadImage, ForbiddenReference, ParentMissing, WrongParent
from tests.converters.damage import patched, rewrite, truncated, vhd_dynamic_header
from tests.converters.images import MIB, by_libvhdi, whole_disk
from tests.converters.vhd_writer import DIFFERENCING, DYNAMIC, FIXED, SECTOR, Vhd

SIZE = 24 * SECTOR
RELATIVE = [(b"W2ru", r".\base.vhd".encode("utf-16-le"))]


def sector(seed: int) -> bytes:
    return random.Random(seed).randbytes(SECTOR)


def model(size: int, *layers: Mapping[int, bytes]) -> bytes:
    """The bytes of a disk whose layers lie over each other, the last on top."""
    raw = bytearray(size)
    for layer in layers:
        for number, content in layer.items():
            raw[number * SECTOR : (number + 1) * SECTOR] = content
    return bytes(raw)


@pytest.fixture
def base() -> Vhd:
    return Vhd(SIZE, {number: sector(number) for number in range(20)})


@pytest.fixture
def child(base: Vhd) -> Vhd:
    own = {0: sector(100), 3: bytes(SECTOR), 9: sector(109), 23: sector(123)}
    return Vhd(SIZE, own, DIFFERENCING, parent_id=base.unique_id, locators=RELATIVE, parent_name="base.vhd")


def test_a_childs_own_sectors_count_and_the_rest_is_its_parents(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    bottom, top = base.write(tmp_path / "base.vhd"), child.write(tmp_path / "child.avhd")
    expected = model(SIZE, base.sectors, child.sectors)
    assert whole_disk(top) == expected
    with open_disk(top) as disk:
        assert disk.files == (top, bottom)
        assert describe(disk).parents == ("vhd, dynamic",)
        # a sector of zeroes that the child wrote is no hole
        assert not any(extent.zero for extent in disk.extents() if extent.offset <= 3 * SECTOR < extent.end)


def test_a_fixed_disk_can_be_the_parent(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    replace(base, kind=FIXED).write(tmp_path / "base.vhd")
    assert whole_disk(child.write(tmp_path / "child.vhd")) == model(SIZE, base.sectors, child.sectors)


def test_a_child_whose_blocks_have_another_size_than_its_parents(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    top = replace(child, block_bytes=1024).write(tmp_path / "child.vhd")
    assert whole_disk(top) == model(SIZE, base.sectors, child.sectors)


@pytest.mark.parametrize("kind", [FIXED, DYNAMIC])
@pytest.mark.parametrize("by", [SizeBy.CREATOR, SizeBy.CURRENT_SIZE])
def test_a_parent_of_virtual_pc_hides_no_sector_that_its_child_shows(
    by: SizeBy, kind: int, child: Vhd, tmp_path: Path
) -> None:
    full = {number: sector(number) for number in range(24)}
    base = Vhd(SIZE, full, kind, unique_id=child.parent_id, creator=b"vpc ", geometry=(2, 4, 2))
    base.write(tmp_path / "base.vhd")
    top = child.write(tmp_path / "child.vhd")
    assert whole_disk(top, Lookup(size_by=by)) == model(SIZE, full, child.sectors)


def test_a_geometry_that_counts_for_the_child_counts_for_the_chain(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    top = replace(child, creator=b"vpc ", geometry=(2, 4, 2)).write(tmp_path / "child.vhd")
    expected = model(SIZE, base.sectors, child.sectors)
    assert whole_disk(top) == expected[: 16 * SECTOR]
    assert whole_disk(top, Lookup(size_by=SizeBy.CURRENT_SIZE)) == expected


@pytest.mark.parametrize("sectors", [8, 16, 32])
def test_a_parent_of_another_size_ends_where_it_ends(sectors: int, base: Vhd, child: Vhd, tmp_path: Path) -> None:
    below = {number: sector(number) for number in range(sectors)}
    replace(base, size=sectors * SECTOR, sectors=below).write(tmp_path / "base.vhd")
    top = child.write(tmp_path / "child.vhd")
    shown = {number: data for number, data in below.items() if number < 24}
    assert whole_disk(top) == model(SIZE, shown, child.sectors)


def test_an_undo_disk_is_read_as_what_it_is(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    undo = child.write(tmp_path / "base.vud")
    assert whole_disk(undo) == model(SIZE, base.sectors, child.sectors)
    with open_disk(undo) as disk:
        assert any("undo disk" in note for note in disk.facts.notes)


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (b"W2ru", r".\base.vhd".encode("utf-16-le")),
        (b"W2ru", "base.vhd".encode("utf-16-be")),
        (b"W2ku", r"D:\Virtual Machines\base.vhd".encode("utf-16-le")),
        (b"W2ku", r"\\server\share\base.vhd".encode("utf-16-le")),
        (b"Wi2r", rb".\base.vhd"),
        (b"Wi2k", rb"C:\base.vhd"),
        (b"MacX", b"file://localhost/Users/me/VMs/base.vhd"),
        (b"MacX", b"file:///Users/me/My%20VMs/base.vhd"),
    ],
)
def test_the_parent_is_found_by_every_kind_of_locator(
    code: bytes, data: bytes, base: Vhd, child: Vhd, tmp_path: Path
) -> None:
    base.write(tmp_path / "base.vhd")
    top = replace(child, locators=[(b"Mac ", b"\x00\x01alias"), (code, data)], parent_name="").write(tmp_path / "child.vhd")
    assert whole_disk(top) == model(SIZE, base.sectors, child.sectors)


def test_the_headers_own_name_is_the_last_resort(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    locators = [(b"W2ru", r".\renamed.vhd".encode("utf-16-le"))]
    assert whole_disk(replace(child, locators=locators).write(tmp_path / "child.vhd"))
    with pytest.raises(ParentMissing, match="renamed"):
        open_disk(replace(child, locators=locators, parent_name="gone.vhd").write(tmp_path / "other.vhd"))


def test_a_parent_that_moved_is_named_by_the_user(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed.vhd"
    moved.parent.mkdir()
    base.write(moved)
    top = child.write(tmp_path / "child.vhd")
    with pytest.raises(ParentMissing):
        open_disk(top)
    assert whole_disk(top, Lookup(parents=(moved,))) == model(SIZE, base.sectors, child.sectors)


@pytest.mark.parametrize("name", [r"..\secret.vhd", r"sub\..\..\secret.vhd"])
def test_a_name_that_leads_out_of_the_folder_is_not_followed(name: str, base: Vhd, child: Vhd, tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    base.write(tmp_path / "secret.vhd")
    top = replace(child, locators=[(b"W2ru", name.encode("utf-16-le"))], parent_name="").write(folder / "child.vhd")
    with pytest.raises(ForbiddenReference):
        open_disk(top)
    assert whole_disk(top, Lookup(allowed=(tmp_path,))) == model(SIZE, base.sectors, child.sectors)


def test_the_wrong_parent_is_refused_with_both_ids(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    other = replace(base, unique_id=uuid.uuid4())
    other.write(tmp_path / "base.vhd")
    top = child.write(tmp_path / "child.vhd")
    with pytest.raises(WrongParent) as caught:
        open_disk(top)
    assert str(base.unique_id) in caught.value.sentence()
    assert str(other.unique_id) in caught.value.sentence()
    (tmp_path / "raw.img").write_bytes(b"\0" * 510 + b"\x55\xaa" + bytes(SIZE - 512))
    with pytest.raises(BadImage):
        open_disk(top, lookup=Lookup(parents=(tmp_path / "raw.img",)))


@pytest.mark.parametrize(("later", "notes"), [(-1000, 0), (0, 0), (2, 0), (1000, 1)])
def test_a_parent_written_later_than_its_child_says_is_worth_a_note(
    later: int, notes: int, base: Vhd, child: Vhd, tmp_path: Path
) -> None:
    stamp = 800_000_000
    os.utime(base.write(tmp_path / "base.vhd"), times=(0, 946_684_800 + stamp + later))
    with open_disk(replace(child, parent_time_stamp=stamp).write(tmp_path / "child.vhd")) as disk:
        assert len(disk.facts.notes) == notes
    with open_disk(child.write(tmp_path / "unstamped.vhd")) as disk:
        assert disk.facts.notes == ()


@pytest.mark.parametrize("cut", [1, 512])
def test_a_differencing_disk_with_an_old_or_no_footer_is_read(cut: int, base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    top = child.write(tmp_path / "child.vhd")
    short = truncated(top, tmp_path / "short.vhd", top.stat().st_size - cut)
    assert whole_disk(short) == model(SIZE, base.sectors, child.sectors)


def test_a_differencing_disk_cut_short_is_refused_when_it_is_opened(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    top = child.write(tmp_path / "child.vhd")
    short = truncated(top, tmp_path / "short.vhd", top.stat().st_size - 512 - SECTOR)
    with pytest.raises(BadImage, match="past the end"):
        open_disk(short)


def test_a_chain_that_comes_back_to_itself_is_noticed(child: Vhd, tmp_path: Path) -> None:
    replace(child, parent_id=child.unique_id).write(tmp_path / "base.vhd")
    child.write(tmp_path / "child.vhd")
    with pytest.raises(BadImage, match="loop"):
        open_disk(tmp_path / "child.vhd")


def test_two_blocks_at_one_place_are_a_bad_image(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    top = child.write(tmp_path / "child.vhd")
    bat = 1536 + 512
    first = struct.unpack_from(">I", top.read_bytes(), bat)[0]
    broken = patched(top, tmp_path / "broken.vhd", (bat + 4, struct.pack(">I", first)))
    with open_disk(broken) as disk, pytest.raises(BadImage, match="also serves"):
        list(disk.extents())


def test_a_bitmap_past_the_end_of_the_file_is_a_bad_image(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    top = child.write(tmp_path / "child.vhd")
    broken = patched(top, tmp_path / "broken.vhd", (1536 + 512, struct.pack(">I", top.stat().st_size // 512 - 1)))
    with open_disk(broken) as disk, pytest.raises(BadImage, match="block 0"):
        disk.pread(512, 0)


@pytest.mark.parametrize(
    ("offset", "length"), [(1 << 63, 16), (10_000_000, 16), (0xFFFFFFFFFFFFFFFF, 16), (2048, 0xFFFFFFFF)]
)
def test_a_locator_outside_the_file_is_a_bad_image(
    offset: int, length: int, base: Vhd, child: Vhd, tmp_path: Path
) -> None:
    base.write(tmp_path / "base.vhd")
    top = child.write(tmp_path / "child.vhd")

    def change(raw: bytearray) -> None:
        raw[512 + 576 + 8 : 512 + 576 + 12] = struct.pack(">I", length)
        raw[512 + 576 + 16 : 512 + 576 + 24] = struct.pack(">Q", offset)
        total = ~(sum(raw[512:1536]) - sum(raw[548:552])) & 0xFFFFFFFF
        raw[548:552] = struct.pack(">I", total)

    broken = rewrite(top, tmp_path / "broken.vhd", change)
    with pytest.raises(BadImage, match="parent locator W2ru") as caught:
        open_disk(broken)
    assert str(offset) in caught.value.sentence()
    assert "--parent" in caught.value.hint()
    # what the error advises works
    named = Lookup(parents=(tmp_path / "base.vhd",))
    assert whole_disk(broken, named) == model(SIZE, base.sectors, child.sectors)


def test_a_long_locator_is_measured_by_what_it_says_not_by_what_is_read(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    name = RELATIVE[0][1].ljust(100_000, b"\0")
    top = replace(child, locators=[(b"W2ru", name)], parent_name="").write(tmp_path / "child.vhd")
    assert whole_disk(top) == model(SIZE, base.sectors, child.sectors)
    more = vhd_dynamic_header(576 + 8, struct.pack(">I", 10_000_000))
    with pytest.raises(BadImage, match="past the end"):
        open_disk(rewrite(top, tmp_path / "broken.vhd", more))


@pytest.mark.parametrize("space", [0, 1, 512])
def test_the_space_of_a_locator_may_be_in_sectors_in_bytes_or_not_given(
    space: int, base: Vhd, child: Vhd, tmp_path: Path
) -> None:
    base.write(tmp_path / "base.vhd")
    assert whole_disk(replace(child, locator_space=space).write(tmp_path / "child.vhd"))


def test_a_locator_longer_than_its_space_is_a_bad_image(base: Vhd, child: Vhd, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhd")
    locators = [(b"W2ru", RELATIVE[0][1].ljust(600, b"\0"))]
    top = replace(child, locators=locators, locator_space=1).write(tmp_path / "child.vhd")
    with pytest.raises(BadImage, match="space of 1 sectors"):
        open_disk(top)


@pytest.mark.parametrize(
    ("creator", "geometry", "by", "expected"),
    [
        (b"vpc ", (2, 4, 2), SizeBy.CREATOR, 16),
        (b"vs  ", (2, 4, 2), SizeBy.CREATOR, 16),
        (b"qemu", (2, 4, 2), SizeBy.CREATOR, 16),
        (b"qem2", (2, 4, 2), SizeBy.CREATOR, 24),
        (b"win ", (2, 4, 2), SizeBy.CREATOR, 24),
        (b"d2v ", (2, 4, 2), SizeBy.CREATOR, 24),
        (b"wa\0\0", (2, 4, 2), SizeBy.CREATOR, 24),
        (b"tap\0", (2, 4, 2), SizeBy.CREATOR, 24),
        (b"CTXS", (2, 4, 2), SizeBy.CREATOR, 24),
        (b"vbox", (2, 4, 2), SizeBy.CREATOR, 24),
        (b"new\0", (2, 4, 2), SizeBy.CREATOR, 24),
        (b"vpc ", (65535, 16, 255), SizeBy.CREATOR, 24),
        (b"vpc ", (2, 4, 2), SizeBy.CURRENT_SIZE, 24),
        (b"win ", (2, 4, 2), SizeBy.GEOMETRY, 16),
    ],
)
@pytest.mark.parametrize("kind", [FIXED, DYNAMIC])
def test_the_size_is_what_the_creator_means_or_the_user_says(
    kind: int, creator: bytes, geometry: tuple[int, int, int], by: SizeBy, expected: int, base: Vhd, tmp_path: Path
) -> None:
    path = replace(base, kind=kind, creator=creator, geometry=geometry).write(tmp_path / "x.vhd")
    with open_disk(path, lookup=Lookup(size_by=by)) as disk:
        assert disk.virtual_size == expected * SECTOR
        assert bool(disk.facts.notes) == (expected == 16)
        assert disk.pread(SIZE, 0) == model(SIZE, base.sectors)[: expected * SECTOR]


def test_a_geometry_that_is_none_or_larger_than_what_is_stored_is_refused(base: Vhd, tmp_path: Path) -> None:
    by = Lookup(size_by=SizeBy.GEOMETRY)
    for geometry in ((0, 0, 0), (1000, 16, 63)):
        for kind in (FIXED, DYNAMIC):
            with pytest.raises(BadImage):
                open_disk(replace(base, kind=kind, geometry=geometry).write(tmp_path / "x.vhd"), lookup=by)


def _written(layers: list[dict[int, int]], block_bytes: int, folder: Path) -> tuple[list[Path], bytes]:
    """A chain of disks (the lowest first) and the bytes its model has."""
    contents = [{number: sector(seed) for number, seed in layer.items()} for layer in layers]
    size = 64 * SECTOR
    below, paths = Vhd(size, contents[0], block_bytes=block_bytes), [folder / "0.vhd"]
    below.write(paths[0])
    for level, own in enumerate(contents[1:], start=1):
        name = [(b"W2ru", f"{level - 1}.vhd".encode("utf-16-le"))]
        below = Vhd(size, own, DIFFERENCING, 4096, parent_id=below.unique_id, locators=name)
        paths.append(below.write(folder / f"{level}.vhd"))
    return paths, model(size, *contents)


LAYERS = st.lists(st.dictionaries(st.integers(0, 63), st.integers(0, 1 << 30), max_size=20), min_size=1, max_size=3)
# By number of the eight sectors: the first of them that is the child's, and a seed; the others up to the eighth are too.
TAILS = st.lists(
    st.dictionaries(st.integers(0, 7), st.tuples(st.integers(0, 7), st.integers(0, 1 << 30)), max_size=6), min_size=1, max_size=3
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(layers=LAYERS, block_bytes=st.sampled_from([512, 1024, 4096, 8192]))
def test_random_writes_into_a_chain_come_back(layers: list[dict[int, int]], block_bytes: int, tmp_path: Path) -> None:
    paths, expected = _written(layers, block_bytes, tmp_path)
    assert whole_disk(paths[-1]) == expected


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tails=TAILS)
def test_random_writes_up_to_the_eighth_sector_read_as_libvhdi_reads_them(
    tails: list[dict[int, tuple[int, int]]], tmp_path: Path
) -> None:
    layers = [{g * 8 + i: seed + i for g, (first, seed) in tail.items() for i in range(first, 8)} for tail in tails]
    # libvhdi 20260901 takes what follows a set bit in the same byte of a bitmap for the child's, set or not (tried with
    # blocks of 4 and 8 KiB); where all that follow are set it is a witness, of the order of the bits too.
    paths, expected = _written(layers, 4096, tmp_path)
    assert whole_disk(paths[-1]) == expected
    assert by_libvhdi(paths[::-1]) == expected


@pytest.mark.parametrize(("own", "pieces"), [(range(4096), 1), (range(2048), 2), (range(0, 4096, 2), 4096)])
def test_a_block_is_as_many_pieces_as_its_owner_changes(own: range, pieces: int, tmp_path: Path) -> None:
    base = Vhd(4096 * SECTOR, {}, kind=FIXED)
    base.write(tmp_path / "base.vhd")
    written = dict.fromkeys(own, sector(1))
    child = Vhd(base.size, written, DIFFERENCING, 2 * MIB, parent_id=base.unique_id, locators=RELATIVE)
    with open_disk(child.write(tmp_path / "child.vhd")) as disk:
        assert sum(1 for _ in disk.extents()) == pieces
        assert disk.pread(base.size, 0) == model(base.size, written)
