"""The conversion record: what was found, what was done to it, with what, how long it took, what came out.

One JSON file beside the result. It names the plan by its digest and every input and output by its own, so
that it can be checked long after. How it is laid out in the file is ``p2v.record.parts``' matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import p2v
from converters.info import SourceIdentity
from drivers.apply import AppliedChange
from drivers.unneeded import UnneededFile
from p2v.consistency import LiveRecord
from p2v.core.events import Moment
from p2v.core.owners import OwnerKind
from p2v.documents import PlanDocument
from p2v.targets.hardware import TargetHardware
from p2v.verify import BootEvidence

RECORD_SCHEMA = 2
FLAT_SCHEMA = 1
"""Records of version 0.1: one digest over everything, no parts."""


@dataclass(frozen=True, slots=True)
class ChangedRange:
    """Bytes of a disk that the rewriting touched; everything else was copied as it stood.

    ``before`` and ``after``: SHA-256 (hex) of the range in the source and in the finished target; None in old records.
    """

    offset: int
    length: int
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOutRecord:
    """How many bytes of one kind ("free blocks of ext2/3/4") were not copied and read as zero in the result."""

    kind: str
    length: int


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """Bytes of a disk that could not be read and are zeroes in the result.

    ``place``: the partition or volume they are in, as people say it; ``holds`` what of it, ``name`` the path in that file
    system, what structure, or why it is not known.
    """

    offset: int
    length: int
    place: str
    holds: OwnerKind
    name: str

    @property
    def said(self) -> str:
        """What was hit, in words."""
        match self.holds:
            case OwnerKind.FILE | OwnerKind.FOLDER:
                return f"{self.name} in {self.place}"
            case OwnerKind.METADATA | OwnerKind.FREE:
                return f"{self.name} of {self.place}"
            case OwnerKind.OUTSIDE:
                return f"{self.name} ({self.place})"
            case OwnerKind.UNKNOWN:
                return f"something in {self.place} that is not known ({self.name})"


@dataclass(frozen=True, slots=True)
class AllocationRecord:
    """What was found of one volume before copying. ``why_whole``: why all of it was copied; empty when its allocation was read.

    A mirror's ``left_out_bytes`` count once.
    """

    name: str
    kind: str
    size_bytes: int
    left_out_bytes: int
    why_whole: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file whose contents its guest does not need. ``left_out_bytes`` of it were not copied; or ``why_whole``, all was."""

    file: UnneededFile
    left_out_bytes: int
    why_whole: str


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """One disk's way; sizes in bytes.

    ``unreadable`` could not be read, in order of place: with zeroes for it, the source is what ``source_content`` is of.
    ``left_out`` was not copied: nothing of it is in ``source_content``. ``left_out_digest``: SHA-256 of its places.
    ``source_content`` and ``result_content`` are content digests (``converters.digest`` says how they are made),
    taken with ``--checksum`` only; they differ exactly where ``changed`` says. ``result`` identifies the result cheaply.
    ``shared_bytes``: blocks that the result has in common with the source on the host's file system (reflink).
    ``compression``: of the result's clusters, empty where they are plain.
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
    left_out: tuple[LeftOutRecord, ...] = ()
    left_out_digest: str | None = None
    unreadable: tuple[UnreadableRecord, ...] = ()
    shared_bytes: int = 0
    compression: str = ""


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """A file system check: which device of the guest, before or after the rewriting, the checker's words."""

    when: str
    device: str
    kind: str
    clean: bool
    output: str
    checked: bool = True
    """Whether a checker looked at it at all; where none did, ``output`` says why."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that was made; ``sha256`` of small ones, None for disks (their digests stand with the disk)."""

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class HostRecord:
    """The computer that converted: its CPUs and their kind. ``name`` is None unless the user asked for it to be told."""

    cpus: int
    arch: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ConversionRecord:
    """Everything about one conversion. ``boot`` is None when the boot check was not asked for.

    ``seconds``: by phase. ``timeline``: when phases began and ended, with the host's load, and what was warned of.
    ``boot_files``: SHA-256 of the screenshot and the log, by file name. ``copy_of``: this is a scrubbed copy, made for
    others to read, of the record with that digest.
    """

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
    boot_files: Mapping[str, str] = field(default_factory=dict)
    host: HostRecord | None = None
    timeline: tuple[Moment, ...] = ()
    copy_of: str | None = None
    undo_journal: str | None = None
    """Of a conversion in place: what takes it back."""
    allocation: tuple[AllocationRecord, ...] = ()
    unneeded: tuple[FileRecord, ...] = ()
    """Swap files, page files and their like."""
    live: tuple[LiveRecord, ...] = ()
    """Of each disk that was in use: what was done about that."""
    schema: int = RECORD_SCHEMA
    suite_version: str = p2v.__version__

    @property
    def has_losses(self) -> bool:
        """Whether something of the source is not in the result for it could not be read."""
        return any(each.holds is not OwnerKind.FREE for disk in self.disks for each in disk.unreadable)
