"""What ``p2v disk convert`` made, and what it says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converters.allocation.findings import Unused
from converters.copy import CopyResult
from converters.target_formats import PLAIN, TargetOptions
from p2v.cli import console
from p2v.cli.disk import used_blocks
from p2v.consistency import LiveRecord, Way
from p2v.core import jsontext
from p2v.core.units import format_bytes, format_seconds
from p2v.core.workspace import allocated_bytes

_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Made:
    """A finished image. ``format``: as people call it; ``lost``: ranges (offset, length) that could not be read."""

    target: Path
    format: str
    copied: CopyResult
    layout: TargetOptions = PLAIN
    unused: Unused = used_blocks.NOTHING
    lost: Sequence[tuple[int, int]] = ()
    live: tuple[LiveRecord, ...] = ()

    @property
    def compression(self) -> str | None:
        """The codec of a compressed image."""
        return self.layout.compression.value if self.layout.compression is not None else None

    @property
    def file_bytes(self) -> int:
        """What the file takes."""
        return allocated_bytes(self.target)


def tell(made: Made, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        console.out_json(jsontext.pretty(_document(made)))
        return
    for line in _lines(made):
        console.out(line)


def _document(made: Made) -> dict[str, Any]:
    return {
        "target": str(made.target), "format": made.format, "compression": made.compression, "file_bytes": made.file_bytes,
        **asdict(made.copied), **used_blocks.document(made.unused),
        "unreadable": [{"offset": offset, "length": length} for offset, length in made.lost],
        "live": [_live(each) for each in made.live],
    }  # fmt: skip


def _live(record: LiveRecord) -> Any:
    # what a copy of a file never needs
    from p2v.documents import to_data

    return to_data(record)


def _lines(made: Made) -> Iterator[str]:
    copied = made.copied
    packed = f" compressed with {made.compression} to {format_bytes(made.file_bytes)}," if made.compression else ""
    shared = f", {format_bytes(copied.shared_bytes)} shared with the source (reflink)" if copied.shared_bytes else ""
    resumed = f", {format_bytes(copied.resumed_bytes)} of an earlier run" if copied.resumed_bytes else ""
    yield (
        f"{made.target}: {made.format},{packed} {format_bytes(copied.virtual_size)} ({copied.virtual_size} bytes); "
        f"{format_bytes(copied.written_bytes)} written in {format_seconds(copied.seconds)}{shared}{resumed}"
    )
    yield from used_blocks.told(made.unused)
    for each in made.live:
        yield f"in use          {'; '.join(each.users)}"
        yield f"done            {', '.join(each.done)}"
        if each.way is Way.AS_IT_RUNS:
            yield "copied as it ran: not of one moment; journals are not replayed and no file system was checked"
    if copied.digest is not None:
        yield f"content digest  {copied.digest}"
    for offset, length in made.lost[:_SHOWN]:
        yield f"not readable    {length} bytes at byte {offset}: zeroes"
    if len(made.lost) > _SHOWN:
        yield f"not readable    {len(made.lost) - _SHOWN} more ranges; --json lists all"
