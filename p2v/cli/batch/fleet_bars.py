"""A batch on a terminal, by tqdm: a bar for the fleet, and one for each machine that is under way, as far as they fit."""

from __future__ import annotations

import os
import shutil
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

from tqdm import tqdm

from p2v.batch.estimate import Look, Outlook, about
from p2v.batch.jobs import JobEvent
from p2v.cli.bars import add, is_behind
from p2v.cli.batch.progress import TOLD, Fleet, told
from p2v.core.text import printable

_NAME_LETTERS = 24
_USUAL_COLUMNS = 80
_ENDS = frozenset(("done", "parked", "again", "cancelled", "released", "lease-lost"))
# bars say of themselves who is under way, and who is done
_SAID = (TOLD | {"paused", "resumed", "stopping", "late"}) - {"claimed", "done", "released", "hook"}


@dataclass
class _Machine:
    """A machine that is under way: its bar, and the phases that go on."""

    bar: Any
    phases: list[str] = field(default_factory=list)
    counted: str = ""


@dataclass
class FleetBars:
    """Machines that have no place on the screen are counted by the fleet's bar all the same."""

    stream: TextIO
    fleet: Fleet
    places: int
    machines: dict[str, _Machine] = field(default_factory=dict)
    whole: Any = None
    left: str = ""
    clock: Callable[[], float] = time.time
    outlook: Outlook = field(default_factory=Outlook)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # its thread would be there, with its locks, when a process is forked
        tqdm.monitor_interval = 0
        self.whole = tqdm(
            total=self.fleet.total, initial=self.fleet.ended, desc="fleet", unit="machine", file=self.stream,
            leave=True, position=0, mininterval=0, bar_format=_FLEET, **_width(self.stream),
        )  # fmt: skip
        self._count()

    def __call__(self, event: JobEvent) -> None:
        with self.lock:
            self.fleet.take(event)
            if event.kind in _SAID or (event.kind == "hook" and event.data.get("failed") is True):
                tqdm.write(self._wrapped(printable(told(event), keep="")), file=self.stream)
            if event.kind == "claimed":
                self._begin(event.job)
            elif event.job in self.machines:
                self._go_on(self.machines[event.job], event)
            if event.kind in _ENDS or event.kind == "claimed":
                self._count()

    def looked(self, look: Look) -> None:
        """How all stand, about once a second: what goes on without saying so goes on on the screen as well."""
        with self.lock:
            self.fleet.see(look)
            found = self.outlook.of(look, self.clock())
            self.left = "" if found is None else _left(found.seconds)
            if not is_behind(self.stream):
                for each in self.machines.values():
                    each.bar.refresh()
            self._count()

    def _wrapped(self, text: str) -> str:
        """Between words, where the screen is narrower."""
        columns = shutil.get_terminal_size((_USUAL_COLUMNS, 24)).columns
        return textwrap.fill(
            text, max(columns - 1, 20), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )

    def close(self) -> None:
        """Leave the fleet's bar as it stands, and no other."""
        with self.lock:
            for each in self.machines.values():
                each.bar.close()
            self.machines.clear()
            self.whole.close()

    def _begin(self, name: str) -> None:
        if name in self.machines or len(self.machines) >= self.places:
            return
        bar = tqdm(
            total=None, desc=_label(name), unit="B", unit_scale=True, unit_divisor=1024, file=self.stream,
            leave=False, miniters=1, bar_format=_UNCOUNTED, **_width(self.stream),
        )  # fmt: skip
        self.machines[name] = _Machine(bar)

    def _go_on(self, machine: _Machine, event: JobEvent) -> None:
        phase = str(event.data.get("phase", ""))
        match event.kind:
            case "phase-started":
                machine.phases.append(phase)
                self._count_bytes(machine, phase, event.data.get("total_bytes"))
            case "bytes-done" if phase == machine.counted:
                count = event.data.get("count")
                add(machine.bar, count if isinstance(count, int) else 0, self.stream)
            case "phase-finished":
                machine.phases = [each for each in machine.phases if each != phase]
                if phase == machine.counted:
                    machine.counted = ""
                    machine.bar.bar_format = _UNCOUNTED
            case kind if kind in _ENDS:
                machine.bar.close()
                del self.machines[event.job]
                return
            case _:
                return
        machine.bar.set_description_str(_label(event.job, machine.phases), refresh=event.kind != "bytes-done")

    def _count_bytes(self, machine: _Machine, phase: str, total: object) -> None:
        # phases overlap: the bar stays with the one that counts bytes
        if isinstance(total, int) and total > 0 and not machine.counted:
            machine.counted = phase
            machine.bar.bar_format = None
            machine.bar.reset(total=total)

    def _count(self) -> None:
        # the end of a line is what a narrow screen cuts off
        left = self.left if self.fleet.ended < self.fleet.total else ""
        said = (left, self.fleet.counts())
        self.whole.set_postfix_str(", ".join(part for part in said if part), refresh=False)
        self.whole.n = self.fleet.ended
        self.whole.total = self.fleet.total
        if not is_behind(self.stream):
            self.whole.refresh()


def _width(stream: TextIO) -> dict[str, Any]:
    """As wide as the terminal, also when that changes; one that does not tell (a serial line) is taken for a usual one."""
    try:
        told = os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        told = False
    return {"dynamic_ncols": True} if told else {"ncols": _USUAL_COLUMNS}


_FLEET = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
_UNCOUNTED = "{desc} [{elapsed}]"


def _left(seconds: float) -> str:
    return "<1 min left" if seconds < 60 else f"{about(seconds).replace('about ', '~')} left"


def _label(name: str, phases: list[str] | None = None) -> str:
    shown = printable(name, keep="")
    shown = shown if len(shown) <= _NAME_LETTERS else shown[: _NAME_LETTERS - 1] + "…"
    doing = " + ".join(printable(each, keep="")[:12] for each in phases) if phases else ""
    return f"  {shown:<{_NAME_LETTERS}} {doing}".rstrip()
