"""The conversion record: what was found, what was done to it, with what, how long it took, what came out.

One JSON file beside the result. It names the plan by its digest and every input and output by its own, so
that it can be checked long after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import p2v
from converters.info import SourceIdentity
from drivers.apply import AppliedChange
from p2v.core import jsonio, jsontext
from p2v.core.errors import NoSource, Usage
from p2v.documents import CONVERTER, PlanDocument, to_data
from p2v.targets.hardware import TargetHardware
from p2v.verify import BootEvidence

RECORD_SCHEMA = 1
_LARGEST_RECORD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ChangedRange:
    """Bytes of a disk that the rewriting touched; everything else was copied as it stood.

    ``before``, ``after``: SHA-256 (hexadecimal) of these bytes in the source and in the finished target.
    """

    offset: int
    length: int
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """One disk's way; sizes in bytes.

    ``source_content`` and ``result_content`` are content digests (``converters.digest`` says how they are made),
    taken with ``--checksum`` only; they differ exactly where ``changed`` says. ``result`` identifies the result cheaply.
    """

    source: str
    target: str
    virtual_size: int
    read_bytes: int
    written_bytes: int
    resumed_bytes: int
    changed: tuple[ChangedRange, ...]
    result: SourceIdentity
    source_content: str | None = None
    result_content: str | None = None


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """A file system check: which device of the guest, before or after the rewriting, the checker's words."""

    when: str
    device: str
    kind: str
    clean: bool
    output: str


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that was made; ``sha256`` of small ones, None for disks (their digests stand with the disk)."""

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ConversionRecord:
    """Everything about one conversion. ``boot`` is None when the boot check was not asked for."""

    started: str
    plan_digest: str
    document: PlanDocument
    hardware: TargetHardware
    disks: tuple[DiskRecord, ...]
    applied: tuple[AppliedChange, ...]
    checks: tuple[CheckRecord, ...]
    outputs: tuple[OutputFile, ...]
    seconds: Mapping[str, float]
    tools: Mapping[str, str]
    accelerator: str
    boot: BootEvidence | None = None
    undo_journal: str | None = None
    """Of a conversion in place: what takes it back."""
    schema: int = RECORD_SCHEMA
    suite_version: str = p2v.__version__


def record_json(record: ConversionRecord) -> str:
    """The record as a file: its digest first."""
    data = to_data(record)
    return jsontext.pretty({"digest": jsontext.digest(data), **data})


def load_record(path: Path) -> ConversionRecord:
    """Read a record. Raises NoSource when it cannot be read, Usage when it is none or does not fit its digest."""
    try:
        if path.stat().st_size > _LARGEST_RECORD_BYTES:
            raise Usage(f"{path}: too large for a record")
        data: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise NoSource(str(path), error.strerror or "cannot be read", "Name a record made by `p2v convert`.") from error
    except (ValueError, RecursionError) as error:
        raise Usage(f"{path}: not a JSON document", "Name a record made by `p2v convert`.") from error
    if not isinstance(data, dict) or data.get("schema") != RECORD_SCHEMA:
        raise Usage(f"{path}: not a conversion record of this version", "Name a record made by `p2v convert`.")
    digest = data.pop("digest", None)
    try:
        record = jsonio.decode(CONVERTER, data, ConversionRecord)
    except jsonio.BadDocument as error:
        raise Usage(f"{path}: not a conversion record: {error}") from error
    if digest != jsontext.digest(data):
        raise Usage(f"{path}: the record was changed after it was written", "Its digest no longer fits.")
    return record
