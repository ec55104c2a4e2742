"""A record in memory with every field filled, consistent with itself, and its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from p2v.documents import plan_digest
from p2v.record import RECORD_SCHEMA, ConversionRecord, record_json
from tests.record.filling import Filler


def filled_record(filler: Filler | None = None) -> ConversionRecord:
    """A record whose plan digest fits."""
    record = (filler or Filler()).value(ConversionRecord)
    return replace(record, schema=RECORD_SCHEMA, copy_of=None, plan_digest=plan_digest(record.document))


def written(folder: Path, record: ConversionRecord | None = None, name: str = "vm") -> Path:
    """The record's file in a folder."""
    path = folder / f"{name}.json"
    path.write_text(record_json(record or filled_record()))
    return path
