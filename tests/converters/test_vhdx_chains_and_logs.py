"""VHDX: differencing chains, and logs that were not replayed before the file was copied."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.image import describe, open_disk
from converters.references import Lookup
from p2v.core.errors import BadImage, ParentMissing, UnsupportedImage, WrongParent
from tests.converters.damage import rewrite, vhdx_structures
from tests.converters.images import by_libvhdi, qemu_img, whole_disk
from tests.converters.vhdx_writer import (
    BAT_AT,
    DATA_AT,
    LOG_AT,
    METADATA_AT,
    MIB,
    PAGE,
    PARTIALLY,
    UNDEFINED,
    UNMAPPED,
    ZERO,
    LogEntry,
    Vhdx,
    data_pages,
    put_log,
    write_pages,
)

SIZE = 3 * MIB
GUID = uuid.UUID("11112222-3333-4444-5555-666677778888")


def sector(seed: int, length: int = 512) -> bytes:
    return random.Random(seed).randbytes(length)


def model(size: int, *layers: Mapping[int, bytes], sector_bytes: int = 512) -> bytes:
    raw = bytearray(size)
    for layer in layers:
        for number, content in layer.items():
            raw[number * sector_bytes : (number + 1) * sector_bytes] = content
    return bytes(raw)


def child_of(parent: Vhdx, sectors: Mapping[int, bytes], name: str = r".\base.vhdx", **changes: Any) -> Vhdx:
    values = {"parent_linkage": f"{{{parent.write_guid}}}", "relative_path": name}
    return replace(Vhdx(parent.size, sectors, parent=values, sector_bytes=parent.sector_bytes), **changes)


@pytest.fixture
def base() -> Vhdx:
    return Vhdx(SIZE, {number: sector(number) for number in range(0, 5000, 7)})


def test_the_writers_own_disks_are_read_by_qemu_and_libvhdi_as_by_us(base: Vhdx, tmp_path: Path) -> None:
    path = base.write(tmp_path / "base.vhdx")
    qemu_img("convert", "-f", "vhdx", "-O", "raw", str(path), str(tmp_path / "raw"))
    expected = model(SIZE, base.sectors)
    assert (tmp_path / "raw").read_bytes() == expected
    assert by_libvhdi([path]) == expected
    assert whole_disk(path) == expected


@pytest.mark.parametrize("sector_bytes", [512, 4096])
@pytest.mark.parametrize("block_bytes", [MIB, 2 * MIB])
def test_a_childs_own_sectors_count_and_the_rest_is_its_parents(
    sector_bytes: int, block_bytes: int, tmp_path: Path
) -> None:
    base = Vhdx(SIZE, {n: sector(n, sector_bytes) for n in range(0, 700, 3)}, sector_bytes=sector_bytes)
    own = {n: sector(5000 + n, sector_bytes) for n in (0, 1, 2, 9, 10, 63, 500, 511, 512, 600)}
    per_block = MIB // sector_bytes
    own |= {2 * per_block + n: sector(n, sector_bytes) for n in range(per_block)}  # a whole block
    bottom, top = base.write(tmp_path / "base.vhdx"), tmp_path / "child.avhdx"
    child_of(base, own, block_bytes=block_bytes).write(top)
    expected = model(SIZE, base.sectors, own, sector_bytes=sector_bytes)
    assert whole_disk(top) == expected
    with open_disk(top) as disk:
        assert disk.files == (top, bottom)
        assert describe(disk).parents == ("vhdx, dynamic",)


def test_block_states_in_a_child_and_alone(base: Vhdx, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhdx")
    for state in (UNDEFINED, ZERO, UNMAPPED):
        top = child_of(base, {0: sector(1)}, states={1: state}).write(tmp_path / "child.vhdx")
        expected = bytearray(model(SIZE, base.sectors, {0: sector(1)}))
        expected[MIB : 2 * MIB] = bytes(MIB)
        assert whole_disk(top) == bytes(expected)
        alone = replace(base, states={1: state}).write(tmp_path / "alone.vhdx")
        assert whole_disk(alone)[MIB : 2 * MIB] == bytes(MIB)
    for state in (4, 5, PARTIALLY):
        wrong = replace(base, states={1: state}).write(tmp_path / "wrong.vhdx")
        with open_disk(wrong) as disk, pytest.raises(BadImage, match="block 1"):
            disk.pread(512, MIB)


@pytest.mark.parametrize(
    "paths",
    [
        {"relative_path": "base.vhdx"},
        {"relative_path": r"..\gone\base.vhdx", "absolute_win32_path": r"\\?\d:\path\base.vhdx"},
        {"volume_path": r"\\?\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\path2\base.vhdx"},
        {"absolute_win32_path": r"\\?\UNC\server\share\base.vhdx"},
    ],
)
def test_the_parent_is_found_by_every_kind_of_path(paths: dict[str, str], base: Vhdx, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhdx")
    values = {"parent_linkage2": f"{{{base.write_guid}}}", "parent_linkage": f"{{{uuid.uuid4()}}}", **paths}
    top = Vhdx(SIZE, {3: sector(3)}, parent=values).write(tmp_path / "child.vhdx")
    assert whole_disk(top) == model(SIZE, base.sectors, {3: sector(3)})


def test_the_wrong_parent_and_a_missing_one_are_refused(base: Vhdx, tmp_path: Path) -> None:
    top = child_of(base, {3: sector(3)}).write(tmp_path / "child.vhdx")
    with pytest.raises(ParentMissing, match="base"):
        open_disk(top)
    other = replace(base, write_guid=uuid.uuid4())
    other.write(tmp_path / "base.vhdx")
    with pytest.raises(WrongParent) as caught:
        open_disk(top)
    assert str(base.write_guid) in caught.value.sentence()
    assert str(other.write_guid) in caught.value.sentence()
    right = base.write(tmp_path / "renamed.vhdx")
    assert whole_disk(top, Lookup(parents=(right,))) == model(SIZE, base.sectors, {3: sector(3)})
    large = Vhdx(SIZE, {0: sector(0, 4096)}, sector_bytes=4096, write_guid=base.write_guid).write(tmp_path / "4k.vhdx")
    with pytest.raises(WrongParent, match="4096"):
        open_disk(top, lookup=Lookup(parents=(large,)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"relative_path": "base.vhdx"}, BadImage),
        ({"parent_linkage": "{nonsense}", "relative_path": "base.vhdx"}, BadImage),
        ({"parent_linkage": f"{{{GUID}}}"}, ParentMissing),
        ({"parent_linkage": f"{{{GUID}}}", "relative_path": "child.vhdx"}, BadImage),
    ],
)
def test_locators_that_name_nothing_are_refused(
    values: dict[str, str], expected: type[BadImage], tmp_path: Path
) -> None:
    top = Vhdx(SIZE, {}, parent=values).write(tmp_path / "child.vhdx")
    with pytest.raises(expected):
        open_disk(top)


def test_a_locator_of_another_kind_and_one_with_entries_outside_are_refused(base: Vhdx, tmp_path: Path) -> None:
    other = child_of(base, {}, parent_type=uuid.uuid4()).write(tmp_path / "child.vhdx")
    with pytest.raises(UnsupportedImage, match="unknown kind"):
        open_disk(other)
    top = child_of(base, {}).write(tmp_path / "child.vhdx")
    raw = bytearray(top.read_bytes())
    at = raw.index(uuid.UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913").bytes_le, METADATA_AT)
    for field_at, new in ((at + 20, struct.pack("<I", 1 << 31)), (at + 18, struct.pack("<H", 65535))):
        broken = bytearray(raw)
        broken[field_at : field_at + len(new)] = new
        top.write_bytes(broken)
        with pytest.raises(BadImage, match="outside of it"):
            open_disk(top)


def test_damage_to_bitmaps_and_their_entries_is_told(base: Vhdx, tmp_path: Path) -> None:
    base.write(tmp_path / "base.vhdx")
    top = child_of(base, {3: sector(3)}).write(tmp_path / "child.vhdx")
    bitmap_entry = BAT_AT + 4096 * 8
    for new, words in ((0, "sector bitmap"), (1 << 50 | 6, "sector bitmap"), (LOG_AT | 6, "own tables"), (6, "own tables")):
        raw = bytearray(top.read_bytes())
        raw[bitmap_entry : bitmap_entry + 8] = struct.pack("<Q", new)
        (tmp_path / "broken.vhdx").write_bytes(raw)
        with open_disk(tmp_path / "broken.vhdx") as disk, pytest.raises(BadImage, match=words):
            disk.pread(512, 0)


def test_two_blocks_at_one_place_are_a_bad_image(base: Vhdx, tmp_path: Path) -> None:
    for vhdx in (base, child_of(base, {n: sector(n) for n in range(4096)})):
        base.write(tmp_path / "base.vhdx")
        raw = bytearray(vhdx.write(tmp_path / "x.vhdx").read_bytes())
        raw[BAT_AT : BAT_AT + 8] = raw[BAT_AT + 8 : BAT_AT + 16]
        (tmp_path / "x.vhdx").write_bytes(raw)
        with open_disk(tmp_path / "x.vhdx") as disk, pytest.raises(BadImage, match="also serves"):
            list(disk.extents())


# --- logs -------------------------------------------------------------------------------------------------------------


def dirty(base: Vhdx, logged: Sequence[int], folder: Path, *, at: int = 0, entries: int = 3) -> Path:
    """The disk with some of its pages in the log only; where they belong stands something else."""
    pages = replace(base, log_guid=GUID).pages()
    size = max(pages) + PAGE
    groups = [LogEntry({p: pages[p] for p in logged[n::entries]}) for n in range(entries)]
    for page in logged:
        pages[page] = b"\xdb" * PAGE
    put_log(pages, GUID, [g for g in groups if g.pages], at=at, flushed=size, last=size)
    return write_pages(folder / "dirty.vhdx", pages)


def replayed_by_qemu(path: Path, folder: Path) -> bytes:
    """What QEMU makes of a copy after replaying its log."""
    copy = folder / "copy.vhdx"
    shutil.copy(path, copy)
    subprocess.run(["qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", copy], check=True, capture_output=True)
    qemu_img("convert", "-f", "vhdx", "-O", "raw", str(copy), str(folder / "raw"))
    return (folder / "raw").read_bytes()


@pytest.mark.parametrize("at", [0, 40 * PAGE, MIB - 2 * PAGE], ids=["at its begin", "in the middle", "wrapping round"])
def test_a_log_is_replayed_in_memory_and_the_file_stays_as_it_was(base: Vhdx, at: int, tmp_path: Path) -> None:
    expected = model(SIZE, base.sectors)
    logged = [METADATA_AT, METADATA_AT + 64 * 1024, BAT_AT, DATA_AT, DATA_AT + 9 * PAGE, DATA_AT + 300 * PAGE]
    path = dirty(base, logged, tmp_path, at=at)
    before = path.read_bytes()
    assert whole_disk(path) == expected
    assert path.read_bytes() == before
    if at + 3 * PAGE <= MIB:
        # qemu-img 7.2 refuses ("Invalid argument") a log with an entry that goes on at the ring's begin
        assert replayed_by_qemu(path, tmp_path) == expected
    with open_disk(path) as disk:
        assert disk.facts.dirty == ("log not empty",)
        assert disk.facts.notes
        assert disk.files == (path,)
        # what stands in memory only has no place in a file; the rest keeps it
        assert any(e.stored is None and not e.zero for e in disk.extents())
        assert any(e.stored is not None and e.stored.file == path for e in disk.extents())


def test_zeroes_in_a_log_and_pages_before_and_after_them(base: Vhdx, tmp_path: Path) -> None:
    pages = replace(base, log_guid=GUID).pages()
    size = max(pages) + PAGE
    first = LogEntry({DATA_AT + PAGE: b"\x11" * PAGE, DATA_AT + 2 * PAGE: b"\x22" * PAGE})
    second = LogEntry(zeroes=[(DATA_AT, 64 * PAGE), (DATA_AT + 100 * PAGE, 8 * PAGE)])
    third = LogEntry({DATA_AT + 2 * PAGE: b"\x33" * PAGE})
    put_log(pages, GUID, [first, second, third], flushed=size, last=size)
    path = write_pages(tmp_path / "x.vhdx", pages)
    found = whole_disk(path)
    assert found == replayed_by_qemu(path, tmp_path)
    # the writer puts the last block first
    block = found[2 * MIB : 3 * MIB]
    assert block[: 64 * PAGE] == bytes(2 * PAGE) + b"\x33" * PAGE + bytes(61 * PAGE)


def test_the_newest_complete_sequence_counts(base: Vhdx, tmp_path: Path) -> None:
    pages = replace(base, log_guid=GUID).pages()
    size = max(pages) + PAGE

    def writes(letter: bytes) -> list[LogEntry]:
        return [LogEntry({DATA_AT: letter * PAGE})]

    put_log(pages, GUID, writes(b"o"), at=0, sequence=5, flushed=size, last=size)
    put_log(pages, GUID, writes(b"n"), at=64 * PAGE, sequence=90, flushed=size, last=size)
    put_log(pages, uuid.uuid4(), writes(b"x"), at=100 * PAGE, sequence=900, flushed=size, last=size)
    # torn: its last page was never written
    torn = LogEntry({DATA_AT: b"t" * PAGE}).packed(91, 64 * PAGE, GUID, size, size)
    pages[LOG_AT + 66 * PAGE] = torn[:PAGE]
    path = write_pages(tmp_path / "x.vhdx", pages)
    assert whole_disk(path)[2 * MIB : 2 * MIB + PAGE] == b"n" * PAGE
    assert replayed_by_qemu(path, tmp_path)[2 * MIB : 2 * MIB + PAGE] == b"n" * PAGE


def test_the_file_ends_where_the_log_says(base: Vhdx, tmp_path: Path) -> None:
    """The file was to grow, and the power went before it did: what is not there reads as zero."""
    pages = replace(base, log_guid=GUID).pages()
    size = max(pages) + PAGE
    put_log(pages, GUID, [LogEntry({METADATA_AT: pages[METADATA_AT]})], flushed=size - MIB, last=size)
    path = write_pages(tmp_path / "x.vhdx", {at: page for at, page in pages.items() if at < size - MIB})
    expected = bytearray(model(SIZE, base.sectors))
    expected[:MIB] = bytes(MIB)
    assert whole_disk(path) == bytes(expected)


@pytest.mark.parametrize("damage", ["cut", "torn", "descriptor", "no sequence", "version", "huge", "unaligned"])
def test_logs_that_cannot_be_replayed_are_refused(base: Vhdx, damage: str, tmp_path: Path) -> None:
    pages = replace(base, log_guid=GUID).pages()
    size = max(pages) + PAGE
    entry = LogEntry({DATA_AT: b"n" * PAGE})
    expected: type[BadImage] = BadImage
    match damage:
        case "cut":
            put_log(pages, GUID, [entry], flushed=size + MIB, last=size + MIB)
        case "no sequence":
            pages[LOG_AT] = entry.packed(4, 77 * PAGE, GUID, size, size)[:PAGE]
            pages[LOG_AT + PAGE] = entry.packed(4, 77 * PAGE, GUID, size, size)[PAGE:]
        case "torn":
            put_log(pages, GUID, [entry], flushed=size, last=size)
            pages[LOG_AT + PAGE] = bytes(PAGE)
        case "descriptor":
            wrong = LogEntry(zeroes=[(DATA_AT + 5, 77)])
            put_log(pages, GUID, [wrong], flushed=size, last=size)
        case _:
            put_log(pages, GUID, [entry], flushed=size, last=size)
    path = write_pages(tmp_path / "x.vhdx", pages)
    fields = {"version": (64, b"\7\0"), "huge": (68, struct.pack("<I", 1 << 31)), "unaligned": (72, struct.pack("<Q", 5))}
    if damage in fields:
        expected = UnsupportedImage if damage != "unaligned" else BadImage
        _change_headers(path, *fields[damage])
    with pytest.raises(expected) as caught:
        open_disk(path)
    assert "log" in caught.value.sentence()


def _change_headers(path: Path, offset: int, new: bytes) -> None:
    rewrite(path, path, vhdx_structures(offset, new, (64 * 1024, 128 * 1024), PAGE))


def test_a_log_without_entries_misses_nothing(base: Vhdx, tmp_path: Path) -> None:
    path = replace(base, log_guid=GUID).write(tmp_path / "x.vhdx")
    assert whole_disk(path) == model(SIZE, base.sectors)
    with open_disk(path) as disk:
        assert disk.facts.dirty == ("log not empty",)


def test_a_log_full_of_half_entries_is_looked_through_in_little_time(base: Vhdx, tmp_path: Path) -> None:
    """Each sector claims an entry as long as the log; summing them all would take for ever."""
    pages = replace(base, log_guid=GUID).pages()
    head = LogEntry(zeroes=[(DATA_AT, PAGE)]).packed(9, 0, GUID, 0, 0)
    long_head = head[:8] + struct.pack("<I", MIB) + head[12:]
    for at in range(LOG_AT, LOG_AT + MIB, PAGE):
        pages[at] = long_head
    path = write_pages(tmp_path / "x.vhdx", pages)
    with pytest.raises(BadImage, match="log"):
        open_disk(path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_split_between_file_and_log_reads_as_the_whole(base: Vhdx, data: st.DataObject, tmp_path: Path) -> None:
    everything = list(data_pages(base.pages()))
    logged = data.draw(st.lists(st.sampled_from(everything), min_size=1, max_size=60, unique=True))
    at = data.draw(st.integers(0, 255)) * PAGE
    path = dirty(base, logged, tmp_path, at=at, entries=data.draw(st.integers(1, 5)))
    assert whole_disk(path) == model(SIZE, base.sectors)


LAYERS = st.lists(
    st.dictionaries(st.integers(0, SIZE // 512 - 1) | st.integers(0, 20), st.integers(0, 1 << 30), max_size=15),
    min_size=2, max_size=3,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(layers=LAYERS, every_block=st.booleans())
def test_random_writes_into_a_chain_come_back(layers: list[dict[int, int]], every_block: bool, tmp_path: Path) -> None:
    if every_block:
        layers = [{number: number for number in (0, 2048, 4096)} | layer for layer in layers]
    contents = [{number: sector(seed) for number, seed in layer.items()} for layer in layers]
    below = Vhdx(SIZE, contents[0])
    paths = [below.write(tmp_path / "0.vhdx")]
    for level, own in enumerate(contents[1:], start=1):
        below = child_of(below, own, f"{level - 1}.vhdx")
        paths.append(below.write(tmp_path / f"{level}.vhdx"))
    assert whole_disk(paths[-1]) == model(SIZE, *contents)
    # libvhdi 20260901 reads a file's own headers for a block that is not in it
    if every_block:
        assert by_libvhdi(paths[::-1]) == model(SIZE, *contents)
