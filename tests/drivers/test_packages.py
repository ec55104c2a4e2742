"""What package files say of themselves, and what is said of files that are none."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import struct
import tarfile
from pathlib import Path

import pytest
import zstandard

from drivers.packages import PackageFormat, read_package
from p2v.core.errors import NoSource

CONTROL = "Package: qemu-guest-agent\nVersion: 1:7.2+dfsg-7\nArchitecture: amd64\nDescription: agent\n Version: 9\n"


def control_tar(text: str = CONTROL, name: str = "./control") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(text.encode())
        archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def ar(*members: tuple[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, data in members:
        parts += [f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode(), data, b"\n" * (len(data) % 2)]
    return b"".join(parts)


def deb(control: bytes, ending: str = "") -> bytes:
    return ar(("debian-binary", b"2.0\n"), (f"control.tar{ending}", control), ("data.tar.xz", b"not looked at"))


def rpm_header(tags: dict[int, str]) -> bytes:
    index, data = b"", b""
    for tag, text in tags.items():
        index += struct.pack(">IIII", tag, 6, len(data), 1)
        data += text.encode() + b"\0"
    return b"\x8e\xad\xe8\x01\0\0\0\0" + struct.pack(">II", len(tags), len(data)) + index + data


def rpm(arch: str = "x86_64", source: str = "qemu-6.2.src.rpm") -> bytes:
    signature = rpm_header({1000 - 1: "odd"})
    tags = {1000: "qemu-guest-agent", 1001: "6.2.0", 1002: "53.el8", 1022: arch}
    main = rpm_header({**tags, **({1044: source} if source else {})})
    return b"\xed\xab\xee\xdb\x03\0" + bytes(90) + signature + bytes(-len(signature) % 8) + main + b"payload"


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "package"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard.ZstdCompressor().compress)],
)
@pytest.mark.parametrize("name", ["control", "./control"])
def test_a_deb_is_known_by_its_control_file_however_packed(ending: str, pack: object, name: str, tmp_path: Path) -> None:
    assert callable(pack)
    data = deb(pack(control_tar(name=name)), ending)
    found = read_package(written(tmp_path, data))
    assert (found.format, found.name, found.version, found.arch) == (
        PackageFormat.DEB, "qemu-guest-agent", "1:7.2+dfsg-7", "amd64",
    )  # fmt: skip
    assert (found.size, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert found.path == str(tmp_path / "package")


def test_an_rpm_is_known_by_its_header(tmp_path: Path) -> None:
    found = read_package(written(tmp_path, rpm()))
    assert (found.format, found.name, found.version, found.arch) == (
        PackageFormat.RPM, "qemu-guest-agent", "6.2.0-53.el8", "x86_64",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "guest", "fits"),
    [
        ("amd64", "x86_64", True), ("x86_64", "x86_64", True), ("all", "s390x", True), ("i386", "x86_64", False),
        ("i686", "i386", True), ("i386", "i686", True), ("arm64", "aarch64", True), ("ppc64el", "ppc64le", True),
        ("amd64", "aarch64", False), ("riscv64", "riscv64", True),
    ],
)  # fmt: skip
def test_a_package_fits_guests_of_its_architecture(arch: str, guest: str, fits: bool, tmp_path: Path) -> None:
    control = control_tar(CONTROL.replace("amd64", arch))
    assert read_package(written(tmp_path, deb(control))).fits(guest) is fits


@pytest.mark.parametrize(
    "data",
    [
        b"", b"#!/bin/sh\n", b"!<arch>\n", ar(("debian-binary", b"2.0\n")), deb(b"no tar"), deb(control_tar(name="other")),
        deb(control_tar("Package: x\n")), deb(control_tar(), ".lzo"), deb(b"no gzip", ".gz"), deb(control_tar())[:200],
        deb(gzip.compress(bytes(1 << 26)), ".gz"), deb(control_tar(CONTROL.replace("amd64", "a" * 300))),
        rpm(source=""), rpm()[:100], rpm()[:160], b"\xed\xab\xee\xdb" + bytes(200), rpm(arch=""),
        rpm()[:104] + struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF) + rpm()[112:],
    ],
)  # fmt: skip
def test_what_is_no_package_is_said_to_be_none(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(NoSource) as caught:
        read_package(written(tmp_path, data))
    assert "package" in caught.value.problem


def test_folders_pipes_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nothing", Path("/dev/zero")):
        with pytest.raises(NoSource):
            read_package(path)


def test_what_is_too_large_to_be_carried_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, deb(control_tar()))
    with path.open("r+b") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(NoSource) as caught:
        read_package(path)
    assert "64 MiB" in caught.value.problem
