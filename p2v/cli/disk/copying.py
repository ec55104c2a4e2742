"""A copy of one disk by our own writers: into DST.partial, going on where an earlier run ended, and then to its name."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from converters.allocation.findings import Unused
from converters.copy import CopyResult, copy_disk
from converters.digest import ContentDigest, digest_disk
from converters.image import identity
from converters.published import finish_published
from converters.references import DiskSpec
from converters.target import Target, TargetFormat, journal_path, open_target
from converters.target_formats import TargetOptions
from p2v.cli.disk import used_blocks
from p2v.cli.disk.made import Made
from p2v.cli.disk.source import open_spec
from p2v.core import events, jsontext
from p2v.core.disk import DiskReader
from p2v.core.errors import BadImage, NoSpace, TargetExists
from p2v.core.events import Reporter
from p2v.core.units import MIB
from p2v.core.waiting import told_when_slow
from p2v.core.workspace import PARTIAL, remove_files, require_space
from p2v.source_care import SourceWish, care_of
from p2v.target_room import still_to_write

# Tables of the target and the journal.
_SLACK_BYTES = 16 * MIB
_ADVICE = "Free some space and give the same command again, which goes on with what was copied; or name another DST."
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Copying:
    """One copy by our own writers."""

    arguments: argparse.Namespace
    spec: DiskSpec
    final: Path
    format: TargetFormat
    layout: TargetOptions
    reading: SourceWish
    report: Reporter

    @property
    def partial(self) -> Path:
        """The image until it is finished."""
        return self.final.with_name(self.final.name + PARTIAL)

    def at_rest(self) -> Made:
        """Copy a disk that nobody writes to, going on where an earlier run ended."""
        self.forget_if_fresh()
        with ExitStack() as stack:
            with told_when_slow(self.report, str(self.spec.path)):
                disk = stack.enter_context(open_spec(self.spec))
                named = asdict(identity(disk))
            view, unused = used_blocks.view_of(disk, self.report, used_blocks=self.arguments.used_blocks)
            key = _key(named, unused)
            if os.path.lexists(self.final):
                copied, lost = self._finished(view, key)
            else:
                require_space(self.final.parent, self.space_needed(view), _ADVICE)
                copied, lost = self._copied(view, key)
        return Made(self.final, self.format.value, copied, self.layout, unused, lost)

    def _copied(self, disk: DiskReader, key: str) -> tuple[CopyResult, Ranges]:
        try:
            with self.target(disk.virtual_size, key) as target:
                copied = self.copy(disk, target)
                target.publish(self.final)
                return copied, target.lost.ranges
        except NoSpace as full:
            # what one write lacked says little: what is lacking to the end is what must be freed
            raise NoSpace(full.folder, max(full.needed, self.space_needed(disk)), full.free, _ADVICE) from full

    def _finished(self, disk: DiskReader, key: str) -> tuple[CopyResult, Ranges]:
        """DST is there: the same command made it, and was killed before it had removed its journal. Raises TargetExists else."""
        found = finish_published(self.partial, self.final)
        if found is None or (found.header.identity, found.header.format) != (key, self.layout.text(self.format)):
            raise TargetExists(self.final, "Name another DST, or remove it.")
        self.report(events.Warned(f"{self.final.name}: an earlier run had done everything but removing its journal"))
        digest, threads = None, self.arguments.threads
        if self.arguments.checksum:
            with events.phase(self.report, "checksum", "Reading the source", disk.virtual_size):
                digest = digest_disk(disk, threads=threads, report=self.report, phase="checksum")
        return CopyResult(disk.virtual_size, 0, 0, disk.virtual_size, 0.0, digest), found.lost.ranges

    def forget_if_fresh(self) -> None:
        """Remove what an earlier run left, where the user wants that."""
        if self.arguments.fresh:
            remove_files([self.partial, journal_path(self.partial)])

    def target(self, size: int, key: str) -> Target:
        skip = self.reading.skip_bad_sectors
        return open_target(self.partial, self.format, size, key, options=self.layout, skip_unreadable=skip)

    def space_needed(self, disk: DiskReader) -> int:
        """Bytes still to be written at most, as ``still_to_write`` counts them."""
        return still_to_write([(disk, self.partial)], self.layout, shares=self._shares) + _SLACK_BYTES

    @property
    def _shares(self) -> bool:
        # what cannot be read has to be found out, and shared blocks are not read
        return self.layout.shares and not self.reading.skip_bad_sectors

    def copy(self, disk: DiskReader, target: Target, cancelled: Event | None = None) -> CopyResult:
        if target.restart_reason:
            self.report(events.Warned(f"{target.path.name}: begun anew: {target.restart_reason}"))
        if not target.journal.locked:
            message = f"{target.path.parent}: its file system has no locks; see to it that no other run writes there"
            self.report(events.Warned(message))
        digest = ContentDigest(disk.virtual_size) if self.arguments.checksum else None
        care, faults = care_of(self.reading, [disk], self.report), target.faults(0, skip=self.reading.skip_bad_sectors)
        threads = self.arguments.threads
        try:
            with events.phase(self.report, "copy", "Copying", disk.virtual_size):
                copied = copy_disk(
                    disk, target.writer, report=self.report, threads=threads, digest=digest, cancelled=cancelled,
                    care=care, faults=faults, share=self._shares,
                )  # fmt: skip
                target.finish_copy()
            for remark in target.remarks:
                self.report(events.Warned(remark))
        except BadImage:
            # the source itself is at fault: there is nothing a next run could go on with
            target.discard()
            raise
        return copied


def _key(named: dict[str, Any], unused: Unused) -> str:
    """What goes to the target, by the source's identity: what an earlier run of another kind left is begun anew."""
    return jsontext.digest({**named, "left_out": unused.disks[0].digest()} if len(unused.disks[0]) else named)
