"""What goes to a worker and what comes back: JSON-like values, so that nobody has to believe another host's pickles.

A worker's messages go through the scheduler to the runner's host by a topic of its log of events, in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from p2v.batch.children import Ended, Order
from p2v.batch.cluster.placing import Storage
from p2v.batch.jobs import MachineJob

PROTOCOL = 3
_TAIL_CHARACTERS = 20_000
_LONGEST_PATH = 4096


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
            "store": str(self.store),
            "sources": [str(path) for path in machine.sources],
            "folder": str(machine.folder),
            "fenced": self.fenced,
            "shared": [[each.name, str(each.folder), each.at_once] for each in self.shared],
        }


def task_of(record: Mapping[str, Any]) -> Task:
    """A task from its record. Raises KeyError, TypeError, ValueError for one of another version."""
    if record["protocol"] != PROTOCOL:
        raise ValueError(f"a task of protocol {record['protocol']}; this worker knows {PROTOCOL}")
    machine = MachineJob(record["name"], tuple(map(Path, record["sources"])), Path(record["folder"]))
    words, environment = tuple(record["argv"]), dict(record["environment"])
    order = Order(record["name"], words, environment, record["fence"], machine, bool(record["is_told"]))
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
class Told:
    """An event of the child, or of waiting for its turn."""

    key: str
    event: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Over:
    """The child has ended."""

    key: str
    ended: Ended


Message = Begun | Unseen | Told | Over


def message_data(message: Message) -> dict[str, Any]:
    """For the way back."""
    match message:
        case Begun(key, worker, clock):
            return {"kind": "begun", "key": key, "worker": worker, "clock": clock}
        case Unseen(key, worker, path, why):
            return {"kind": "unseen", "key": key, "worker": worker, "path": path, "why": why}
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


def message_of(data: object) -> Message | None:
    """A message, None for what is none."""
    match data:
        case {"kind": "begun", "key": str(key), "worker": str(worker), "clock": float(clock)} if isfinite(clock):
            return Begun(key, worker, clock)
        case {"kind": "unseen", "key": str(key), "worker": str(worker), "path": str(path), "why": str(why)}:
            return Unseen(key, worker, path[:_LONGEST_PATH], why[:_LONGEST_PATH])
        case {"kind": "told", "key": str(key), "event": dict(event)}:
            return Told(key, event)
        case {"kind": "over", "key": str(key), "exit_status": int(status), "tail": str(tail), "seconds": float(seconds),
              "lost": str(lost)}:  # fmt: skip
            return Over(key, Ended(status, tail[-_TAIL_CHARACTERS:], seconds, lost))
    return None
