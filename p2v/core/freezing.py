"""File systems that stand still for a while: nothing is written to them, and what was written is on their devices.

Who writes to a frozen file system waits. So it is thawed in any case: a guard of its own (``p2v.core.freeze_guard``) does so when
we are done, when we are gone, and when the time is up; should the guard be killed, we do.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from p2v.core.errors import NotHeldStill, NotPermitted
from p2v.core.freeze_guard import thaw
from p2v.core.run import background

# What the guard may take to start, beside the time of the freeze itself.
_SLACK_SECONDS = 60.0
# A freeze that is under way cannot be taken back: its guard is given the time to see it through, and thaw.
_ENDING_SECONDS = 24 * 3600.0
_REASONS = {
    "time": "the time allowed was over, and the file systems were thawed before the copy was done",
    "lost": "somebody else thawed a file system before the copy was done",
    "told": "the program that kept the file systems frozen was told to end",
    "died": "the program that kept the file systems frozen was killed",
}


@dataclass
class Frozen:
    """File systems that are frozen. ``seconds``: how long they were, once they are thawed."""

    places: Sequence[Path]
    on_lost: Callable[[], None]
    seconds: float = 0.0
    _lines: list[str] = field(default_factory=list)
    _is_first: threading.Event = field(default_factory=threading.Event)
    _is_ending: bool = False

    @property
    def lost(self) -> str:
        """Why they are no longer frozen although nobody is done; empty while they are, or when all was well."""
        ended = next((line.removeprefix("thawed ") for line in self._lines if line.startswith("thawed ")), "")
        return _REASONS.get(ended, "")

    def require_kept(self) -> None:
        """Raises NotHeldStill when they were thawed too early: what was copied meanwhile is not of one moment."""
        if self.lost:
            raise NotHeldStill(", ".join(map(str, self.places)), self.lost)

    def _listen(self, status: int, handles: Sequence[int]) -> None:
        with open(status, "rb", closefd=True) as pipe:
            for raw in pipe:
                self._lines.append(raw.decode("ascii", "replace").strip())
                self._is_first.set()
                if self.lost and not self._is_ending:
                    self.on_lost()
        if not any(line.startswith("thawed ") for line in self._lines):
            # the guard is dead: nobody else would thaw them
            for handle in reversed(handles):
                thaw(handle)
            self._lines.append("thawed died")
            self.on_lost()
        self._is_first.set()


@contextmanager
def frozen(places: Sequence[Path], seconds: float, on_lost: Callable[[], None] = lambda: None) -> Iterator[Frozen]:
    """Freeze the file systems mounted at ``places``, in that order, for at most ``seconds``; thawed on leaving.

    Those that stand on others (in a loop device's file) come before them. ``on_lost`` is called, in a thread of its own, when they
    are thawed too early. What was copied counts only if ``require_kept`` does not raise after the context was left.

    Raises NotPermitted, NotHeldStill (one cannot be frozen).
    """
    handles: list[int] = []
    try:
        for place in places:
            handles.append(_open(place))
        with _guarded(places, handles, seconds, on_lost) as state:
            yield state
    finally:
        for handle in handles:
            os.close(handle)


def _open(place: Path) -> int:
    try:
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotPermitted(str(place), "freeze") from error


@contextmanager
def _guarded(
    places: Sequence[Path], handles: Sequence[int], seconds: float, on_lost: Callable[[], None]
) -> Iterator[Frozen]:
    state = Frozen(places, on_lost)
    reading, status = os.pipe()
    control, holding = os.pipe()
    listener = threading.Thread(target=state._listen, args=(reading, handles), daemon=True)
    argv = [sys.executable, "-P", "-m", "p2v.core.freeze_guard", f"{seconds:.3f}", str(status), *map(str, handles)]
    started = time.monotonic()
    try:
        with background(argv, stdin_fd=control, pass_fds=(status, *handles), grace_seconds=_ENDING_SECONDS):
            for end in (status, control):
                os.close(end)
            status = control = -1
            listener.start()
            try:
                _wait_frozen(state, seconds)
                yield state
            finally:
                state._is_ending = True
                os.close(holding)
                holding = -1
                listener.join(_ENDING_SECONDS)
                state.seconds = time.monotonic() - started
    finally:
        for end in (status, control, holding):
            if end >= 0:
                os.close(end)
        if not listener.ident:
            os.close(reading)


def _wait_frozen(state: Frozen, seconds: float) -> None:
    state._is_first.wait(seconds + _SLACK_SECONDS)
    first = state._lines[0] if state._lines else "thawed died"
    if first == "frozen":
        return
    if first.startswith("failed "):
        index, number = map(int, first.split()[1:])
        raise NotHeldStill(str(state.places[index]), f"it cannot be frozen: {os.strerror(number)}")
    state.require_kept()
    raise NotHeldStill(", ".join(map(str, state.places)), "they could not be frozen")
