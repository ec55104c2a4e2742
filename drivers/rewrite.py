"""Carries out a plan in the appliance: check, mount, apply, unmount, check again.

Only file systems that the plan writes to are checked and mounted (and the root, which the others hang on): the rest of
the guest stays untouched, and checking terabytes of data nobody writes to would take longer than everything else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from drivers import guest_programs
from drivers.appliance import Appliance
from drivers.appliance_launch import appliance_memory_mib, open_appliance
from drivers.appliance_tree import ApplianceGuest, ApplianceTree
from drivers.appliance_values import ApplianceDisk, ApplianceFailed, FileSystemCheck
from drivers.apply import AppliedChange, apply_changes
from drivers.changes import Change, CopyFile, ExtendInitramfs
from drivers.discarding import discard_sessions
from drivers.facts import GuestFacts, Mount
from drivers.keys import Key
from drivers.plan import GuestPlan
from p2v.core.acceleration import Acceleration
from p2v.core.errors import Blocked, GuestNotUnderstood
from p2v.core.events import PhaseTimes, Reporter, Warned, phase, silent

_REASON_LINES = 12
_SYSTEM_FOLDERS = ("/boot/", "/efi/", "/usr/", "/var/", "/opt/", "/etc/", "/lib/", "/tmp/")

Supplements = Callable[[ExtendInitramfs, ApplianceTree], bytes]
"""Gives what to append to an initramfs; called once for each when the guest is mounted, so it can be built meanwhile
on the host, or be built from the tree in the appliance."""


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What was done. ``checks``: every file system written to, before and after; ``seconds`` by step.

    ``versions``: of libguestfs and of the kernel in its appliance, where one was launched.
    """

    applied: tuple[AppliedChange, ...]
    checks_before: tuple[FileSystemCheck, ...]
    checks_after: tuple[FileSystemCheck, ...]
    seconds: Mapping[str, float]
    versions: Mapping[str, str] = field(default_factory=dict)


def rewrite(
    disks: Sequence[ApplianceDisk],
    facts: GuestFacts,
    plan: GuestPlan,
    supplements: Supplements,
    acceleration: Acceleration,
    report: Reporter = silent,
    *,
    scratch: Path | None = None,
    cpus: int = 1,
    stop: threading.Event | None = None,
    keys: Sequence[Key] = (),
    accept_damage: bool = False,
    check_all: bool = False,
) -> RewriteResult:
    """Apply ``plan`` to a guest whose writable disks (overlays) are ``disks``, in the order of ``facts.disks``.

    ``accept_damage``: a file system that is damaged before is warned of and written to all the same, as long as it can be mounted.
    A plan without changes and programs launches nothing, unless ``check_all``: then the journals of all of the guest's file systems
    are replayed and all are checked, not only those that are written to; for disks that were copied while they were in use.
    Setting ``stop`` in another thread ends the work. When this raises, the disks are in no defined state: throw them away.

    Raises Blocked when the plan has blockers, or a file system is damaged before (in its checker's words); PlanStale,
    GuestFull, GuestNotUnderstood; ApplianceFailed (also when a file system is damaged afterwards), ApplianceStopped,
    ApplianceNotStarted, ProgramTimedOut; GuestProgramFailed when a program of the guest's that was asked for fails.
    """
    name = str(disks[0].path_or_uri) if disks else "the guest"
    if plan.blockers:
        raise Blocked(name, tuple(blocker.message for blocker in plan.blockers))
    if plan.is_idle and not check_all:
        return RewriteResult((), (), (), {})
    times = PhaseTimes(report)
    mounts = mounts_of(facts, plan.changes, with_system=bool(plan.programs))
    looked_at = tuple({mount.mountpoint: mount for mount in (*mounts, *(facts.mounts if check_all else ()))}.values())
    work = _Rewriting(name, mounts, looked_at, facts, times, accept_damage)
    memory_mib = appliance_memory_mib(sum(disk.size_bytes for disk in facts.disks))
    memory_mib = max(memory_mib, guest_programs.MEMORY_MIB) if plan.programs else memory_mib
    with (
        work.step_times(),
        open_appliance(
            disks, acceleration, memory_mib=memory_mib, cpus=cpus, scratch=scratch, report=times, stop=stop
        ) as appliance,
    ):
        versions = appliance.versions()
        with phase(times, "check-before", "Checking the guest's file systems"):
            appliance.activate(facts.volumes, keys)
            before = work.check_before(appliance)
        with phase(times, "apply", "Rewriting the guest"):
            discarded = discard_sessions(appliance, work.mounts[0], plan.changes)
            appliance.mount(work.mounts, read_only=False)
            guest = ApplianceGuest(appliance)
            extended = {c.path: supplements(c, guest) for c in plan.changes if isinstance(c, ExtendInitramfs)}
            applied = apply_changes(guest, plan.changes, extended, times, plan.labels, discarded)
            if plan.programs:
                applied += guest_programs.run_all(guest, plan.programs, times)
            appliance.umount()
        with phase(times, "check-after", "Checking the guest's file systems again"):
            after = work.check_after(appliance)
    return RewriteResult(applied, before, after, work.seconds, versions)


def mounts_of(facts: GuestFacts, changes: Sequence[Change], *, with_system: bool = False) -> tuple[Mount, ...]:
    """The root and every other mount that a path of a change lies below. Raises GuestNotUnderstood when there is no root.

    ``with_system``: also what programs of the guest's need (/usr, /var, ...).
    """
    if facts.root is None:
        raise GuestNotUnderstood("the guest", "no root file system was found in it")
    known = {mount.mountpoint: mount for mount in facts.mounts}
    known.setdefault("/", facts.root)
    needed = {"/"}
    paths = [change.path for change in changes]
    for path in [*paths, *(change.source for change in changes if isinstance(change, CopyFile))]:
        # those above it as well: what is mounted at /boot/efi has its place on the file system at /boot
        needed |= {m for m in known if m == "/" or path == m or path.startswith(m.rstrip("/") + "/")}
    if with_system:
        needed |= {point for point in known if f"{point}/".startswith(_SYSTEM_FOLDERS)}
    return tuple(known[mountpoint] for mountpoint in sorted(needed))


@dataclass
class _Rewriting:
    name: str
    mounts: tuple[Mount, ...]
    looked_at: tuple[Mount, ...]
    """What is checked: those and perhaps more."""
    facts: GuestFacts
    times: PhaseTimes
    accept_damage: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)

    @contextmanager
    def step_times(self) -> Iterator[None]:
        """Keeps the time of every step, and of ending the appliance."""
        started = time.monotonic()
        yield
        self.seconds.update(self.times.seconds)
        self.seconds["total"] = round(time.monotonic() - started, 3)

    def check_before(self, appliance: Appliance) -> tuple[FileSystemCheck, ...]:
        """Replay the journals and check. Raises Blocked with everything that is wrong."""
        unmountable = self._replay_journals(appliance)
        checks = self._check(appliance)
        damaged = [check for check in checks if check.checked and not check.clean]
        reasons = [_reason(check) for check in damaged]
        if self.accept_damage and not unmountable:
            self.damaged = {check.device for check in damaged}
            for reason in reasons:
                self.times(Warned(f"{reason}. It is written to all the same; have it checked when the guest starts"))
        elif reasons or unmountable:
            raise Blocked(self.name, tuple(reasons or unmountable))
        for check in checks:
            if not check.checked:
                self.times(Warned(f"{check.device} ({check.kind}) was not checked: {check.output}"))
        return checks

    def check_after(self, appliance: Appliance) -> tuple[FileSystemCheck, ...]:
        """Check what was written. Raises ApplianceFailed when a file system came to harm."""
        checks = self._check(appliance)
        for check in checks:
            if check.checked and not check.clean and check.device not in self.damaged:
                raise ApplianceFailed("leave the guest's file system sound", _reason(check))
        return checks

    def _replay_journals(self, appliance: Appliance) -> list[str]:
        failed = []
        for mount in self.looked_at:
            try:
                appliance.mount([replace(mount, mountpoint="/")], read_only=False)
                appliance.umount()
            except ApplianceFailed as error:
                failed.append(f"{mount.mountpoint} cannot be mounted: {error.message}")
        return failed

    def _check(self, appliance: Appliance) -> tuple[FileSystemCheck, ...]:
        devices = {appliance.device_of(mount): self.facts.filesystem_of(mount) for mount in self.looked_at}
        return tuple(
            appliance.check_filesystem(device, system.kind if system else appliance.kind_of(device))
            for device, system in devices.items()
        )


def _reason(check: FileSystemCheck) -> str:
    lines = [line.strip() for line in check.output.splitlines() if line.strip()]
    more = f" (and {len(lines) - _REASON_LINES} more lines)" if len(lines) > _REASON_LINES else ""
    return f"{check.device} ({check.kind}) is damaged: " + "; ".join(lines[:_REASON_LINES]) + more
