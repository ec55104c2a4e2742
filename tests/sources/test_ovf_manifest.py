"""Manifests of OVF packages: what they say is checked, before anything is copied, on the bytes as they are stored."""

from __future__ import annotations

import gzip
import hashlib
import threading
from pathlib import Path

import pytest

from converters.archives import open_stored
from converters.piece_walk import CopyCancelled
from p2v.core.errors import BadDescription, NoSource
from p2v.core.events import BytesDone, Event
from p2v.sources import ovf, ovf_manifest
from p2v.sources.description import Description
from tests.sources.test_ovf import DATA, ids, made_tar, made_zip, opened, placed

OVF = (DATA / "virtualbox.ovf").read_bytes()
DISKS = {"wiki-disk001.vmdk": b"first" * 1000, "wiki-disk002.vmdk": gzip.compress(b"second" * 1000)}


def line(name: str, data: bytes, algorithm: str = "SHA256", form: str = "{}({})= {}\n") -> str:
    hashed = hashlib.new(algorithm.replace("-", "").lower(), data).hexdigest()
    return form.format(algorithm, name, hashed)


def lines(algorithm: str = "SHA256", form: str = "{}({})= {}\n") -> str:
    return "".join(line(name, data, algorithm, form) for name, data in {"wiki.ovf": OVF, **DISKS}.items())


def package(folder: Path, manifest: str | None) -> Description:
    description = placed(folder, "wiki.ovf", OVF, ())
    for name, data in DISKS.items():
        (folder / name).write_bytes(data)
    if manifest is not None:
        (folder / "wiki.mf").write_text(manifest, "utf-8", newline="")
    return description


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512", "sha-256"])
@pytest.mark.parametrize("form", ["{}({})= {}\n", "{} ({}) = {}\r\n", "  {}( {} )={}  \n\n"])
def test_digests_are_read_in_every_way_they_are_written(tmp_path: Path, algorithm: str, form: str) -> None:
    description = package(tmp_path, "\ufeff" + lines(algorithm, form))
    assert ids(ovf.read(description).warnings) == ["source.network"]
    assert ovf_manifest.verify(description) == tuple(DISKS)


def test_digests_in_capital_letters_are_the_same(tmp_path: Path) -> None:
    form = "SHA256({1})= {2}\n"
    manifest = "".join(line(name, data, form=form).upper().replace("WIKI", "wiki").replace("DISK", "disk").replace("VMDK", "vmdk")
                       for name, data in DISKS.items())  # fmt: skip
    assert ovf_manifest.verify(package(tmp_path, manifest)) == tuple(DISKS)


def test_a_description_that_was_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match=r"does not have the digest that wiki.mf says") as caught:
        ovf.read(package(tmp_path, lines().replace(hashlib.sha256(OVF).hexdigest(), "0" * 64)))
    assert "remove its manifest" in caught.value.hint()


def test_a_listed_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match=r"lists files that are not there: 'lost.nvram'"):
        ovf.read(package(tmp_path, lines() + line("lost.nvram", b"")))


def test_a_disk_that_is_not_listed_is_a_warning(tmp_path: Path) -> None:
    machine = ovf.read(package(tmp_path, line("wiki.ovf", OVF) + line("wiki-disk001.vmdk", DISKS["wiki-disk001.vmdk"])))
    found = [finding for finding in machine.warnings if finding.id == "source.manifest-unlisted"]
    assert "wiki-disk002.vmdk" in found[0].message
    assert "wiki-disk001.vmdk" not in found[0].message


@pytest.mark.parametrize(
    "odd", ["MD5(wiki.ovf)= 00112233445566778899aabbccddeeff\n", "SHA256(wiki.ovf)= abc\n", "what is this\n", "\0\xff\n"]
)
def test_lines_that_are_no_digests_are_told(tmp_path: Path, odd: str) -> None:
    assert ids(ovf.read(package(tmp_path, odd + lines())).warnings) == ["source.manifest", "source.network"]


def test_two_digests_of_one_file_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match=r"two digests of 'wiki-disk001.vmdk'"):
        ovf.read(package(tmp_path, lines() + line("wiki-disk001.vmdk", b"other")))


def test_a_signature_is_named_and_not_checked(tmp_path: Path) -> None:
    description = package(tmp_path, lines())
    (tmp_path / "wiki.cert").write_text("-----BEGIN CERTIFICATE-----")
    assert ids(ovf.read(description).warnings) == ["source.signature", "source.network"]


def test_a_package_without_a_manifest_is_not_checked(tmp_path: Path) -> None:
    description = package(tmp_path, None)
    ovf.read(description)
    assert ovf_manifest.verify(description) == ()


def test_a_manifest_of_another_package_is_not_taken(tmp_path: Path) -> None:
    description = package(tmp_path, lines())
    (tmp_path / "zoo.mf").write_text("SHA256(nothing)= " + "0" * 64)
    assert ovf_manifest.verify(description) == tuple(DISKS)


@pytest.mark.parametrize("name", sorted(DISKS))
def test_a_disk_that_was_changed_is_refused(tmp_path: Path, name: str) -> None:
    description = package(tmp_path, lines())
    data = bytearray(DISKS[name])
    data[-5] ^= 1
    (tmp_path / name).write_bytes(data)
    ovf.read(description)
    with pytest.raises(BadDescription, match=f"differ from their digests in wiki.mf: '{name}'"):
        ovf_manifest.verify(description)


def test_a_file_lost_after_reading_is_an_error(tmp_path: Path) -> None:
    description = package(tmp_path, lines())
    (tmp_path / "wiki-disk001.vmdk").unlink()
    with pytest.raises(NoSource):
        ovf_manifest.verify(description)


@pytest.mark.parametrize("make", [made_tar, made_zip])
@pytest.mark.parametrize("folder", ["", "wiki/"])
def test_members_of_archives_are_checked_as_they_are_stored(tmp_path: Path, make: object, folder: str) -> None:
    assert callable(make)
    members = {"wiki.ovf": OVF, "wiki.mf": lines().encode(), **DISKS}
    archive = make(tmp_path / "wiki.ova", {f"{folder}{name}": data for name, data in members.items()})
    description = opened(archive)
    assert ids(ovf.read(description).warnings) == ["source.network"]
    assert ovf_manifest.verify(description) == tuple(f"{folder}{name}" for name in DISKS)
    members["wiki-disk002.vmdk"] = gzip.compress(b"second" * 1000, 1)
    archive = make(tmp_path / "wiki.ova", {f"{folder}{name}": data for name, data in members.items()})
    with pytest.raises(BadDescription, match="wiki-disk002"):
        ovf_manifest.verify(opened(archive))


def test_chunks_are_checked_one_by_one(tmp_path: Path) -> None:
    raw = (DATA / "esx35.ovf").read_bytes()
    chunks = {f"files-disk0.vmdk.{number:09d}": bytes([number]) * 700 for number in range(3)}
    manifest = line("esx35.ovf", raw, "SHA1") + "".join(line(name, data, "SHA1") for name, data in chunks.items())
    archive = made_tar(tmp_path / "f.ova", {"esx35.ovf": raw, "esx35.mf": manifest.encode(), **chunks})
    assert ids(ovf.read(opened(archive)).warnings) == []
    assert ovf_manifest.verify(opened(archive)) == tuple(chunks)


def sized(folder: Path, size: int, manifest: str | None, make: object = None) -> Description:
    raw = OVF.replace(b'ovf:href="wiki-disk001.vmdk"', f'ovf:href="wiki-disk001.vmdk" ovf:size="{size}"'.encode())
    files = {"wiki.ovf": raw, **DISKS} | ({} if manifest is None else {"wiki.mf": manifest.encode()})
    if callable(make):
        return opened(make(folder / "wiki.ova", {f"a/{name}": data for name, data in files.items()}))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return placed(folder, "wiki.ovf", raw, ())


@pytest.mark.parametrize("make", [None, made_tar, made_zip])
def test_a_disk_shorter_than_its_package_says_is_refused(tmp_path: Path, make: object) -> None:
    assert ovf.verify(sized(tmp_path, 5000, None, make)) == ()
    with pytest.raises(BadDescription, match=r"'wiki-disk001.vmdk' has 5001 bytes, and it has 5000"):
        ovf.verify(sized(tmp_path, 5001, None, make))


def test_a_right_digest_counts_more_than_a_size(tmp_path: Path) -> None:
    description = sized(tmp_path, 5001, "".join(line(name, data) for name, data in DISKS.items()))
    assert ovf.verify(description) == tuple(DISKS)


@pytest.mark.parametrize("cut", [0, 1])
def test_the_sizes_of_chunks_are_added(tmp_path: Path, cut: int) -> None:
    raw = (DATA / "esx35.ovf").read_bytes()
    chunks = {f"files-disk0.vmdk.{number:09d}": b"x" * count for number, count in enumerate((400, 400, 200 - cut))}
    description = opened(made_tar(tmp_path / "f.ova", {"esx35.ovf": raw, **chunks}))
    if not cut:
        assert ovf.verify(description) == ()
        return
    with pytest.raises(BadDescription, match="has 1000 bytes, and it has 999"):
        ovf.verify(description)


def test_checking_can_be_cancelled_and_tells_how_far_it_is(tmp_path: Path) -> None:
    description = package(tmp_path, lines())
    told: list[Event] = []
    ovf_manifest.verify(description, report=told.append)
    assert sum(event.count for event in told if isinstance(event, BytesDone)) == sum(map(len, DISKS.values()))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(CopyCancelled):
        ovf_manifest.verify(description, cancelled=cancelled)


def test_a_stored_file_is_neither_inflated_nor_joined(tmp_path: Path) -> None:
    packed = gzip.compress(b"inside")
    archive = made_tar(tmp_path / "a.tar", {"d.gz": packed, "p.001": b"1234", "p.002": b"56"})
    (tmp_path / "p.001").write_bytes(b"1234")
    (tmp_path / "p.002").write_bytes(b"56")
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(archive.read_bytes()))
    for path, data in ((archive / "d.gz", packed), (archive / "p.001", b"1234"), (tmp_path / "p.001", b"1234"),
                       (tmp_path / "b.tar.gz" / "d.gz", packed)):  # fmt: skip
        file = open_stored(path)
        assert file.pread(100, 0) == data
        file.close()
    for path in (archive / "nothing", tmp_path / "p.001" / "x", tmp_path / "nothing"):
        with pytest.raises(NoSource):
            open_stored(path)
