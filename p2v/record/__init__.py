"""The conversion record: its values, its file, and what can be proved with it later."""

from p2v.record.conversion import (
    FLAT_SCHEMA,
    RECORD_SCHEMA,
    AllocationRecord,
    ChangedRange,
    CheckRecord,
    ConversionRecord,
    DiskRecord,
    FileRecord,
    HostRecord,
    LeftOutRecord,
    OutputFile,
    UnreadableRecord,
)
from p2v.record.reading import BadRecord, OpenedRecord, load_record, open_record, record_digest, record_json

__all__ = [
    "FLAT_SCHEMA",
    "RECORD_SCHEMA",
    "AllocationRecord",
    "BadRecord",
    "ChangedRange",
    "CheckRecord",
    "ConversionRecord",
    "DiskRecord",
    "FileRecord",
    "HostRecord",
    "LeftOutRecord",
    "OpenedRecord",
    "OutputFile",
    "UnreadableRecord",
    "load_record",
    "open_record",
    "record_digest",
    "record_json",
]
