"""Who is there: the workers of a scheduler, what each says of itself, and what it does not see."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distributed import Client, Queue
from distributed.security import Security

import p2v
from p2v.batch.cluster.address import Address, objection
from p2v.batch.cluster.blindness import Blindness
from p2v.batch.cluster.messages import PROTOCOL
from p2v.batch.cluster.placing import WorkerSeen, process_of, seen
from p2v.batch.cluster.worker import describe
from p2v.core.errors import ClusterRefused

ANSWER_SECONDS = 15.0
"""For a scheduler or worker to answer."""
HANGING_SECONDS = 60.0
"""After which a scheduler that was once there is none."""
_ASK_AGAIN_SECONDS = 30.0
_T = TypeVar("_T")


class Broken(Exception):
    """The connection was lost, or one has taken its place that knows nothing of ours."""


@dataclass(eq=False)
class Roster:
    """Used in the link's thread alone. ``engine``: as the user names the cluster; ``wake``: somebody is known who was not."""

    engine: str
    wake: Callable[[], None]
    workers: dict[str, WorkerSeen] = field(default_factory=dict)
    """By their addresses."""
    blindness: Blindness = field(default_factory=Blindness)
    _asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _ask_again: dict[str, float] = field(default_factory=dict)
    _doubted: dict[str, str] = field(default_factory=dict)
    """By their addresses, which process each was."""

    @property
    def is_known(self) -> bool:
        """No worker is there that has not said what it can do."""
        return not self._asking

    def has(self, worker: str) -> bool:
        """Whether it is there, as far as the scheduler says."""
        return worker in self.workers or worker in self._asking

    def host_of(self, worker: str) -> str:
        """A worker's host by its name; empty: it has none, or is not there."""
        return self.workers[worker].hostname if worker in self.workers else ""

    def doubt(self, worker: str) -> None:
        """It did not even begin what it was given: it is asked anew before it gets more."""
        if (known := self.workers.pop(worker, None)) is not None:
            self._doubted[worker] = known.process

    def clear(self) -> None:
        """The connection has ended."""
        for asked in self._asking.values():
            asked.cancel()
        self._asking.clear()
        self.workers.clear()
        self._ask_again.clear()
        self._doubted.clear()

    async def look(self, client: Client) -> None:
        """Who is there now; those that are new are asked who they are, beside everything else. Raises ClusterRefused."""
        identity = await within(ANSWER_SECONDS, _rpc(client).identity(n_workers=-1))
        why_not = objection(str(identity["address"]))
        if why_not:
            raise ClusterRefused(self.engine, why_not)
        there: Mapping[str, Mapping[str, object]] = identity["workers"]
        now = time.monotonic()
        # one that was started anew at its old port is another one: it knows nothing of ours
        processes = {each: known.process for each, known in self.workers.items()} | self._doubted
        gone = {each for each, process in processes.items() if each not in there or process_of(there[each]) != process}
        self._doubted.clear()
        for address in gone | {each for each, at in self._ask_again.items() if at <= now}:
            self.workers.pop(address, None)
            self._ask_again.pop(address, None)
        for address in gone:
            self.blindness.forget(address)
        for address in there.keys() - self.workers.keys() - self._asking.keys():
            self._asking[address] = asyncio.create_task(self._ask(client, address, there[address]))

    async def _ask(self, client: Client, address: str, said: Mapping[str, object]) -> None:
        described: Mapping[str, object]
        try:
            # one that is reached by everybody gets nothing of ours, not even this
            found = {} if objection(address) else await within(ANSWER_SECONDS, _described(client, address))
            described = found if isinstance(found, Mapping) else {"error": found}
        except Exception as error:  # noqa: BLE001 - whatever Dask raises here, it is asked again
            described = {"error": f"does not answer ({type(error).__name__}: {error})"}
            self._ask_again[address] = time.monotonic() + _ASK_AGAIN_SECONDS
        self.workers[address] = seen(address, said, described, p2v.__version__, PROTOCOL)
        self._asking.pop(address, None)
        self.wake()


@asynccontextmanager
async def connected(address: Address, security: Security) -> AsyncIterator[Client]:
    """A talk with a scheduler. Raises TimeoutError, and what Dask raises."""
    client = Client(
        address.url,
        security=security,
        asynchronous=True,
        set_as_default=False,
        timeout=ANSWER_SECONDS,
        name="p2v",
    )
    try:
        await within(HANGING_SECONDS, client)
        yield client
    finally:
        with suppress(OSError, TimeoutError, RuntimeError):
            await within(ANSWER_SECONDS, client.close())


def _rpc(client: Client) -> Any:
    if client.scheduler is None:
        raise Broken("the connection was lost")
    return client.scheduler


async def _described(client: Client, address: str) -> object:
    found = await client.run(describe, workers=[address], on_error="return")
    answer = found.get(address, "gave no answer")
    return answer if isinstance(answer, Mapping) else f"{type(answer).__name__}: {answer}"


async def taken(token: Queue) -> bool:
    """Take a task's token back; False when a worker has it."""
    with suppress(TimeoutError):
        await token.get(timeout=0.5)
        return True
    return False


async def forbid_stealing(client: Client) -> None:
    """Have the scheduler leave tasks where they are: one begins where its disks and its turn are, not where it is calm."""

    async def forbid(dask_scheduler: Any) -> None:
        stealing = dask_scheduler.extensions.get("stealing")
        if stealing is not None:
            await stealing.stop()

    await _at_scheduler(client, forbid)


async def forget_told(client: Client, topic: str) -> None:
    """Have the scheduler keep nothing of what workers told: its log of events grows for as long as it runs otherwise."""

    async def forget(dask_scheduler: Any) -> None:
        dask_scheduler._broker.truncate(topic)

    # of another version it may have no such thing, and keeps what it keeps
    with suppress(AttributeError):
        await _at_scheduler(client, forget)


async def _at_scheduler(client: Client, work: Callable[[Any], Awaitable[None]]) -> None:
    """Run something at the scheduler. A function within a function goes by value, for a scheduler need not have p2v; but what goes
    is of our version of Python, and another one must not try it: both may be done without.
    """
    if await _python_of(client) == tuple(sys.version_info[:2]):
        await within(ANSWER_SECONDS, client.run_on_scheduler(work))


async def _python_of(client: Client) -> tuple[int, ...]:
    versions = await within(ANSWER_SECONDS, _rpc(client).versions())
    match versions:
        case {"host": {"python": str(python)}}:
            return tuple(int(each) for each in python.split(".")[:2] if each.isdecimal())
    return ()


async def within(seconds: float, work: Awaitable[_T]) -> _T:
    """What something of Dask's gives, waited for no longer than that. Raises TimeoutError, and what it raises.

    asyncio.wait_for waits on until what it has cancelled has ended, and Dask's client does not always: it takes no note of a cancel
    while it connects anew.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeoutError
    finally:
        task.cancel()  # nothing happens to one that has ended
    return task.result()
