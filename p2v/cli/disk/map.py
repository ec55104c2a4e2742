"""``p2v disk map SRC``: where the bytes of a disk are: data, zeroes, holes.

Each extent says separately whether it reads as zero and whether anything is allocated for it. Where its bytes stand
plainly in a file, the file and offset are told; compressed ones tell the stored stream, and what only the reader can put
together says ``read``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from p2v.cli import console
from p2v.cli.disk.source import add_source, open_spec, spec_of
from p2v.core.disk import Extent
from p2v.core.units import format_bytes

_LINES_AT_ONCE = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_source(parser)
    parser.add_argument("--json", action="store_true", help="as a JSON document with one extent a line")


@dataclass
class _Totals:
    """Bytes of each kind, counted as extents pass by."""

    extents: int = 0
    data: int = 0
    compressed: int = 0
    zero: int = 0
    hole: int = 0

    def counted(self, extents: Iterable[Extent]) -> Iterator[Extent]:
        for extent in extents:
            self.extents += 1
            if extent.zero and extent.allocated:
                self.zero += extent.length
            elif extent.zero:
                self.hole += extent.length
            elif extent.compressed is not None:
                self.compressed += extent.length
            else:
                self.data += extent.length
            yield extent


def run(arguments: argparse.Namespace) -> int:
    """Walk and print as it goes. 0; what cannot be walked is an error, after what came before it."""
    with open_spec(spec_of(arguments)) as disk:
        totals = _Totals()
        extents = totals.counted(disk.extents())
        if arguments.json:
            _print_json(disk.virtual_size, extents, totals)
        else:
            _print_table(extents, totals)
    return 0


def _print_table(extents: Iterator[Extent], totals: _Totals) -> None:
    console.out(f"{'OFFSET':>16} {'LENGTH':>16}  {'ZERO':<5}{'ALLOCATED':<10}WHERE")
    while lines := [_line(extent) for extent in itertools.islice(extents, _LINES_AT_ONCE)]:
        console.out("\n".join(lines))
    console.out(
        f"{totals.extents} extents: {format_bytes(totals.data)} of data, {format_bytes(totals.compressed)} compressed, "
        f"{format_bytes(totals.zero)} allocated zeroes, {format_bytes(totals.hole)} of holes"
    )


def _line(extent: Extent) -> str:
    yes = {True: "yes", False: "no"}
    flags = f"{yes[extent.zero]:<5}{yes[extent.allocated]:<10}"
    return f"{extent.offset:>16} {extent.length:>16}  {flags}{_where(extent)}".rstrip()


def _where(extent: Extent) -> str:
    if extent.zero:
        return ""
    if extent.stored is not None:
        return f"{extent.stored.file}+{extent.stored.offset}"
    if (packed := extent.compressed) is not None:
        skip = f", from byte {packed.skip} of it" if packed.skip else ""
        return f"compressed ({packed.codec.value}) {packed.file}+{packed.offset}, {packed.length} bytes{skip}"
    return "read"


def _print_json(virtual_size: int, extents: Iterator[Extent], totals: _Totals) -> None:
    console.out_json(f'{{"virtual_size": {virtual_size}, "extents": [\n')
    begin = ""
    while lines := [json.dumps(_record(extent)) for extent in itertools.islice(extents, _LINES_AT_ONCE)]:
        console.out_json(begin + ",\n".join(lines))
        begin = ",\n"
    console.out_json(f'\n], "totals": {json.dumps(vars(totals))}}}\n')


def _record(extent: Extent) -> dict[str, Any]:
    record: dict[str, Any] = {
        "offset": extent.offset, "length": extent.length, "zero": extent.zero, "allocated": extent.allocated,
    }  # fmt: skip
    if extent.zero:
        return record
    if extent.stored is not None:
        return record | {"where": "stored", "file": str(extent.stored.file), "file_offset": extent.stored.offset}
    if (packed := extent.compressed) is not None:
        return record | {
            "where": "compressed", "codec": packed.codec.value, "file": str(packed.file), "file_offset": packed.offset,
            "stored_length": packed.length, "inflated_length": packed.inflated_length, "skip": packed.skip,
        }  # fmt: skip
    return record | {"where": "read"}
