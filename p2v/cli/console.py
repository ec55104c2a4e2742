"""The only module that prints. stdout carries results; everything for people goes to stderr."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TextIO, cast

from p2v.cli.unwaiting import Unwaiting
from p2v.core.errors import P2vError
from p2v.core.events import (
    EVENT_NAMES,
    BytesDone,
    ChangeApplied,
    ErrorLine,
    Event,
    ItemDone,
    LimitHeard,
    PhaseFinished,
    PhaseStarted,
    ProgressLine,
    Reporter,
    Warned,
)
from p2v.core.text import printable
from p2v.core.units import format_bytes, format_seconds

_PLAIN_STEP_SECONDS = 10.0
# of this program's reporters
_streams: list[Unwaiting] = []


def prepare() -> None:
    """Let no letter that the locale does not have end the program: it is shown as an escape."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def let_go() -> None:
    """Forget what stdout and stderr could not take (their reader has gone, the disk is full), at the end of the program.

    Python would try it once more, complain, and end with a status of its own.
    """
    _settle()
    while _streams:
        _streams.pop().close()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def out(text: str) -> None:
    """A result, to stdout."""
    _settle()
    print(printable(text), flush=True)


def out_utf8(text: str) -> None:
    """A document that is UTF-8 by its definition, to stdout: so it is in a file, whatever the locale says of terminals."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not is_terminal():
        sys.stdout.reconfigure(encoding="utf-8")
    out(text)


def out_json(text: str) -> None:
    """A JSON document, to stdout; JSON escapes what a terminal must not see."""
    _settle()
    sys.stdout.write(text)
    sys.stdout.flush()


def is_terminal() -> bool:
    """Whether results go to a terminal."""
    return sys.stdout.isatty()


def screen(text: str) -> None:
    """A result that replaces the one before it: on a terminal in its place, elsewhere below it."""
    if is_terminal():
        size = shutil.get_terminal_size()
        rows = size.lines - 2
        lines = printable(text).split("\n")
        shown = lines if len(lines) <= rows else [*lines[: max(1, rows - 1)], f"... {len(lines) - rows + 1} lines more"]
        # home, each line with what is behind it wiped, then everything below
        sys.stdout.write("\x1b[H" + "".join(f"{line[: size.columns]}\x1b[K\n" for line in shown) + "\x1b[J")
        sys.stdout.flush()
    else:
        out(text + "\n")


def note(text: str) -> None:
    """Something for the person who watches, to stderr. That nobody does any more is no failure of what is told of."""
    _to_stderr(printable(text))


def _to_stderr(line: str) -> None:
    _settle()
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def error(failure: P2vError, progress: str) -> None:
    """Say what failed and what to do next."""
    if progress == "json":
        line = ErrorLine(code=failure.code, exit_code=failure.exit_code, message=failure.sentence(), hint=failure.hint())
        _to_stderr(json.dumps(asdict(line)))
        return
    note(f"p2v: {failure.sentence()}")
    if failure.hint():
        note(f"     {failure.hint()}")


def reporter(progress: str) -> Reporter:
    """The sink for events: ``auto`` is bars on a terminal and plain lines elsewhere; ``json``, ``plain``, ``none``."""
    if progress == "auto":
        progress = "bars" if sys.stderr.isatty() else "plain"
    match progress:
        case "bars":
            # Only a terminal needs it and tqdm, so it is no import of every start.
            from p2v.cli.bars import Bars

            return Bars(_watched())
        case "json":
            return _JsonLines(sys.stderr)
        case "plain":
            return _PlainLines(_watched())
        case _:
            return _ignore


def _watched() -> TextIO:
    """stderr for who watches: a copy does not wait for a terminal that stands still (Ctrl-S). At the end it is waited for."""
    stream = Unwaiting.over(sys.stderr)
    if stream is None:
        return sys.stderr
    _streams.append(stream)
    return cast(TextIO, stream)


def _settle() -> None:
    """Before anything else is said: in its order, and never lost."""
    for stream in _streams:
        with suppress(OSError, ValueError):
            stream.settle()


def _ignore(event: Event) -> None:
    pass


@dataclass
class _JsonLines:
    """One JSON object a line; ``seconds`` since the start."""

    stream: TextIO
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event) -> None:
        line = ProgressLine(event=EVENT_NAMES[type(event)], at=round(time.monotonic() - self.started, 3))
        with self.lock:
            print(json.dumps(asdict(line) | asdict(event)), file=self.stream, flush=True)


@dataclass
class _PlainLines:
    """A line when a phase starts and ends, and now and then between; for logs."""

    stream: TextIO
    totals: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    said: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event) -> None:
        with self.lock:
            line = self._line(event, time.monotonic())
            if line:
                print(printable(line), file=self.stream, flush=True)

    def _line(self, event: Event, now: float) -> str:
        match event:
            case PhaseStarted(phase, title, total):
                self.totals[phase], self.done[phase] = total or 0, 0
                self.started[phase] = self.said[phase] = now
                return f"{title} ..."
            case BytesDone(phase, count):
                self.done[phase] = self.done.get(phase, 0) + count
                if now - self.said.get(phase, now) < _PLAIN_STEP_SECONDS or not self.totals.get(phase):
                    return ""
                self.said[phase] = now
                return self._progress(phase, now)
            case PhaseFinished(phase, seconds, failed):
                return f"{phase}: {'failed' if failed else 'done'} in {format_seconds(seconds)}"
            case ChangeApplied(summary, skipped):
                return f"  {'already so' if skipped else 'changed'}: {summary}"
            case Warned(message):
                return f"warning: {message}"
            case ItemDone(phase, name, done, total):
                if done < total and now - self.said.get(phase, now) < _PLAIN_STEP_SECONDS:
                    return ""
                self.said[phase] = now
                return f"  {phase}: {done} of {total}, {name}"
            case LimitHeard():
                return ""

    def _progress(self, phase: str, now: float) -> str:
        done, total = self.done[phase], self.totals[phase]
        rate = done / max(now - self.started[phase], 0.001)
        left = format_seconds((total - done) / rate) if rate else "?"
        return f"  {phase}: {100 * done // total} %, {format_bytes(int(rate))}/s, {left} left"
