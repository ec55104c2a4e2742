"""Targets in other programs' formats: qemu-img writes them, from our NBD server, and our own reader compares the result.

qemu-img never sees the source, and an image is believed only when every byte of it was read back. There is no going on with
an interrupted one: it is removed, and after a kill the next run begins anew.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from converters.compare import compare_disks
from converters.host_file import open_in_qemu, open_target_file, resize, sync_data
from converters.image import open_disk
from converters.nbd import NbdExport, serve
from converters.qemu_img import NbdUri, QemuImg, lacked_space
from converters.references import DiskSpec
from converters.target_formats import ForeignFormat
from p2v.core import events
from p2v.core.disk import DiskReader
from p2v.core.errors import BadImage, BadTarget, NoSpace, ProgramFailed, TargetBusy, Usage
from p2v.core.events import BytesDone, Reporter
from p2v.core.io_errors import close_written
from p2v.core.units import SECTOR_BYTES, format_bytes, round_up
from p2v.core.workspace import free_bytes, locked, rename_new, socket_folder, sync_folder

_PROGRESS = re.compile(r"\((\d{1,3}\.\d\d)/100%\)")
_LOCK = ".p2v-lock"


@dataclass(frozen=True, slots=True)
class ForeignTarget:
    """One image to be made: under which name, as what."""

    final: Path
    partial: Path
    format: ForeignFormat
    variant: str

    def make(
        self, spec: DiskSpec, reader: DiskReader, qemu_img: QemuImg, *, report: Reporter, threads: int = 2
    ) -> int:
        """Write the disk that ``spec`` names and ``reader`` has open, compare, publish; the bytes the file takes.

        Raises Usage (too large a disk), TargetBusy, TargetExists, NoSpace, BadImage (the source cannot be read),
        BadTarget (what qemu-img wrote is not the disk), ProgramFailed, ToolMissing and what ``nbd.serve`` raises. Nothing
        is left then.
        """
        if reader.virtual_size > self.format.largest_bytes:
            most = format_bytes(self.format.largest_bytes)
            raise Usage(f"{self.final}: a {self.format.id} holds at most {most}", "Use qcow2, raw or vhdx for this disk.")
        with locked(self.final.with_name(f".{self.final.name}{_LOCK}"), self.final):
            handle = self._opened()
            try:
                self._write(spec, reader.virtual_size, qemu_img, report)
                self._compare(reader, report, threads)
                # what was read back may still be in memory only
                sync_data(handle, self.partial)
                taken = os.fstat(handle).st_blocks * SECTOR_BYTES
                rename_new(self.partial, self.final)
                sync_folder(self.final.parent)
                return taken
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    self.partial.unlink()
                raise
            finally:
                close_written(handle)

    def _opened(self) -> int:
        """An empty file that only its owner may read; qemu-img keeps the mode."""
        if self.partial.exists():
            handle = open_target_file(self.partial, resume=True)
            try:
                if open_in_qemu(handle):
                    raise TargetBusy(self.final)
                resize(handle, self.partial, 0)
            except BaseException:
                close_written(handle)
                raise
            return handle
        return open_target_file(self.partial, resume=False)

    def _write(self, spec: DiskSpec, size: int, qemu_img: QemuImg, report: Reporter) -> None:
        options = self.format.variants[self.variant]
        with socket_folder() as folder, serve(spec, folder) as export:
            with events.phase(report, "copy", "Writing by qemu-img", size):
                try:
                    qemu_img.convert(
                        NbdUri(export.uri),
                        "raw",
                        self.partial,
                        self.format.qemu,
                        options=options,
                        on_line=_progress(report, size),
                    )
                except ProgramFailed as error:
                    raise self._reason(error, export, spec.path, size) from error

    def _reason(self, error: ProgramFailed, export: NbdExport, source: Path, size: int) -> Exception:
        """What qemu-img could only call an input or output error."""
        if failures := export.failures():
            return BadImage(source, f"it could not be read: {failures[0]}", "")
        if lacked_space(error):
            return NoSpace(self.final.parent, size, free_bytes(self.final.parent), "Free some space or name another folder.")
        return error

    def _compare(self, reader: DiskReader, report: Reporter, threads: int) -> None:
        wanted = round_up(reader.virtual_size, SECTOR_BYTES)
        with open_disk(self.partial, self.format.id) as made:
            if made.virtual_size != wanted:
                raise BadTarget(self.final, f"qemu-img made a disk of {made.virtual_size} bytes out of {reader.virtual_size}")
            with events.phase(report, "compare", "Comparing the result", wanted):
                found = compare_disks(reader, made, report=report, threads=threads)
        if not found.same_contents:
            at = found.first_difference
            raise BadTarget(self.final, f"{found.different_bytes} bytes differ from the source, the first at byte {at}")


def _progress(report: Reporter, size: int) -> Callable[[str], None]:
    """qemu-img's percentages as bytes of the disk."""
    told = 0

    def on_line(line: str) -> None:
        nonlocal told
        found = _PROGRESS.search(line)
        if found is not None:
            done = int(size * float(found[1]) / 100)
            if done > told:
                report(BytesDone("copy", done - told))
                told = done

    return on_line
