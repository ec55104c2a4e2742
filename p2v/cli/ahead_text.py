"""What a conversion would make, copy and meet, as text: of `p2v convert --dry-run`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from p2v.cli.left_out_text import copy_rows
from p2v.conversion_job import Request
from p2v.core.text import printable
from p2v.core.units import format_bytes
from p2v.core.workspace import free_bytes
from p2v.documents import PlanDocument
from p2v.preflight import Preflight, Trouble, trouble_of_finding


def ahead_rows(
    looked: Preflight, in_the_way: Sequence[Trouble], document: PlanDocument, request: Request
) -> Iterator[str]:
    """The results, the room that they take, what is in the way, and what to know that the plan does not say."""
    yield _safe(f"Would make in {request.folder}")
    yield from (_safe(f"  {name}") for name in looked.outputs)
    yield from (_safe(f"  and write to {device}") for device in looked.devices)
    yield ""
    yield "To copy"
    if looked.copy is None:
        yield "  nobody knows before: disks are in use, or cannot be read"
    else:
        yield from copy_rows(looked.copy)
    if looked.room_bytes is not None:
        free = free_bytes(request.folder)
        yield f"  room: up to {format_bytes(looked.room_bytes)}, and {format_bytes(free)} are free"
    yield ""
    yield "In the way" if in_the_way else "Nothing is in the way."
    yield from (_said(each) for each in in_the_way)
    said = set(map(trouble_of_finding, document.plan.warnings))
    unsaid = [each for each in looked.warnings if each not in said]
    if unsaid:
        yield from ("", "To know")
        yield from (_said(each) for each in unsaid)


def _said(trouble: Trouble) -> str:
    return f"  {trouble.message}" + (f"\n      {trouble.hint}" if trouble.hint else "")


def _safe(text: str | Path) -> str:
    return printable(str(text), keep="")
