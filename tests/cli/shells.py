"""Shells with somebody at their terminal who types, presses Tab, and runs the line; and a stand-in for p2v that tells what came."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

from p2v.cli.completion.scripts import script

SECONDS = 120.0
"""No shell takes longer, whatever else the machine does."""
# Tells what it was given; asked for names it gives what is in a file, and notes that it was asked.
_STANDING_IN = """#!/bin/sh
top={top}
if [ "$2" = --machines-for ]; then
    shift
    printf '%s\\n' "$*" >>"$top/asked"
    cat "$top/names"
    echo 'an error that nobody is to see' >&2
    exit 7
fi
for word; do printf '%s\\0' "$word"; done >"$top/given.new"
mv "$top/given.new" "$top/given"
"""
_BEGINNINGS = {
    "bash": "bind 'set completion-query-items 0'\nbind '\"\\C-xa\": insert-completions'\nsource {script}\n",
    "zsh": """fpath=({top}/functions $fpath)
autoload -U compinit && compinit -D -u
zle -C all-matches complete-word _generic
bindkey '^Xa' all-matches
bindkey '^I' complete-word
zstyle ':completion:all-matches:*' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true
""",
}
ALL = b"\x18a"
"""A key (Ctrl-X, a) that inserts all completions, not what they have in common."""
TAB = b"\t"
_WIPE = b"\x15"
"""Ctrl-U: the line is empty again."""
_READY = b"\x1b[?2004h"
"""What both shells say (here is who takes pastes as such) when a line can be typed: what is typed sooner may be lost."""


@dataclass
class Shell:
    """One that waits for a line. ``top``: the folder it is in; what the stand-in notes is there as well."""

    name: str
    top: Path
    terminal: int
    seen: bytearray = field(default_factory=bytearray)
    """Everything that came out of the terminal."""
    lines: int = 0
    """Those that were typed so far."""

    def run(self, line: str, key: bytes = TAB) -> list[str]:
        """Type, press the key, press Enter: the words that p2v is given then."""
        given = self.top / "given"
        given.unlink(missing_ok=True)
        self._wait(lambda: self.seen.count(_READY) > self.lines)
        self.lines += 1
        # the shell takes them one after the other, however slow it is
        os.write(self.terminal, line.encode() + key + b"\r")
        self._wait(given.exists)
        return given.read_text("utf-8", "surrogateescape").split("\0")[:-1]

    def offered(self, line: str) -> list[str]:
        """All words that can stand at the end of ``line``, behind its last space."""
        before = len(line.rpartition(" ")[0].split()) - 1
        return self.run(line, ALL)[before:]

    def look(self, line: str, key: bytes = TAB) -> None:
        """Type, press the key, and think better of it: the line is not run."""
        assert self.run(line, key + _WIPE + b"p2v enough") == ["enough"]

    def _wait(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not until():
            if select.select([self.terminal], [], [], 0.05)[0]:
                self.seen += os.read(self.terminal, 65536)
            assert time.monotonic() < end, self.seen[-4000:].decode("utf-8", "replace")


@contextmanager
def shell(name: str, top: Path, names: bytes = b"") -> Iterator[Shell]:
    """An interactive shell that has read its script; the stand-in says ``names`` when it is asked for machines'."""
    begin, written = top / "begin", stand_in(name, top, names)
    begin.write_text(_BEGINNINGS[name].format(script=written, top=top), "utf-8")
    argv = {"bash": ["bash", "--noprofile", "--rcfile", str(begin), "-i"], "zsh": ["zsh", "-i"]}[name]
    (top / ".zshrc").write_text(f"source {begin}\n", "utf-8")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(top)
        os.execvpe(argv[0], argv, environment(top))
    try:
        # a line that is wider is scrolled, which takes time and proves nothing
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 5000, 0, 0))
        yield Shell(name, top, terminal)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(pid, 0)


def stand_in(name: str, top: Path, names: bytes = b"") -> Path:
    """The stand-in where the shell finds it, and the shell's script, which is returned."""
    (top / "bin").mkdir()
    program = top / "bin" / "p2v"
    program.write_text(_STANDING_IN.format(top=top), "utf-8")
    program.chmod(0o755)
    (top / "names").write_bytes(names)
    (top / "functions").mkdir()
    # what zsh finds by itself is called so
    made = top / ("functions/_p2v" if name == "zsh" else f"script.{name}")
    made.write_text(script(name), "utf-8")
    return made


def environment(top: Path) -> Mapping[str, str]:
    """A user's that has nothing but what is in ``top``."""
    return {
        "PATH": f"{top}/bin:/usr/bin:/bin",
        "HOME": str(top),
        "ZDOTDIR": str(top),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }


def fish_offers(lines: Sequence[str], top: Path) -> list[list[str]]:
    """All words that fish has for the end of each line, once its script and the stand-in are in ``top``."""
    code = "source $argv[1]; for line in $argv[2..]; complete -C $line; echo ===; end"
    argv = ["fish", "--no-config", "-c", code, "--", str(top / "script.fish"), *lines]
    ran = subprocess.run(
        argv, env=environment(top), cwd=top, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert ran.stderr == ""
    answers: list[list[str]] = [[]]
    for said in ran.stdout.splitlines():
        if said == "===":
            answers.append([])
        else:
            answers[-1].append(said.partition("\t")[0])
    return answers[:-1]
