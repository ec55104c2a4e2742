"""A fleet of tiny machines in /srv/migration, as docs/batch-night.md has it, and the machine that converts it at night."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2v.core.units import MIB
from tests.batch.dos import dos_disk
from tests.batch.night.host import Machine, started, until
from tests.batch.night.page import PROGRAM, units

SERVICE, TIMER = "p2v-batch.service", "p2v-batch.timer"
NEVER = "OnCalendar=\nOnBootSec=1d"
"""What a timer goes by that is only there: of a service that no timer knows systemd forgets how it ended."""
OWNER = 61999
"""The user p2v (inside.sh)."""
SLOW = "slow"
_SLOW_BYTES = 6 * MIB
# its copy takes a minute: long enough for whoever looks for it on a busy host
_SLOW_LIMIT = "96K"


@dataclass
class Fleet:
    """What lies on the disk of the night's machine, which outlives it."""

    folder: Path
    _starts: int = 0
    _machines: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("migration", "kvm"):
            place = self.data / name
            place.mkdir(parents=True)
            os.chown(place, OWNER, OWNER)

    @property
    def data(self) -> Path:
        """/srv of the machine."""
        return self.folder / "srv"

    @property
    def here(self) -> Path:
        """/srv/migration."""
        return self.data / "migration"

    def add(self, name: str, **keys: object) -> None:
        """A machine that is converted in a second."""
        dos_disk(self.here / "exports" / f"{name}.raw", name.encode())
        self._note(name, f"{name}.raw", keys)

    def add_slow(self) -> None:
        """One whose copy takes a while."""
        dos_disk(self.here / "exports" / f"{SLOW}.raw", os.urandom(_SLOW_BYTES))
        self._note(SLOW, f"{SLOW}.raw", {"limit": _SLOW_LIMIT})

    def hurry(self) -> None:
        """The slow one is no longer slow from the next run on."""
        for machine in self._machines:
            machine.pop("limit", None)
        self._write()

    def add_bad(self, name: str) -> None:
        """One that was cut short."""
        (self.here / "exports").mkdir(exist_ok=True)
        (self.here / "exports" / f"{name}.vmdk").write_bytes(b"KDMV".ljust(64, b"\0"))
        self._note(name, f"{name}.vmdk", {})

    def mend(self, name: str) -> None:
        """The bad one was copied again."""
        whole = dos_disk(self.folder / f"{name}.raw")
        target = self.here / "exports" / f"{name}.vmdk"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", whole, target], check=True, timeout=600)

    def _note(self, name: str, source: str, keys: Mapping[str, object]) -> None:
        self._machines.append({"name": name, "source": f"exports/{source}", **keys})
        self._write()

    def _write(self) -> None:
        text = json.dumps({"schema": 1, "defaults": {"target": "/srv/kvm"}, "machines": self._machines})
        (self.here / "jobs.yaml").write_text(text)  # which is YAML as well

    @contextmanager
    def machine(self, timer: str = NEVER, service: str = "") -> Iterator[Night]:
        """Start the machine with the page's units. ``timer``, ``service``: what is changed about them, as drop-ins; a timer that is
        changed is enabled.
        """
        files = dict(units())
        if timer:
            files[f"{TIMER}.d/test.conf"] = f"[Timer]\n{timer}\n"
            files[f"timers.target.wants/{TIMER}"] = files[TIMER]
        if service:
            files[f"{SERVICE}.d/test.conf"] = f"[Service]\n{service}\n"
        self._starts += 1
        with started(self.folder / f"machine{self._starts}", self.data, files) as machine:
            yield Night(machine)


@dataclass
class Night:
    """The machine, and what its batch is at."""

    machine: Machine

    def p2v(self, *words: str, status: int = 0) -> str:
        """The program, by hand, as the user of the service."""
        by_hand = 'cd /srv/migration && exec "$@"'
        return self.machine.does("sh", "-c", by_hand, "sh", PROGRAM, *words, user="p2v", status=status)

    def start(self) -> None:
        """As the timer does, which does not wait for the end."""
        self.machine.does("systemctl", "start", "--no-block", SERVICE)

    def ended(self) -> tuple[str, str, str]:
        """Wait for the end of the service: its state, what systemd calls it, and its exit status."""
        until(
            lambda: self.machine.properties(SERVICE)["ActiveState"] in ("inactive", "failed"), "the end of the service"
        )
        found = self.machine.properties(SERVICE)
        return found["ActiveState"], found["Result"], found["ExecMainStatus"]

    def machines(self) -> Mapping[str, Mapping[str, Any]]:
        """What the store says of each."""
        found = json.loads(self.p2v("batch", "status", "--json"))
        return {each["name"]: each for each in found["machines"]}

    def events(self, name: str, kind: str) -> Sequence[Mapping[str, Any]]:
        """What happened to a machine."""
        lines = self.p2v("batch", "logs", name, "--json").splitlines()
        return [event for event in map(json.loads, lines) if event["kind"] == kind]

    def await_copy(self) -> int:
        """Wait until the slow machine is in the middle of its copy; bytes that it has copied by then."""
        copied = 0

        def is_copying() -> bool:
            nonlocal copied
            found = self.machines().get(SLOW, {})
            copied = int(found.get("bytes_copied", 0))
            assert found.get("state") in (None, "waiting", "running"), found
            return copied > 0

        # there is no store to look at before the run has begun
        until(lambda: any(self.machine.does("ls", "-A", "/srv/kvm").split()), "the store")
        until(is_copying, "the copy")
        return copied

    def log(self) -> list[str]:
        """The journal of the service, what it said itself alone."""
        text = self.machine.does("journalctl", "--unit", SERVICE, "--output", "cat", "_TRANSPORT=stdout", "--all")
        return text.splitlines()

    def processes(self) -> list[str]:
        """Of the service's user, all there are in the machine."""
        found = self.machine.does("ps", "--no-headers", "-u", str(OWNER), "-o", "args", status=None)
        return found.splitlines()
