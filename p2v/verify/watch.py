"""Watches a booting machine from outside until the verdict on it is certain."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from p2v.core.run import Background
from p2v.verify.console import GrowingLog, ask_shell, type_line
from p2v.verify.diagnose import Observations, Patience, at_login, clean, diagnose, in_initramfs_shell
from p2v.verify.evidence import Reason, Verdict
from p2v.verify.guest_report import parse_report
from p2v.verify.qmp import Monitor, MonitorFailed

_GLANCE_SECONDS = 0.5
_LOOK_SECONDS = 2.0
_SHELL_SECONDS = 20.0
_PROMPT_SECONDS = 15.0
# initramfs-tools' cryptroot, systemd-cryptsetup, dracut's own
_PASSPHRASE = re.compile(r"(?:Please unlock disk|[Pp]lease enter passphrase for|Enter passphrase for)[^\n]*:")
_LIST_DISKS = "cat /proc/partitions"
# A guest that computes may still come to an end, more so on a busy host; one that idles in silence waits for nothing.
_BUSY_SHARE = 0.15
_BUSY_PACE = 0.5


@dataclass
class RunningMachine:
    """The running QEMU, its monitor, and the files it writes to."""

    qemu: Background
    monitor: Monitor
    scratch: Path
    console_socket: Path
    serial: GrowingLog
    firmware: GrowingLog
    reporter: GrowingLog
    has_text_screen: bool = True
    """Whether the screen's text can be read from the guest's memory."""

    @property
    def logs(self) -> tuple[GrowingLog, ...]:
        """Everything that the guest and its firmware write to."""
        return (self.serial, self.firmware, self.reporter)


@dataclass
class Watch:
    """What is seen of one boot, kept up to date. What changes on a console or a disk is progress."""

    machine: RunningMachine
    patience: Patience
    nonce: str
    seen: Observations
    passphrases: tuple[str, ...] = ()
    _answered: int = 0
    _started: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _login: float | None = None
    _moved: int = 0
    _cpu_seconds: float = 0.0

    def until_certain(self) -> tuple[Verdict, Observations]:
        """Watch; returns the verdict with what it was made from."""
        while True:
            self._glance()
            if (verdict := diagnose(self.seen, self.patience)) is not None:
                if verdict.reason is Reason.BOOTED:
                    self._await_prompt()
                return verdict, self.seen
            self.machine.qemu.wait(_GLANCE_SECONDS)

    def _await_prompt(self) -> None:
        """The reporter is often quicker than the consoles: wait a little, so that log and picture show the prompt.

        The verdict stands; a system without a prompt only costs the wait.
        """
        deadline = time.monotonic() + _PROMPT_SECONDS
        while self._login is None and time.monotonic() < deadline and self.machine.qemu.wait(_GLANCE_SECONDS) is None:
            self._glance()

    def _glance(self) -> None:
        now = time.monotonic()
        # every log is read, or one that goes on for ever would keep the others from it
        grown = [log.grew() for log in self.machine.logs]
        if any(grown):
            self._hear()
        if now - self._looked >= _LOOK_SECONDS:
            self._look(now)
        if self._login is None and (at_login(self.seen.serial) or at_login(self.seen.screen)):
            self._login = now
        if self.seen.partitions is None and in_initramfs_shell(self.seen.serial):
            answer = ask_shell(self.machine.console_socket, _LIST_DISKS, _SHELL_SECONDS)
            self.seen = replace(self.seen, partitions=clean(answer))
        self._answer_passphrase()
        waited = 0.0 if self._login is None else now - self._login
        self.seen = replace(self.seen, seconds=now - self._started, login_seconds=waited)

    def _answer_passphrase(self) -> None:
        """Type a passphrase when the console asks for one; the given ones in turn, each once."""
        asked = len(_PASSPHRASE.findall(self.seen.serial))
        if self._answered < min(asked, len(self.passphrases)):
            type_line(self.machine.console_socket, self.passphrases[self._answered])
            self._answered += 1

    def _hear(self) -> None:
        machine = self.machine
        self.seen = replace(
            self.seen,
            serial=clean(machine.serial.text()),
            firmware=clean(machine.firmware.text()),
            report=parse_report(machine.reporter.text(), self.nonce),
            runaway=any(log.runaway for log in machine.logs),
            silent_seconds=0.0,
        )

    def _look(self, now: float) -> None:
        """Ask QEMU itself: its state, its screen, how many bytes its disks have moved, how much it computes."""
        passed, self._looked = now - (self._looked or now), now
        monitor, qemu = self.machine.monitor, self.machine.qemu
        try:
            status = monitor.status()
            screen = clean(monitor.text_screen(self.machine.scratch)) if self.machine.has_text_screen else ""
            moved = monitor.bytes_moved()
        except (MonitorFailed, OSError) as error:
            qemu.wait(_LOOK_SECONDS)
            self.seen = replace(self.seen, qemu_ended=qemu.stderr_tail() or str(error))
            return
        computed = cpu_seconds(qemu.process.pid)
        pace = _BUSY_PACE if computed - self._cpu_seconds > _BUSY_SHARE * passed else 1.0
        silent = self.seen.silent_seconds + pace * passed if moved == self._moved else 0.0
        self._moved, self._cpu_seconds = moved, computed
        self.seen = replace(
            self.seen,
            powered_off=status == "shutdown",
            disk_full=status == "io-error",
            screen=screen,
            silent_seconds=silent,
        )


def cpu_seconds(pid: int) -> float:
    """Seconds that a process and its threads have computed; 0 when it is gone."""
    try:
        # the program's name, in parentheses, may hold anything; proc(5): utime and stime are fields 14 and 15
        fields = Path("/proc", str(pid), "stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
