"""Results that an attempt left whose end nobody heard: the runner died between a conversion's last rename and noting it."""

from __future__ import annotations

import calendar
import os
import time
from dataclasses import dataclass
from pathlib import Path

from p2v.batch.jobs import MachineJob
from p2v.core.errors import P2vError
from p2v.core.workspace import look_anew
from p2v.delivery import DeliveryNote
from p2v.record import ConversionRecord, load_record


@dataclass(frozen=True, slots=True)
class Result:
    """A conversion that is whole. ``booted``: what its boot check said; None: there was none."""

    record: Path
    booted: bool | None
    has_losses: bool = False


def record_path(machine: MachineJob) -> Path:
    """Where a conversion's record comes to stand."""
    return machine.folder / f"{machine.name}.json"


def result_since(machine: MachineJob, since: float) -> Result | None:
    """The whole result of a conversion of this machine that began at ``since`` (seconds since 1970) or later.

    Whole: its record is whole, and every file that it names is there with its size. When anything is unlike, None. It may wait
    for ever, where a mount does not answer (``p2v.batch.looking``).
    """
    path = record_path(machine)
    look_anew(machine.folder)  # the attempt may have been another host's
    if not path.is_file() or _is_to_be_told(machine):
        return None
    try:
        record = load_record(path)
    except P2vError:
        return None
    if (
        record.document.machine.name != machine.name
        or _began(record) < int(since)
        or not _is_there(record, machine.folder)
    ):
        return None
    return Result(path, None if record.boot is None else record.boot.booted, record.has_losses)


def _is_to_be_told(machine: MachineJob) -> bool:
    """Whether a libvirt does not know it yet: the next conversion tells it, and does no more."""
    goes_there = any(word == "--connect" or word.startswith("--connect=") for word in machine.options)
    return goes_there and DeliveryNote.of(machine.folder, machine.name).path.exists()


def _began(record: ConversionRecord) -> float:
    try:
        return calendar.timegm(time.strptime(record.started, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return 0.0


def _is_there(record: ConversionRecord, folder: Path) -> bool:
    for output in record.outputs:
        path = folder / output.name
        try:
            found = os.stat(path)
        except OSError:
            return False
        if path.is_file() and found.st_size != output.size:
            return False
    return True
