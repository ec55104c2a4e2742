"""Programs that handle hostile input: what they may use, and without the means to gain anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from p2v.core.run import require_program


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use that handles hostile input.

    ``file_bytes`` bounds each file it writes, the one its stderr goes to as well.
    """

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int


def limited(argv: Sequence[str], limits: Limits, owner: tuple[int, int]) -> list[str]:
    """A command that runs ``argv`` within limits and without the means to gain anything.

    Where we are root it runs as ``owner`` (user and group) without capabilities: it may do what that user may. Put on
    by programs, not between fork and exec, where Python code must not run beside threads. Raises ToolMissing.
    """
    command = [require_program("prlimit"), f"--as={limits.memory_bytes}", f"--cpu={limits.cpu_seconds}"]
    command += [f"--fsize={limits.file_bytes}", "--core=0", "--", require_program("setpriv"), "--no-new-privs"]
    if os.geteuid() == 0:
        command += ["--inh-caps=-all", "--bounding-set=-all"]
        command += [f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups"]
    return [*command, "--", require_program(argv[0]), *argv[1:]]
