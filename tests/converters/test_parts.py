"""Disks in several files: split and chunked ones on the host and in archives, and in archives their extents and parents."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters import joined
from converters.image import describe, identity, open_disk, probe
from converters.joined import JoinedFile
from converters.source_file import open_source
from p2v.core.errors import AmbiguousFormat, BadImage, ForbiddenReference, NoSource, ParentMissing
from tests.converters import vmdk_writer
from tests.converters.images import BY_NAME, MIB, make_image, patterned, qemu_img, whole_disk
from tests.converters.test_archives import OVF, tar_of

CONTENT = patterned(6 * MIB + 512)


def chunks(raw: bytes, name: str, size: int, first: int = 0, digits: int = 9) -> dict[str, bytes]:
    """Bytes cut in chunks of a size, by their names."""
    return {f"{name}.{first + n:0{digits}d}": raw[at : at + size] for n, at in enumerate(range(0, len(raw), size))}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """Files in a folder; the first of them."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / next(iter(files))


def zip_of(path: Path, members: dict[str, bytes], method: int) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


# --- split raw --------------------------------------------------------------------------------------------------------


def split(folder: Path, sizes: list[int], first: int = 1) -> Path:
    at = 0
    for number, size in enumerate(sizes):
        (folder / f"disk.raw.{number + first:03d}").write_bytes(CONTENT[at : at + size])
        at += size
    return folder / f"disk.raw.{first:03d}"


@pytest.mark.parametrize("first", [0, 1])
def test_a_split_raw_disk_is_opened_by_its_first_part(first: int, tmp_path: Path) -> None:
    path = split(tmp_path, [2 * MIB, 2 * MIB, 2 * MIB, 512], first)
    assert whole_disk(path) == CONTENT
    with open_disk(path) as disk:
        assert len(disk.files) == 4
        assert disk.facts.variant == "split in 4 files"


def test_a_lone_first_part_is_a_raw_disk(tmp_path: Path) -> None:
    assert whole_disk(split(tmp_path, [3 * MIB])) == CONTENT[: 3 * MIB]


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    path = split(tmp_path, [2 * MIB, MIB, 2 * MIB])
    with pytest.raises(BadImage, match="instead of"):
        open_disk(path)
    path = split(tmp_path, [2 * MIB, 2 * MIB, MIB])
    (tmp_path / "disk.raw.002").unlink()
    with pytest.raises(BadImage, match="missing"):
        open_disk(path)
    (tmp_path / "disk.raw.002").touch()
    with pytest.raises(BadImage):
        open_disk(path)
    for make in (lambda p: p.symlink_to("/etc/passwd"), os.mkfifo, lambda p: p.mkdir()):
        part = tmp_path / "disk.raw.002"
        part.rmdir() if part.is_dir() else part.unlink()
        make(part)
        with pytest.raises(BadImage):
            open_disk(path)


def test_holes_of_the_parts_are_holes_of_the_disk(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        with (tmp_path / f"d.raw.{number:03d}").open("wb") as part:
            part.truncate(4 * MIB)
            part.seek(MIB * number)
            part.write(b"x" * MIB)
    with open_disk(tmp_path / "d.raw.001", "raw") as disk:
        found = [(e.offset // MIB, e.end // MIB, e.zero) for e in disk.extents()]
    if len(found) == 1:
        pytest.skip("the file system below the temporary folder tells no holes")
    # two stretches touch, but lie in two files
    assert found == [(0, 1, True), (1, 2, False), (2, 6, True), (6, 7, False), (7, 11, True), (11, 12, False)]


# --- chunks of any format ---------------------------------------------------------------------------------------------

VARIANTS = ["vmdk-stream", "vmdk-sparse", "vhd-fixed-exact", "vhd-dynamic-exact", "vhdx-dynamic", "qcow2-v3", "qcow2-deflate"]


@pytest.mark.parametrize("variant", [*VARIANTS, "raw"])
@pytest.mark.parametrize("cut", ["ovf", "split", "halves"])
def test_a_disk_in_parts_is_read_as_the_format_of_the_whole(variant: str, cut: str, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME[variant], CONTENT)
    numbers = {"ovf": (0, 9), "split": (1, 3), "halves": (0, 3)}[cut]
    # no multiple of a block or grain, so that some of them lie in two parts
    size = {"ovf": 700_001, "split": MIB, "halves": image.stat().st_size // 2 + 3}[cut]
    parts = chunks(image.read_bytes(), image.name, size, *numbers)
    first = put(tmp_path, parts)
    assert whole_disk(first)[: len(CONTENT)] == CONTENT
    assert probe(first).format == BY_NAME[variant].format
    with open_disk(first) as disk:
        assert disk.files == tuple(tmp_path / name for name in parts)
        places = {(e.stored or e.compressed).file for e in disk.extents() if e.stored or e.compressed}  # type: ignore[union-attr]
        assert len(places) > 1 or cut == "halves"
        assert places <= set(disk.files)
        assert describe(disk).file_size == image.stat().st_size


def test_the_footer_of_a_vhd_may_be_a_part_by_itself(tmp_path: Path) -> None:
    raw = make_image(tmp_path / "made", BY_NAME["vhd-fixed-exact"], CONTENT).read_bytes()
    first = put(tmp_path, chunks(raw, "disk.vhd", len(raw) - 512, 1, 3))
    assert whole_disk(first) == CONTENT


def test_a_changed_part_changes_the_identity(tmp_path: Path) -> None:
    first = put(tmp_path, chunks(CONTENT, "disk.raw", 2 * MIB))
    with open_disk(first) as disk:
        before = identity(disk)
    os.utime(tmp_path / "disk.raw.000000002", ns=(1, 1))
    with open_disk(first) as disk:
        assert identity(disk) != before


@pytest.mark.parametrize("around", ["tar", "stored", "deflated", "tar in gzip"])
@pytest.mark.parametrize("variant", ["vmdk-stream", "raw"])
def test_chunks_in_an_archive_are_one_disk(around: str, variant: str, tmp_path: Path) -> None:
    raw = make_image(tmp_path / "made", BY_NAME[variant], CONTENT).read_bytes()
    members = {"vm.ovf": OVF, **chunks(raw, "vm/disk.vmdk" if variant != "raw" else "vm/disk.raw", 700_001)}
    archive = {
        "tar": lambda: tar_of(tmp_path / "vm.ova", members),
        "stored": lambda: zip_of(tmp_path / "vm.zip", members, zipfile.ZIP_STORED),
        "deflated": lambda: zip_of(tmp_path / "vm.zip", members, zipfile.ZIP_DEFLATED),
        "tar in gzip": lambda: put(tmp_path, {"vm.ova.gz": gzip.compress(tar_of(tmp_path / "t", members).read_bytes(), 1)}),
    }[around]()
    assert whole_disk(archive) == CONTENT
    assert whole_disk(archive / list(members)[1]) == CONTENT
    with open_disk(archive) as disk:
        assert disk.files == (archive,)
        if around in ("tar", "stored"):
            assert all(e.zero or e.stored or e.compressed or variant != "raw" for e in disk.extents())


def test_an_archive_and_a_gzip_file_may_be_in_parts(tmp_path: Path) -> None:
    stream = make_image(tmp_path / "made", BY_NAME["vmdk-stream"], CONTENT).read_bytes()
    ova = tar_of(tmp_path / "made" / "vm.ova", {"vm.ovf": OVF, "disk.vmdk": stream}).read_bytes()
    first = put(tmp_path, chunks(ova, "vm.ova", MIB, 1, 3))
    assert whole_disk(first) == CONTENT
    assert whole_disk(first / "disk.vmdk") == CONTENT
    # an OVF's compression is applied before it is cut
    first = put(tmp_path, chunks(gzip.compress(stream, 1), "disk.vmdk.gz", MIB))
    assert whole_disk(first) == CONTENT
    with open_disk(first) as disk:
        assert set(disk.files) == set(tmp_path.glob("disk.vmdk.gz.*"))


def test_a_parent_may_be_in_parts(tmp_path: Path) -> None:
    first = put(tmp_path, chunks(CONTENT, "base.raw", 2 * MIB))
    child = tmp_path / "child.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", first.name, str(child), str(len(CONTENT)))
    assert whole_disk(child) == CONTENT


def mended(folder: Path, **files: bytes | None) -> None:
    for name, content in files.items():
        path = folder / f"disk.vmdk.{name[1:]}"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"_000000002": None}, "000000002 is missing"),
        ({"_000000002": None, "_000000003": None}, "000000002 is missing"),
        ({"_000000001": b"x" * 999}, "999 bytes instead of"),
        ({"_000000004": b"x" * (MIB + 1)}, f"{MIB + 1} bytes instead of"),
        ({"_000000004": b""}, "empty"),
    ],
    ids=["missing", "two missing", "short in the middle", "last too long", "empty"],
)
@pytest.mark.parametrize("where", ["host", "tar"])
def test_parts_that_make_no_whole_are_refused(damage: dict[str, bytes | None], said: str, where: str, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    first = put(folder, chunks(random.Random(1).randbytes(4 * MIB + 512), "disk.vmdk", MIB))
    mended(folder, **damage)
    if where == "tar":
        first = tar_of(tmp_path / "vm.ova", {p.name: p.read_bytes() for p in sorted(folder.iterdir())}) / first.name
    with pytest.raises(BadImage, match=said):
        open_disk(first)


def test_too_many_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "_PARTS_AT_MOST", 4)
    assert len(whole_disk(put(tmp_path, chunks(CONTENT[:4096], "four.raw", 1024)))) == 4096
    with pytest.raises(BadImage, match="more than 4 parts"):
        open_disk(put(tmp_path, chunks(CONTENT[:4608], "five.raw", 1024)))


def test_the_second_part_is_not_taken_for_the_first(tmp_path: Path) -> None:
    put(tmp_path, chunks(CONTENT, "disk.raw", 2 * MIB))
    with pytest.raises(BadImage, match=r"begins with disk\.raw\.000000000"):
        open_disk(tmp_path / "disk.raw.000000001")
    ova = tar_of(tmp_path / "vm.ova", chunks(CONTENT, "disk.raw", 2 * MIB))
    with pytest.raises(BadImage, match=r"begins with disk\.raw\.000000000"):
        open_disk(ova / "disk.raw.000000001")


@pytest.mark.parametrize("variant", ["qcow2-v3", "vhd-fixed-exact", "vmdk-sparse"])
def test_numbered_copies_of_a_disk_are_not_joined(variant: str, tmp_path: Path) -> None:
    raw = make_image(tmp_path / "made", BY_NAME[variant], CONTENT).read_bytes()
    first = put(tmp_path, {f"backup.{n:03d}": raw for n in (1, 2, 3)})
    with pytest.raises(AmbiguousFormat, match="a disk of its own"):
        open_disk(first)


def test_chunks_that_are_twice_in_an_archive_are_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "vm.ova", chunks(CONTENT, "disk.raw", 2 * MIB))
    with tarfile.open(path, "a") as archive:
        again = tarfile.TarInfo("disk.raw.000000001")
        again.size = 2 * MIB
        archive.addfile(again, io.BytesIO(bytes(2 * MIB)))
    with pytest.raises(BadImage, match="2 members called"):
        open_disk(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    reads=st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320))),
)
def test_a_joined_file_reads_as_its_parts_together(sizes: list[int], reads: list[tuple[int, int]], tmp_path: Path) -> None:
    content = random.Random(4).randbytes(sum(sizes))
    parts, at = [], 0
    for number, size in enumerate(sizes):
        path = tmp_path / str(number)
        path.write_bytes(content[at : at + size])
        parts.append(open_source(path))
        at += size
    file = JoinedFile(tuple(parts), tmp_path / "whole")
    try:
        for offset, length in reads:
            expected = content[offset : offset + length]
            assert file.pread(length, offset) == expected
            assert len(expected) == sum(count for count, _ in file.places(offset, len(expected)))
            found = b""
            for count, place in file.places(offset, len(expected)):
                assert place is not None
                found += place.file.read_bytes()[place.offset : place.offset + count]
            assert found == expected
    finally:
        file.close()


# --- extents and parents in an archive --------------------------------------------------------------------------------

Pack = Callable[[Path, dict[str, bytes]], Path]
PACKERS: dict[str, Pack] = {
    "tar": lambda folder, members: tar_of(folder / "vm.ova", members),
    "stored": lambda folder, members: zip_of(folder / "vm.zip", members, zipfile.ZIP_STORED),
    "deflated": lambda folder, members: zip_of(folder / "vm.zip", members, zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("variant", ["vmdk-flat", "vmdk-split-flat", "vmdk-split-sparse"])
@pytest.mark.parametrize("inner", ["", "vm/disks/"])
def test_a_descriptor_finds_its_extents_in_its_archive(packer: str, variant: str, inner: str, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME[variant], CONTENT)
    members = {"vm.ovf": OVF} | {inner + p.name: p.read_bytes() for p in image.parent.iterdir()}
    assert len(members) > 2
    archive = PACKERS[packer](tmp_path, members)
    assert whole_disk(archive) == CONTENT
    assert whole_disk(archive / image.name) == CONTENT
    with open_disk(archive) as disk:
        assert disk.files == (archive,)


def described(name: str, *, twice: bool = False) -> bytes:
    lines = (f'RW 8 FLAT "{name}" 0', f'RW 8 FLAT "{name}" 8') if twice else (f'RW 16 FLAT "{name}" 0',)
    return vmdk_writer.descriptor(*lines, create_type="monolithicFlat").encode()


@pytest.mark.parametrize("name", ["x-flat.vmdk", "../x-flat.vmdk", "/etc/x-flat.vmdk", r"C:\vms\x-flat.vmdk", "sub/../x-flat.vmdk"])
def test_extents_of_a_member_are_never_files_of_the_host(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for place in (tmp_path, folder.parent, folder, Path.cwd()):
        assert not (place / "x-flat.vmdk").exists()
        if place != Path.cwd():
            (place / "x-flat.vmdk").write_bytes(b"h" * 8192)
    alone = tar_of(folder / "vm.ova", {"d/disk.vmdk": described(name)})
    with pytest.raises(BadImage):
        open_disk(alone)
    whole = tar_of(folder / "vm.ova", {"d/disk.vmdk": described(name), "d/x-flat.vmdk": b"m" * 8192})
    assert whole_disk(whole) == b"m" * 8192


@pytest.mark.parametrize("name", ["nbd://host/x", "json:{}", "/dev/sda"])
def test_names_that_are_no_members_open_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        open_disk(tar_of(tmp_path / "vm.ova", {"disk.vmdk": described(name)}))


@pytest.mark.parametrize("packer", PACKERS)
def test_one_member_may_hold_two_extents(packer: str, tmp_path: Path) -> None:
    """Closing it once must not close the archive."""
    content = CONTENT[:8192]
    archive = PACKERS[packer](tmp_path, {"disk.vmdk": described("x-flat.vmdk", twice=True), "x-flat.vmdk": content})
    assert whole_disk(archive) == content


def test_members_whose_names_differ_in_a_slash_are_two(tmp_path: Path) -> None:
    text = vmdk_writer.descriptor('RW 8 FLAT "a/b" 0', 'RW 8 FLAT "a_b" 0', 'RW 8 FLAT "a%2Fb" 0', create_type="x").encode()
    ova = tar_of(tmp_path / "vm.ova", {"disk.vmdk": text, "a/b": b"1" * 4096, "a_b": b"2" * 4096, "a%2Fb": b"3" * 4096})
    assert whole_disk(ova / "disk.vmdk") == b"1" * 4096 + b"2" * 4096 + b"3" * 4096


@pytest.mark.parametrize("packer", PACKERS)
def test_a_chain_in_an_archive(packer: str, tmp_path: Path) -> None:
    grains = {0: b"a" * 4096, 1: b"b" * 4096}
    members: dict[str, bytes] = {}
    for name, cid, hint, parent_cid, own in (("base", "1", "", "ffffffff", grains),
                                             ("child", "2", "base.vmdk", "1", {1: b"c" * 4096})):  # fmt: skip
        ids = {"cid": cid, "parent_cid": parent_cid, "hint": hint}
        text = vmdk_writer.descriptor(f'RW 64 SPARSE "{name}.vmdk"', create_type="monolithicSparse", **ids)
        members[f"{name}.vmdk"] = vmdk_writer.sparse(own, 64, grain_sectors=8, text=text)
    archive = PACKERS[packer](tmp_path, members)
    assert whole_disk(archive / "child.vmdk")[:8192] == b"a" * 4096 + b"c" * 4096
    with pytest.raises(NoSource, match="2 members that are disks"):
        open_disk(archive)
    (tmp_path / "base.vmdk").write_bytes(members["base.vmdk"])
    with pytest.raises(ParentMissing):
        open_disk(PACKERS[packer](tmp_path, {"child.vmdk": members["child.vmdk"]}))


def test_a_member_that_is_its_own_parent_is_refused(tmp_path: Path) -> None:
    text = vmdk_writer.descriptor('RW 64 SPARSE "x.vmdk"', create_type="monolithicSparse", cid="1", parent_cid="1", hint="x.vmdk")
    ova = tar_of(tmp_path / "vm.ova", {"x.vmdk": vmdk_writer.sparse({}, 64, grain_sectors=8, text=text)})
    with pytest.raises(BadImage, match="loop"):
        open_disk(ova)


def test_a_gzipped_descriptor_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "x-flat.vmdk").write_bytes(bytes(8192))
    (tmp_path / "disk.vmdk.gz").write_bytes(gzip.compress(described("x-flat.vmdk")))
    with pytest.raises(BadImage, match="compressed or in parts"):
        open_disk(tmp_path / "disk.vmdk.gz")
    first = put(tmp_path, chunks(described("x-flat.vmdk"), "disk.vmdk", 100))
    with pytest.raises(BadImage, match="compressed or in parts"):
        open_disk(first)


def test_a_part_outside_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    first = put(folder, chunks(CONTENT, "disk.raw", 2 * MIB))
    (folder / "disk.raw.000000001").rename(tmp_path / "out")
    (folder / "disk.raw.000000001").symlink_to(tmp_path / "out")
    with pytest.raises(ForbiddenReference):
        open_disk(first)


def test_an_extent_that_is_twice_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "vm.ova", {"disk.vmdk": described("x-flat.vmdk"), "x-flat.vmdk": bytes(8192)})
    with tarfile.open(path, "a") as archive:
        again = tarfile.TarInfo("x-flat.vmdk")
        again.size = 8192
        archive.addfile(again, io.BytesIO(b"2" * 8192))
    with pytest.raises(BadImage, match="2 members called"):
        open_disk(path / "disk.vmdk")
