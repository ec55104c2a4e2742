"""Blocks shared with the source: XFS and Btrfs on loop files, every format that has aligned bytes, and what is not shared."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from converters.copy import CopyResult, copy_disk
from converters.digest import ContentDigest, digest_disk
from converters.image import open_disk
from converters.qemu_img import QemuImg
from converters.reflink import Share, SharedRange, Sharing, touched, unshared_bytes
from converters.target import Target, TargetFormat, open_target
from converters.target_formats import PLAIN, Preallocation, TargetOptions
from p2v.core.disk import Codec, DiskReader, StoredAt
from p2v.core.events import silent
from p2v.core.run import SystemRunner
from p2v.core.units import KIB, MIB
from tests.converters.file_systems import REFLINKING, all_shared, missing, mounted, used_bytes
from tests.converters.memory_disk import Kind, build
from tests.converters.vdi_writer import write_vdi
from tests.pipeline.running import p2v

QEMU = QemuImg(SystemRunner())
SIZE = 40 * MIB


@pytest.fixture(scope="module", params=list(REFLINKING))
def file_system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system that shares blocks."""
    if reason := missing(request.param):
        pytest.skip(reason)
    with mounted(request.param, tmp_path_factory.mktemp("reflink")) as found:
        yield found


@pytest.fixture
def place(file_system: Path) -> Iterator[Path]:
    """An empty folder on it."""
    folder = file_system / "place"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def source(place: Path) -> Path:
    """A raw disk of 24 MiB of data in two stretches, and holes."""
    path = place / "source.raw"
    with path.open("wb") as file:
        file.write(random.Random(1).randbytes(12 * MIB))
        file.seek(20 * MIB)
        file.write(random.Random(2).randbytes(12 * MIB))
        file.truncate(SIZE)
    return path


def opened(folder: Path, size: int, target_format: TargetFormat, options: TargetOptions = PLAIN) -> Target:
    return open_target(folder / "copy.partial", target_format, size, "one", options=options, checkpoint_bytes=4 * MIB)


def copied(
    source: Path,
    input_format: str,
    target_format: TargetFormat,
    options: TargetOptions = PLAIN,
    *,
    folder: Path | None = None,
    checksum: bool = False,
) -> CopyResult:
    """Copy to ``copy`` beside the source (or in ``folder``), sharing what can be."""
    folder = folder or source.parent
    with open_disk(source, input_format) as disk:
        with opened(folder, disk.virtual_size, target_format, options) as target:
            digest = ContentDigest(disk.virtual_size) if checksum else None
            result = copy_disk(disk, target.writer, report=silent, digest=digest, share=True)
            target.finish_copy()
            target.publish(folder / "copy")
        with open_disk(folder / "copy", target_format.value) as made:
            assert digest_disk(made) == digest_disk(disk)
    return result


@pytest.mark.parametrize(
    "target_format,options",
    [
        (TargetFormat.RAW, PLAIN),
        (TargetFormat.QCOW2, PLAIN),
        (TargetFormat.QCOW2, TargetOptions(cluster_bytes=2 * MIB)),
        (TargetFormat.QCOW2, TargetOptions(preallocation=Preallocation.METADATA)),
    ],
)
def test_a_raw_disk_is_shared_block_by_block(
    place: Path, source: Path, target_format: TargetFormat, options: TargetOptions
) -> None:
    before, state = used_bytes(place), os.stat(source)
    result = copied(source, "raw", target_format, options)
    assert result.shared_bytes == 24 * MIB
    assert result.read_bytes == result.written_bytes == 0
    # tables take whole clusters
    assert used_bytes(place) - before < 2 * MIB + 5 * options.cluster_bytes
    after = os.stat(source)
    assert (state.st_mtime_ns, state.st_ctime_ns, state.st_size) == (after.st_mtime_ns, after.st_ctime_ns, after.st_size)
    if target_format is TargetFormat.RAW:
        assert all_shared(place / "copy")
    else:
        assert QEMU.check(place / "copy", "qcow2").clean
        assert QEMU.compare(source, "raw", place / "copy", "qcow2")


def test_what_is_written_to_the_copy_later_does_not_reach_the_source(place: Path, source: Path) -> None:
    copied(source, "raw", TargetFormat.RAW)
    original = source.read_bytes()
    with (place / "copy").open("r+b") as file:
        file.write(b"changed" * 100_000)
    os.sync()
    assert source.read_bytes() == original


@pytest.mark.parametrize("made", ["vhdx", "vmdk", "vdi", "qcow2", "fixed vhd"])
def test_images_with_aligned_blocks_are_shared_too(place: Path, source: Path, made: str) -> None:
    kind = made.split()[-1]
    image = place / f"image.{kind}"
    options = ("subformat=fixed", "force_size=on") if made == "fixed vhd" else ()
    if made == "vdi":
        # with as many blocks, their data begin at byte 4096; VirtualBox's begin at 1 MiB, QEMU's at byte 1024
        raw = source.read_bytes()
        parts = {at: raw[at * 64 * KIB : (at + 1) * 64 * KIB] for at in range(SIZE // 64 // KIB)}
        write_vdi(image, 56 * MIB, {at: part for at, part in parts.items() if any(part)}, block_size=64 * KIB)
    else:
        QEMU.convert(source, "raw", image, "vpc" if kind == "vhd" else kind, options=options)
    before = used_bytes(place)
    result = copied(image, kind, TargetFormat.RAW)
    assert result.shared_bytes >= 24 * MIB
    assert used_bytes(place) - before < 2 * MIB
    assert all_shared(place / "copy")


def test_what_is_not_aligned_is_written(place: Path, source: Path) -> None:
    # the blocks of a dynamic VHD stand behind a sector of bits each
    image = place / "image.vhd"
    QEMU.convert(source, "raw", image, "vpc", options=("subformat=dynamic", "force_size=on"))
    result = copied(image, "vhd", TargetFormat.RAW)
    # one in eight of them begins with a block by chance
    assert result.shared_bytes <= 6 * MIB
    assert result.written_bytes == 24 * MIB - result.shared_bytes


def test_a_disk_that_ends_within_a_block_is_shared_to_its_end(place: Path) -> None:
    source = place / "source.raw"
    source.write_bytes(random.Random(3).randbytes(5 * MIB + 1536))
    result = copied(source, "raw", TargetFormat.RAW)
    assert result.shared_bytes == 5 * MIB + 1536
    assert (place / "copy").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("target_format", list(TargetFormat))
def test_any_mixture_of_kinds_arrives(place: Path, target_format: TargetFormat) -> None:
    # seeded: every kind of extent, aligned and not, beside those that are shared
    rng = random.Random(7)
    stretches = []
    for _ in range(40):
        kind = rng.choice([*Kind, *[Kind.STORED] * 8, Kind.HOLE])
        stretches.append((kind, rng.choice([4 * KIB, 64 * KIB, 100 * KIB, MIB, 4 * MIB])))
    # from here on, nothing begins with a block
    stretches += [(Kind.STORED, 512), (Kind.STORED, 3 * MIB), (Kind.HOLE, MIB), (Kind.STORED, 2 * MIB)]
    disk = build(place / "stored", stretches, seed=4)
    # the same bytes at places of whole blocks
    file = place / "aligned"
    layout = []
    with file.open("wb") as out:
        for extent in disk.layout:
            if extent.stored is not None:
                at = -(-out.tell() // 4096) * 4096
                out.seek(at)
                out.write(disk.data[extent.offset : extent.end])
                extent = type(extent)(extent.offset, extent.length, False, True, stored=StoredAt(file, at))
            layout.append(extent)
    disk.layout = layout
    with opened(place, disk.virtual_size, target_format) as target:
        result = copy_disk(disk, target.writer, report=silent, share=True)
        target.finish_copy()
        target.publish(place / "copy")
    assert result.shared_bytes > MIB
    assert result.written_bytes > MIB
    with open_disk(place / "copy", target_format.value) as made:
        assert made.pread(disk.virtual_size, 0) == disk.data
    if target_format is TargetFormat.QCOW2:
        assert QEMU.check(place / "copy", "qcow2").clean


def test_with_a_digest_the_disk_is_read_and_shared_all_the_same(place: Path, source: Path) -> None:
    result = copied(source, "raw", TargetFormat.QCOW2, checksum=True)
    with open_disk(source, "raw") as disk:
        assert result.digest == digest_disk(disk)
    assert result.shared_bytes == result.read_bytes == 24 * MIB
    assert result.written_bytes == 0


@pytest.mark.parametrize(
    "options,target_format",
    [
        (TargetOptions(compression=Codec.ZSTD), TargetFormat.QCOW2),
        (TargetOptions(preallocation=Preallocation.FALLOC), TargetFormat.RAW),
        (TargetOptions(preallocation=Preallocation.FALLOC), TargetFormat.QCOW2),
    ],
)
def test_what_is_compressed_or_reserved_is_not_shared(
    source: Path, options: TargetOptions, target_format: TargetFormat
) -> None:
    assert copied(source, "raw", target_format, options).shared_bytes == 0


def test_another_file_system_is_written_to(source: Path, tmp_path: Path) -> None:
    result = copied(source, "raw", TargetFormat.QCOW2, folder=tmp_path)
    assert result.shared_bytes == 0
    assert result.written_bytes == 24 * MIB
    # nothing was tried in the image itself: no gap is left
    assert (tmp_path / "copy").stat().st_size < 24 * MIB + 6 * 64 * KIB


@pytest.mark.parametrize("target_format", list(TargetFormat))
def test_an_interrupted_copy_is_gone_on_with(place: Path, source: Path, target_format: TargetFormat) -> None:
    class Stop(Exception):
        pass

    def interrupted(disk: DiskReader) -> None:
        with opened(place, SIZE, target_format) as target:
            whole = target.writer.share_piece

            def some(index: int, ranges: tuple[SharedRange, ...], share: Share) -> int | None:
                if index >= 4:
                    raise Stop
                return whole(index, ranges, share)

            target.writer.share_piece = some  # type: ignore[method-assign]
            copy_disk(disk, target.writer, report=silent, threads=1, share=True)

    with open_disk(source, "raw") as disk:
        with pytest.raises(Stop):
            interrupted(disk)
        with opened(place, SIZE, target_format) as target:
            # nobody has read what was shared, so nothing tells whether it is still there: it is shared once more
            assert not target.restart_reason
            result = copy_disk(disk, target.writer, report=silent, share=True)
            target.finish_copy()
            target.publish(place / "copy")
        assert result.shared_bytes == 24 * MIB
        with open_disk(place / "copy", target_format.value) as made:
            assert digest_disk(made) == digest_disk(disk)
    if target_format is TargetFormat.QCOW2:
        assert QEMU.check(place / "copy", "qcow2").clean


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EXDEV, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("target_format", list(TargetFormat))
def test_a_file_system_that_refuses_in_the_middle_is_written_to_from_there_on(
    place: Path, source: Path, target_format: TargetFormat, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = 0, fcntl.ioctl

    def refusing(*words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 4:  # the first is the one that tries it out
            raise OSError(code, os.strerror(code))
        return real(*words)

    monkeypatch.setattr("converters.reflink.fcntl.ioctl", refusing)
    result = copied(source, "raw", target_format)
    assert result.shared_bytes == 6 * MIB
    assert result.written_bytes == 18 * MIB
    # a file system that is only stricter is asked a few times more
    assert calls == (4 + 8 if code == errno.EINVAL else 5)
    if target_format is TargetFormat.QCOW2:
        assert QEMU.check(place / "copy", "qcow2").clean


def test_shared_bytes_need_no_space(place: Path, source: Path, tmp_path: Path) -> None:
    with open_disk(source, "raw") as disk:
        assert unshared_bytes(disk, place) == 0
        assert unshared_bytes(disk, tmp_path) == 24 * MIB


def test_a_probe_leaves_nothing_behind(place: Path, source: Path) -> None:
    with Sharing(place) as sharing:
        assert sharing.fits(StoredAt(source, 0), 0, MIB, SIZE)
        assert not sharing.fits(StoredAt(source, 512), 0, MIB, SIZE)
        assert not sharing.fits(StoredAt(source, 0), 0, 512, SIZE)
        assert sharing.fits(StoredAt(source, 0), SIZE, 4 * KIB + 512, SIZE + 4 * KIB + 512)
        assert not sharing.fits(StoredAt(place / "gone", 0), 0, MIB, SIZE)
    assert [path.name for path in place.iterdir()] == ["source.raw"]


def test_the_command_says_what_is_shared_and_can_be_told_not_to(place: Path, source: Path) -> None:
    words = ("disk", "convert", source, "--input-format", "raw", "--progress", "none")
    assert "24.0 MiB shared with the source" in p2v(*words, place / "a.img").out
    assert "shared" not in p2v(*words, place / "b.img", "--no-reflink").out
    assert (place / "a.img").read_bytes() == (place / "b.img").read_bytes() == source.read_bytes()
    assert not all_shared(place / "b.img")


def test_ranges_touch_sub_pieces() -> None:
    here = StoredAt(Path("x"), 0)
    assert touched(()) == 0
    assert touched((SharedRange(0, 1, here),)) == 1
    assert touched((SharedRange(64 * KIB - 1, 2, here), SharedRange(2 * MIB - 4 * KIB, 4 * KIB, here))) == 1 << 31 | 3
