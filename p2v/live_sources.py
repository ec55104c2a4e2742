"""Sources that are block devices: whether they may be copied as they are, and what keeps one in use still meanwhile.

Without ``--live`` a device that somebody may write to is refused. With it, the best way is chosen (``p2v.consistency``), stands in
the plan, and is taken: ``held_still`` begins it and undoes it, also on errors. What a killed run could not undo, the guard of the
freeze undoes at once, and the next run removes (a snapshot).
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from drivers.plan import Finding
from p2v.consistency import LiveRecord, LiveSource, LiveWish, Way, choose
from p2v.core.block_devices import THIS_HOST, HostFiles, is_block_device
from p2v.core.device_use import UseKind, mount_below
from p2v.core.errors import P2vError, PlanStale, ReadFailed, SourceInUse, Usage
from p2v.core.events import Reporter, Warned
from p2v.core.freezing import Frozen, frozen
from p2v.core.run import Runner, find_program
from p2v.core.units import format_seconds
from p2v.core.workspace import cache_folder
from p2v.lvm_snapshots import Snapshot, remove_leftovers, snapshot, volume_of
from p2v.source_use import device_uses


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was found of the disks that are block devices: those in use with the way they are copied, and what is to be said."""

    live: tuple[LiveSource, ...] = ()
    warnings: tuple[Finding, ...] = ()


def look_over(
    disks: Sequence[Path],
    wish: LiveWish,
    runner: Runner,
    host: HostFiles = THIS_HOST,
) -> Sighting:
    """Look for the users of all disks that are block devices.

    Raises SourceInUse unless ``wish.allowed``, UnfitDevice, NotPermitted.
    """
    live: list[LiveSource] = []
    warnings: list[Finding] = []
    needed = _needed(wish.writes, host)
    for index, path in enumerate(disks):
        if not is_block_device(path):
            continue
        device, uses = device_uses(path, host)
        writing = tuple(use for use in uses if use.may_write)
        if not writing:
            warnings += [_looked_at(path, use.words) for use in uses if use.kind is UseKind.READ_ONLY]
            continue
        if not wish.allowed:
            raise SourceInUse(path, tuple(use.words for use in writing))
        volume = volume_of(device, runner) if find_program("lvcreate") else "LVM (lvcreate) is not installed here"
        live.append(choose(index, device.identity, device.size, writing, volume, needed, wish.freeze_seconds))
    return Sighting(tuple(live), (*warnings, *map(_told, live)))


def users_told(disks: Sequence[Path]) -> Iterator[str]:
    """A sentence about the users of each disk that is only looked into."""
    for path in disks:
        if is_block_device(path):
            writing = [use.words for use in device_uses(path)[1] if use.may_write]
            if writing:
                yield f"{path} is in use ({'; '.join(writing)}): what is read may not be of one moment"


def require_plain(live: Sequence[LiveSource], formats: Sequence[str]) -> None:
    """Only the bytes of a device can be held against a moment, not an image in it. Raises Usage."""
    for each in live:
        if formats[each.disk] != "raw":
            message = f"disk {each.disk + 1} is in use and holds a {formats[each.disk]} image, which cannot be copied meanwhile"
            raise Usage(message, "Shut down the machine that uses it.")


def require_same_ways(planned: Sequence[LiveSource], found: Sequence[LiveSource], disks: Sequence[Path]) -> None:
    """What is copied is what was planned, and in the way that was planned. Raises PlanStale."""
    now = {each.disk: each for each in found}
    for each in planned:
        other = now.pop(each.disk, None)
        where = str(disks[each.disk])
        if other is None:
            raise PlanStale(where, "a disk in use", "one that nobody uses any more: it needs no --live")
        if (other.device, other.size) != (each.device, each.size):
            raise PlanStale(where, f"{each.device} with {each.size} bytes", f"{other.device} with {other.size} bytes")
        if (other.way, other.freezes, other.volume) != (each.way, each.freezes, each.volume):
            why = f" ({'; '.join(other.not_better)})" if other.not_better else ""
            raise PlanStale(where, f"a disk that is {each.sentence}", f"one that would be {other.sentence}{why}")
    for other in now.values():
        raise PlanStale(str(disks[other.disk]), "a disk that nobody uses", f"one in use: {'; '.join(other.users)}")


def unrepeatable() -> str:
    """A key for a target that no other run has: pieces of two runs over a disk in use would not fit together."""
    return secrets.token_hex(16)


@dataclass
class StillSources:
    """Disks in use, as long as they are kept from changing. ``paths``: from where to read them, by their numbers."""

    live: Sequence[LiveSource]
    paths: Mapping[int, Path]
    _stack: ExitStack
    _started: float
    _done: Mapping[int, list[str]]
    _report: Reporter
    leftovers: tuple[str, ...] = ()
    """What was found, and said, of earlier runs that were killed."""
    _snapshots: Mapping[int, Snapshot] = field(default_factory=dict)
    _frozen: Frozen | None = None
    _is_over: bool = False

    def release(self) -> tuple[LiveRecord, ...]:
        """Let them change again; what was done. They must be closed: what is open cannot be removed.

        Raises NotHeldStill when one changed before: what was read is of no one moment.
        """
        seconds = round(time.monotonic() - self._started, 3)
        self._is_over = True
        self._stack.close()
        self.require_kept()
        for each in self._snapshots.values():
            if each.left:
                self._report(Warned(each.left))
        return tuple(LiveRecord(s.disk, s.way, s.users, (*self._done[s.disk], *self._undone(s)), seconds) for s in self.live)

    def require_kept(self) -> None:
        """Raises NotHeldStill when they were let go too early."""
        if self._frozen is not None:
            self._frozen.require_kept()
        for each in self._snapshots.values():
            each.require_kept()

    def _undone(self, source: LiveSource) -> list[str]:
        if source.way is Way.SNAPSHOT:
            taken = self._snapshots[source.disk]
            return [taken.left or f"removed the snapshot {taken.name}, which was {taken.fullest:.0f} % full"]
        if source.way is Way.FREEZE and self._frozen is not None:
            return [f"thawed {', '.join(source.freezes)} after {format_seconds(self._frozen.seconds)}"]
        return []


@contextmanager
def held_still(
    live: Sequence[LiveSource],
    disks: Sequence[Path],
    wish: LiveWish,
    runner: Runner,
    report: Reporter,
    on_lost: Callable[[], None] = lambda: None,
) -> Iterator[StillSources]:
    """Keep disks in use from changing, in the ways that were chosen, until ``release`` or the end of the context.

    ``disks``: where all the machine's disks are. ``on_lost`` is called, in a thread of its own, when a way fails meanwhile.
    Raises NotHeldStill, NotPermitted, ToolMissing.
    """
    leftovers = remove_leftovers(runner) if live else ()
    for sentence in leftovers:
        report(Warned(sentence))
    with ExitStack() as stack:
        paths = {each.disk: disks[each.disk] for each in live}
        done: dict[int, list[str]] = {each.disk: [] for each in live}
        snapshots: dict[int, Snapshot] = {}
        for each in live:
            if each.way is Way.SNAPSHOT:
                snapshots[each.disk] = stack.enter_context(snapshot(each, runner, on_lost))
                paths[each.disk] = snapshots[each.disk].path
                done[each.disk].append(f"took the snapshot {snapshots[each.disk].name} of {each.volume}")
        places = [Path(place) for each in live for place in each.freezes]
        stopped = stack.enter_context(frozen(places, wish.freeze_seconds, on_lost)) if places else None
        if any(each.way is Way.AS_IT_RUNS for each in live):
            os.sync()
        for each in live:
            if each.way is Way.FREEZE:
                done[each.disk].append(f"froze {', '.join(each.freezes)}")
            elif each.way is Way.AS_IT_RUNS:
                done[each.disk].append("had the kernel write back what it held")
            _forget_cached(paths[each.disk])
        still = StillSources(live, paths, stack.pop_all(), time.monotonic(), done, report, leftovers, snapshots, stopped)
    try:
        yield still
    except BaseException:
        # what went wrong first is what is told
        with suppress(P2vError, OSError):
            still._stack.close()
        # unless it is because of this that the copy was stopped
        still.require_kept()
        raise
    else:
        if not still._is_over:
            still.release()


def _forget_cached(device: Path) -> None:
    """Drop what the kernel keeps of a device's contents: a file system on it writes past that, and it may be old."""
    try:
        handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    except OSError as error:
        raise ReadFailed(str(device), f"cannot be read: {error.strerror}") from error


def _needed(writes: Sequence[tuple[Path, str]], host: HostFiles) -> dict[str, str]:
    """File systems that this run, or its end, needs to write to, by the kernel's numbers."""
    ours = [
        *writes,
        (Path(tempfile.gettempdir()), "temporary files are made there"),
        (Path("/tmp"), "temporary files are made there"),
        (cache_folder(), "p2v keeps what it knows of this host there"),
        *((Path(f"/proc/self/fd/{number}"), "what p2v says goes there") for number in (1, 2)),
    ]
    found: dict[str, str] = {}
    for path, why in ours:
        below = mount_below(path, host)
        if below is not None:
            found.setdefault(below.number, why)
    return found


def _looked_at(path: Path, words: str) -> Finding:
    message = f"{path} is {words}: nobody writes to it that way, but it must stay so until the copy is done"
    return Finding("source.read-only-use", message, "Unmount it to be sure.")


def _told(live: LiveSource) -> Finding:
    users = "; ".join(live.users)
    reasons = "".join(f"; {reason}" for reason in live.not_better)
    return Finding(
        "source.live",
        f"disk {live.disk + 1} is in use ({users}); it will be {live.sentence}{reasons}",
        "Journals are replayed and file systems checked in what is made of it; shut down, it gives a better copy."
        if live.way is Way.AS_IT_RUNS
        else "",
    )
