"""The documents that pass between commands: an inspection and a plan, as values and as JSON.

A plan document holds all that ``p2v convert --plan`` needs and the identity of what it was made for; its
digest is that of its canonical JSON, so a document edited by hand is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import p2v
from converters.info import ImageInfo, SourceIdentity
from converters.references import NOTHING_SAID, DiskSpec, Lookup
from drivers.changes import Change
from drivers.facts import GuestFacts
from drivers.plan import GuestPlan
from drivers.windows.edits import HiveEdit
from p2v.consistency import LiveSource
from p2v.core import jsonio, jsontext
from p2v.core.errors import NoSource, Usage
from p2v.machine import Machine
from p2v.targets.hardware import TargetHardware

if TYPE_CHECKING:
    import cattrs

INSPECTION_SCHEMA = 1
PLAN_DOCUMENT_SCHEMA = 1
_LARGEST_DOCUMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SourceDisk:
    """One disk of the source: where it is, what its image is, and how to know it again."""

    path: Path
    input_format: str | None
    """As the user gave it; None when the contents told."""
    image: ImageInfo
    identity: SourceIdentity
    lookup: Lookup = NOTHING_SAID

    @property
    def spec(self) -> DiskSpec:
        """How to open it."""
        return DiskSpec(self.path, self.input_format, self.lookup)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a machine's disks."""

    sources: tuple[SourceDisk, ...]
    facts: GuestFacts
    schema: int = INSPECTION_SCHEMA
    suite_version: str = p2v.__version__
    machine: Machine | None = None
    """As a description tells of it; None for disks alone."""


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """What will be done to which machine. The same source and options give the same document."""

    machine: Machine
    sources: tuple[SourceDisk, ...]
    facts: GuestFacts
    plan: GuestPlan
    hardware: TargetHardware
    schema: int = PLAN_DOCUMENT_SCHEMA
    suite_version: str = p2v.__version__
    live: tuple[LiveSource, ...] = ()
    """Of each disk that is in use, how it is copied. Its contents change: ``sources`` tells of them as they were."""


def document_converter() -> cattrs.Converter:
    """What turns the suite's documents into JSON data and back; everybody's, as ``jsonio.converter`` says."""
    return jsonio.converter(HiveEdit, Change)


def to_data(value: Any) -> Any:
    """Plain JSON data for any document of the suite."""
    return jsonio.encode(document_converter(), value)


def plan_digest(document: PlanDocument) -> str:
    """SHA-256 of the document's canonical JSON."""
    return jsontext.digest(to_data(document))


def plan_json(document: PlanDocument) -> str:
    """The plan as a file: its digest first, then the document."""
    return jsontext.pretty({"digest": plan_digest(document), **to_data(document)})


def load_plan(path: Path) -> PlanDocument:
    """Read a plan document. Raises NoSource when it cannot be read, Usage when it is none or was edited."""
    data = _load(path)
    digest = data.pop("digest", None)
    if data.get("schema") != PLAN_DOCUMENT_SCHEMA:
        raise Usage(
            f"{path}: plan schema {data.get('schema')!r} is not the one this version reads ({PLAN_DOCUMENT_SCHEMA})",
            "Make a new plan with this version.",
        )
    try:
        document = jsonio.decode(document_converter(), data, PlanDocument)
    except jsonio.BadDocument as error:
        raise Usage(f"{path}: not a plan: {error}", "Make one with `p2v plan DISK --json > FILE`.") from error
    if digest != jsontext.digest(data):
        raise Usage(
            f"{path}: the plan was changed after it was made",
            "Its digest no longer fits. Make a new plan with the options you want.",
        )
    return document


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_DOCUMENT_BYTES:
            raise Usage(f"{path}: too large for a plan")
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise NoSource(str(path), error.strerror or "cannot be read", "Name a file made by `p2v plan --json`.") from error
    except (ValueError, RecursionError) as error:
        raise Usage(f"{path}: not a JSON document", "Make one with `p2v plan DISK --json > FILE`.") from error
    if not isinstance(data, Mapping):
        raise Usage(f"{path}: not a plan", "Make one with `p2v plan DISK --json > FILE`.")
    return dict(data)


def relocated(document: PlanDocument, disks: tuple[Path, ...]) -> PlanDocument:
    """The same plan for disks that lie elsewhere now (their identity is still checked before anything is done)."""
    if len(disks) != len(document.sources):
        raise Usage(f"the plan is for {len(document.sources)} disks, {len(disks)} were named")
    sources = tuple(replace(s, path=p) for s, p in zip(document.sources, disks, strict=True))
    machine_disks = tuple(replace(d, path=p) for d, p in zip(document.machine.disks, disks, strict=True))
    return replace(document, sources=sources, machine=replace(document.machine, disks=machine_disks))
