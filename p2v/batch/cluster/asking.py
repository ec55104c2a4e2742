"""A talk with a scheduler that only asks its workers: for a verb that looks once, and is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.security import Security

from p2v.batch.cluster.address import Address
from p2v.batch.cluster.handshake import why_lost
from p2v.batch.cluster.placing import ClusterWish, WorkerSeen
from p2v.batch.cluster.roster import ANSWER_SECONDS, Roster, connected, within
from p2v.batch.cluster.visiting import Unanswered, Visit
from p2v.core.errors import ClusterGone, P2vError


@contextmanager
def visited(wish: ClusterWish, address: Address, security: Security, store: Path) -> Iterator[Visit]:
    """Asks the workers that are there now. Raises ClusterGone when no scheduler answers, ClusterRefused where it is not safe."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            try:
                client = runner.run(stack.enter_async_context(connected(address, security)))
                workers = runner.run(_workers(client, wish.engine))
            except P2vError:
                raise
            except Exception as error:  # whatever Dask raises here
                why = why_lost(error, address, wish.certificates)
                raise ClusterGone(wish.engine, f"no scheduler answers ({why})") from error

            def ask(worker: str, seconds: float, function: Callable[..., Awaitable[Any]], words: Sequence[Any]) -> Any:
                return runner.run(_asked(client, worker, seconds, function, words))

            yield Visit(store, workers, ask)
        finally:
            runner.run(stack.aclose())


async def _workers(client: Client, engine: str) -> tuple[WorkerSeen, ...]:
    """All that are there, when each has said who it is, or had its time for that."""
    woken = asyncio.Event()
    roster = Roster(engine, woken.set)
    await roster.look(client)
    while not roster.is_known:
        await woken.wait()
        woken.clear()
    return tuple(roster.workers.values())


async def _asked(
    client: Client, worker: str, seconds: float, function: Callable[..., Awaitable[Any]], words: Sequence[Any]
) -> Any:
    try:
        asked = client.run(function, *words, workers=[worker], on_error="return")
        answers = await within(seconds + ANSWER_SECONDS, asked)
    except TimeoutError:
        raise Unanswered(f"no answer in {seconds + ANSWER_SECONDS:.0f} s") from None
    except Exception as error:  # whatever Dask raises here, there is no answer
        raise Unanswered(f"{type(error).__name__}: {error}"[:500]) from error
    answer = answers.get(worker)
    if isinstance(answer, Exception):
        raise Unanswered(f"{type(answer).__name__}: {answer}"[:500])
    return answer
