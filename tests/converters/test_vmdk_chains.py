"""VMDK child disks: every kind of child over every kind of parent, which parent is the right one, and random chains."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters import vmdk
from converters.extents import invariant_broken
from converters.image import describe, identity, open_disk
from converters.references import Lookup, Opening
from converters.source_file import SourceFile, open_source
from p2v.core.errors import BadImage, ForbiddenReference, ParentMissing, UnsupportedImage, WrongParent
from tests.converters import vmdk_writer as writer
from tests.converters.images import patterned, qemu_img, rebuilt
from tests.descriptors import descriptors

SECTOR = 512
# No multiple of a grain or of 4 KiB.
CAPACITY = 12_003
SIZE = CAPACITY * SECTOR
BASE_CID, CHILD_CID = "0badcafe", "fffffffe"
# Kind of an extent: sectors in a grain, the word of its extent line, createType of a disk of it.
KINDS = {
    "sparse": (128, "SPARSE", "twoGbMaxExtentSparse"),
    "stream": (128, "SPARSE", "twoGbMaxExtentSparse"),
    "cowd": (1, "VMFSSPARSE", "vmfsSparse"),
    "sesparse": (8, "SESPARSE", "seSparse"),
}


def extent_bytes(kind: str, grains: writer.Grains, capacity: int) -> bytes:
    """An extent file of a kind."""
    made: dict[str, Callable[[writer.Grains, int], bytes]] = {
        "sparse": writer.sparse,
        "stream": writer.stream,
        "cowd": writer.cowd,
        "sesparse": writer.sesparse,
    }
    return made[kind](grains, capacity)


def disk_of(folder: Path, name: str, kind: str, grains: writer.Grains, *, cid: str = CHILD_CID, parent_cid: str = "ffffffff",
            hint: str = "", capacity: int = CAPACITY) -> Path:  # fmt: skip
    """A disk of one extent: in one file where the kind allows that, else a descriptor and its extent."""
    _, word, create_type = KINDS[kind]
    if kind in ("sparse", "stream"):
        create_type = "monolithicSparse" if kind == "sparse" else "streamOptimized"
        line = f'RW {capacity} SPARSE "{name}.vmdk"'
        text = writer.descriptor(line, create_type=create_type, cid=cid, parent_cid=parent_cid, hint=hint)
        make = writer.sparse if kind == "sparse" else writer.stream
        return writer.put(folder, f"{name}.vmdk", make(grains, capacity, text=text))
    writer.put(folder, f"{name}-delta.vmdk", extent_bytes(kind, grains, capacity))
    line = f'RW {capacity} {word} "{name}-delta.vmdk"'
    text = writer.descriptor(line, create_type=create_type, cid=cid, parent_cid=parent_cid, hint=hint)
    return writer.put(folder, f"{name}.vmdk", text)


def flat_base(folder: Path, content: bytes, *, cid: str = BASE_CID, create_type: str = "vmfs") -> Path:
    """A base of one flat extent, as ESX has it."""
    writer.put(folder, "base-flat.vmdk", content)
    line = f'RW {len(content) // SECTOR} VMFS "base-flat.vmdk"'
    return writer.put(folder, "base.vmdk", writer.descriptor(line, create_type=create_type, cid=cid))


def changes(kind: str, seed: int) -> dict[int, bytes | None]:
    """Scattered changed grains, some side by side, the last one among them; where the kind can, zeroed ones."""
    noise = random.Random(seed)
    size = KINDS[kind][0] * SECTOR
    last = (SIZE - 1) // size
    numbers = {0, 1, 2, last, *(noise.randrange(last) for _ in range(12))}
    grains: dict[int, bytes | None] = {n: noise.randbytes(size) for n in sorted(numbers, key=lambda _: noise.random())}
    if kind in ("sparse", "sesparse"):
        grains[noise.randrange(3, last)] = writer.ZEROED
    return grains


def applied(below: bytes, kind: str, grains: writer.Grains) -> bytes:
    """The model: a disk's bytes after its changed grains."""
    size = KINDS[kind][0] * SECTOR
    disk = bytearray(below)
    for number, content in grains.items():
        piece = (content or bytes(size))[: len(disk) - number * size]
        disk[number * size : number * size + len(piece)] = piece
    return bytes(disk)


def whole(image: Path, lookup: Lookup | None = None) -> bytes:
    """A disk by its extents, after comparing that with reading it in odd pieces."""
    with open_disk(image, lookup=lookup or Lookup()) as disk:
        extents = list(disk.extents())
        assert invariant_broken(extents, disk.virtual_size) is None
        by_extents = rebuilt(extents, disk)
        step = 65_521
        assert b"".join(disk.pread(step, at) for at in range(0, disk.virtual_size, step)) == by_extents
        describe(disk)
        identity(disk)
    return by_extents


def by_qemu(image: Path) -> bytes:
    target = image.parent / "by-qemu"
    qemu_img("convert", "-f", "vmdk", "-O", "raw", str(image), str(target))
    return target.read_bytes()


def by_libvmdk(*chain: Path) -> bytes:
    """The first disk of a chain as libvmdk reads it over the others."""
    opened = [vmdk.independent_reader(image) for image in chain]
    try:
        for child, parent in pairwise(opened):
            child.set_parent(parent)
        parts = []
        for at in range(0, opened[0].get_media_size(), 1 << 20):
            length = min(1 << 20, opened[0].get_media_size() - at)
            parts.append(opened[0].read_buffer_at_offset(length, at))
        return b"".join(parts)
    finally:
        for each in opened:
            each.close()


@pytest.mark.parametrize("parent", ["flat", "sparse", "stream", "cowd", "sesparse"])
@pytest.mark.parametrize("child", list(KINDS))
def test_a_child_of_any_kind_over_a_parent_of_any_kind(child: str, parent: str, tmp_path: Path) -> None:
    content = patterned(SIZE, 3)
    if parent == "flat":
        base = flat_base(tmp_path, content)
    else:
        base = disk_of(tmp_path, "base", parent, writer.grains_of(content, KINDS[parent][0]), cid=BASE_CID)
    grains = changes(child, 5)
    if child == "stream":
        grains = {n: c for n, c in grains.items() if c is not None}
    image = disk_of(tmp_path, "child", child, grains, parent_cid=BASE_CID.upper(), hint="base.vmdk")
    expected = applied(content, child, grains)
    assert whole(image) == expected
    assert by_qemu(image) == expected
    with open_disk(image) as disk:
        assert describe(disk).parents[0].startswith("vmdk, ")
        assert base in disk.files


def test_a_chain_of_three_reads_as_in_libvmdk_and_qemu(tmp_path: Path) -> None:
    content = patterned(SIZE, 4)
    base = flat_base(tmp_path, content, create_type="monolithicFlat")
    base.write_text(base.read_text().replace('VMFS "base-flat.vmdk"', 'FLAT "base-flat.vmdk" 0'))
    middle_grains, top_grains = changes("cowd", 6), {n: c for n, c in changes("sparse", 7).items() if c is not None}
    middle = disk_of(tmp_path, "middle", "cowd", middle_grains, cid="00000abc", parent_cid=BASE_CID, hint="base.vmdk")
    top = disk_of(tmp_path, "top", "sparse", top_grains, parent_cid="abc", hint="middle.vmdk")
    expected = applied(applied(content, "cowd", middle_grains), "sparse", top_grains)
    assert whole(top) == expected
    assert by_libvmdk(top, middle, base) == expected
    assert by_qemu(top) == expected


def test_children_made_by_qemu_read_as_in_qemu(tmp_path: Path) -> None:
    raw = writer.put(tmp_path, "raw", patterned(SIZE, 8))
    qemu_img("convert", "-f", "raw", "-O", "vmdk", str(raw), str(tmp_path / "base.vmdk"))
    for name, options in (("one", "monolithicSparse"), ("two", "twoGbMaxExtentSparse")):
        child = tmp_path / f"{name}.vmdk"
        # qemu-img makes children over VMDKs only, and names them as they are given.
        words = f"create -q -f vmdk -o subformat={options},zeroed_grain=on -F vmdk -b base.vmdk"
        qemu_img(*words.split(), str(child))
        for command in ("write -P 165 70144 70144", "write -z 1048576 196608", f"write -P 90 {SIZE - 512} 512"):
            subprocess.run(
                ["qemu-io", "-f", "vmdk", "-c", command, str(child)], check=True, capture_output=True, timeout=60
            )
        expected = by_qemu(child)
        assert whole(child) == expected
        assert expected != raw.read_bytes()


def test_a_child_in_several_extents_asks_its_parent_at_the_right_places(tmp_path: Path) -> None:
    content = patterned(SIZE, 9)
    flat_base(tmp_path, content)
    # None of the sizes is a multiple of a grain but the first.
    sizes = (2_560, 5_001, 999, 3_443)
    kinds = ("sparse", "cowd", None, "sesparse")
    lines, expected, begin = [], b"", 0
    for number, (sectors, kind) in enumerate(zip(sizes, kinds, strict=True)):
        below = content[begin * SECTOR : (begin + sectors) * SECTOR]
        begin += sectors
        if kind is None:
            lines.append(f"RW {sectors} ZERO")
            expected += bytes(len(below))
            continue
        size, word, _ = KINDS[kind]
        last = (sectors - 1) // size
        grains = {n: random.Random(n).randbytes(size * SECTOR) for n in (last, 7, 3)}
        writer.put(tmp_path, f"child-s{number:03}.vmdk", extent_bytes(kind, grains, sectors))
        lines.append(f'RW {sectors} {word} "child-s{number:03}.vmdk"')
        expected += applied(below, kind, grains)
    assert begin == CAPACITY
    text = writer.descriptor(*lines, create_type="custom", parent_cid=BASE_CID, hint="base.vmdk")
    assert whole(writer.put(tmp_path, "child.vmdk", text)) == expected


def test_a_grain_entry_of_one_without_the_flag_is_no_zero(tmp_path: Path) -> None:
    flat_base(tmp_path, patterned(SIZE, 10))
    image = disk_of(tmp_path, "child", "sparse", {5: writer.ZEROED}, parent_cid=BASE_CID, hint="base.vmdk")
    raw = bytearray(image.read_bytes())
    raw[8] &= ~4
    image.write_bytes(raw)
    with open_disk(image) as disk, pytest.raises(BadImage, match="grain 5 "):
        disk.pread(SIZE, 0)


@pytest.mark.parametrize("kind", ["cowd", "sesparse", "sparse"])
def test_the_wrong_parent_is_refused_with_both_cids(kind: str, tmp_path: Path) -> None:
    flat_base(tmp_path, bytes(SIZE), cid="deadbeef")
    image = disk_of(tmp_path, "child", kind, {}, parent_cid=BASE_CID, hint="base.vmdk")
    with pytest.raises(WrongParent) as caught:
        open_disk(image)
    assert BASE_CID in str(caught.value)
    assert "deadbeef" in str(caught.value)


def test_a_parent_or_child_without_a_readable_cid_is_a_wrong_parent(tmp_path: Path) -> None:
    for cid, parent_cid in (("", ""), ("junk", "junk"), ("123456789", "123456789"), ("ffffffff", "ffffffff")):
        flat_base(tmp_path, bytes(SIZE), cid=cid)
        image = disk_of(tmp_path, "child", "cowd", {}, parent_cid=parent_cid, hint="base.vmdk")
        if parent_cid != "ffffffff":
            with pytest.raises(WrongParent):
                open_disk(image)
        else:
            # A name without a CID: the disk of that name must say the same of itself.
            assert whole(image) == bytes(SIZE)


def test_a_parent_that_is_no_vmdk_is_refused(tmp_path: Path) -> None:
    writer.put(tmp_path, "base.vmdk", patterned(SIZE))
    image = disk_of(tmp_path, "child", "sparse", {}, parent_cid=BASE_CID, hint="base.vmdk")
    with pytest.raises(BadImage, match=r"base\.vmdk"):
        open_disk(image)


def test_a_missing_parent_is_said_with_its_name_or_cid(tmp_path: Path) -> None:
    image = disk_of(tmp_path, "child", "cowd", {}, parent_cid=BASE_CID, hint="base.vmdk")
    with pytest.raises(ParentMissing, match=r"base\.vmdk"):
        open_disk(image)
    nameless = disk_of(tmp_path, "nameless", "sparse", {}, parent_cid=BASE_CID)
    with pytest.raises(ParentMissing, match=BASE_CID):
        open_disk(nameless)


@pytest.mark.parametrize("hint", ["base.vmdk", "./base.vmdk", "/vmfs/volumes/4f0-1/vm/base.vmdk", r"C:\VMs\my vm\base.vmdk",
                                  r"\\server\share\base.vmdk", "../vm/base.vmdk", r"..\vm\base.vmdk"])  # fmt: skip
def test_a_parent_beside_its_child_is_found_however_it_is_named(hint: str, tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    content = patterned(SIZE, 11)
    flat_base(folder, content)
    assert whole(disk_of(folder, "child", "cowd", {}, parent_cid=BASE_CID, hint=hint)) == content


def test_a_parent_elsewhere_is_opened_only_where_the_user_allows_it(tmp_path: Path) -> None:
    for name in ("vm", "other"):
        (tmp_path / name).mkdir()
    content = patterned(SIZE, 12)
    base = flat_base(tmp_path / "other", content)
    image = disk_of(tmp_path / "vm", "child", "sesparse", {}, parent_cid=BASE_CID, hint="../other/base.vmdk")
    with pytest.raises(ForbiddenReference):
        open_disk(image)
    assert whole(image, Lookup(allowed=(tmp_path / "other",))) == content
    assert whole(image, Lookup(parents=(base,))) == content


@pytest.mark.parametrize(
    "hint", ["link.vmdk", "folder/secret.vmdk", "/etc/hostname", "nbd://h/x", "json:{}", "file:secret.vmdk"]
)
def test_nothing_outside_the_childs_folder_is_opened(hint: str, tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    flat_base(tmp_path, bytes(SIZE)).rename(tmp_path / "secret.vmdk")
    (folder / "link.vmdk").symlink_to(tmp_path / "secret.vmdk")
    (folder / "folder").symlink_to(tmp_path)
    with pytest.raises(ForbiddenReference):
        open_disk(disk_of(folder, "child", "cowd", {}, parent_cid=BASE_CID, hint=hint))


def test_what_stands_on_a_block_device_names_no_other_devices(tmp_path: Path) -> None:
    """A guest may write what it likes to its disk; the device's folder is /dev."""
    content = patterned(SIZE, 15)
    base = flat_base(tmp_path, content)
    for image in (disk_of(tmp_path, "child", "sparse", {}, parent_cid=BASE_CID, hint="base.vmdk"), base):
        opened = open_source(image)
        device = SourceFile(image, os.dup(opened.fd), opened.size, opened.mtime_ns, is_block_device=True)
        opened.close()
        opening = Opening(Lookup(), lambda file, _, opening: vmdk.open_vmdk(file, opening), (tmp_path,))
        with pytest.raises((ParentMissing, UnsupportedImage)) as caught:
            vmdk.open_vmdk(device, opening)
        assert isinstance(caught.value, ParentMissing) == (image != base)
        if image != base:
            named = Opening(Lookup(parents=(base,)), opening.open_image, opening.roots)
            with vmdk.open_vmdk(device, named) as disk:
                assert disk.pread(SIZE, 0) == content
        device.close()


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_a_parent_that_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    base = tmp_path / "base.vmdk"
    if kind == "fifo":
        os.mkfifo(base)
    elif kind == "folder":
        base.mkdir()
    else:
        base.symlink_to("/dev/zero")
    with pytest.raises(BadImage):
        open_disk(disk_of(tmp_path, "child", "cowd", {}, parent_cid=BASE_CID, hint="base.vmdk"))


def test_a_loop_of_parents_is_noticed(tmp_path: Path) -> None:
    disk_of(tmp_path, "a", "cowd", {}, cid="1", parent_cid="2", hint="b.vmdk")
    first = disk_of(tmp_path, "b", "sparse", {}, cid="2", parent_cid="1", hint="a.vmdk")
    with pytest.raises(BadImage, match="loop"):
        open_disk(first)
    with pytest.raises(BadImage, match="loop"):
        open_disk(disk_of(tmp_path, "self", "cowd", {}, parent_cid="1", hint="self.vmdk"))


def test_a_parent_of_another_size_is_noted_and_the_childs_size_counts(tmp_path: Path) -> None:
    content = patterned(SIZE, 13)
    flat_base(tmp_path, content)
    for capacity in (CAPACITY - 5001, CAPACITY + 5001):
        image = disk_of(tmp_path, "child", "cowd", {}, parent_cid=BASE_CID, hint="base.vmdk", capacity=capacity)
        assert whole(image) == content.ljust(capacity * SECTOR, b"\0")[: capacity * SECTOR]
        with open_disk(image) as disk:
            assert any(str(SIZE) in note for note in disk.facts.notes)


def test_a_child_of_virtualbox_is_known_by_its_parents_uuid(tmp_path: Path) -> None:
    """VirtualBox writes parentCID=ffffffff into its children; taken for a whole disk they would be mostly holes."""
    content = patterned(SIZE, 14)
    uuid = "9afa1dd0-d966-4279-a762-b7fbb0136308"
    base = flat_base(tmp_path, content)
    base.write_text(base.read_text() + f'ddb.uuid.image="{uuid.upper()}"\n')
    text = writer.descriptor('RW 8 SPARSE "x"', create_type="monolithicSparse", more=f'ddb.uuid.parent="{uuid}"\n')
    image = writer.put(tmp_path, "child.vmdk", writer.sparse({}, CAPACITY, text=text))
    with pytest.raises(ParentMissing, match=uuid):
        open_disk(image)
    assert whole(image, Lookup(parents=(base,))) == content
    other = disk_of(tmp_path, "other", "sparse", {})
    with pytest.raises(WrongParent, match=uuid):
        open_disk(image, lookup=Lookup(parents=(other,)))
    whole_disk = text.replace(uuid, "00000000-0000-0000-0000-000000000000")
    assert whole(writer.put(tmp_path, "x.vmdk", writer.sparse({}, CAPACITY, text=whole_disk))) == bytes(SIZE)


def test_closing_or_failing_leaves_no_file_open(tmp_path: Path) -> None:
    base = flat_base(tmp_path, bytes(SIZE))
    image = disk_of(tmp_path, "child", "cowd", {}, parent_cid=BASE_CID, hint="base.vmdk")
    before = descriptors()
    disk = open_disk(image)
    assert len(descriptors() - before) == 4
    disk.close()
    assert not descriptors() - before
    base.write_text(base.read_text().replace(BASE_CID, "11111111"))
    with pytest.raises(WrongParent):
        open_disk(image)
    assert not descriptors() - before


def noise_of(length: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(length)


@st.composite
def chains(draw: st.DrawFn) -> list[list[tuple[str, int, dict[int, bytes | None]]]]:
    """One to three disks of one to three extents: kind, sectors, grains by number."""
    sizes = draw(st.lists(st.integers(1, 9_000), min_size=1, max_size=3))
    disks = []
    for _ in range(draw(st.integers(1, 3))):
        disk = []
        for sectors in sizes:
            kind = draw(st.sampled_from(list(KINDS)))
            size = KINDS[kind][0] * SECTOR
            numbers = st.integers(0, (sectors * SECTOR - 1) // size)
            zeroed = st.none() if kind in ("sparse", "sesparse") else st.nothing()
            contents = st.integers(1, 255).map(partial(noise_of, size)) | zeroed
            disk.append((kind, sectors, draw(st.dictionaries(numbers, contents, max_size=12))))
        disks.append(disk)
    return disks


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chain=chains(), place=st.tuples(st.integers(0, 9_000 * SECTOR), st.integers(0, 3_000_000)))
def test_random_grains_in_random_chains_read_as_the_model(
    chain: list[list[tuple[str, int, dict[int, bytes | None]]]], place: tuple[int, int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = [bytes(sectors * SECTOR) for _, sectors, _ in chain[0]]
        for level, disk in enumerate(chain):
            lines = []
            for number, (kind, sectors, grains) in enumerate(disk):
                model[number] = applied(model[number], kind, grains)
                writer.put(folder, f"{level}-{number}.vmdk", extent_bytes(kind, grains, sectors))
                lines.append(f'RW {sectors} {KINDS[kind][1]} "{level}-{number}.vmdk"')
            below = {"parent_cid": f"{level}", "hint": f"{level - 1}.vmdk"} if level else {}
            text = writer.descriptor(*lines, create_type="custom", cid=f"{level + 1}", **below)
            writer.put(folder, f"{level}.vmdk", text)
        image, expected = folder / f"{len(chain) - 1}.vmdk", b"".join(model)
        assert whole(image) == expected
        with open_disk(image) as opened:
            assert opened.pread(place[1], place[0]) == expected[place[0] : place[0] + place[1]]
