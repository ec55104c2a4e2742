"""By what a batch and a host are known on things that outlive a process: a short text that any name can hold."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BATCH_VARIABLE = "P2V_BATCH"
"""In the environment of whatever a batch starts: its store's path."""
MACHINE_ID = Path("/etc/machine-id")
_LONGEST_NAME = 253
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class HostName:
    """A host. ``machine``: its machine-id (machine-id(5)), empty where it has none. Both must be alike to be one host."""

    name: str
    machine: str

    def mark(self) -> str:
        """A short text for it."""
        return _digest(f"{self.name}\n{self.machine}".encode("utf-8", "surrogateescape"))


def this_host() -> HostName:
    """This one."""
    machine = ""
    with suppress(OSError):
        machine = MACHINE_ID.read_text("ascii", "replace").strip()[:64]
    return HostName(socket.gethostname()[:_LONGEST_NAME], machine)


def batch_mark(store: Path) -> str:
    """A short text for the batch with this store."""
    return _digest(os.fsencode(store.resolve()))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:_DIGITS]
