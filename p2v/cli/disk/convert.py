"""``p2v disk convert SRC DST``: the disk as an image of another format, byte for byte; the guest in it is left as it is.

DST appears whole or not at all; until then it is DST.partial. A run that was interrupted is gone on with by the same command;
VHD, VHDX and VMDK are begun anew.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from converters.allocation.unused import Unused
from converters.copy import CopyResult, copy_disk
from converters.digest import ContentDigest, digest_disk
from converters.foreign_target import FOREIGN_FORMATS, ForeignFormat, ForeignTarget
from converters.image import identity
from converters.mapped import MappedDisk
from converters.pieces import stored_bytes
from converters.qemu_img import QemuImg
from converters.references import DiskSpec
from converters.target import Target, TargetFormat, journal_path, open_target
from converters.target_formats import PLAIN, Preallocation, TargetOptions
from p2v.cli import console, gentle_options, layout_options, options
from p2v.cli.disk import used_blocks
from p2v.cli.disk.source import add_source, open_spec, spec_of
from p2v.core import events, jsontext
from p2v.core.disk import DiskReader
from p2v.core.errors import BadImage, NoSource, TargetExists, Usage
from p2v.core.events import Reporter
from p2v.core.run import SystemRunner
from p2v.core.units import MIB, format_bytes, format_seconds
from p2v.core.workspace import PARTIAL, remove_quietly, require_space
from p2v.source_care import SourceWish, care_of

Kind = TargetFormat | ForeignFormat
_SUFFIXES: dict[str, Kind] = {
    ".qcow2": TargetFormat.QCOW2,
    ".img": TargetFormat.RAW,
    ".raw": TargetFormat.RAW,
    **{known.suffix: known for known in FOREIGN_FORMATS.values()},
}
_SHOWN = 50
# Tables of the target and the journal.
_SLACK_BYTES = 16 * MIB


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
    parser.add_argument("--threads", type=int, default=2, help="threads that copy (default 2)")
    parser.add_argument("--fresh", action="store_true", help="do not go on with an interrupted run; begin again")
    parser.add_argument("--json", action="store_true", help="the result as a JSON document")
    layout_options.configure(parser)
    gentle_options.configure(parser)
    options.add_progress(parser)


def run(arguments: argparse.Namespace) -> int:
    """Copy, publish, print. 0 when DST is there; 2 when it has zeroes for what could not be read."""
    if not 1 <= arguments.threads <= 64:
        raise Usage(f"--threads {arguments.threads}: 1 to 64")
    final: Path = arguments.target
    wish = gentle_options.wish_of(arguments)
    kind = _kind_of(final, arguments.format)
    if isinstance(kind, ForeignFormat):
        return _run_foreign(arguments, final, kind)
    if arguments.subformat is not None:
        raise Usage(f"--subformat {arguments.subformat} is for vhd, vhdx and vmdk")
    layout = layout_options.layout_of(arguments, kind)
    _require_place(final)
    report = console.reporter(arguments.progress)
    with open_spec(spec_of(arguments)) as disk:
        partial = final.with_name(final.name + PARTIAL)
        if arguments.fresh:
            remove_quietly([partial, journal_path(partial)])
        view, unused = used_blocks.view_of(disk, report, used_blocks=arguments.used_blocks)
        require_space(final.parent, _space_needed(view, partial, layout))
        key, skip = _key(disk, unused), wish.skip_bad_sectors
        with open_target(partial, kind, disk.virtual_size, key, options=layout, skip_unreadable=skip) as target:
            copied = _copy(view, target, arguments, wish, report)
            target.publish(final)
    _print(final, kind.value, copied, unused, arguments, layout, lost=target.lost.ranges)
    return 2 if len(target.lost) else 0


def _run_foreign(arguments: argparse.Namespace, final: Path, kind: ForeignFormat) -> int:
    variant = arguments.subformat or next(iter(kind.variants))
    if variant not in kind.variants:
        raise Usage(f"--subformat {variant} is none of {kind.id}'s", f"Say one of {', '.join(kind.variants)}.")
    for name in layout_options.NAMES:
        if getattr(arguments, name):
            raise Usage(f"--{name.replace('_', '-')} is for qcow2 and raw: a {kind.id} is written by qemu-img")
    if arguments.used_blocks:
        raise Usage(f"--used-blocks is for qcow2 and raw: a {kind.id} is compared with the whole source")
    _require_place(final)
    report, spec = console.reporter(arguments.progress), spec_of(arguments)
    started = time.monotonic()
    with open_spec(spec) as disk:
        partial = final.with_name(final.name + PARTIAL)
        stored = sum(e.length for e in disk.extents() if not e.zero)
        require_space(final.parent, {"fixed": disk.virtual_size, "streamOptimized": 0}.get(variant, stored) + _SLACK_BYTES)
        # by its format, so that the server has no doubt about what was no doubt here
        named = DiskSpec(spec.path, disk.facts.format, spec.lookup)
        target = ForeignTarget(final, partial, kind, variant)
        taken = target.make(named, disk, QemuImg(SystemRunner()), report=report, threads=arguments.threads)
        digest = None
        if arguments.checksum:
            with events.phase(report, "checksum", "Reading the disk", disk.virtual_size):
                digest = digest_disk(disk, threads=arguments.threads, report=report, phase="checksum")
        copied = CopyResult(disk.virtual_size, stored, taken, 0, time.monotonic() - started, digest)
    _print(final, f"{kind.id} {variant}", copied, used_blocks.NOTHING, arguments)
    return 0


def _require_place(final: Path) -> None:
    if os.path.lexists(final):
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


def _key(disk: MappedDisk, unused: Unused) -> str:
    """What goes to the target: what an earlier run of another kind left is begun anew."""
    key = asdict(identity(disk))
    return jsontext.digest({**key, "left_out": unused.disks[0].digest()} if len(unused.disks[0]) else key)


def _space_needed(disk: DiskReader, partial: Path, layout: TargetOptions) -> int:
    """Bytes still to be written at most; a run before may have left some. Nobody knows what compressed ones come to."""
    if layout.compression is not None:
        return _SLACK_BYTES
    there = partial.stat().st_blocks * 512 if partial.is_file() else 0
    if layout.preallocation is Preallocation.FALLOC:
        return max(disk.virtual_size - there, 0) + _SLACK_BYTES
    return max(stored_bytes(disk) - there, 0) + _SLACK_BYTES


def _copy(
    disk: DiskReader, target: Target, arguments: argparse.Namespace, wish: SourceWish, report: Reporter
) -> CopyResult:
    if target.restart_reason:
        report(events.Warned(f"{target.path.name}: begun anew: {target.restart_reason}"))
    digest = ContentDigest(disk.virtual_size) if arguments.checksum else None
    care, faults = care_of(wish, [disk], report), target.faults(0, skip=wish.skip_bad_sectors)
    try:
        with events.phase(report, "copy", "Copying", disk.virtual_size):
            copied = copy_disk(
                disk, target.writer, report=report, threads=arguments.threads, digest=digest, care=care, faults=faults
            )
            target.finish_copy()
    except BadImage:
        # the source itself is at fault: there is nothing a next run could go on with
        target.discard()
        raise
    return copied


def _print(
    final: Path,
    made: str,
    copied: CopyResult,
    unused: Unused,
    arguments: argparse.Namespace,
    layout: TargetOptions = PLAIN,
    lost: Sequence[tuple[int, int]] = (),
) -> None:
    compression = layout.compression.value if layout.compression is not None else None
    file_bytes = final.stat().st_blocks * 512
    if arguments.json:
        unreadable = [{"offset": offset, "length": length} for offset, length in lost]
        document = {
            "target": str(final), "format": made, "compression": compression, "file_bytes": file_bytes,
            **asdict(copied), **used_blocks.document(unused), "unreadable": unreadable,
        }  # fmt: skip
        console.out_json(jsontext.pretty(document))
        return
    packed = f" compressed with {compression} to {format_bytes(file_bytes)}," if compression else ""
    resumed = f", {format_bytes(copied.resumed_bytes)} of an earlier run" if copied.resumed_bytes else ""
    console.out(
        f"{final}: {made},{packed} {format_bytes(copied.virtual_size)} ({copied.virtual_size} bytes); "
        f"{format_bytes(copied.written_bytes)} written in {format_seconds(copied.seconds)}{resumed}"
    )
    for line in used_blocks.told(unused):
        console.out(line)
    if copied.digest is not None:
        console.out(f"content digest  {copied.digest}")
    for offset, length in lost[:_SHOWN]:
        console.out(f"not readable    {length} bytes at byte {offset}: zeroes")
    if len(lost) > _SHOWN:
        console.out(f"not readable    {len(lost) - _SHOWN} more ranges; --json lists all")
