"""The runner's talk with a scheduler, in a thread of its own: nothing that the network does makes the runner wait.

What is decided here: a task is given to the scheduler once. Dask runs a task again whose worker went away; but whether the first
run has really ended nobody can know, so each task has one token (in a queue at the scheduler), the second run finds none, and the
attempt is told to be lost. The runner then claims the job anew, with a higher fencing number, which keeps the first one from
giving anything its name. The same when the scheduler goes away: workers end their children with it, and everything given to it
is lost.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from distributed import Client, Queue
from distributed.security import Security

from p2v.batch.children import Ended, Order
from p2v.batch.cluster.address import Address
from p2v.batch.cluster.blindness import EVERYTHING, Missed, why_given_up
from p2v.batch.cluster.child import ClusterChild, Stage
from p2v.batch.cluster.handshake import why_lost
from p2v.batch.cluster.messages import Begun, Left, Over, Task, Told, Unfit, Unseen, message_of
from p2v.batch.cluster.placing import ClusterWish, fitting, needs, roomiest, storages_of, turns, why_none
from p2v.batch.cluster.roster import (
    HANGING_SECONDS,
    Broken,
    Roster,
    connected,
    forbid_stealing,
    forget_told,
    taken,
    within,
)
from p2v.batch.cluster.sent import Sent
from p2v.batch.cluster.sight import Here, seen_here
from p2v.batch.cluster.worker import run_task
from p2v.core.errors import ClusterGone, P2vError

_LOOK_SECONDS = 1.0
_WORD_SECONDS = 10.0
"""After which a job that waits is told why."""
_CLOCKS_APART_SECONDS = 30.0
"""From which on it is told of."""
_FORGET_SECONDS = 60.0
"""Between times that the scheduler is told to keep nothing of what workers told."""
_QUEUE = "queue"
_LAST_WORD_SECONDS = 60.0
"""For which a child that is to stop, or whose task has ended, may be silent before it counts as lost."""


@dataclass(eq=False)
class Link:
    """Keeps the connection, gives tasks to the scheduler, and tells children what workers tell."""

    address: Address
    wish: ClusterWish
    security: Security
    topic: str
    first: threading.Event = field(default_factory=threading.Event)
    """Set when it is connected for the first time, or never will be."""
    refusal: P2vError | None = None
    _held: list[ClusterChild] = field(default_factory=list)
    _sent: dict[str, Sent] = field(default_factory=dict)
    _looking: set[asyncio.Task[None]] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: bool = False
    _numbers: int = 0
    _roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        self._roster = Roster(self.wish.engine, self._woken.set)

    # --- for the runner's thread

    def add(self, order: Order, store: Path) -> ClusterChild:
        """Have an order carried out somewhere."""
        with self._lock:
            key = self._next_key(order)
            shared = tuple(each for each in storages_of(order.machine, self.wish.storages) if each.at_once is not None)
            child = ClusterChild(Task(key, self.topic, order, store, shared), self.wake)
            self._held.append(child)
        child.tell({"event": "phase-started", "phase": _QUEUE, "title": "Waiting for a worker", "total_bytes": None})
        self.wake()
        return child

    def _next_key(self, order: Order) -> str:
        self._numbers += 1
        return f"{self.topic}-{self._numbers}-{order.fence}"

    def wake(self) -> None:
        """Look at what was wished."""
        if self._loop is not None:
            with suppress(RuntimeError):  # closed just now
                self._loop.call_soon_threadsafe(self._woken.set)

    def close(self) -> None:
        """End the talk; children that run are ended by their workers."""
        self._closing = True
        self.wake()

    # --- for the link's thread

    def run(self) -> None:
        """Until it is closed."""
        try:
            asyncio.run(self._talk())
        finally:
            if self.refusal is None:
                self.refusal = ClusterGone(self.wish.engine, "the cluster was left")
            self.first.set()
            self._lose_all("the cluster was left")
            for child in self._take_held():
                child.lose("the cluster was left")

    async def _talk(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not self._closing and self.refusal is None:
            try:
                await self._connected()
            except Exception as error:  # noqa: BLE001 - whatever Dask raises here, the connection is made anew
                why = await asyncio.to_thread(why_lost, error, self.address, self.wish.certificates)
                self._lose_all(f"the scheduler went away ({why})")
                if not self.first.is_set():
                    gone = ClusterGone(self.wish.engine, f"no scheduler answers ({why})")
                    self.refusal = error if isinstance(error, P2vError) else gone
                for child in self._take_held():
                    self._hold(child, f"no scheduler answers ({why})")
                await self._pause()

    async def _connected(self) -> None:
        async with connected(self.address, self.security) as client:
            try:
                await self._serve(client)
            finally:
                self._roster.clear()

    async def _serve(self, client: Client) -> None:
        client.subscribe_topic(self.topic, self._on_message)
        await self._roster.look(client)
        await forbid_stealing(client)
        self.first.set()
        comm = client.scheduler_comm
        looked = forgot = time.monotonic()
        while not self._closing:
            # one that it made anew by itself has not asked for what workers tell, maybe of another scheduler at the same address
            if client.status != "running" or client.scheduler_comm is not comm:
                raise Broken("the connection was lost")
            if time.monotonic() - looked >= _LOOK_SECONDS:
                await self._roster.look(client)
                looked = time.monotonic()
            if time.monotonic() - forgot >= _FORGET_SECONDS:
                await forget_told(client, self.topic)
                forgot = time.monotonic()
            # a scheduler that hangs is none
            await within(HANGING_SECONDS, self._attend(client))
            await self._pause()
        await within(HANGING_SECONDS, self._stop_all())
        await forget_told(client, self.topic)

    async def _attend(self, client: Client) -> None:
        for each in list(self._sent.values()):
            await self._settle(each)
            each.tell_limit(client, self._woken.set)
        for child in self._take_held():
            await self._send(client, child)

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), _LOOK_SECONDS)
        self._woken.clear()

    # --- children

    def _take_held(self) -> list[ClusterChild]:
        with self._lock:
            held, self._held = self._held, []
        return held

    async def _send(self, client: Client, child: ClusterChild) -> None:
        """Give a child to the scheduler, for a worker that has room, or hold it.

        What waits, waits here: Dask would put it behind another job at one worker, and leave it there when a second is idle.
        """
        machine = child.task.order.machine
        workers = tuple(self._roster.workers.values())
        wanted, fits = needs(machine, self.wish.storages), fitting(machine, workers, self.wish.storages)
        shared, sighted = turns(machine), self._roster.blindness.sighted(fits, machine, time.monotonic())
        roomy = roomiest([self._roster.workers[address] for address in sighted], wanted, self._taken_at, shared)
        if not fits:
            self._hold(child, why_none(machine, workers, self.wish.storages), is_known=self._roster.is_known)
        elif child.stop_wished or (sighted and not roomy):
            self._hold(child)
        elif child.here is None:
            self._look_here(child)
            self._hold(child)
        elif not sighted:
            self._hold_unseen(child, fits, child.here)
        else:
            await self._submit(client, child, roomy, wanted | shared, wanted)

    async def _submit(
        self, client: Client, child: ClusterChild, worker: str, wanted: Mapping[str, float], resources: Mapping[str, float]
    ) -> None:
        """Give a child to the scheduler for a worker. ``wanted``: what is counted as its there; ``resources``: what Dask counts."""
        child.task = replace(child.task, fenced=child.here is not None and child.here.fenced)
        key = child.task.key
        token = await Queue(key, client=client)
        await token.put(child.task.order.fence)
        child.stage, child.worker = Stage.SENT, worker
        future = client.submit(
            run_task, child.task.record(), key=key, pure=False, retries=0, allow_other_workers=False,
            workers=[worker], resources=resources,
        )  # fmt: skip
        self._sent[key] = Sent(child, future, token, wanted)

    def _look_here(self, child: ClusterChild) -> None:
        """See what this host sees of a job, beside everything else: a mount may not answer."""
        if not child.looks:
            child.looks = True
            looking = asyncio.create_task(self._looked_here(child))
            self._looking.add(looking)
            looking.add_done_callback(self._looking.discard)

    async def _looked_here(self, child: ClusterChild) -> None:
        here = Here(sources=True, fenced=False)
        try:
            order = child.task.order
            here = await asyncio.to_thread(seen_here, order.machine, order.fence)
        finally:
            child.here, child.looks = here, False
            self._woken.set()

    def _hold_unseen(self, child: ClusterChild, fits: Iterable[str], here: Here) -> None:
        """Keep a child that no worker can do anything with, for a while where that may pass: a mount may come, a disk be tidied."""
        now, machine = time.monotonic(), child.task.order.machine
        child.blind_since = child.blind_since or now
        missed = {each: self._roster.blindness.missed(each, machine, now) for each in fits}
        end = why_given_up({self._roster.host_of(each) or each: why for each, why in missed.items() if why is not None}, here)
        patience = self.wish.blind_seconds if end.may_pass else 0.0
        if not self._roster.is_known or now - child.blind_since < patience:
            self._hold(child)
            return
        words = {"code": end.code, "exit_code": end.exit_code, "message": end.message, "hint": end.hint}
        child.tell({"event": "error", **words})
        child.end(Ended(end.exit_code, end.message, 0.0))

    def _taken_at(self, address: str, resource: str) -> float:
        """How much of a worker's resource our jobs have."""
        return sum(each.wanted.get(resource, 0.0) for each in self._sent.values() if each.child.worker == address)

    def _hold(self, child: ClusterChild, why: str = "", *, is_known: bool = True) -> None:
        """Keep a child until a worker has room, it is to stop, or patience is over with ``why`` no worker can have any.

        ``is_known``: no worker is there that has not said what it can do.
        """
        now = time.monotonic()
        child.unfit_since = (child.unfit_since or now) if why else None
        waited = now - child.unfit_since if child.unfit_since is not None else -1.0
        if child.stop_wished:
            child.end(Ended(143, "stopped before it began", 0.0))
        elif is_known and waited >= self.wish.patience_seconds:
            child.lose(why)
        else:
            if is_known and waited > _WORD_SECONDS and child.held_because != why:
                child.held_because = why
                child.tell({"event": "warning", "message": f"waits: {why}"})
            child.still_waits()
            with self._lock:
                self._held.append(child)

    async def _settle(self, each: Sent) -> None:
        """Look at one that the scheduler has: is it over, to be stopped, or lost?"""
        child, now = each.child, time.monotonic()
        if each.refused and child.stage is not Stage.OVER:
            await self._take_back(each)
        elif child.stage is not Stage.OVER:
            if each.future.status == "cancelled" and each.asked is None:
                raise Broken("the scheduler does not know our tasks any more")
            if child.stop_wished and each.asked is None:
                each.asked = now
                await each.stop()
            if await self._never_begins(each):
                self._roster.doubt(child.worker)
                await self._take_back(each)
                return
            self._judge(each, now)
            if child.stage is Stage.SENT:
                child.still_waits()
        if child.stage is Stage.OVER:
            del self._sent[child.task.key]
            await each.close()

    async def _never_begins(self, each: Sent) -> bool:
        """Whether one is certain not to begin, so that nothing is lost: its worker had no answer from the scheduler in time, was
        started anew and knows nothing of us, or went away; and its token is ours again.
        """
        child = each.child
        if child.stage is not Stage.SENT or child.stop_wished or each.asked is not None:
            return False
        return (each.future.status == "error" or not self._roster.has(child.worker)) and await taken(each.token)

    async def _take_back(self, each: Sent) -> None:
        """Hold one again whose worker did nothing; what comes is another task, for this one's token is gone."""
        child = each.child
        del self._sent[child.task.key]
        await each.close()
        child.stage, child.worker = Stage.HELD, ""
        with self._lock:
            child.task = replace(child.task, key=self._next_key(child.task.order))
        self._hold(child)

    def _judge(self, each: Sent, now: float) -> None:
        """Say that it is lost where that is so."""
        child, future = each.child, each.future
        if each.keeping is not None and not child.at_once:
            return  # its worker has told its end
        if not self._roster.has(child.worker):
            child.lose(f"its worker {child.worker} went away")
        elif future.status in ("error", "lost", "finished") and each.asked is None:
            each.asked = now  # its last word may be under way
        elif each.asked is not None and (child.at_once or now - each.asked > _LAST_WORD_SECONDS):
            child.lose("its worker did not tell how it ended")

    async def _stop_all(self) -> None:
        for each in list(self._sent.values()):
            each.child.stop_wished = True
            await each.stop()

    def _lose_all(self, why: str) -> None:
        sent, self._sent = self._sent, {}
        for each in sent.values():
            each.child.lose(why)

    def _on_message(self, event: tuple[object, object]) -> None:
        """A worker's message; those of tasks that are not ours, or over, are nobody's."""
        message = message_of(event[1])
        each = self._sent.get(message.key) if message is not None else None
        if message is None or each is None:
            return
        match message:
            case Begun(_, worker, clock):
                self._began(each.child, worker, clock - time.time())
            case Unseen(_, worker, path, why):
                self._refuse(each, worker, "does not see what this machine needs", Missed(Path(path), f"{path} {why}"))
            case Unfit(_, worker, code, exit_code, why, hint):
                # of a worker that could not even begin everything is to go elsewhere
                about = each.child.task.order.machine.sources[0] if code else EVERYTHING
                missed = Missed(about, why, code=code, exit_code=exit_code, hint=hint)
                self._refuse(each, worker, "cannot convert this machine", missed)
            case Told(_, told):
                each.child.tell(told)
            case Left(_, piece, data):
                each.hand_over(piece, data)
            case Over(_, ended):
                each.over(ended, self._woken.set)

    def _refuse(self, each: Sent, worker: str, words: str, missed: Missed) -> None:
        """A worker has given a task back, and gets none for a while that it could not do either."""
        each.refused = True
        self._roster.blindness.note(worker, missed, time.monotonic())
        told_of = f"{self._roster.host_of(worker) or worker} {words}: {missed.why}"
        each.child.tell({"event": "warning", "message": told_of})
        self._woken.set()

    def _began(self, child: ClusterChild, worker: str, ahead: float) -> None:
        """A worker has begun. ``ahead``: seconds by which its host's clock is before ours, less what the message took."""
        if child.stage is not Stage.SENT:
            return
        child.stage, child.worker = Stage.BEGUN, worker
        hostname = self._roster.host_of(worker)
        child.tell({"event": "phase-finished", "phase": _QUEUE, "seconds": child.waited(), "failed": False})
        child.tell({"event": "worker", "worker": worker, "host": hostname, "ahead": round(ahead, 1)})
        if abs(ahead) > _CLOCKS_APART_SECONDS:
            words = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's: times in its record are of that clock"
            child.tell({"event": "warning", "message": f"the clock of {hostname or worker} is {words}"})
