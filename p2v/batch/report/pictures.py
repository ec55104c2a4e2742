"""Boot screens and what else records know: read from disk, bounded, and kept from one writing of the page to the next."""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from p2v.batch.jobs import Job
from p2v.batch.report.fields import text_of
from p2v.batch.report.limits import PICTURE_BYTES, PICTURES_BYTES, RECORD_BYTES
from p2v.batch.report.words import Outcome, outcome_of
from p2v.pages.markup import PNG_SIGNATURE

_IHDR = struct.Struct(">I4sII")
_MOST_PIXELS = 1 << 13
_MOST_SECONDS = 1e9
_NOT_BOOTED = "not-booted"
_FIRST = (Outcome.PARKED, Outcome.NOT_BOOTED)


@dataclass(frozen=True, slots=True)
class Picture:
    """What a machine's screen showed when its boot check ended. ``png`` is empty where it is not in the page."""

    path: Path
    width: int
    height: int
    png: bytes = b""


@dataclass(frozen=True, slots=True)
class Boot:
    """What a record says of the boot check. ``reason``: the verdict's word (``booted``, ...), ``sentence``: what it means."""

    reason: str = ""
    sentence: str = ""
    seconds: float | None = None
    accelerator: str = ""
    picture: Picture | None = None


@dataclass
class Shelf:
    """Boot checks by record, as long as the record's file is the same: a page is written many times during a run."""

    kept: dict[Path, tuple[tuple[int, int, int], Boot | None]] = field(default_factory=dict)

    def boots(self, jobs: Sequence[Job]) -> Mapping[str, Boot]:
        """Of each machine whose record tells of a boot check, by its name. Pictures up to the page's budget, failures' first."""
        found = {job.machine.name: boot for job in jobs if (boot := self._boot(job)) is not None}
        left = PICTURES_BYTES
        for job in sorted(jobs, key=lambda each: (outcome_of(each) not in _FIRST, -each.ended)):
            boot = found.get(job.machine.name)
            seen = load(boot.picture) if boot is not None and boot.picture is not None and left > 0 else None
            if boot is not None and seen is not None and len(seen.png) <= left:
                left -= len(seen.png)
                found[job.machine.name] = replace(boot, picture=seen)
        return found

    def _boot(self, job: Job) -> Boot | None:
        record = job.record
        if record is None and job.failure is not None and job.failure.code == _NOT_BOOTED:
            record = job.machine.folder / f"{job.machine.name}.json"  # it was converted, and parked for its boot check
        if record is None:
            return None
        try:
            status = record.stat()
        except OSError:
            return None
        now = (status.st_mtime_ns, status.st_size, status.st_ino)
        before = self.kept.get(record)
        if before is None or before[0] != now:
            before = self.kept[record] = (now, boot_of(record))
        return before[1]


def boot_of(record: Path) -> Boot | None:
    """What a record says of its boot check; None where it says nothing, or cannot be read. Its digests are not looked at."""
    data = read_file(record, RECORD_BYTES)
    try:
        found = json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None
    boot = _part(found, "boot")
    evidence = _part(boot, "evidence") or boot  # version 0.1 had no parts
    if not _part(evidence, "verdict"):
        return None
    verdict = _part(evidence, "verdict")
    return Boot(
        text_of(verdict, "reason"),
        text_of(verdict, "sentence"),
        _seconds(evidence.get("seconds")),
        text_of(evidence, "accelerator"),
        _beside(record, text_of(evidence, "screenshot")),
    )


def _part(data: Any, name: str) -> Mapping[str, Any]:
    part = data.get(name) if isinstance(data, dict) else None
    return part if isinstance(part, dict) else {}


def _seconds(value: object) -> float | None:
    """A duration; NaN, infinity and numbers of a thousand digits are numbers to JSON's reader, and none of somebody's boot."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MOST_SECONDS
    return float(value) if is_one else None  # type: ignore[arg-type]


def _beside(record: Path, name: str) -> Picture | None:
    """The PNG of that name in the record's own folder, and in no other; None where there is none, or it is too large."""
    if not name or name != Path(name).name:
        return None
    found = load(Picture(record.parent / name, 0, 0))
    return replace(found, png=b"") if found is not None else None


def load(picture: Picture) -> Picture | None:
    """The picture with its bytes and its size; None where the file is no PNG, or too large for a page."""
    data = read_file(picture.path, PICTURE_BYTES)
    if len(data) < len(PNG_SIGNATURE) + _IHDR.size or not data.startswith(PNG_SIGNATURE):
        return None
    _, kind, width, height = _IHDR.unpack_from(data, len(PNG_SIGNATURE))
    if kind != b"IHDR" or not (0 < width <= _MOST_PIXELS and 0 < height <= _MOST_PIXELS):
        return None
    return Picture(picture.path, width, height, data)


def read_file(path: Path, most: int) -> bytes:
    """A regular file's bytes; none for anything else, for what cannot be read and for what is larger."""
    # ValueError: a name with a NUL or half a letter in it
    with suppress(OSError, ValueError):
        # O_NONBLOCK: a pipe in its place must not be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                data = file.read(most + 1)
                return data if len(data) <= most else b""
    return b""
