"""Options that several verbs share: disks, files that they name, readers, progress."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from converters.formats import FORMATS
from converters.references import Lookup, SizeBy

SOURCE_HELP = (
    "a machine's description (.vmx, OVF, OVA, ...), a folder or archive with one in it, or its disks (images, block devices) "
    "in boot order"
)
FORMAT_IDS = tuple(known.id for known in FORMATS)


def given(arguments: argparse.Namespace, names: Iterable[str]) -> Iterator[str]:
    """Those among options that the user gave, as they are written; ``names``: what their values are called."""
    for name in names:
        if getattr(arguments, name):
            yield f"--{name.replace('_', '-')}"


def add_disks(parser: argparse.ArgumentParser, besides: str = "") -> None:
    """DISK... and how to read them; ``besides``: what may be named too."""
    parser.add_argument("disks", nargs="+", type=Path, metavar="SOURCE", help=besides + SOURCE_HELP)
    parser.add_argument(
        "--input-format", choices=FORMAT_IDS, help="take the disks for this format instead of looking at their contents"
    )
    add_system(parser)
    add_lookup(parser)


def add_system(parser: argparse.ArgumentParser) -> None:
    """Which machine of a package."""
    parser.add_argument("--system", metavar="NAME", help="which machine of a package that describes several (OVF)")


def add_lookup(parser: argparse.ArgumentParser) -> None:
    """Where files may be that images and descriptions name."""
    group = parser.add_argument_group("files that images name (a snapshot's parent, the extents of a split disk)")
    group.add_argument(
        "--parent",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="the parent of the first disk, where it is not beside it; repeat for the parent's parent",
    )
    group.add_argument(
        "--extent-dir", action="append", default=[], type=Path, metavar="DIR", help="a further folder to look for such files"
    )
    group.add_argument(
        "--allow",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a folder that images may name files in; nothing outside the disk's own folder is opened otherwise",
    )
    group.add_argument(
        "--size-by",
        choices=[by.value for by in SizeBy],
        default=SizeBy.CREATOR.value,
        help="what tells the size of a VHD (default: as the program that made it presents the disk)",
    )


def lookup_of(arguments: argparse.Namespace) -> Lookup:
    """What the user says about files that images name."""
    return Lookup(
        tuple(arguments.parent), tuple(arguments.extent_dir), tuple(arguments.allow), SizeBy(arguments.size_by)
    )


def add_reader(parser: argparse.ArgumentParser) -> None:
    """Which way guest contents are read."""
    parser.add_argument(
        "--reader",
        choices=("auto", "host", "appliance"),
        default="auto",
        help="read the guest's files on this host (quick), or in a read-only appliance (slow; replays journals); "
        "auto takes the appliance only where the host-side readers cannot be trusted",
    )


def add_progress(parser: argparse.ArgumentParser) -> None:
    """How progress is told on stderr."""
    parser.add_argument(
        "--progress",
        choices=("auto", "bars", "plain", "json", "none"),
        default="auto",
        help="on stderr: bars on a terminal, plain lines elsewhere, or JSON lines",
    )
