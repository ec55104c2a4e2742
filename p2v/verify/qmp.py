"""A small client of QEMU's monitor protocol: what a boot check asks of a running QEMU."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ANSWER_SECONDS = 20.0
_LONGEST_ANSWER_BYTES = 16 * 1024 * 1024
_VGA_TEXT = 0xB8000
_COLUMNS, _ROWS = 80, 25
# Below this share of printable characters the memory holds pixels.
_TEXT_SHARE = 0.9


class MonitorFailed(Exception):
    """QEMU's monitor refused, did not answer in time, or is gone; never leaves ``p2v.verify``."""


@dataclass
class Monitor:
    """A connection to a QEMU's monitor socket; made by ``connected``."""

    connection: socket.socket
    _rest: bytes = b""

    def ask(self, command: str, **arguments: Any) -> Any:
        """One command and its answer. Raises MonitorFailed."""
        request = {"execute": command, "arguments": arguments}
        try:
            self.connection.sendall(json.dumps(request).encode() + b"\n")
            deadline = time.monotonic() + _ANSWER_SECONDS
            while True:
                answer = self._message(deadline)
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise MonitorFailed(str(answer["error"].get("desc", answer["error"])))
        except (OSError, ValueError) as error:
            raise MonitorFailed(str(error)) from error

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._rest:
            self.connection.settimeout(max(0.01, deadline - time.monotonic()))
            data = self.connection.recv(65536)
            if not data or len(self._rest) > _LONGEST_ANSWER_BYTES:
                raise MonitorFailed("the connection was closed")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise MonitorFailed("an answer that is no object")
        return message

    def status(self) -> str:
        """QEMU's run state: ``running``, ``shutdown``, ``io-error``, ..."""
        return str(self.ask("query-status").get("status", ""))

    def bytes_moved(self) -> int:
        """Bytes that the guest has read from and written to its disks so far."""
        stats = [entry.get("stats", {}) for entry in self.ask("query-blockstats")]
        return sum(int(s.get("rd_bytes", 0)) + int(s.get("wr_bytes", 0)) for s in stats)

    def text_screen(self, scratch: Path) -> str:
        """What stands on the VGA screen in text mode; empty when it shows graphics."""
        dump = scratch / "vga-text"
        self.ask("pmemsave", val=_VGA_TEXT, size=_COLUMNS * _ROWS * 2, filename=str(dump))
        return decode_text_screen(dump.read_bytes())

    def screenshot(self, file: Path) -> None:
        """Write the screen as a PNG."""
        self.ask("screendump", filename=str(file), format="png")


def decode_text_screen(memory: bytes) -> str:
    """VGA text memory (characters and attributes in turn) as lines; empty when it holds pixels."""
    characters = memory[0 : _COLUMNS * _ROWS * 2 : 2].replace(b"\0", b" ")
    printable = sum(0x20 <= c < 0x7F for c in characters)
    if not characters or printable < _TEXT_SHARE * len(characters):
        return ""
    text = characters.decode("cp437")
    lines = [text[start : start + _COLUMNS].rstrip() for start in range(0, len(text), _COLUMNS)]
    return "\n".join(lines).rstrip()


@contextmanager
def connected(path: Path) -> Iterator[Monitor]:
    """Connect to a monitor socket and greet it. Raises MonitorFailed."""
    with socket.socket(socket.AF_UNIX) as connection:
        monitor = Monitor(connection)
        try:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(str(path))
        except OSError as error:
            raise MonitorFailed(str(error)) from error
        monitor.ask("qmp_capabilities")
        yield monitor
