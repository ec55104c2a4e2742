"""What goes to a worker and what comes back: JSON-like values, so that nobody has to believe another host's pickles.

A worker's messages go through the scheduler to the runner's host by a topic of its log of events, in order. Each is JSON's text in
ASCII: half a letter or a number of twenty digits in an event, which a guest may be the author of, would have Dask's own packing
fail, and the worker lose its scheduler.
"""

from __future__ import annotations

import base64
import enum
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from p2v.batch.children import Ended, Order
from p2v.batch.cluster.placing import Storage
from p2v.batch.jobs import MachineJob, Verify
from p2v.core.units import KIB, MIB

PROTOCOL = 5
_TAIL_CHARACTERS = 20_000
_LONGEST_PATH = 4096
_LONGEST_CODE = 64
_LONGEST_MESSAGE = 24 * MIB


@dataclass(frozen=True, slots=True)
class Task:
    """A job as a worker gets it. ``key``: of this attempt, in the whole cluster; ``topic``: where its messages go.

    ``store``: of the batch, on the runner's host: what belongs to a batch is marked with it.
    ``shared``: storages that are counted in the whole cluster, in the order in which their tokens are taken. ``fenced``: the
    runner's host has raised the fence in the folder of the results, so that it is to be seen by who sees that folder.
    """

    key: str
    topic: str
    order: Order
    store: Path
    shared: tuple[Storage, ...] = ()
    fenced: bool = False

    def record(self) -> dict[str, Any]:
        """For the way to the worker."""
        machine = self.order.machine
        return {
            "protocol": PROTOCOL,
            "key": self.key,
            "topic": self.topic,
            "name": self.order.name,
            "argv": list(self.order.argv),
            "environment": dict(self.order.environment),
            "fence": self.order.fence,
            "is_told": self.order.is_told,
            "since": self.order.since,
            "store": str(self.store),
            "sources": [str(path) for path in machine.sources],
            "folder": str(machine.folder),
            "options": list(machine.options),
            "verify": machine.verify.value,
            "fenced": self.fenced,
            "shared": [[each.name, str(each.folder), each.at_once] for each in self.shared],
        }


def task_of(record: Mapping[str, Any]) -> Task:
    """A task from its record. Raises KeyError, TypeError, ValueError for one of another version."""
    if record["protocol"] != PROTOCOL:
        raise ValueError(f"a task of protocol {record['protocol']}; this worker knows {PROTOCOL}")
    machine = MachineJob(
        record["name"], tuple(map(Path, record["sources"])), Path(record["folder"]),
        options=tuple(record["options"]), verify=Verify(record["verify"]),
    )  # fmt: skip
    words, environment = tuple(record["argv"]), dict(record["environment"])
    order = Order(record["name"], words, environment, record["fence"], machine, bool(record["is_told"]), record["since"])
    shared = tuple(Storage(name, Path(folder), at_once) for name, folder, at_once in record["shared"])
    return Task(record["key"], record["topic"], order, Path(record["store"]), shared, record["fenced"])


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker has taken the token of a task: from here on it may act. ``clock``: its host's, in seconds since 1970."""

    key: str
    worker: str
    clock: float


@dataclass(frozen=True, slots=True)
class Unseen:
    """A worker has taken the token and done nothing: its host does not see ``path``; ``why`` in words."""

    key: str
    worker: str
    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """A worker cannot carry a task out, for what its host lacks; it has given nothing a name. ``why`` and ``hint``: in words.

    ``code``, ``exit_code``: of the error that this machine met there, which it meets again. Empty: nothing can be begun there now.
    """

    key: str
    worker: str
    code: str
    exit_code: int
    why: str
    hint: str = ""


class Piece(enum.Enum):
    """What a worker hands over of a result that its host alone may have."""

    RECORD = "record"
    SCREENSHOT = "screenshot"
    LOG = "log"
    """Of the guest's consoles, or its end where it is long."""

    @property
    def most_bytes(self) -> int:
        """No more of it travels."""
        return {Piece.RECORD: 16 * MIB, Piece.SCREENSHOT: MIB, Piece.LOG: 256 * KIB}[self]


@dataclass(frozen=True, slots=True)
class Left:
    """A file that a conversion left, before the word that it is over."""

    key: str
    piece: Piece
    data: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the child, or of waiting for its turn."""

    key: str
    event: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Over:
    """The child has ended."""

    key: str
    ended: Ended


Message = Begun | Unseen | Unfit | Left | Told | Over


def message_text(message: Message) -> str:
    """For the way back."""
    return json.dumps(_data(message))


def _data(message: Message) -> dict[str, Any]:
    match message:
        case Begun(key, worker, clock):
            return {"kind": "begun", "key": key, "worker": worker, "clock": clock}
        case Unseen(key, worker, path, why):
            return {"kind": "unseen", "key": key, "worker": worker, "path": path, "why": why}
        case Unfit(key, worker, code, status, why, hint):
            return {
                "kind": "unfit", "key": key, "worker": worker, "code": code, "exit_code": status,
                "why": why[:_LONGEST_PATH], "hint": hint[:_LONGEST_PATH],
            }  # fmt: skip
        case Left(key, piece, data):
            packed = base64.b64encode(zlib.compress(data)).decode("ascii")
            return {"kind": "left", "key": key, "piece": piece.value, "data": packed}
        case Told(key, event):
            return {"kind": "told", "key": key, "event": dict(event)}
        case Over(key, ended):
            return {
                "kind": "over",
                "key": key,
                "exit_status": ended.exit_status,
                "tail": ended.tail[-_TAIL_CHARACTERS:],
                "seconds": ended.seconds,
                "lost": ended.lost,
            }


def message_of(text: object) -> Message | None:
    """A message, None for what is none."""
    if not isinstance(text, str) or len(text) > _LONGEST_MESSAGE:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match data:
        case {"kind": "begun", "key": str(key), "worker": str(worker), "clock": float(clock)} if isfinite(clock):
            return Begun(key, worker, clock)
        case {"kind": "unseen", "key": str(key), "worker": str(worker), "path": str(path), "why": str(why)}:
            return Unseen(key, worker, path[:_LONGEST_PATH], why[:_LONGEST_PATH])
        case {"kind": "unfit", "key": str(key), "worker": str(worker), "code": str(code), "exit_code": int(status),
              "why": str(why), "hint": str(hint)}:  # fmt: skip
            return Unfit(key, worker, code[:_LONGEST_CODE], status, why[:_LONGEST_PATH], hint[:_LONGEST_PATH])
        case {"kind": "left", "key": str(key), "piece": str(piece), "data": str(packed)}:
            return _left(key, piece, packed)
        case {"kind": "told", "key": str(key), "event": dict(event)}:
            return Told(key, event)
        case {"kind": "over", "key": str(key), "exit_status": int(status), "tail": str(tail), "seconds": float(seconds),
              "lost": str(lost)}:  # fmt: skip
            return Over(key, Ended(status, tail[-_TAIL_CHARACTERS:], seconds, lost))
    return None


def _left(key: str, name: str, packed: str) -> Left | None:
    """A piece that is no larger than one may be, however small it was made for the way."""
    try:
        piece = Piece(name)
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(base64.b64decode(packed, validate=True), piece.most_bytes)
    except (ValueError, zlib.error):
        return None
    return Left(key, piece, data) if unpacking.eof else None
