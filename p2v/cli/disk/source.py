"""What the disk verbs share: naming one image, and saying how it is read."""

from __future__ import annotations

import argparse
from pathlib import Path

from converters.image import open_disk
from converters.mapped import MappedDisk
from converters.references import DiskSpec
from p2v.cli import options


def add_source(parser: argparse.ArgumentParser) -> None:
    """SRC and how to read it."""
    parser.add_argument("source", type=Path, metavar="SRC", help="disk image or block device")
    add_input_format(parser)
    options.add_lookup(parser)


def add_input_format(parser: argparse.ArgumentParser) -> None:
    """The format, where the contents do not settle it."""
    parser.add_argument(
        "--input-format", choices=options.FORMAT_IDS, help="take it for this format instead of looking at its contents"
    )


def spec_of(arguments: argparse.Namespace) -> DiskSpec:
    """The image that the options describe."""
    return DiskSpec(arguments.source, arguments.input_format, options.lookup_of(arguments))


def open_spec(spec: DiskSpec) -> MappedDisk:
    """Open it; close it. Raises what ``converters.image.open_disk`` raises."""
    return open_disk(spec.path, spec.input_format, spec.lookup)
