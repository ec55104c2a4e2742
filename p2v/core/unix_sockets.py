"""The kernel's table of UNIX sockets (proc_net(5), ``/proc/net/unix``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# __SO_ACCEPTCON of the kernel's include/uapi/linux/net.h
_ACCEPTS = 1 << 16


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """One that has a name among files. ``inode``: as ``/proc/PID/fd`` has it, ``socket:[INODE]``; ``accepts``: it listens."""

    inode: int
    accepts: bool
    name: str


def unix_sockets() -> Iterator[UnixSocket]:
    """All with a name. Raises OSError where the table cannot be read."""
    for line in Path("/proc/net/unix").read_bytes().splitlines()[1:]:
        # number, count, protocol, flags, type, state, inode, path
        fields = line.split(None, 7)
        if len(fields) == 8:
            yield UnixSocket(int(fields[6]), bool(int(fields[3], 16) & _ACCEPTS), os.fsdecode(fields[7]))


def listens(path: Path) -> bool:
    """Whether somebody listens at a socket, which has its name a moment before. Nobody knocks: that were a client."""
    try:
        return any(each.accepts and each.name == str(path) for each in unix_sockets())
    except OSError:
        return path.exists()
