"""``p2v disk convert`` to the formats of other hypervisors, which qemu-img writes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from converters.copy import CopyResult
from converters.digest import digest_disk
from converters.foreign_target import ForeignTarget
from converters.qemu_img import QemuImg
from converters.references import DiskSpec
from converters.target_formats import ForeignFormat
from p2v.cli import gentle_options, layout_options, live_options, options
from p2v.cli.disk.live import who_uses
from p2v.cli.disk.made import Made
from p2v.cli.disk.source import open_spec
from p2v.consistency import LiveWish
from p2v.core import events
from p2v.core.block_devices import is_block_device
from p2v.core.errors import Usage
from p2v.core.events import Reporter
from p2v.core.run import SystemRunner
from p2v.core.units import MIB
from p2v.core.workspace import PARTIAL, require_space

# Options that our own writers alone know, by the names their values have.
_OF_OURS = (*layout_options.NAMES, "used_blocks", *gentle_options.NAMES, *live_options.NAMES)
_SLACK_BYTES = 16 * MIB


def variant_of(arguments: argparse.Namespace, kind: ForeignFormat) -> str:
    """The sub-format asked for. Raises Usage, also for options that have no meaning here."""
    variant: str = arguments.subformat or next(iter(kind.variants))
    if variant not in kind.variants:
        raise Usage(f"--subformat {variant} is none of {kind.id}'s", f"Say one of {', '.join(kind.variants)}.")
    for option in options.given(arguments, _OF_OURS):
        raise Usage(f"{option} is for qcow2 and raw: a {kind.id} is written by qemu-img")
    return variant


def make(
    arguments: argparse.Namespace, spec: DiskSpec, final: Path, kind: ForeignFormat, variant: str, report: Reporter
) -> Made:
    """Have it written, compare it with the source, give it its name. Raises what these steps raise."""
    if is_block_device(spec.path):
        who_uses(spec.path, LiveWish(), report)
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
    return Made(final, f"{kind.id} {variant}", copied)
