"""``p2v disk convert SRC DST``: the disk as a qcow2 or raw image, byte for byte; the guest in it is left as it is.

DST appears whole or not at all; until then it is DST.partial. A run that was interrupted is gone on with by the same command.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

from converters.copy import CopyResult, copy_disk
from converters.digest import ContentDigest
from converters.image import identity
from converters.mapped import MappedDisk
from converters.target import Target, TargetFormat, journal_path, open_target
from p2v.cli import console, options
from p2v.cli.disk.source import add_source, open_spec, spec_of
from p2v.core import events, jsontext
from p2v.core.errors import BadImage, NoSource, TargetExists, Usage
from p2v.core.events import Reporter
from p2v.core.units import MIB, format_bytes, format_seconds
from p2v.core.workspace import PARTIAL, remove_quietly, require_space

_SUFFIXES = {".qcow2": TargetFormat.QCOW2, ".img": TargetFormat.RAW, ".raw": TargetFormat.RAW}
# Tables of the target and the journal.
_SLACK_BYTES = 16 * MIB


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_source(parser)
    parser.add_argument("target", type=Path, metavar="DST", help="the image to be made; must not exist")
    parser.add_argument(
        "--format",
        choices=[each.value for each in TargetFormat],
        help="of DST (default: what its name ends with, .qcow2, .img or .raw)",
    )
    parser.add_argument("--checksum", action="store_true", help="print the content digest of the disk")
    parser.add_argument("--threads", type=int, default=2, help="threads that copy (default 2)")
    parser.add_argument("--fresh", action="store_true", help="do not go on with an interrupted run; begin again")
    parser.add_argument("--json", action="store_true", help="the result as a JSON document")
    options.add_progress(parser)


def run(arguments: argparse.Namespace) -> int:
    """Copy, publish, print. 0 when DST is there."""
    if not 1 <= arguments.threads <= 64:
        raise Usage(f"--threads {arguments.threads}: 1 to 64")
    final: Path = arguments.target
    target_format = _format_of(final, arguments.format)
    if os.path.lexists(final):
        raise TargetExists(final, "Name another DST, or remove it.")
    if not final.parent.is_dir():
        raise NoSource(str(final.parent), "is no folder", "Make the folder first, or name another DST.")
    report = console.reporter(arguments.progress)
    with open_spec(spec_of(arguments)) as disk:
        partial = final.with_name(final.name + PARTIAL)
        if arguments.fresh:
            remove_quietly([partial, journal_path(partial)])
        require_space(final.parent, _space_needed(disk, partial))
        key = jsontext.digest(asdict(identity(disk)))
        with open_target(partial, target_format, disk.virtual_size, key) as target:
            copied = _copy(disk, target, arguments, report)
            target.publish(final)
    _print(final, target_format, copied, as_json=arguments.json)
    return 0


def _format_of(final: Path, given: str | None) -> TargetFormat:
    if given is not None:
        return TargetFormat(given)
    found = _SUFFIXES.get(final.suffix.lower())
    if found is None:
        raise Usage(f"{final}: its name does not tell the format", "Say --format qcow2 or --format raw.")
    return found


def _space_needed(disk: MappedDisk, partial: Path) -> int:
    """Bytes still to be written at most; a run before may have left some."""
    there = partial.stat().st_blocks * 512 if partial.is_file() else 0
    return max(sum(e.length for e in disk.extents() if not e.zero) - there, 0) + _SLACK_BYTES


def _copy(disk: MappedDisk, target: Target, arguments: argparse.Namespace, report: Reporter) -> CopyResult:
    if target.restart_reason:
        report(events.Warned(f"{target.path.name}: begun anew: {target.restart_reason}"))
    digest = ContentDigest(disk.virtual_size) if arguments.checksum else None
    try:
        with events.phase(report, "copy", "Copying", disk.virtual_size):
            copied = copy_disk(disk, target.writer, report=report, threads=arguments.threads, digest=digest)
            target.finish_copy()
    except BadImage:
        # the source itself is at fault: there is nothing a next run could go on with
        target.discard()
        raise
    return copied


def _print(final: Path, target_format: TargetFormat, copied: CopyResult, *, as_json: bool) -> None:
    if as_json:
        document = {"target": str(final), "format": target_format.value, **asdict(copied)}
        console.out_json(jsontext.pretty(document))
        return
    resumed = f", {format_bytes(copied.resumed_bytes)} of an earlier run" if copied.resumed_bytes else ""
    console.out(
        f"{final}: {target_format.value}, {format_bytes(copied.virtual_size)} ({copied.virtual_size} bytes); "
        f"{format_bytes(copied.written_bytes)} written in {format_seconds(copied.seconds)}{resumed}"
    )
    if copied.digest is not None:
        console.out(f"content digest  {copied.digest}")
