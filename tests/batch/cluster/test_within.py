"""What Dask's client does has its time, also where it takes no note of being told to stop."""

from __future__ import annotations

import asyncio

import pytest

from p2v.batch.cluster.roster import within


async def deaf(event: asyncio.Event) -> None:
    while not event.is_set():
        try:
            await event.wait()
        except asyncio.CancelledError:
            continue


def test_one_that_takes_no_cancel_is_not_waited_for() -> None:
    async def main() -> None:
        event = asyncio.Event()
        with pytest.raises(TimeoutError):
            await within(0.05, deaf(event))
        event.set()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_what_it_raises_is_raised() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(within(60.0, fail()))


def test_what_it_gives_is_given() -> None:
    async def answer() -> int:
        return 7

    assert asyncio.run(within(60.0, answer())) == 7


def test_who_is_told_to_stop_tells_it_to_what_it_waits_for() -> None:
    async def main() -> bool:
        stopped = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        waiting = asyncio.create_task(within(60.0, work()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await asyncio.wait_for(stopped.wait(), 60)

    assert asyncio.run(main())
