"""A guest's tree across a socket: who parses hostile contents need not be who can reach them.

The confined child asks, the process that holds the appliance answers. A question is one line of JSON, an answer
one line of JSON that may be followed by bytes. The child may have been taken over by what it parses, so
its questions are limited, checked, and can ask for nothing but to read the guest.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drivers.tree import FileType, GuestTree, Kept, Stat
from p2v.core.units import KIB, MIB

_LONGEST_QUESTION_BYTES = 64 * KIB
_LARGEST_ANSWER_BYTES = 256 * MIB
_LARGEST_RANGE_BYTES = 16 * MIB
_NAMES_AT_MOST = 1_000_000
# A question is written in one go; whoever stops in the middle of one means no good.
_QUESTION_SECONDS = 10.0


class BadQuestion(Exception):
    """The other side does not keep to the protocol."""


@dataclass
class RemoteTree:
    """Implements ``drivers.tree.GuestTree`` by asking over a socket's descriptor."""

    descriptor: int
    _received: bytearray = field(default_factory=bytearray)

    def read(self, path: str, limit: int = 4 * MIB) -> bytes:
        """See ``GuestTree.read``."""
        return self._bytes("read", path, min(limit, _LARGEST_ANSWER_BYTES))

    def read_range(self, path: str, length: int, offset: int) -> bytes:
        """See ``GuestTree.read_range``."""
        parts = []
        while length > 0:
            part = self._bytes("read_range", path, min(length, _LARGEST_RANGE_BYTES), offset)
            if not part:
                break
            parts.append(part)
            length, offset = length - len(part), offset + len(part)
        return b"".join(parts)

    def exists(self, path: str) -> bool:
        """See ``GuestTree.exists``."""
        return bool(self._ask("exists", path)["value"])

    def list(self, path: str) -> tuple[str, ...]:
        """See ``GuestTree.list``."""
        return tuple(self._ask("list", path)["value"])

    def lstat(self, path: str) -> Stat:
        """See ``GuestTree.lstat``."""
        kind, size, mode, uid, gid, kept = self._ask("lstat", path)["value"]
        return Stat(FileType(kind), size, mode, uid, gid, Kept(kept))

    def readlink(self, path: str) -> str:
        """See ``GuestTree.readlink``."""
        return str(self._ask("readlink", path)["value"])

    def _bytes(self, operation: str, *arguments: Any) -> bytes:
        return self._take(int(self._ask(operation, *arguments)["bytes"]))

    def _ask(self, operation: str, *arguments: Any) -> dict[str, Any]:
        _write_all(self.descriptor, json.dumps([operation, *arguments]).encode("ascii") + b"\n")
        while (end := self._received.find(b"\n")) < 0:
            self._receive()
        answer: dict[str, Any] = json.loads(self._take(end + 1))
        if "absent" in answer:
            raise FileNotFoundError(answer["absent"])
        if "refused" in answer:
            raise ValueError(answer["refused"])
        return answer

    def _take(self, length: int) -> bytes:
        while len(self._received) < length:
            self._receive()
        taken = bytes(self._received[:length])
        del self._received[:length]
        return taken

    def _receive(self) -> None:
        piece = os.read(self.descriptor, MIB)
        if not piece:
            raise ConnectionResetError("nobody answers any more")
        self._received += piece


def answer_one(descriptor: int, tree: GuestTree) -> bool:
    """Answer one question that waits at the descriptor; False when the other side has closed it.

    Raises BadQuestion, and what the tree raises when it cannot be read at all (the appliance ended, say).
    """
    line = _question(descriptor)
    if not line:
        return False
    operation, arguments = _checked(line)
    try:
        answer, data = _ANSWERS[operation](tree, *arguments)
    except FileNotFoundError as error:
        answer, data = {"absent": str(error)}, b""
    except ValueError as error:
        answer, data = {"refused": str(error)}, b""
    try:
        _write_all(descriptor, json.dumps(answer).encode("ascii") + b"\n" + data)
    except BrokenPipeError:
        return False
    return True


def _checked(line: bytes) -> tuple[str, list[Any]]:
    try:
        match json.loads(line):
            case ["read", str(path), int(limit)] if 0 <= limit <= _LARGEST_ANSWER_BYTES:
                return "read", [path, limit]
            case ["read_range", str(path), int(length), int(offset)] if 0 <= length <= _LARGEST_RANGE_BYTES and offset >= 0:
                return "read_range", [path, length, offset]
            case [("exists" | "list" | "lstat" | "readlink") as operation, str(path)]:
                return operation, [path]
    except (ValueError, RecursionError) as error:
        raise BadQuestion("is no JSON") from error
    raise BadQuestion("asks for what it may not")


def _read(tree: GuestTree, path: str, limit: int) -> tuple[dict[str, Any], bytes]:
    data = tree.read(path, limit)
    return {"bytes": len(data)}, data


def _read_range(tree: GuestTree, path: str, length: int, offset: int) -> tuple[dict[str, Any], bytes]:
    data = tree.read_range(path, length, offset)
    return {"bytes": len(data)}, data


def _exists(tree: GuestTree, path: str) -> tuple[dict[str, Any], bytes]:
    return {"value": tree.exists(path)}, b""


def _list(tree: GuestTree, path: str) -> tuple[dict[str, Any], bytes]:
    return {"value": tree.list(path)[:_NAMES_AT_MOST]}, b""


def _lstat(tree: GuestTree, path: str) -> tuple[dict[str, Any], bytes]:
    found = tree.lstat(path)
    return {"value": [found.type.value, found.size, found.mode, found.uid, found.gid, found.kept.value]}, b""


def _readlink(tree: GuestTree, path: str) -> tuple[dict[str, Any], bytes]:
    return {"value": tree.readlink(path)}, b""


_ANSWERS: Mapping[str, Callable[..., tuple[dict[str, Any], bytes]]] = {
    "read": _read,
    "read_range": _read_range,
    "exists": _exists,
    "list": _list,
    "lstat": _lstat,
    "readlink": _readlink,
}


def _question(descriptor: int) -> bytes:
    """One line with its end; empty at the end of the stream. Raises BadQuestion."""
    deadline = time.monotonic() + _QUESTION_SECONDS
    line = bytearray()
    while not line.endswith(b"\n"):
        if not _readable(descriptor, deadline):
            raise BadQuestion("stops in the middle of a question")
        # who asks waits for the answer, so nothing honest follows a question
        piece = os.read(descriptor, 64 * KIB)
        if not piece:
            return b""
        line += piece
        if len(line) > _LONGEST_QUESTION_BYTES or b"\n" in line[:-1]:
            raise BadQuestion("asks too much at once")
    return bytes(line)


def _readable(descriptor: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
