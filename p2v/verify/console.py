"""The guest's consoles seen from the host: logs that grow, and typing at a shell."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from p2v.core.units import MIB

_KEPT_BYTES = 2 * MIB
RUNAWAY_BYTES = 256 * MIB
_READ_BYTES = 4 * MIB
_TYPE_SECONDS = 10.0
# a sleepy serial port loses what comes faster than its FIFO is emptied
_BYTE_SECONDS = 0.01


@dataclass
class GrowingLog:
    """A file that QEMU appends to; its beginning and its end are kept, in bounded memory."""

    path: Path
    size: int = 0
    _kept: bytearray = field(default_factory=bytearray)

    def grew(self) -> bool:
        """Read what was added; whether there was anything."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.size)
                added = file.read(_READ_BYTES)
        except FileNotFoundError:
            return False
        self.size += len(added)
        self._kept += added
        # the first half stays: boot loaders and early errors stand there
        if len(self._kept) > 2 * _KEPT_BYTES:
            del self._kept[_KEPT_BYTES : len(self._kept) - _KEPT_BYTES]
        return bool(added)

    @property
    def runaway(self) -> bool:
        """Whether a guest is filling the host's disk with it."""
        return self.size > RUNAWAY_BYTES

    def text(self) -> str:
        """What is kept, as it was written."""
        return self._kept.decode("utf-8", "replace")


def ask_shell(path: Path, command: str, seconds: float) -> str:
    """Type a command at the shell behind a console socket and return what it printed; empty without a full answer.

    The answer is framed by words that the typed line itself does not contain.
    """
    line = f'\recho p2v-"begin"; {command}; echo p2v-"end"\r'
    heard = b""
    deadline = time.monotonic() + seconds
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            _type(connection, line)
            while b"p2v-end" not in heard and len(heard) < MIB:
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                if not (data := connection.recv(4096)):
                    break
                heard += data
    except OSError:
        pass  # no answer in time: the log has to do
    _, begun, rest = heard.decode("utf-8", "replace").replace("\r", "").partition("p2v-begin")
    answer, ended, _ = rest.partition("p2v-end")
    return answer if begun and ended else ""


def type_line(path: Path, text: str) -> None:
    """Type a line at a console whose answer nobody waits for."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TYPE_SECONDS)
            connection.connect(str(path))
            _type(connection, f"{text}\r")
    except OSError:
        pass  # it goes on asking, and the log shows that


def _type(connection: socket.socket, text: str) -> None:
    for byte in text.encode():
        connection.sendall(bytes([byte]))
        time.sleep(_BYTE_SECONDS)
