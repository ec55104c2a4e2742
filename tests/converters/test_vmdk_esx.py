"""COWD and seSparse extents, whole ESX descriptors, raw device mappings, encrypted disks, and disks of 64 TiB."""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from pathlib import Path

import pytest

from converters import vmdk
from converters.image import describe, identity, open_disk
from p2v.core.errors import BadImage, UnsupportedImage
from tests.converters import vmdk_writer as writer
from tests.converters.damage import patched, read_all
from tests.converters.images import MIB, patterned, qemu_img, rebuilt

SECTOR = 512
TIB = 1 << 40
# Several grain tables of either kind, and no whole number of grains.
CAPACITY = 70_003


def cowd_disk(folder: Path, grains: writer.Grains, capacity: int, *, grain_sectors: int = 1, version: int = 1) -> Path:
    raw = writer.cowd(grains, capacity, grain_sectors=grain_sectors, version=version)
    return described(folder, raw, capacity, "VMFSSPARSE", "vmfsSparse")


def sesparse_disk(folder: Path, grains: writer.Grains, capacity: int, *, replay: int = 0) -> Path:
    return described(folder, writer.sesparse(grains, capacity, replay=replay), capacity, "SESPARSE", "seSparse")


def described(folder: Path, extent: bytes, capacity: int, word: str, create_type: str) -> Path:
    writer.put(folder, "disk-delta.vmdk", extent)
    text = writer.descriptor(f'RW {capacity} {word} "disk-delta.vmdk"', create_type=create_type)
    return writer.put(folder, "disk.vmdk", text)


def whole(image: Path) -> bytes:
    with open_disk(image) as disk:
        by_extents = rebuilt(disk.extents(), disk)
        assert disk.pread(disk.virtual_size + 1, 0) == by_extents
    return by_extents


def by_qemu(image: Path) -> bytes:
    target = image.parent / "by-qemu"
    qemu_img("convert", "-f", "vmdk", "-O", "raw", str(image), str(target))
    return target.read_bytes()


@pytest.mark.parametrize("grain_sectors", [1, 8, 128])
def test_cowd_reads_as_in_qemu_and_libvmdk(grain_sectors: int, tmp_path: Path) -> None:
    content = patterned(CAPACITY * SECTOR, 21)
    image = cowd_disk(tmp_path, writer.grains_of(content, grain_sectors), CAPACITY, grain_sectors=grain_sectors)
    assert whole(image) == content
    assert by_qemu(image) == content
    second = vmdk.independent_reader(image)
    try:
        assert second.read_buffer_at_offset(len(content), 0) == content
    finally:
        second.close()


def test_sesparse_reads_as_in_qemu(tmp_path: Path) -> None:
    content = patterned(CAPACITY * SECTOR, 22)
    image = sesparse_disk(tmp_path, writer.grains_of(content, 8), CAPACITY)
    assert whole(image) == content
    assert by_qemu(image) == content


def test_sesparse_grains_are_numbered_past_the_twelve_bits_that_stand_above_the_others(tmp_path: Path) -> None:
    """Grain 4095 is followed by grain 4096 in the file, but their entries do not follow each other."""
    content = random.Random(23).randbytes(4100 * 8 * SECTOR)
    image = sesparse_disk(tmp_path, writer.grains_of(content, 8), 4100 * 8)
    assert whole(image) == content
    with open_disk(image) as disk:
        # One piece a grain table, but that the numbers' low bits begin again; not one a grain.
        assert len(list(disk.layout.lookup(0, len(content)))) == 2
    assert by_qemu(image) == content


def test_sesparse_zero_and_unmapped_grains_hide_the_parent(tmp_path: Path) -> None:
    content = b"\xee" * (100 * SECTOR)
    writer.put(tmp_path, "base.bin", content)
    text = writer.descriptor('RW 100 FLAT "base.bin" 0', create_type="monolithicFlat", cid="1")
    writer.put(tmp_path, "base.vmdk", text)
    raw = writer.sesparse({2: writer.ZEROED, 4: b"\1" * 4096}, 100, unmapped=frozenset({3, 12}))
    writer.put(tmp_path, "delta", raw)
    text = writer.descriptor(
        'RW 100 SESPARSE "delta"', create_type="seSparse", cid="2", parent_cid="1", hint="base.vmdk"
    )
    image = writer.put(tmp_path, "disk.vmdk", text)
    expected = content[:8192] + bytes(8192) + b"\1" * 4096 + content[20480:49152] + bytes(2048)
    assert whole(image) == expected
    assert by_qemu(image) == expected


@pytest.mark.parametrize("kind", ["cowd", "sesparse"])
def test_an_esx_extent_named_alone_asks_for_its_descriptor(kind: str, tmp_path: Path) -> None:
    raw = writer.cowd({}, 100) if kind == "cowd" else writer.sesparse({}, 100)
    with pytest.raises(UnsupportedImage, match="snapshot") as caught:
        open_disk(writer.put(tmp_path, "delta.vmdk", raw))
    assert "text" in caught.value.hint()


def test_a_journal_to_replay_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImage, match="journal"):
        open_disk(sesparse_disk(tmp_path, {}, 100, replay=1))


@pytest.mark.parametrize(
    ("offset", "new", "words"),
    [
        (4, struct.pack("<I", 3), "version 3"),
        (12, bytes(4), "0 sectors"),
        (16, bytes(4), "grains have 0 sectors"),
        (16, struct.pack("<I", 3), "grains have 3 sectors"),
        (16, struct.pack("<I", 1 << 31), "grains have"),
        (20, bytes(4), "within the COWD header"),
        (20, struct.pack("<I", 1 << 31), "grain directory lies at byte"),
        (24, bytes(4), "0 entries for a disk that takes 3"),
        (12, b"\xff" * 4, "entries for a disk"),
    ],
)
def test_impossible_cowd_headers_are_refused(offset: int, new: bytes, words: str, tmp_path: Path) -> None:
    image = cowd_disk(tmp_path, {}, 10_000)
    extent = tmp_path / "disk-delta.vmdk"
    patched(extent, extent, (offset, new))
    with pytest.raises(BadImage, match=words):
        open_disk(image)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (1, 0x200000002, "version"),
        (2, 0, "0 sectors"),
        (2, 1 << 63, "sectors"),
        (2, 1 << 52, "grain directory lies at byte"),
        (3, 0, "grain size"),
        (3, 16, "grain size"),
        (4, 0, "grain table size"),
        (5, 1, "flags"),
        (8, 1, "reserved"),
        (10, 0, "volatile header would lie at byte 0"),
        (10, 2, "no seSparse volatile header at byte 1024"),
        (10, 1 << 54, "volatile header lies at byte"),
        (16, 0, "grain directory would lie at byte 0"),
        (16, (1 << 64) - 1, "grain directory lies at byte"),
        (18, 0, "grain table area"),
        (24, 0, "grain area"),
    ],
)
def test_impossible_sesparse_headers_are_refused(field: int, value: int, words: str, tmp_path: Path) -> None:
    image = sesparse_disk(tmp_path, {}, 40_000)
    extent = tmp_path / "disk-delta.vmdk"
    patched(extent, extent, (8 * field, struct.pack("<Q", value)))
    with pytest.raises(BadImage, match=words):
        open_disk(image)


def test_damaged_cowd_tables_are_refused_with_their_place(tmp_path: Path) -> None:
    image = cowd_disk(tmp_path, {0: b"a" * SECTOR, 1: b"b" * SECTOR, 5000: b"c" * SECTOR}, 10_000)
    extent = tmp_path / "disk-delta.vmdk"
    sound = extent.read_bytes()
    directory, table = 4 * SECTOR, 5 * SECTOR
    cases = (
        (directory, b"\xff" * 4, "grain table 0 lies at byte"),
        (directory + 4, sound[directory : directory + 4], "entries 0 and 1 name the same"),
        (table, b"\xff" * 4, "grain 0 lies at byte"),
        (table, struct.pack("<I", 3), "grain 0 lies at byte 1536, over"),
        (table + 8, sound[table : table + 4], "also serves another part"),
    )
    for at, new, words in cases:
        writer.put(tmp_path, extent.name, sound[:at] + new + sound[at + len(new) :])
        with pytest.raises(BadImage, match=words):
            read_all(image)


def test_damaged_sesparse_tables_are_refused_with_their_place(tmp_path: Path) -> None:
    image = sesparse_disk(tmp_path, {0: b"a" * 4096, 1: b"b" * 4096, 4096: b"c" * 4096}, 40_000)
    extent = tmp_path / "disk-delta.vmdk"
    sound = extent.read_bytes()
    directory = 2048 * SECTOR
    table = directory + SECTOR
    cases = (
        (directory, struct.pack("<Q", 1 << 60 | 0xFFFFFFFF), "grain table 0"),
        (directory, struct.pack("<Q", 2 << 60), "directory entry 0"),
        (directory, struct.pack("<Q", 1 << 60 | 1 << 40), "directory entry 0"),
        (directory + 8, struct.pack("<Q", 1 << 60), "entries 0 and 1 name the same"),
        (table, struct.pack("<Q", 3 << 60 | 0xFFFFFFFFFFFF), "grain 0 lies at byte"),
        (table, struct.pack("<Q", 4 << 60), "entry of grain 0"),
        (table, struct.pack("<Q", 0x0000000000000001), "entry of grain 0"),
        (table + 16, struct.pack("<Q", 3 << 60), "also serves another part"),
    )
    for at, new, words in cases:
        writer.put(tmp_path, extent.name, sound[:at] + new + sound[at + len(new) :])
        with pytest.raises(BadImage, match=words):
            read_all(image)


@pytest.mark.parametrize("kind", ["cowd", "sesparse"])
def test_extents_cut_anywhere_do_no_harm(kind: str, tmp_path: Path) -> None:
    content = patterned(6_003 * SECTOR, 24)
    make = cowd_disk if kind == "cowd" else sesparse_disk
    image = make(tmp_path, writer.grains_of(content, 1 if kind == "cowd" else 8), 6_003)
    extent = tmp_path / "disk-delta.vmdk"
    sound = extent.read_bytes()
    for size in (0, 3, 4, 8, 511, 512, 1023, 2047, 2048, 5000, len(sound) // 2, len(sound) - SECTOR * 8):
        writer.put(tmp_path, extent.name, sound[:size])
        with pytest.raises(BadImage):
            read_all(image)


def test_flipped_bytes_do_no_harm(tmp_path: Path) -> None:
    noise = random.Random(25)
    outcomes = {True: 0, False: 0}
    for make, length in ((cowd_disk, 8192), (sesparse_disk, 2 * MIB)):
        image = make(tmp_path, {3: b"x" * 4096 if make is sesparse_disk else b"x" * SECTOR}, 40_000)
        extent = tmp_path / "disk-delta.vmdk"
        sound = extent.read_bytes()
        places = [*range(208), *range(2048, 2200), *range(2048 * SECTOR, 2048 * SECTOR + 600)]
        for _ in range(150):
            raw = bytearray(sound)
            for _ in range(noise.choice((1, 2, 4))):
                raw[noise.choice([at for at in places if at < min(length, len(raw))])] = noise.randrange(256)
            writer.put(tmp_path, extent.name, bytes(raw))
            started = time.process_time()
            try:
                with open_disk(image) as disk:
                    disk.pread(65536, 0)
                    identity(disk)
                    describe(disk)
                outcomes[True] += 1
            except BadImage:
                outcomes[False] += 1
            assert time.process_time() - started < 2
    assert min(outcomes.values()) > 10


# Descriptors of ESX.


def test_vmfs_extents_are_flat_and_begin_where_their_files_do(tmp_path: Path) -> None:
    content = patterned(2001 * SECTOR, 26)
    writer.put(tmp_path, "vm 1-flat.vmdk", content)
    text = writer.descriptor(
        'RW 2001 VMFS "vm 1-flat.vmdk"',
        create_type="vmfs",
        more='ddb.thinProvisioned = "1"\nddb.uuid = "60 00 C2 9f"\n',
    )
    image = writer.put(tmp_path, "vm 1.vmdk", '# Disk DescriptorFile\nversion=4\nencoding="UTF-8"\n' + text)
    assert whole(image) == content
    assert by_qemu(image) == content
    with open_disk(image) as disk:
        assert disk.facts.variant == "vmfs"
        assert ("uuid", "60 00 C2 9f") in disk.facts.identifiers


@pytest.mark.parametrize(
    ("create_type", "line"),
    [
        ("vmfsRawDeviceMap", 'RW 100 VMFSRDM "disk-rdm.vmdk"'),
        ("vmfsPassthroughRawDeviceMap", 'RW 100 VMFSRDM "disk-rdmp.vmdk"'),
        ("vmfsRaw", 'RW 100 VMFSRAW "vml.0200"'),
        ("fullDevice", r'RW 100 FLAT "\\.\PhysicalDrive1" 0'),
        ("fullDevice", 'RW 100 FLAT "disk-rdm.vmdk" 0'),
        ("PARTITIONEDDEVICE", 'RW 100 FLAT "/dev/sda" 63 partitionUUID deadbeef'),
        ("monolithicFlat", 'RW 100 FLAT "/dev/sda" 0'),
        ("monolithicFlat", r'RW 100 FLAT "\\.\PhysicalDrive0" 0'),
        ("monolithicFlat", r'RW 100 FLAT "\\?\Volume{123}" 0'),
        ("vmfs", 'RW 100 VMFS "/vmfs/devices/disks/naa.600" 0'),
        ("vmfs", 'RW 100 VMFSRDM "disk-rdm.vmdk"'),
        ("custom", 'RW 100 SPARSE "/dev/sda"'),
    ],
)
def test_raw_device_mappings_are_named_as_such_and_nothing_is_opened(
    create_type: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Were it opened, this FIFO would say so; the names in /dev must not even be looked at.
    os.mkfifo(tmp_path / "disk-rdm.vmdk")
    image = writer.put(tmp_path, "disk.vmdk", writer.descriptor(line, create_type=create_type))
    real, asked = os.open, []

    def opened(path: os.PathLike[str] | str, *rest: int, **named: int) -> int:
        asked.append(os.fspath(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(UnsupportedImage, match="raw device mapping") as caught:
        open_disk(image)
    assert "device itself" in caught.value.hint()
    assert asked == [str(image)]


def test_an_extent_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    text = writer.descriptor("RW 10 ZERO", 'NOACCESS 10 ZERO ""', create_type="custom")
    with pytest.raises(UnsupportedImage, match="NOACCESS"):
        open_disk(writer.put(tmp_path, "disk.vmdk", text))


def test_a_read_only_extent_is_read(tmp_path: Path) -> None:
    writer.put(tmp_path, "x", b"r" * SECTOR)
    text = writer.descriptor('RDONLY 1 FLAT "x" 0', create_type="custom")
    assert whole(writer.put(tmp_path, "disk.vmdk", text)) == b"r" * SECTOR


@pytest.mark.parametrize(
    "line",
    [
        'encryptionKeys="vmware:key/list/(pair/(fqid/x))"',
        'ddb.iofilters = "vmwarevmcrypt"',
        'ddb.iofilters="VMW_vmwarevmcrypt"',
    ],
)
def test_encrypted_disks_are_named_as_such(line: str, tmp_path: Path) -> None:
    writer.put(tmp_path, "x", bytes(SECTOR))
    text = writer.descriptor('RW 1 VMFS "x"', create_type="vmfs", more=line + "\n")
    with pytest.raises(UnsupportedImage, match="encrypted"):
        open_disk(writer.put(tmp_path, "disk.vmdk", text))


# Size.


def big_sesparse(folder: Path, name: str, capacity: int) -> str:
    """An seSparse extent with nothing but its last grain; its extent line."""
    gd = 2048
    gts = gd + capacity // 8 // 4096 * 8 // SECTOR
    grains = gts + 64
    constant = struct.pack("<26Q", 0xCAFEBABE, 0x200000001, capacity, 8, 64, 0, 0, 0, 0, 0, 1, 1, 2, 2, 4, 2044, gd, gts - gd,
                           gts, 64, 0, 0, 0, 0, grains, 8)  # fmt: skip
    pieces = (
        (0, constant),
        (SECTOR, struct.pack("<4Q", 0xCAFECAFE, 1, 1, 0)),
        (gts * SECTOR - 8, struct.pack("<Q", 1 << 60)),
        (grains * SECTOR - 8, struct.pack("<Q", 3 << 60) + b"e" * 4096),
    )
    write_pieces(folder / name, *pieces)
    return f'RW {capacity} SESPARSE "{name}"'


def big_sparse(folder: Path, name: str, capacity: int, *, text: str = "", last: bool = True) -> str:
    """A hosted sparse extent with nothing but its last grain, and only the table of that; its extent line."""
    gd = 21
    table = gd + capacity // 128 // 512 * 4 // SECTOR
    header = struct.pack("<4sIIQQQQIQQQB", b"KDMV", 1, 3, capacity, 128, 1, 20, 512, gd, gd, table + 4, 0) + b"\n \r\n"
    pieces = [(0, header), (SECTOR, text.encode()), ((table + 4) * SECTOR - 4, bytes(4))]
    if last:
        pieces.append((table * SECTOR - 4, struct.pack("<I", table)))
        pieces.append(((table + 4) * SECTOR - 4, struct.pack("<I", table + 4) + b"e" * 65536))
    write_pieces(folder / name, *pieces)
    return f'RW {capacity} SPARSE "{name}"'


def write_pieces(path: Path, *pieces: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        for at, raw in pieces:
            file.seek(at)
            file.write(raw)


def big_disk(folder: Path, kind: str) -> tuple[Path, int]:
    """A mostly empty disk of 64 TiB, and the bytes at its end that are not; its files are nearly all holes."""
    capacity = 64 * TIB // SECTOR
    if kind == "one sparse file":
        text = writer.descriptor(f'RW {capacity} SPARSE "disk.vmdk"', create_type="monolithicSparse")
        big_sparse(folder, "disk.vmdk", capacity, text=text)
        return folder / "disk.vmdk", 65536
    if kind == "sesparse":
        lines = [big_sesparse(folder, "big.vmdk", capacity)]
    else:
        # VMware's own sparse extents hold at most 2 TiB.
        lines = [big_sparse(folder, f"s{n}.vmdk", 2 * TIB // SECTOR, last=n == 31) for n in range(32)]
    text = writer.descriptor(*lines, create_type="custom")
    return writer.put(folder, "disk.vmdk", text), 4096 if kind == "sesparse" else 65536


@pytest.mark.parametrize("kind", ["sesparse", "several", "one sparse file"])
def test_opening_and_walking_64_tib_takes_little_time_and_memory(kind: str, tmp_path: Path) -> None:
    image, tail = big_disk(tmp_path, kind)
    started = time.process_time()
    with open_disk(image) as disk:
        opening = time.process_time() - started
        assert disk.virtual_size == 64 * TIB
        assert disk.pread(tail, 64 * TIB - tail) == b"e" * tail
        assert disk.pread(5000, 40 * TIB) == bytes(5000)
    assert opening < 1
    tracemalloc.start()
    try:
        with open_disk(image) as disk:
            extents = list(disk.extents())
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
    assert [(extent.length, extent.zero) for extent in extents] == [(64 * TIB - tail, True), (tail, False)]
