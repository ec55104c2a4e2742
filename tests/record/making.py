"""Records for tests: one with every field filled, and one of two small disks that really are there."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from pathlib import Path

from converters.digest import digest_disk
from converters.image import describe, identity, open_disk
from p2v.core.units import MIB
from p2v.documents import SourceDisk, plan_digest
from p2v.record import (
    RECORD_SCHEMA,
    ChangedRange,
    ConversionRecord,
    DiskRecord,
    OutputFile,
    load_record,
    record_json,
)
from p2v.verify import Reason
from tests.record.filling import Filler


def filled_record(filler: Filler | None = None) -> ConversionRecord:
    """A record whose plan digest fits."""
    record = (filler or Filler()).value(ConversionRecord)
    assert record.boot is not None
    boot = replace(record.boot, verdict=replace(record.boot.verdict, reason=Reason.BOOTED))
    return replace(record, boot=boot, schema=RECORD_SCHEMA, copy_of=None, plan_digest=plan_digest(record.document))


def written(folder: Path, record: ConversionRecord | None = None, name: str = "vm") -> Path:
    """The record's file in a folder."""
    path = folder / f"{name}.json"
    path.write_text(record_json(record or filled_record()))
    return path


@dataclass(frozen=True)
class Conversion:
    """A raw source, a raw target that differs from it in two ranges, the record of it, and its other files."""

    folder: Path
    source: Path
    target: Path
    record: Path

    def rewrite(self, record: ConversionRecord) -> None:
        """Another record, in the place of the one that is there."""
        self.record.write_text(record_json(record))

    def loaded(self) -> ConversionRecord:
        """The record."""
        return load_record(self.record)

    def poke(self, disk: Path, offset: int, byte: bytes = b"!") -> None:
        """Change bytes of a disk."""
        with disk.open("r+b") as file:
            file.seek(offset)
            assert file.read(len(byte)) != byte
            file.seek(offset)
            file.write(byte)


DISK_BYTES = 8 * MIB
# Between the places that an identity is a sample of.
CHANGED = ((3 * MIB + 70_000, 4096), (5 * MIB + 70_000, 1024))


def conversion(folder: Path, *, checksum: bool = False) -> Conversion:
    """Make one, as `p2v convert` would have left it."""
    (folder / "source").mkdir()
    source, target = folder / "source" / "old.raw", folder / "vm.raw"
    before = bytearray(random.Random(6).randbytes(DISK_BYTES))
    before[510:512] = b"\x55\xaa"
    after = bytearray(before)
    for offset, length in CHANGED:
        after[offset : offset + length] = bytes(b ^ 0xFF for b in before[offset : offset + length])
    source.write_bytes(before)
    target.write_bytes(after)
    (folder / "vm.png").write_bytes(b"a picture")
    (folder / "vm.boot.log").write_bytes(b"[    0.0] Linux version 6.1.0\n")
    record = _record(source, target, checksum=checksum)
    return Conversion(folder, source, target, written(folder, record))


def _record(source: Path, target: Path, *, checksum: bool) -> ConversionRecord:
    with open_disk(source, "raw") as there, open_disk(target, "raw") as here:
        ranges = tuple(
            ChangedRange(offset, length, _sha256(there.pread(length, offset)), _sha256(here.pread(length, offset)))
            for offset, length in CHANGED
        )
        disk = DiskRecord(
            source=str(source), target=target.name, virtual_size=DISK_BYTES, read_bytes=DISK_BYTES,
            written_bytes=DISK_BYTES, resumed_bytes=0, changed=ranges, result=identity(here),
            source_content=digest_disk(there) if checksum else None,
            result_content=digest_disk(here) if checksum else None,
        )  # fmt: skip
        planned = SourceDisk(source, "raw", describe(there), identity(there))
    filled = filled_record()
    document = replace(filled.document, sources=(planned,))
    files = {name: _sha256((target.parent / name).read_bytes()) for name in ("vm.png", "vm.boot.log")}
    outputs = [OutputFile(name, (target.parent / name).stat().st_size, digest) for name, digest in files.items()]
    assert filled.boot is not None
    hardware = replace(filled.hardware, disks=(replace(filled.hardware.disks[0], is_device=False),))
    return replace(
        filled, hardware=hardware, document=document, plan_digest=plan_digest(document), disks=(disk,), boot_files=files,
        outputs=(OutputFile(target.name, DISK_BYTES), *outputs),
        boot=replace(filled.boot, screenshot="vm.png", log="vm.boot.log"),
    )  # fmt: skip


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
