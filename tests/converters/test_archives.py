"""Disks inside archives and compressed files, and raw disks in parts: read where they stand."""

from __future__ import annotations

import gzip
import io
import random
import struct
import subprocess
import tarfile
import uuid
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.copy import copy_disk
from converters.image import open_disk, probe
from converters.inflated_file import InflatedFile, Wrapping
from converters.nbd import serve
from converters.references import DiskSpec
from converters.source_file import open_source
from converters.target import TargetFormat, open_target
from p2v.core.errors import BadImage, NoSource, P2vError
from p2v.core.events import silent
from p2v.core.workspace import socket_folder
from tests.converters.images import BY_NAME, MIB, make_image, patterned, whole_disk
from tests.converters.vhdx_writer import BAT_AT, DATA_AT, LogEntry, Vhdx, put_log, write_pages

CONTENT = patterned(6 * MIB + 512)
OVF = b'<?xml version="1.0"?><Envelope/>'


def tar_of(path: Path, members: dict[str, bytes], *, form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_image(tmp_path_factory.mktemp("stream"), BY_NAME["vmdk-stream"], CONTENT).read_bytes()


@pytest.mark.parametrize("variant", ["vmdk-stream", "vmdk-sparse", "vhd-dynamic-exact", "vhdx-dynamic", "qcow2-deflate", "raw"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"])
def test_the_only_disk_of_a_tar_archive_is_opened_in_place(variant: str, form: int, tmp_path: Path) -> None:
    image = make_image(tmp_path, BY_NAME[variant], CONTENT).read_bytes()
    long = "x" * 150 + "/disk.img"
    members = {"vm.ovf": OVF, "vm.mf": b"SHA256()=", (long if form != tarfile.USTAR_FORMAT else "disk.img"): image}
    ova = tar_of(tmp_path / "vm.ova", members, form=form)
    assert whole_disk(ova)[: len(CONTENT)] == CONTENT
    with open_disk(ova) as disk:
        assert disk.files == (ova,)
        places = [e.stored or e.compressed for e in disk.extents() if not e.zero]
        # the copy reads straight from the archive
        assert any(place is not None and place.file == ova for place in places)


def test_a_member_is_named_by_a_path_below_the_archive(stream: bytes, tmp_path: Path) -> None:
    raw = bytes(510) + b"\x55\xaa" + bytes(MIB)
    ova = tar_of(tmp_path / "vm.ova", {"vm.ovf": OVF, "disks/disk1.vmdk": stream, "disk2.img": raw})
    with pytest.raises(NoSource) as caught:
        open_disk(ova)
    assert "disk1.vmdk" in caught.value.sentence()
    assert "disk2.img" in caught.value.sentence()
    assert "vm.ova/NAME" in caught.value.hint()
    assert whole_disk(ova / "disks/disk1.vmdk") == CONTENT
    assert whole_disk(ova / "disk1.vmdk") == CONTENT
    assert probe(ova / "disk2.img").format == "raw"
    with pytest.raises(NoSource, match="gone"):
        open_disk(ova / "gone.vmdk")
    image = tmp_path / "disk.vmdk"
    image.write_bytes(stream)
    with pytest.raises(NoSource, match="no archive"):
        open_disk(image / "member")


def test_a_member_goes_through_the_copy_and_over_nbd(stream: bytes, tmp_path: Path) -> None:
    ova = tar_of(tmp_path / "vm.ova", {"vm.ovf": OVF, "disk.vmdk": stream})
    with open_disk(ova) as disk, open_target(tmp_path / "t", TargetFormat.RAW, disk.virtual_size, "x") as target:
        copy_disk(disk, target.writer, report=silent)
        target.finish_copy()
        target.publish(tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == CONTENT
    with socket_folder() as folder, serve(DiskSpec(ova / "disk.vmdk"), folder) as export:
        subprocess.run(["nbdcopy", export.uri, tmp_path / "by-nbd"], check=True, timeout=60)
    assert (tmp_path / "by-nbd").read_bytes() == CONTENT


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_disk_in_a_zip_archive(method: int, stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vm.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("folder/", b"")
        archive.writestr("vm.ovf", OVF)
        archive.writestr("disk.vmdk", stream)
    assert whole_disk(path) == CONTENT
    assert whole_disk(path / "disk.vmdk") == CONTENT


@pytest.mark.parametrize("variant", ["raw", "vhd-dynamic-exact", "vmdk-sparse"])
def test_a_gzipped_image(variant: str, tmp_path: Path) -> None:
    image = make_image(tmp_path, BY_NAME[variant], CONTENT)
    packed = tmp_path / f"{image.name}.gz"
    packed.write_bytes(gzip.compress(image.read_bytes()[:MIB]) + gzip.compress(image.read_bytes()[MIB:]) + bytes(700))
    assert whole_disk(packed)[: len(CONTENT)] == CONTENT
    with open_disk(packed) as disk:
        assert disk.files == (packed,)
        assert all(e.stored is None and e.compressed is None for e in disk.extents())


def test_gzip_in_tar_and_tar_in_gzip(stream: bytes, tmp_path: Path) -> None:
    inner = tar_of(tmp_path / "a.ova", {"vm.ovf": OVF, "disk.vmdk.gz": gzip.compress(stream)})
    assert whole_disk(inner) == CONTENT
    outer = tmp_path / "b.ova.gz"
    outer.write_bytes(gzip.compress(tar_of(tmp_path / "b.ova", {"vm.ovf": OVF, "disk.vmdk": stream}).read_bytes()))
    assert whole_disk(outer) == CONTENT
    nested = tar_of(tmp_path / "c.ova", {"d.tar": tar_of(tmp_path / "d.tar", {"disk.vmdk": stream}).read_bytes()})
    with pytest.raises(P2vError):
        open_disk(nested)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../x.vmdk"])
def test_names_in_archives_are_names_only(name: str, stream: bytes, tmp_path: Path) -> None:
    ova = tar_of(tmp_path / "vm.ova", {name: stream})
    assert whole_disk(ova) == CONTENT
    with open_disk(ova) as disk:
        assert disk.files == (ova,)


def test_a_vhdx_whose_log_was_not_replayed_is_read_in_an_archive_too(tmp_path: Path) -> None:
    pages = Vhdx(3 * MIB, {number: random.Random(number).randbytes(512) for number in range(0, 5000, 7)}).pages()
    sound = write_pages(tmp_path / "sound.vhdx", pages)
    guid = uuid.uuid4()
    pages = Vhdx(3 * MIB, {number: random.Random(number).randbytes(512) for number in range(0, 5000, 7)}, log_guid=guid).pages()
    logged = {at: pages[at] for at in (BAT_AT, DATA_AT)}
    pages |= dict.fromkeys(logged, b"\xdb" * 4096)
    put_log(pages, guid, [LogEntry(logged)], flushed=max(pages) + 4096, last=max(pages) + 4096)
    ova = tar_of(tmp_path / "vm.ova", {"disk.vhdx": write_pages(tmp_path / "dirty.vhdx", pages).read_bytes()})
    assert whole_disk(ova) == whole_disk(sound)
    with open_disk(ova) as disk:
        assert disk.files == (ova,)
        assert any(e.stored is not None and e.stored.file == ova for e in disk.extents())


def test_links_and_devices_in_an_archive_are_no_disks(tmp_path: Path) -> None:
    path = tmp_path / "vm.ova"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("a.vmdk", tarfile.SYMTYPE), ("b.vmdk", tarfile.LNKTYPE), ("c.vmdk", tarfile.BLKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    with pytest.raises(NoSource, match="no member"):
        open_disk(path)
    with pytest.raises(NoSource):
        open_disk(path / "a.vmdk")


def test_a_descriptor_in_an_archive_opens_nothing_beside_the_archive(tmp_path: Path) -> None:
    (tmp_path / "disk-flat.vmdk").write_bytes(bytes(4096))
    text = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="vmfs"\nRW 8 VMFS "disk-flat.vmdk"\n'
    ova = tar_of(tmp_path / "vm.ova", {"disk.vmdk": text.encode().ljust(512, b"\n")})
    with pytest.raises(BadImage, match="not in the archive"):
        open_disk(ova)


def test_damaged_tar_archives_are_told(stream: bytes, tmp_path: Path) -> None:
    sound = tar_of(tmp_path / "vm.ova", {"vm.ovf": OVF, "disk.vmdk": stream}).read_bytes()
    for number, raw in enumerate(
        (
            sound[: len(sound) - len(stream)],  # cut in the member
            sound[:1300],  # cut in a header
            sound[:1024] + b"x" * 512 + sound[1536:],  # no header where one should be
            sound[: 1024 + 124] + b"\x80\0\0\0\x7f" + b"\xff" * 7 + sound[1024 + 136 :],  # a size of 2^63 and more
            sound[: 1024 + 124] + b"\xff" * 12 + sound[1024 + 136 :],  # a negative size
        )
    ):
        path = tmp_path / f"{number}.ova"
        path.write_bytes(raw)
        with pytest.raises((BadImage, NoSource)):
            open_disk(path)


def test_damaged_zip_archives_are_told(stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vm.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("disk.vmdk", stream)
    sound = bytearray(path.read_bytes())
    central = sound.rindex(b"PK\x01\x02")
    changes = [(central + 42, struct.pack("<I", 0x7FFFFFFF)), (central + 20, struct.pack("<I", 0x7FFFFFFF)),
               (central + 10, struct.pack("<H", 99)), (central, b"XXXX"), (central + 8, struct.pack("<H", 1))]  # fmt: skip
    for number, (offset, new) in enumerate(changes):
        raw = bytearray(sound)
        raw[offset : offset + len(new)] = new
        broken = tmp_path / f"{number}.zip"
        broken.write_bytes(raw)
        with pytest.raises(P2vError):
            open_disk(broken)
    (tmp_path / "cut.zip").write_bytes(sound[: len(sound) // 2])
    with pytest.raises(BadImage):
        open_disk(tmp_path / "cut.zip")


@pytest.mark.parametrize("what", ["CRC", "size"])
def test_a_deflated_member_that_is_not_what_the_directory_promises_is_told(what: str, stream: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vm.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("disk.vmdk", stream)
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + {"CRC": 16, "size": 24}[what]] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BadImage, match="inflates to"):
        open_disk(path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage behind"])
def test_damaged_gzip_files_are_told(damage: str, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    match damage:
        case "cut":
            packed = packed[: len(packed) // 2]
        case "flipped":
            packed[len(packed) // 2] ^= 0xFF
        case _:
            packed += b"not a member"
    path = tmp_path / "disk.raw.gz"
    path.write_bytes(packed)
    with pytest.raises(BadImage, match="compressed data"):
        open_disk(path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(reads=st.lists(st.tuples(st.integers(0, 40 * MIB), st.integers(0, 3 * MIB)), max_size=12))
def test_random_reads_of_a_deflated_file_give_its_bytes(reads: list[tuple[int, int]], tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    noise = random.Random(3).randbytes(MIB)
    content = b"".join(noise[n * 1000 :] + bytes(n * 1000) for n in range(20)) * 2
    if not path.exists():
        path.write_bytes(gzip.compress(content, 1))
    file = InflatedFile(open_source(path), Wrapping.GZIP, path / "x")
    try:
        assert file.size == len(content)
        for offset, length in reads:
            assert file.pread(length, offset) == content[offset : offset + length]
    finally:
        file.close()
