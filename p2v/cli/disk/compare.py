"""``p2v disk compare A B``: whether two images hold the same disk, whatever formats they have.

Exit status 0: the same; 1: different. Zeroes that only one of them has at its end make no difference, but are told;
with --strict they make one.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from converters.compare import Comparison, compare_disks
from converters.references import DiskSpec, Lookup
from p2v.cli import console, options
from p2v.cli.disk.source import add_input_format, open_spec
from p2v.core import events, jsontext
from p2v.core.units import format_bytes

_RANGES_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("first", type=Path, metavar="A", help="disk image or block device")
    parser.add_argument("second", type=Path, metavar="B", help="another")
    add_input_format(parser)
    parser.add_argument("--input-format-b", choices=options.FORMAT_IDS, help="the same for B; --input-format is A's")
    options.add_lookup(parser)
    parser.add_argument(
        "--parent-b", action="append", default=[], type=Path, metavar="FILE", help="the parent of B; --parent is A's"
    )
    parser.add_argument("--strict", action="store_true", help="disks of different sizes are different")
    parser.add_argument("--json", action="store_true", help="as a JSON document")
    options.add_progress(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print. 0 the same, 1 different."""
    lookup = options.lookup_of(arguments)
    of_second = Lookup(tuple(arguments.parent_b), lookup.folders, lookup.allowed, lookup.size_by)
    report = console.reporter(arguments.progress)
    with (
        open_spec(DiskSpec(arguments.first, arguments.input_format, lookup)) as first,
        open_spec(DiskSpec(arguments.second, arguments.input_format_b, of_second)) as second,
        events.phase(report, "compare", "Comparing", max(first.virtual_size, second.virtual_size)),
    ):
        found = compare_disks(first, second, report=report)
    same = found.same if arguments.strict else found.same_contents
    if arguments.json:
        console.out_json(jsontext.pretty({"same": same, "same_contents": found.same_contents, **asdict(found)}))
    else:
        console.out("\n".join(_text(found, arguments)))
    return 0 if same else 1


def _text(found: Comparison, arguments: argparse.Namespace) -> list[str]:
    lines = _contents(found)
    for offset, length in found.ranges[:_RANGES_SHOWN]:
        lines.append(f"  {offset:>16} {length:>12} bytes")
    if len(found.ranges) > _RANGES_SHOWN or not found.ranges_complete:
        lines.append("  ... (--json lists up to 1000)")
    read = f"{format_bytes(found.read_bytes)} were read of both; what is zero in both was not"
    return [*lines, *_sizes(found, arguments), read]


def _contents(found: Comparison) -> list[str]:
    if found.first_difference is None:
        return [f"the same: {min(found.first_size, found.second_size)} bytes hold the same"]
    total = sum(length for _, length in found.ranges)
    number = len(found.ranges)
    within = f"{number} {'range' if number == 1 else 'ranges'} of {total} bytes in all"
    return [
        f"different: the first byte that differs is at {found.first_difference}",
        f"{found.different_bytes} bytes differ, in {within if found.ranges_complete else 'more than 1000 ranges'}:",
    ]


def _sizes(found: Comparison, arguments: argparse.Namespace) -> list[str]:
    if found.first_size == found.second_size:
        return []
    longer = arguments.first if found.first_size > found.second_size else arguments.second
    shorter_size = min(found.first_size, found.second_size)
    zeroes = found.first_difference is None or (
        found.ranges_complete and all(offset + length <= shorter_size for offset, length in found.ranges)
    )
    more = f"what {longer} has more is all zeroes" if zeroes else f"{longer} is longer"
    return [f"sizes: A {found.first_size} bytes, B {found.second_size} bytes; {more}"]
