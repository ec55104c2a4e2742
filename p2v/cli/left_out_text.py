"""What is left out of a copy and what not, as text: before it (a plan) and after it (a record)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2v.copy_estimate import CopyEstimate
from p2v.core.text import printable
from p2v.core.units import format_bytes
from p2v.record import AllocationRecord, FileRecord, LeftOutRecord


def left_out_words(left_out: Iterable[LeftOutRecord]) -> str:
    """How much of each kind."""
    return ", ".join(f"{format_bytes(each.length)} ({each.kind})" for each in left_out)


def whole_rows(files: Iterable[FileRecord], volumes: Iterable[AllocationRecord], *, is_copied: bool) -> Iterator[str]:
    """Files that nobody needs, without their contents or not, and volumes that are copied whole, each with the reason."""
    whole, there = ("was copied whole", "is there") if is_copied else ("is copied whole", "will be there")
    for each in files:
        said = f"{whole}: {each.why_whole}" if each.why_whole else f"{there}, without its contents"
        yield printable(f"  {each.file.path} ({each.file.place}) {said}", keep="")
    for volume in volumes:
        if volume.why_whole:
            what = f"{volume.kind}, {format_bytes(volume.size_bytes)}"
            yield printable(f"  {volume.name} ({what}) {whole}: {volume.why_whole}", keep="")


def copy_rows(copy: CopyEstimate) -> Iterator[str]:
    """What of each disk is copied, and what is left out or not, and why."""
    of = sum(disk.virtual_bytes for disk in copy.disks)
    yield f"  at most {format_bytes(copy.copy_bytes)} of {format_bytes(of)}"
    for disk in copy.disks:
        left_out = left_out_words(disk.left_out)
        if len(copy.disks) > 1 or left_out:
            size = f"{format_bytes(disk.copy_bytes)} of {format_bytes(disk.virtual_bytes)}"
            yield printable(f"  {disk.source}: {size}" + (f"; left out: {left_out}" if left_out else ""), keep="")
    yield from whole_rows(copy.files, copy.volumes, is_copied=False)
    if any(disk.left_out for disk in copy.disks):
        yield "  what was deleted in the guest does not travel; where that matters (recovery, forensics): --all-blocks"
