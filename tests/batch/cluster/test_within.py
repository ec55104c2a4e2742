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
