"""Progress on a terminal, by tqdm."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, TextIO

from tqdm import tqdm

from p2v.core.events import BytesDone, ChangeApplied, Event, ItemDone, PhaseFinished, PhaseStarted, Warned
from p2v.core.text import printable
from p2v.core.units import format_seconds


@dataclass
class Bars:
    """A bar with rate and time left for each phase that counts bytes; lines above it for the rest."""

    stream: TextIO
    bars: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # its thread would be there, with its locks, when a process is forked
        tqdm.monitor_interval = 0

    def __call__(self, event: Event) -> None:
        with self.lock:
            match event:
                case PhaseStarted(phase, title, total) if total:
                    self.bars[phase] = tqdm(
                        total=total, desc=printable(title), unit="B", unit_scale=True, unit_divisor=1024,
                        file=self.stream, leave=True, dynamic_ncols=True, miniters=1,
                    )  # fmt: skip
                case PhaseStarted(_, title, _):
                    self._say(f"{title} ...")
                case BytesDone(phase, count) if phase in self.bars:
                    add(self.bars[phase], count, self.stream)
                case ItemDone(phase, name, done, total):
                    self._count(phase, name, done, total)
                case PhaseFinished(phase, seconds, failed):
                    if bar := self.bars.pop(phase, None):
                        bar.close()
                    self._say(f"{phase}: {'failed' if failed else 'done'} in {format_seconds(seconds)}")
                case ChangeApplied(summary, skipped):
                    self._say(f"  {'already so' if skipped else 'changed'}: {summary}")
                case Warned(message):
                    self._say(f"warning: {message}")
                case _:
                    pass

    def _count(self, phase: str, name: str, done: int, total: int) -> None:
        if phase not in self.bars:
            self.bars[phase] = tqdm(
                total=total, desc=phase, file=self.stream, leave=True, dynamic_ncols=True, miniters=1
            )
        bar = self.bars[phase]
        bar.set_postfix_str(printable(name, keep="")[:40], refresh=False)
        add(bar, done - bar.n, self.stream)

    def _say(self, text: str) -> None:
        tqdm.write(printable(text), file=self.stream)


def is_behind(stream: TextIO) -> bool:
    """Whether a terminal does not take what was written to it (``Unwaiting``): a bar drawn again would only be more of it."""
    return getattr(stream, "is_behind", False) is True


def add(bar: Any, count: int, stream: TextIO) -> None:
    """Move a bar on, and draw it now and then."""
    if is_behind(stream):
        bar.n += count
        stream.flush()
    else:
        bar.update(count)
