"""What is known of the hooks of earlier attempts and runs, as events tell it, and waiting for one that still runs.

A hook may stop an application, or shut a machine down: it is not cut off when its run is killed. The next run waits for its end, no
longer than the hook's own limit, and tells the hook that it begins next of it (``unfinished``).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from p2v.batch.children import Ended, Heard
from p2v.batch.event_data import HookBegan, HookEnded, HookRuns, data_of
from p2v.batch.hook_documents import EarlierEnd, EarlierHook
from p2v.batch.jobs import Hook, JobEvent
from p2v.batch.marking import started_at
from p2v.batch.store import Store

HOOK_BEGAN, HOOK_RUNS, HOOK = "hook-began", "hook-runs", "hook"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LONGEST_SECONDS = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class PastHook:
    """One that began ``at`` (seconds since 1970). ``end``: ``done``, ``failed``, ``cut`` (it was ended before it was done), or
    ``unknown``. ``process``: as ``pid:started`` on the boot ``boot`` of a host; empty where nobody noted it.
    """

    when: str
    at: float
    fence: int
    attempt: int
    seconds: float
    process: str = ""
    boot: str = ""
    end: str = "unknown"
    message: str = ""

    @property
    def is_unfinished(self) -> bool:
        """Whether it may have done a part of what it does."""
        return self.end in ("unknown", "cut")

    @property
    def runs(self) -> bool:
        """Whether it still does, on this host."""
        pid, _, started = self.process.partition(":")
        is_here = self.end == "unknown" and bool(self.boot) and self.boot == boot_id()
        return is_here and pid.isascii() and pid.isdigit() and str(started_at(int(pid))) == started

    @property
    def told(self) -> EarlierHook:
        """What the next one is told of it."""
        return EarlierHook(self.at, self.attempt, self.fence, EarlierEnd(self.end), self.message)


def boot_id() -> str:
    """Which of its boots this host is on; empty where that cannot be told."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def past_hooks(store: Store, job: str) -> Mapping[str, PastHook]:
    """The last one of each ``when`` of a job; of the batch itself with the name ``""``."""
    found: dict[str, PastHook] = {}
    for event in store.every_event(job=job):
        when = event.data.get("when")
        if event.kind not in (HOOK_BEGAN, HOOK_RUNS, HOOK) or not isinstance(when, str):
            continue
        last = found.get(when)
        if event.kind == HOOK_BEGAN:
            found[when] = _begun(event, when)
        elif last is not None and last.fence == event.fence:
            found[when] = _running(last, event) if event.kind == HOOK_RUNS else _ended(last, event)
    return found


def began_data(when: str, hook: Hook, attempt: int) -> Mapping[str, Any]:
    """Of the event that is written before one begins."""
    return data_of(HookBegan(when, attempt, hook.seconds))


def runs_data(when: str, pid: int) -> Mapping[str, Any]:
    """Of the event that tells which process it is."""
    return data_of(HookRuns(when, f"{pid}:{started_at(pid)}", boot_id()))


def ended_data(when: str, failed: str, *, is_cut: bool) -> Mapping[str, Any]:
    """Of the event that tells what came of it. ``failed``: what went wrong, empty: nothing; ``is_cut``: it was ended before it was
    done.
    """
    return data_of(HookEnded(when, bool(failed), failed, is_cut))


def in_words(past: PastHook) -> str:
    """Of one whose end is not known, or that was cut."""
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(past.at))
    end = "its end is not known" if past.end == "unknown" else "it was ended before it was done"
    return f"the command {past.when} it began at {began} (attempt {past.attempt}), and {end}"


def _begun(event: JobEvent, when: str) -> PastHook:
    attempt, seconds = event.data.get("attempt"), event.data.get("seconds")
    bounded = min(float(seconds), _LONGEST_SECONDS) if isinstance(seconds, int | float) else 0.0
    return PastHook(when, event.at, event.fence, attempt if isinstance(attempt, int) else 0, bounded)


def _running(last: PastHook, event: JobEvent) -> PastHook:
    process, boot = event.data.get("process"), event.data.get("boot")
    return replace(last, process=process, boot=boot) if isinstance(process, str) and isinstance(boot, str) else last


def _ended(last: PastHook, event: JobEvent) -> PastHook:
    end = "cut" if event.data.get("cut") is True else "failed" if event.data.get("failed") is True else "done"
    return replace(last, end=end, message=str(event.data.get("message") or ""))


@dataclass
class StrayHook:
    """A hook that a killed run left, as something that is waited for (``p2v.batch.children.Child``): its own limit of time ends it,
    and nothing else does. Who stops waiting leaves it alone.
    """

    past: PastHook
    grace: float
    _handle: int = field(init=False)
    _began: float = field(default_factory=time.monotonic)
    _asked: float | None = None
    _end: Ended | None = None

    def __post_init__(self) -> None:
        self._handle = os.pidfd_open(self._pid)
        # its number may have gone to another; from here on it cannot
        if not self.past.runs:
            self._finish()

    @property
    def words(self) -> str:
        """What is told of it to those who wait with us."""
        return f"{in_words(self.past)}: waiting for it, it still runs"

    @property
    def _pid(self) -> int:
        return int(self.past.process.partition(":")[0])

    def heard(self) -> Sequence[Heard]:
        """See ``Child.heard``."""
        return ()

    def ended(self) -> Ended | None:
        """See ``Child.ended``; how it did is not known."""
        now = time.monotonic()
        if self._end is not None:
            return self._end
        if _is_over(self._handle):
            self._finish()
        elif self._asked is None:
            # its time may have been over long before anybody could ask it
            if time.time() - self.past.at > self.past.seconds:
                self._asked = now
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(self._handle, signal.SIGTERM)
        elif now - self._asked > 2 * self.grace:
            self._finish()  # it waits in the kernel: nobody knows when it ends
        elif now - self._asked > self.grace:
            with contextlib.suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)
        return self._end

    def stop(self, at_once: bool = False) -> None:
        """See ``Child.stop``: it is waited for no longer."""
        self._finish()

    def limit(self, bytes_per_second: int) -> None:
        """See ``Child.limit``: it copies nothing."""

    def fds(self) -> tuple[int, ...]:
        """See ``Child.fds``."""
        return (self._handle,) if self._end is None else ()

    def close(self) -> None:
        """See ``Child.close``."""
        self._finish()

    def _finish(self) -> None:
        if self._end is None:
            self._end = Ended(0, "", time.monotonic() - self._began)
            os.close(self._handle)


def stray_of(hooks: Mapping[str, PastHook], grace: float) -> StrayHook | None:
    """Of a job's past hooks one that still runs, though nobody waits for it; None: there is none."""
    for past in hooks.values():
        if past.runs:
            with contextlib.suppress(OSError):
                return StrayHook(past, grace)
    return None


def _is_over(handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))
