"""Snapshots of logical volumes, for the time of a copy; what a run that was killed left of them.

Each has a tag that names the process that wants it: one whose process is gone is nobody's, and is removed by the next run.
Sources: lvcreate(8), lvs(8), lvmthin(7).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2v.consistency import LiveSource, LogicalVolume
from p2v.core.block_devices import THIS_HOST, BlockDevice, HostFiles
from p2v.core.errors import NotHeldStill, P2vError, ProgramFailed
from p2v.core.marks import BATCH_VARIABLE, batch_mark, this_host
from p2v.core.run import Runner

_TAG = "p2v-suite"
_OWNED = re.compile(rf"{_TAG}\.(\d{{1,9}})\.(\d{{1,20}})")
_BATCH, _HOST = "p2v-batch.", "p2v-host."
_SECONDS = 120.0
_WATCH_SECONDS = 5.0
_REMOVE_TRIES, _REMOVE_PAUSE_SECONDS = 5, 0.5
_COLUMNS = "vg_name,lv_name,lv_size,vg_free,origin,pool_lv"


def volume_of(device: BlockDevice, runner: Runner) -> LogicalVolume | str:
    """The logical volume that a device is, or a sentence why no snapshot of it can be taken."""
    if not device.identity.startswith("dm/uuid=LVM-"):
        return f"{device.path} is no logical volume"
    if " partition=" in device.identity:
        return f"{device.path} is a part of a logical volume"
    try:
        rows = _lvs(runner, "-o", _COLUMNS, str(device.path))
    except P2vError as error:
        return f"LVM does not answer: {error.sentence()}"
    if len(rows) != 1:
        return f"LVM knows {len(rows)} volumes of that name"
    row = rows[0]
    try:
        return LogicalVolume(
            row["vg_name"],
            row["lv_name"],
            int(row["lv_size"]),
            int(row["vg_free"]),
            # of a thin volume that is a snapshot another one can be taken
            "" if row["pool_lv"] else row["origin"],
            row["pool_lv"],
        )
    except (KeyError, ValueError, AttributeError) as error:
        return f"LVM's answer is not understood: {error}"


@dataclass
class Snapshot:
    """A snapshot. ``fullest``: the most that was seen of its room, in percent; ``left``: why it is still there, at the end."""

    path: Path
    name: str
    fullest: float = 0.0
    problem: str = ""
    left: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    def require_kept(self) -> None:
        """Raises NotHeldStill when it ran full: what was read of it since is nothing."""
        if self.problem:
            raise NotHeldStill(self.name, self.problem)


@contextmanager
def snapshot(source: LiveSource, runner: Runner, on_lost: Callable[[], None] = lambda: None) -> Iterator[Snapshot]:
    """Take a snapshot, watch its room while the context lasts, and remove it, however that ends.

    ``on_lost`` is called, in a thread of its own, when it ran full. Nobody may have it open at the end; one that cannot be removed
    does the copy no harm, and says so (``left``). Raises NotHeldStill, ToolMissing.
    """
    group, _, origin = source.volume.partition("/")
    name = f"p2v-{origin[:60]}-{secrets.token_hex(4)}"
    tag = f"{_TAG}.{os.getpid()}.{_started(os.getpid(), THIS_HOST)}"
    room = ["--size", f"{source.snapshot_bytes}b"] if source.snapshot_bytes else ["--setactivationskip", "n"]
    argv = ["lvcreate", "--quiet", "--yes", "--snapshot", "--permission", "r"]
    argv += [word for each in (tag, *_further_tags()) for word in ("--addtag", each)]
    argv += ["--name", name, *room]
    argv.append(source.volume)
    try:
        runner.run(argv, timeout=_SECONDS)
    except ProgramFailed as error:
        raise NotHeldStill(source.volume, f"LVM takes no snapshot of it: {error.sentence()}") from error
    taken = Snapshot(Path("/dev", group, name), f"{group}/{name}")
    watcher = threading.Thread(target=_watch, args=(taken, runner, on_lost), daemon=True)
    try:
        watcher.start()
        yield taken
        _look(taken, runner)
    finally:
        taken._stop.set()
        watcher.join(_SECONDS)
        try:
            _remove(taken.name, runner)
        except P2vError as error:
            taken.left = f"the snapshot {taken.name} cannot be removed ({error.sentence()}): `lvremove {taken.name}` may later"


def remove_leftovers(runner: Runner, host: HostFiles = THIS_HOST) -> tuple[str, ...]:
    """Remove the snapshots of runs that are gone; a sentence about each. Where LVM does not answer there are none to be seen."""
    told = []
    try:
        names = left_snapshots(runner, host)
    except P2vError:
        return ()
    for name in names:
        try:
            _remove(name, runner)
        except P2vError as error:
            told.append(f"an earlier run left the snapshot {name}, which cannot be removed: {error.sentence()}")
        else:
            told.append(f"an earlier run was killed and left the snapshot {name}; it was removed")
    return tuple(told)


def left_snapshots(runner: Runner, host: HostFiles = THIS_HOST, batch: Path | None = None) -> tuple[str, ...]:
    """Snapshots (GROUP/NAME) of processes of this host that are gone; ``batch``: only those that the one with this store began.

    Hosts may share a volume group: processes of another host are not known here, and what they made is theirs. Raises what running
    lvs raises.
    """
    found = []
    for row in _lvs(runner, "-o", "vg_name,lv_name,lv_tags"):
        tags = str(row.get("lv_tags", "")).split(",")
        owner = next((match for tag in tags if (match := _OWNED.fullmatch(tag))), None)
        hosts = {tag for tag in tags if tag.startswith(_HOST)}
        is_wanted = batch is None or _BATCH + batch_mark(batch) in tags
        if owner is None or not is_wanted or not hosts <= {_HOST + this_host().mark()}:
            continue
        if _started(int(owner[1]), host) != owner[2]:
            found.append(f"{row.get('vg_name', '')}/{row.get('lv_name', '')}")
    return tuple(found)


def remove_snapshot(name: str, runner: Runner) -> None:
    """Remove one of them. Raises ProgramFailed, ProgramTimedOut, ToolMissing."""
    _remove(name, runner)


def _further_tags() -> tuple[str, ...]:
    """Whose a snapshot is beside its process: this host's, and of the batch that started us."""
    batch = os.environ.get(BATCH_VARIABLE)
    return (_HOST + this_host().mark(), *([_BATCH + batch_mark(Path(batch))] if batch else []))


def _watch(taken: Snapshot, runner: Runner, on_lost: Callable[[], None]) -> None:
    while not taken._stop.wait(_WATCH_SECONDS):
        with suppress(P2vError):  # the look at the end counts
            _look(taken, runner)
        if taken.problem:
            on_lost()
            return


def _look(taken: Snapshot, runner: Runner) -> None:
    """See how full it is. The kernel drops a snapshot that runs over, and its fifth attribute says so."""
    row = (_lvs(runner, "-o", "lv_attr,data_percent,pool_lv", taken.name) or [{}])[0]
    attributes, filled = str(row.get("lv_attr", "")), str(row.get("data_percent", "") or "0")
    with suppress(ValueError):
        taken.fullest = max(taken.fullest, float(filled))
    is_thin = bool(row.get("pool_lv"))
    if not attributes:
        taken.problem = "the snapshot is gone"
    elif attributes[4:5] in ("I", "S") or (not is_thin and taken.fullest >= 100):
        taken.problem = "the snapshot ran full: more was written to the volume than it had room for"


def _remove(name: str, runner: Runner) -> None:
    for tries in range(_REMOVE_TRIES, 0, -1):
        try:
            runner.run(["lvremove", "--quiet", "--yes", name], timeout=_SECONDS)
        except ProgramFailed:
            # udev looks at a volume whenever it changes
            if tries == 1:
                raise
            time.sleep(_REMOVE_PAUSE_SECONDS)
        else:
            return


def _lvs(runner: Runner, *words: str) -> list[dict[str, Any]]:
    """Rows of lvs. Raises what running it raises, ProgramFailed for an answer that is none."""
    done = runner.run(["lvs", "--reportformat", "json", "--units", "b", "--nosuffix", *words], timeout=_SECONDS)
    try:
        return [dict(row) for row in json.loads(done.stdout)["report"][0]["lv"]]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ProgramFailed("lvs", 0, "its answer is no report") from error


def _started(process: int, host: HostFiles) -> str:
    """When a process was started, in the kernel's clock ticks: with its number no other process has it; empty when it is gone.

    Source: proc_pid_stat(5), field 22.
    """
    try:
        text = (host.proc / str(process) / "stat").read_text("ascii", "replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""
