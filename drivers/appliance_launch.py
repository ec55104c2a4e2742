"""An appliance that runs: the one that starts quickest here, within its limits of time and memory, for as long as it is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.appliance import Appliance
from drivers.appliance_library import library
from drivers.appliance_values import ApplianceDisk, ApplianceNotStarted
from drivers.fixed_appliance.choosing import Quick, quick_appliance
from drivers.fixed_appliance.parts import Parts, supermin_folder
from p2v.core.acceleration import Acceleration
from p2v.core.errors import ProgramTimedOut
from p2v.core.events import Reporter, Warned, phase, silent
from p2v.core.run import SystemRunner
from p2v.core.turns import appliance_turn
from p2v.core.units import GIB

SMALLEST_MEMORY_MIB = 256
"""What libguestfs accepts, and enough to mount, edit and check small file systems (42 MiB are in use when idle)."""
_LARGEST_MEMORY_MIB = 2048
_LAUNCH_SECONDS_KVM = 90.0
# 6-20 s on a quiet machine; the first launch of a user also builds the appliance.
_LAUNCH_SECONDS_TCG = 300.0


def appliance_memory_mib(disk_bytes: int) -> int:
    """Memory for work on that much disk: checkers keep maps of the file system, below 1 MiB for 2 GiB of it."""
    return min(SMALLEST_MEMORY_MIB + disk_bytes // (2 * GIB), _LARGEST_MEMORY_MIB)


@contextmanager
def open_appliance(
    disks: Sequence[ApplianceDisk],
    acceleration: Acceleration,
    *,
    memory_mib: int = SMALLEST_MEMORY_MIB,
    cpus: int = 1,
    scratch: Path | None = None,
    launch_seconds: float | None = None,
    report: Reporter = silent,
    stop: threading.Event | None = None,
) -> Iterator[Appliance]:
    """Launch an appliance with these disks and end it, whatever happens, on leaving.

    Left without an error, it is shut down properly, which writes everything out; left by an error, its QEMU is
    killed, and writable disks are in no defined state. ``scratch``: the folder for the overlays of read-only disks.
    Setting ``stop`` in another thread ends whatever it is doing with ApplianceStopped. Where this process is one of a batch, it
    waits for its turn first: a process that has an appliance must not ask for a second one.

    Raises ApplianceNotStarted, ProgramTimedOut (after ``launch_seconds``), ApplianceFailed, ApplianceStopped.
    """
    stop = stop or threading.Event()
    launch = _Launch(disks, acceleration, memory_mib, cpus, scratch, launch_seconds, report, stop)
    with appliance_turn(report, stop.is_set):
        yield from _opened(launch)


def _opened(launch: _Launch) -> Iterator[Appliance]:
    """See ``open_appliance``, which bounds how many there are."""
    with phase(launch.report, "appliance", "Starting the appliance"):
        appliance = launch.start()
    try:
        yield appliance
        appliance.shutdown()
    except BaseException:
        appliance.kill()
        raise
    finally:
        appliance.close()


@dataclass(frozen=True, slots=True)
class _Launch:
    """What is to be launched, in the appliance that starts quickest here; ``seconds`` where the caller has a limit."""

    disks: Sequence[ApplianceDisk]
    acceleration: Acceleration
    memory_mib: int
    cpus: int
    scratch: Path | None
    seconds: float | None
    report: Reporter
    stop: threading.Event

    def start(self) -> Appliance:
        """The running appliance. Raises what ``open_appliance`` does."""
        with quick_appliance(installed_parts(), self.acceleration.accelerator, SystemRunner(), self.report) as quick:
            if quick is None:
                return self._start(None, self._limit())
            try:
                appliance = self._start_quick(quick)
            except ApplianceNotStarted as error:
                appliance, why = self._start(None, self._limit()), error.sentence()
                quick.note_failed(why)
                self.report(Warned(f"the appliance that starts quicker failed, and libguestfs' own was started: {why}"))
            return appliance

    def _limit(self) -> float:
        return self.seconds or (_LAUNCH_SECONDS_KVM if self.acceleration.kvm else _LAUNCH_SECONDS_TCG)

    def _start_quick(self, quick: Quick) -> Appliance:
        try:
            appliance = self._start(quick.folder, self._limit())
        except ProgramTimedOut as error:
            if quick.proved or self.seconds is not None:
                raise
            # one that never started here may be what hangs
            raise ApplianceNotStarted("start", error.sentence()) from error
        quick.note_works()
        return appliance

    def _start(self, folder: Path | None, seconds: float) -> Appliance:
        appliance = Appliance(_stop=self.stop)
        try:
            appliance.configure(self.disks, self.acceleration, self.memory_mib, self.cpus, self.scratch, folder)
            appliance.launch(seconds)
        except BaseException:
            appliance.kill()
            appliance.close()
            raise
        return appliance


def installed_parts() -> Parts | None:
    """What libguestfs would build its appliance from; None where it has one that somebody built themselves."""
    handle = library().GuestFS(python_return_dict=True, close_on_exit=False)
    try:
        version, folder = handle.version(), supermin_folder(handle.get_path())
    finally:
        handle.close()
    return Parts(f"{version['major']}.{version['minor']}.{version['release']}{version['extra']}", folder) if folder else None
