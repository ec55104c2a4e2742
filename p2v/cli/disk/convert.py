"""``p2v disk convert SRC DST``: the disk as an image of another format, byte for byte; the guest in it is left as it is.

DST appears whole or not at all; until then it is DST.partial. A run that was interrupted is gone on with by the same command,
which reads what is there again before it believes it; VHD, VHDX and VMDK are begun anew.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from converters.copy import COPY_THREADS
from converters.target import TargetFormat, journal_path
from converters.target_formats import FOREIGN_FORMATS, ForeignFormat
from p2v.cli import console, gentle_options, layout_options, live_options, options
from p2v.cli.disk import used_blocks
from p2v.cli.disk.copying import Copying
from p2v.cli.disk.made import Made, tell
from p2v.cli.disk.source import add_source, spec_of
from p2v.consistency import LiveWish
from p2v.core.block_devices import is_block_device
from p2v.core.errors import NoSource, TargetExists, Usage

Kind = TargetFormat | ForeignFormat
_SUFFIXES: dict[str, Kind] = {
    ".qcow2": TargetFormat.QCOW2,
    ".img": TargetFormat.RAW,
    ".raw": TargetFormat.RAW,
    **{known.suffix: known for known in FOREIGN_FORMATS.values()},
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_source(parser)
    parser.add_argument("target", type=Path, metavar="DST", help="the image to be made; must not exist")
    parser.add_argument(
        "--format",
        choices=[*(each.value for each in TargetFormat), *FOREIGN_FORMATS],
        help="of DST (default: what its name ends with, .qcow2, .img, .raw, .vhd, .vhdx or .vmdk). vhd, vhdx and vmdk are written "
        "by qemu-img and then compared with the source; they cannot be gone on with",
    )
    parser.add_argument(
        "--subformat",
        choices=list(dict.fromkeys(name for known in FOREIGN_FORMATS.values() for name in known.variants)),
        help="vhd, vhdx: dynamic (default) or fixed; vmdk: monolithicSparse (default) or streamOptimized",
    )
    parser.add_argument("--checksum", action="store_true", help="print the content digest of the disk")
    parser.add_argument("--used-blocks", action="store_true", help=used_blocks.HELP)
    parser.add_argument("--threads", type=int, default=COPY_THREADS, help="threads that copy (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="do not go on with an interrupted run; begin again")
    parser.add_argument("--json", action="store_true", help="the result as a JSON document")
    layout_options.configure(parser)
    gentle_options.configure(parser)
    live_options.configure(parser)
    options.add_progress(parser)


def run(arguments: argparse.Namespace) -> int:
    """Copy, publish, print. 0 when DST is there, 2 when something of the source could not be read."""
    if not 1 <= arguments.threads <= 64:
        raise Usage(f"--threads {arguments.threads}: 1 to 64")
    final: Path = arguments.target
    kind, spec, report = _kind_of(final, arguments.format), spec_of(arguments), console.reporter(arguments.progress)
    wish, reading = live_options.wish_of(arguments, final.parent), gentle_options.wish_of(arguments)
    if isinstance(kind, ForeignFormat):
        # what starts programs, and what reads of devices, is imported by those who need it
        from p2v.cli.disk import foreign

        variant = foreign.variant_of(arguments, kind)
        _require_place(final)
        made = foreign.make(arguments, spec, final, kind, variant, report)
    else:
        if arguments.subformat is not None:
            raise Usage(f"--subformat {arguments.subformat} is for vhd, vhdx and vmdk")
        copying = Copying(arguments, spec, final, kind, layout_options.layout_of(arguments, kind), reading, report)
        is_device = is_block_device(spec.path)
        _require_place(final, but_for=None if is_device else journal_path(copying.partial))
        made = _of_device(copying, wish) if is_device else copying.at_rest()
    tell(made, as_json=arguments.json)
    return 2 if made.lost else 0


def _of_device(copying: Copying, wish: LiveWish) -> Made:
    from p2v.cli.disk import live

    return live.copy(copying, wish)


def _require_place(final: Path, but_for: Path | None = None) -> None:
    """DST is not there, unless this journal is: then it may be what the same command had made."""
    if os.path.lexists(final) and (but_for is None or not but_for.exists()):
        raise TargetExists(final, "Name another DST, or remove it.")
    if not final.parent.is_dir():
        raise NoSource(str(final.parent), "is no folder", "Make the folder first, or name another DST.")


def _kind_of(final: Path, given: str | None) -> Kind:
    if given is not None:
        return FOREIGN_FORMATS.get(given) or TargetFormat(given)
    found = _SUFFIXES.get(final.suffix.lower())
    if found is None:
        raise Usage(f"{final}: its name does not tell the format", "Say --format qcow2 or --format raw.")
    return found
