"""What is left out of a copy and what not, as text: before it (a plan) and after it (a record)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
