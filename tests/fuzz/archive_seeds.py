"""Small archives with small disks in them, for the fuzzer: made by Python's tarfile, zipfile and gzip."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from tests.converters import vmdk_writer

_OVF = b'<?xml version="1.0"?><Envelope/>'
_LONG = "folder/" + "x" * 120 + "/disk.raw"
_RAW_SECTORS = 128


def tars(folder: Path) -> Iterable[Path]:
    """OVAs as ovftool, GNU tar and Python write them: a stream, raw disks, a stream in chunks, a descriptor with extents."""
    return [
        _tar(folder / "stream.ova", {"vm.ovf": _OVF, "vm.mf": b"SHA256()=", "disk.vmdk": stream()}),
        _tar(folder / "raw.tar", {"vm.ovf": _OVF, "disk.raw": _raw()}),
        _tar(folder / "gnu.tar", {_LONG: _raw()}, tarfile.GNU_FORMAT),
        _tar(folder / "pax.tar", {_LONG: _raw()}, tarfile.PAX_FORMAT),
        _tar(folder / "chunks.ova", {"vm.ovf": _OVF, **_chunks()}),
        _tar(folder / "split.tar", {"vm.ovf": _OVF, **_split()}),
    ]


def zips(folder: Path) -> Iterable[Path]:
    """Stored members, with fields of 32 and of 64 bits."""
    made = [_zip(folder / f"{zip64}.zip", zipfile.ZIP_STORED, zip64=zip64) for zip64 in (False, True)]
    return [*made, _zip(folder / "split.zip", zipfile.ZIP_STORED, zip64=False, members=_split())]


def deflated_zips(folder: Path) -> Iterable[Path]:
    """The same, deflated; and in deflate's stored blocks, through which a mutation reaches the disk."""
    made = [_zip(folder / f"{zip64}.zip", zipfile.ZIP_DEFLATED, zip64=zip64) for zip64 in (False, True)]
    for name, members in (("stream0", {"disk.vmdk": stream()}), ("split0", _split()), ("raw0", {"disk.raw": _raw()[:4096]})):
        made.append(_zip(folder / f"{name}.zip", zipfile.ZIP_DEFLATED, zip64=False, level=0, members=members))
    return made


def gzips(folder: Path) -> Iterable[Path]:
    """One member, one with every field of the header, two one behind the other with zeroes behind them, deflate's stored
    blocks; around a tar, and in one."""
    raw = _raw()
    plain = gzip.compress(raw, mtime=0)
    # FHCRC, FEXTRA, FNAME, FCOMMENT
    full = plain[:3] + b"\x1e" + plain[4:10] + b"\4\0abcdname\0comment\0"
    full += (zlib.crc32(full) & 0xFFFF).to_bytes(2, "little")
    inside = _tar(folder / "inside", {"vm.ovf": _OVF, "disk.vmdk": stream()})
    packed = _tar(folder / "packed", {"vm.ovf": _OVF, "disk.raw.gz": plain})
    contents = {
        "plain.gz": plain,
        "full.gz": full + plain[10:],
        "two.gz": gzip.compress(raw[:30_000], mtime=0) + gzip.compress(raw[30_000:], mtime=0) + bytes(700),
        "level0.gz": gzip.compress(stream(), 0, mtime=0),
        "gzip.ova": packed.read_bytes(),
        "tar.gz": gzip.compress(inside.read_bytes(), mtime=0),
    }
    inside.unlink()
    packed.unlink()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def _tar(path: Path, members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _zip(path: Path, method: int, *, zip64: bool, level: int = 6, members: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", method, compresslevel=level) as archive:
        archive.writestr("vm/", b"")
        archive.writestr("vm/vm.ovf", _OVF)
        for name, content in (members or {"disk.vmdk": stream()}).items():
            with archive.open(f"vm/{name}", "w", force_zip64=zip64) as member:
                member.write(content)
    return path


def stream() -> bytes:
    """A streamOptimized VMDK of a few grains."""
    noise = random.Random(1)
    grains = {n: noise.randbytes(64) * 64 for n in (0, 2, 3, 600)}
    text = vmdk_writer.descriptor('RW 8192 SPARSE "disk.vmdk"', create_type="streamOptimized")
    return vmdk_writer.stream(grains, 8192, grain_sectors=8, text=text)


def _chunks() -> dict[str, bytes]:
    raw = stream()
    return {f"disk.vmdk.{at // 2000:09d}": raw[at : at + 2000] for at in range(0, len(raw), 2000)}


def _split() -> dict[str, bytes]:
    """A descriptor whose extents are a sparse one, a flat one twice, and nothing."""
    lines = ('RW 64 SPARSE "disk-s001.vmdk"', 'RW 8 FLAT "disk-f002.vmdk" 0', 'RW 8 FLAT "disk-f002.vmdk" 8', "RW 8 ZERO")
    text = vmdk_writer.descriptor(*lines, create_type="custom").encode()
    sparse = vmdk_writer.sparse({0: b"a" * 4096, 2: None, 3: b"b" * 4096}, 64, grain_sectors=8)
    return {"disk.vmdk": text, "disk-s001.vmdk": sparse, "disk-f002.vmdk": _raw()[:8192]}


def _raw() -> bytes:
    """A boot sector and a few others."""
    noise = random.Random(2)
    raw = bytearray(_RAW_SECTORS * vmdk_writer.SECTOR)
    for number in (0, 1, 9, 77, 127):
        raw[number * 512 : number * 512 + 512] = noise.randbytes(64) * 8
    raw[510:512] = b"\x55\xaa"
    return bytes(raw)
