"""What a worker of Dask does for a batch: takes a task's token, runs the child in a thread, tells what happens.

A child ends with its worker, however that goes: it gets a signal when the thread is gone that started it; a worker that closes, or
that the scheduler has taken a task from (the runner cancelled it, or the runner is gone), ends the child and waits for it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from distributed import Queue, Semaphore, Worker, WorkerPlugin, get_client, get_worker

import p2v
from p2v.batch.children import Ended, LocalStarter, run_to_end
from p2v.batch.cluster.handing import converted_before, handed_over
from p2v.batch.cluster.merging import Merged
from p2v.batch.cluster.messages import PROTOCOL, Begun, Message, Over, Task, Told, Unfit, Unseen, message_text, task_of
from p2v.batch.cluster.placing import APPLIANCE, KVM, Storage, amounts
from p2v.batch.cluster.sight import unseen
from p2v.batch.failures import CONVERTED
from p2v.batch.kinds import FOUND
from p2v.core.errors import P2vError, TargetExists, ToolMissing, Usage
from p2v.core.turns import appliance_turns, boot_turns

KEEPER = "p2v-children"
_TOKEN_SECONDS = 3.0
_CLOSING_SECONDS = 45.0
_TURN_SECONDS = 2.0
_NOTHING: Mapping[str, str] = MappingProxyType({})
Tell = Callable[[Mapping[str, Any]], None]
"""Takes a child's events."""


class BegunElsewhere(Exception):
    """The token of a task is gone: another worker has begun it, or the runner has taken it back."""


@dataclass(eq=False)
class ChildKeeper(WorkerPlugin):
    """Knows the tasks that run on a worker, and which of them are to stop."""

    name = KEEPER
    _stops: dict[str, threading.Event] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _limits: dict[str, int] = field(default_factory=dict)
    _closing: bool = False

    def tell_limit(self, key: str, limit: int) -> None:
        """What a task's copy may use from now on, in bytes a second."""
        with self._lock:
            if key in self._stops:
                self._limits[key] = limit

    def take_limit(self, key: str) -> int | None:
        """What its child is to be told, once."""
        with self._lock:
            return self._limits.pop(key, None)

    @property
    def is_closing(self) -> bool:
        """The worker closes: it has told all children to end."""
        return self._closing

    @contextmanager
    def kept(self, key: str) -> Iterator[threading.Event]:
        """For the time a task runs: an event that is set when it is to stop."""
        stop = threading.Event()
        with self._lock:
            self._stops[key] = stop
            if self._closing:
                stop.set()
        try:
            yield stop
        finally:
            with self._lock:
                del self._stops[key]
                self._limits.pop(key, None)

    def transition(self, key: object, start: str, finish: str, **kwargs: Any) -> None:
        """The worker's own word that a task's state changed: one it is to forget while it runs becomes ``cancelled``."""
        if start in ("executing", "long-running") and finish in ("cancelled", "resumed", "released"):
            with self._lock:
                if str(key) in self._stops:
                    self._stops[str(key)].set()

    async def teardown(self, worker: Worker) -> None:
        """The worker closes: end all children, and wait for them."""
        with self._lock:
            self._closing = True
            for stop in self._stops.values():
                stop.set()
        deadline = time.monotonic() + _CLOSING_SECONDS
        while self._stops and time.monotonic() < deadline:
            await asyncio.sleep(0.1)


async def describe(dask_worker: Worker) -> dict[str, Any]:
    """Who a worker is; makes it ready for tasks. Runs in the worker's event loop, so nothing comes between its lines."""
    if KEEPER not in dask_worker.plugins:
        await dask_worker.plugin_add(ChildKeeper(), name=KEEPER)
    return {"protocol": PROTOCOL, "version": p2v.__version__, "hostname": socket.gethostname()}


async def new_limit(key: str, limit: int, dask_worker: Worker) -> None:
    """Have a task's child told what its copy may use from now on. Runs in the worker's event loop."""
    keeper = dask_worker.plugins.get(KEEPER)
    if isinstance(keeper, ChildKeeper):
        keeper.tell_limit(key, limit)


def run_task(record: Mapping[str, Any]) -> None:
    """One attempt at a job, in a thread of a worker. What comes of it is told by messages, not by what this returns.

    Raises BegunElsewhere when it is not to begin: Dask runs a task again whose worker went away, and by then only the runner,
    who has the store, may decide that.
    """
    task = task_of(record)
    worker = get_worker()
    keeper = worker.plugins[KEEPER]
    assert isinstance(keeper, ChildKeeper)

    def say(message: Message) -> None:
        worker.log_event(task.topic, message_text(message))

    with keeper.kept(task.key) as stop:
        _take_token(task)
        missing = unseen(task.order.machine, fenced=task.fenced)
        if missing is not None:
            say(Unseen(task.key, worker.address, str(missing[0]), missing[1]))
            return
        say(Begun(task.key, worker.address, time.time()))

        def work(tell: Tell) -> Ended:
            ended = attempt(task, tell, stop, _turns_of(worker), lambda: keeper.take_limit(task.key))
            if keeper.is_closing and ended.exit_status not in CONVERTED:
                # what we told it to end says nothing of the machine
                return replace(ended, lost=f"its worker at {socket.gethostname()} was told to end, and ended it")
            return ended

        _run_begun(task, worker.address, say, work)


def _run_begun(task: Task, address: str, say: Callable[[Message], None], work: Callable[[Tell], Ended]) -> None:
    """Carry a task out whose beginning was told, and tell its end, whatever comes.

    Where this host is at fault the task is given back: a worker that fails one machine after the other is sooner free for the next
    than those that convert any.
    """
    met: dict[str, Any] = {}

    def tell(event: Mapping[str, Any]) -> None:
        if event.get("event") == "error":
            met.update(event)
        say(Told(task.key, event))

    last: Message = Over(task.key, Ended(70, "", 0.0, "the worker failed"))
    try:
        last = Over(task.key, _ended(task, tell, say, work))
        if not last.ended.lost and last.ended.exit_status == met.get("exit_code") == ToolMissing.exit_code:
            code, why, hint = (str(met.get(each, "")) for each in ("code", "message", "hint"))
            last = Unfit(task.key, address, code, ToolMissing.exit_code, why, hint)
    except P2vError as error:
        tell(_as_event(error))
        last = Over(task.key, Ended(error.exit_code, error.sentence(), 0.0))
    except OSError as error:
        # no room for its temporary files, or for a further process
        where = f"{error.filename}: " if error.filename else ""
        last = Unfit(task.key, address, "", 0, f"its host cannot begin it ({where}{error.strerror or error})")
    except Exception as error:  # noqa: BLE001 - whatever went wrong here is told to the runner, who waits for it
        last = Over(task.key, Ended(70, f"{type(error).__name__}: {error}"[:2000], 0.0))
    finally:
        say(last)


def _ended(task: Task, tell: Tell, say: Callable[[Message], None], work: Callable[[Tell], Ended]) -> Ended:
    """How it ended, or an earlier attempt had, whose result is here."""
    before = converted_before(task)
    ended = before or work(tell)
    if before is None and ended.exit_status == TargetExists.exit_code:
        before = converted_before(task)  # it may have become so just now
        ended = before or ended
    if before is not None:
        tell({"event": "warning", "message": FOUND})
    for left in handed_over(task, ended):
        say(left)
    return ended


def _take_token(task: Task) -> None:
    queue = Queue(task.key, client=get_client())
    try:
        queue.get(timeout=_TOKEN_SECONDS)
    except TimeoutError:
        raise BegunElsewhere(f"{task.order.name} was begun by another worker") from None
    finally:
        queue.close()


def _turns_of(worker: Worker) -> Mapping[str, str]:
    """What children of all batches are told, so that no more of them boot at once than this worker was given ``kvm``, or have an
    appliance than it was given ``appliance``. Without that word ``convert`` bounds them already.
    """
    folder, offered = Path(worker.local_directory), amounts(worker.state.total_resources)
    boots, appliances = int(offered.get(KVM, 0.0)), int(offered.get(APPLIANCE, 0.0))
    told = boot_turns(boots, folder) if boots else {}
    return told | (appliance_turns(appliances, folder) if appliances else {})


def attempt(
    task: Task,
    tell: Tell,
    stop: threading.Event,
    environment: Mapping[str, str] = _NOTHING,
    limits: Callable[[], int | None] = lambda: None,
) -> Ended:
    """Carry a task out in this thread. ``environment``: of the child, beside this process's; ``limits``: what it is to be told."""
    merged = Merged(tell)
    with ExitStack() as turns:
        if not all(_wait_for_turn(storage, merged, stop, turns) for storage in task.shared):
            return Ended(143, "stopped while it waited for its turn at a storage", 0.0)

        def hear(event: Mapping[str, Any]) -> None:
            merged(event)
            if event.get("event") == "phase-finished" and event.get("phase") == "copy":
                turns.close()  # rewriting and booting ask little of a storage; the next may copy

        starter = LocalStarter(task.store, environment=environment)
        ended = run_to_end(starter, task.order, hear, stop.is_set, limits)
    merged.flush()
    return ended


def _wait_for_turn(storage: Storage, tell: Tell, stop: threading.Event, turns: ExitStack) -> bool:
    """Take one of the tokens of a storage that the whole cluster shares; False when we are to stop meanwhile."""
    semaphore = Semaphore(max_leases=storage.at_once or 1, name=f"p2v-storage-{storage.name}")
    turns.callback(_let_go, semaphore)
    phase, began = f"wait-{storage.name}", time.monotonic()
    tell({"event": "phase-started", "phase": phase, "title": f"Waiting for {storage.name}", "total_bytes": None})
    while not stop.is_set():
        tell({"event": "waiting"})
        if _acquired(semaphore, storage):
            turns.callback(_give_back, semaphore)
            tell({"event": "phase-finished", "phase": phase, "seconds": time.monotonic() - began, "failed": False})
            return True
    return False


def _acquired(semaphore: Semaphore, storage: Storage) -> bool:
    try:
        return bool(semaphore.acquire(timeout=_TURN_SECONDS))
    except ValueError as error:
        raise Usage(
            f"--storage {storage.name}={storage.folder}:{storage.at_once}: this cluster counts it by another number",
            "Use the number that the other batches use, or another name; a new scheduler has forgotten all.",
        ) from error


def _as_event(error: P2vError) -> Mapping[str, Any]:
    """As the command line tells of it."""
    words = {"code": error.code, "exit_code": error.exit_code, "message": error.sentence(), "hint": error.hint()}
    return {"event": "error", **words}


def _let_go(semaphore: Semaphore) -> None:
    """End its renewing of leases, which would go on as long as the worker does."""
    semaphore.loop.add_callback(semaphore.refresh_callback.stop)


def _give_back(semaphore: Semaphore) -> None:
    # a scheduler that is gone has no tokens any more
    with suppress(OSError, RuntimeError):
        semaphore.release()
