"""A machine whose first process is systemd: in namespaces and a control group of its own, and on the host's own programs.

It is this host's kernel, and root of it: what the machine could do to it is left out or read-only (inside.sh).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 300.0
"""Seconds that a fact is waited for: the host may have ten times more to do than processors."""
_REPOSITORY = Path(__file__).parents[3]
_SPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
_PROGRAMS = ("unshare", "nsenter", "setpriv", "pivot_root", "systemctl", "journalctl")


def why_not() -> str:
    """What such a machine needs that is not here; empty: nothing."""
    if os.geteuid() != 0:
        return "making namespaces and control groups needs root"
    if lacking := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"not installed: {', '.join(lacking)}"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        return "this kernel has no overlay file system"
    if _own_group() is None:
        return "this host has no cgroup2"
    return ""


def until(fact: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.1)


@dataclass
class Machine:
    """One that has started. ``first``: the process that is its first one, by its number here."""

    outside: subprocess.Popen[bytes]
    first: int

    def does(self, *words: str, user: str = "root", status: int | None = 0) -> str:
        """Run a command in it; all that it says. ``status``: what it must end with; None: whatever."""
        as_user = () if user == "root" else ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
        entered = ("nsenter", "--target", str(self.first), *_SPACES, "--root")
        done = subprocess.run(
            [*entered, *as_user, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": ""},
        )
        assert status is None or done.returncode == status, (words, done.returncode, done.stdout)
        return done.stdout

    def properties(self, unit: str) -> Mapping[str, str]:
        """What systemd says of a unit."""
        lines = self.does("systemctl", "show", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def is_on(self) -> bool:
        return self.outside.poll() is None

    def cut_off(self) -> None:
        """As by a power cut."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)
        self.outside.wait(PATIENCE)


@contextmanager
def started(scratch: Path, data: Path, units: Mapping[str, str]) -> Iterator[Machine]:
    """Start a machine. ``scratch``: an empty folder; ``data``: its /srv, which outlives it; ``units``: files of
    /etc/systemd/system by their names, those of folders ``.wants`` as links.

    It has started everything when it is handed out, and is gone at the end.
    """
    for name, text in units.items():
        place = scratch / "units" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.parent.suffix == ".wants":
            place.symlink_to(f"../{place.name}")
        else:
            place.write_text(text)
    (scratch / "below").mkdir(parents=True, exist_ok=True)
    with _group() as group, (scratch / "said").open("wb") as said:
        outside = subprocess.Popen(_words(group, scratch, data), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            first = _first_process(outside, scratch / "said")
            # a group with processes of its own can hand nothing on to those below it
            (group.parent / "cgroup.procs").write_text(str(outside.pid))
            machine = Machine(outside, first)
            until(lambda: _has_started(machine), f"the start of systemd\n{(scratch / 'said').read_text()}")
            yield machine
        finally:
            outside.kill()
            outside.wait(PATIENCE)


def _words(group: Path, scratch: Path, data: Path) -> list[str]:
    """Who waits for the machine's first process dies with the test, and takes it along."""
    inside = [str(each) for each in (Path(__file__).with_name("inside.sh"), scratch / "below", _REPOSITORY, sys.prefix)]
    spaces = (*_SPACES, "--fork", "--kill-child")
    into = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
    return [
        "setpriv", "--pdeathsig", "KILL", "sh", "-c", into, "sh",
        "unshare", *spaces, "sh", *inside, str(data), str(scratch / "units"),
    ]  # fmt: skip


def _first_process(outside: subprocess.Popen[bytes], said: Path) -> int:
    children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
    found: list[int] = []

    def is_systemd() -> bool:
        assert outside.poll() is None, said.read_text()
        found[:] = [int(word) for word in children.read_text().split()]
        return any(Path(f"/proc/{pid}/comm").read_text() == "systemd\n" for pid in found)

    until(is_systemd, "the first process")
    return found[0]


def _has_started(machine: Machine) -> bool:
    assert machine.is_on()
    return machine.does("systemctl", "is-system-running", status=None).strip() in ("running", "degraded")


def _own_group() -> Path | None:
    """The folder of this process' control group in the unified hierarchy."""
    own = next(
        (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), None
    )
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if own is not None and after.startswith("cgroup2 ") and before.split()[3] == "/":
            return Path(before.split()[4]) / own.lstrip("/")
    return None


@contextmanager
def _group() -> Iterator[Path]:
    """A control group below this process' own, which goes with all that were made in it."""
    own = _own_group()
    assert own is not None
    group = own / f"p2v-night-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        yield group
    finally:
        # processes that were killed are in it until they are gone
        until(lambda: "populated 0" in (group / "cgroup.events").read_text(), f"the end of all in {group}")
        for folder, _, _ in os.walk(group, topdown=False):
            os.rmdir(folder)
