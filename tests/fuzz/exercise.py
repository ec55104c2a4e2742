"""One input through a reader: everything a conversion and ``p2v disk`` do with an image, up to bounds.

What is allowed: success, or one of the suite's errors. Anything else is a finding, and so are more processor time or
memory than an image of a few KiB may cost, and answers that contradict each other.
"""

from __future__ import annotations

import importlib
import itertools
import os
import resource
import shutil
import signal
import time
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from converters.block_status import block_status
from converters.check import check_tables
from converters.extents import clip, invariant_broken
from converters.image import describe, identity, open_disk
from converters.layering import Link, links
from converters.mapped import MappedDisk
from p2v.core.errors import P2vError
from p2v.sources.description import Description, Folder, read_small
from tests.fuzz.sparse import Sparse, decoded
from tests.fuzz.targets import Target

# A small file may honestly say that a disk has billions of blocks; most inputs are only walked so far.
PIECES_WALKED = 20_000
_QUICK_WALK_SECONDS = 0.003
SECONDS = 5.0
MEMORY_BYTES = 256 << 20
_PIECE = 4096
# What takes long is done with one input in so many, and walking to the bound with one in so many more.
_RARELY, _SELDOM = 8, 32


class TooSlow(BaseException):
    """More processor time than ``SECONDS``; no Exception, so that nobody takes it for something to go on from."""


class Contradiction(AssertionError):
    """The reader's answers do not fit together."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an input ended: a short text that is the same for inputs of one kind, and for a finding its traceback."""

    text: str
    seconds: float
    finding: str = ""


class Exerciser:
    """Runs inputs of one target in a folder of its own; the files beside the input stay."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._input = folder / target.place
        self._opened = folder / (target.opened or target.place)
        self._fd = os.open(self._input, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._base = peak_rss()
        self.peak = self._base

    def close(self) -> None:
        """Close and remove the input."""
        os.close(self._fd)
        self._input.unlink(missing_ok=True)

    def run(self, data: bytes) -> Outcome:
        """One input, encoded."""
        return self.run_file(decoded(data), zlib.crc32(data))

    def run_file(self, file: Sparse, chosen: int) -> Outcome:
        """One input; ``chosen`` decides where it is read and what is done with it."""
        file.size = min(file.size, self._target.largest)
        file.put(self._fd)
        # anew each time: what else ran in this process meanwhile is not the input's doing
        before, started = peak_rss(), time.process_time()
        finding = ""
        try:
            with limited(SECONDS):
                if self._target.reader:
                    exercise_description(self._opened, self._target.reader)
                elif self._target.read is not None:
                    self._target.read(self._opened)
                else:
                    exercise(self._opened, self._target.format or None, chosen)
            text = "read"
        except P2vError as error:
            text = f"{type(error).__name__} {_place(error.__traceback__)}"
            if not error.sentence():
                finding = "an error without a sentence\n" + traceback.format_exc()
        except (Exception, TooSlow) as error:  # noqa: BLE001 (whatever comes is what is looked for)
            text = f"FINDING {type(error).__name__} {_place(error.__traceback__)}"
            finding = traceback.format_exc()
        seconds = time.process_time() - started
        self.peak = peak_rss()
        if not finding and self.peak > before and self.peak > self._base + MEMORY_BYTES:
            text = "FINDING memory"
            finding = f"peak of {self.peak} bytes, {self._base} before the first input\n"
        return Outcome(text, seconds, finding)


def exercise(path: Path, input_format: str | None, chosen: int) -> None:
    """Open, look up, walk, read. Raises P2vError; Contradiction and anything else are findings."""
    with open_disk(path, input_format) as disk:
        size = disk.virtual_size
        for at in {0, max(0, size - _PIECE), size // 2, chosen * 2654435761 % max(size, 1), size}:
            _read(disk, at)
        walked = all(_is_short(link, thorough=chosen % _SELDOM == 2) for link in links(disk))
        _look_up(disk, chosen * 40503 % max(size, 1))
        if walked:
            broken = invariant_broken(disk.extents(), size)
            if broken is not None:
                raise Contradiction(broken)
            if chosen % 4 == 0:
                describe(disk)
        if chosen % _RARELY == 0:
            identity(disk)
        elif chosen % _RARELY == 1 and walked:
            check_tables(disk)
    if chosen % _RARELY < 2:
        open_disk(path).close()


def exercise_description(path: Path, reader: str) -> None:
    """Recognise and read a machine's description. Raises P2vError; anything else is a finding."""
    module = importlib.import_module(f"p2v.sources.{reader}")
    data = read_small(path)
    module.recognises(data[:_PIECE])
    machine = module.read(Description(path, data, Folder(path.parent, path)))
    if not machine.disks or any(not finding.message.isprintable() for finding in (*machine.warnings, *machine.blockers)):
        raise Contradiction("a machine without disks, or what is said of it is no line of text")


def _read(disk: MappedDisk, at: int) -> None:
    expected = max(0, min(_PIECE, disk.virtual_size - at))
    if len(found := disk.pread(_PIECE, at)) != expected:
        raise Contradiction(f"{len(found)} bytes were read at {at} instead of {expected}")


def _is_short(link: Link, *, thorough: bool) -> bool:
    """Walk one image's pieces; whether that ended within the bounds, so that it can be done again."""
    stop = time.process_time() + _QUICK_WALK_SECONDS
    pieces = itertools.islice(clip(link.layout.walk(), link.layout.virtual_size), PIECES_WALKED)
    count = 0
    for _ in pieces:
        count += 1
        if not thorough and time.process_time() > stop:
            return False
    return count < PIECES_WALKED


def _look_up(disk: MappedDisk, at: int) -> None:
    position = at
    for extent in itertools.islice(disk.extents_in(at, at + 16 * _PIECE), 100):
        if extent.offset != position or extent.length <= 0:
            raise Contradiction(f"a look-up from {at} goes on at {extent.offset} after {position}")
        if extent.zero and any(disk.pread(min(extent.length, _PIECE), extent.offset)):
            raise Contradiction(f"bytes at {extent.offset} are not zero, though their extent says so")
        position = extent.end
    block_status(disk, at, _PIECE, only_first=True)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End what runs for more than some processor time of this process. Main thread only."""

    def expired(signum: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, expired)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def peak_rss() -> int:
    """The most memory this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def prepared(target: Target, folder: Path) -> tuple[Path, list[Path]]:
    """Make a target's images below ``folder``: the folder of what stays beside the input, and the seeds."""
    made, beside = folder / "made", folder / "beside"
    made.mkdir(parents=True)
    beside.mkdir()
    seeds = list(target.make(made))
    for path in made.iterdir():
        if path not in seeds:
            shutil.copyfile(path, beside / path.name)
    if target.opened and not (beside / target.opened).exists():
        raise FileNotFoundError(f"{target.id}: {target.opened} was not made")
    return beside, seeds


def _place(trace: TracebackType | None) -> str:
    """The innermost line of the suite that an error comes from."""
    place = "?"
    for frame, line in traceback.walk_tb(trace):
        name = frame.f_code.co_filename
        if "converters" in name or "drivers/windows" in name or "p2v" in Path(name).parts[-3:]:
            place = f"{Path(name).name}:{line}"
    return place
