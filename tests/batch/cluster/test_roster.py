"""Who is taken to be there, of what a scheduler says; without a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import p2v
from p2v.batch.cluster.blindness import EVERYTHING, Missed
from p2v.batch.cluster.messages import PROTOCOL
from p2v.batch.cluster.roster import Roster
from p2v.batch.jobs import MachineJob

_WORKER = "tcp://127.0.0.1:2"
_MACHINE = MachineJob("a", (Path("/src/a.vmdk"),), Path("/out"))


def test_a_worker_that_was_started_anew_at_its_address_is_asked_anew_and_may_see_what_the_first_did_not() -> None:
    asked: list[str] = []
    folders = ["/scratch/worker-1"]

    async def identity(n_workers: int) -> dict[str, Any]:
        there = {_WORKER: {"local_directory": folders[0]}} if folders else {}
        return {"address": "tcp://127.0.0.1:1", "workers": there}

    async def run(function: object, workers: list[str], on_error: str) -> dict[str, Any]:
        asked.extend(workers)
        return {_WORKER: {"protocol": PROTOCOL, "version": p2v.__version__, "hostname": f"host{len(asked)}"}}

    async def main() -> None:
        known = asyncio.Event()
        roster = Roster("dask://127.0.0.1", known.set)
        client: Any = SimpleNamespace(scheduler=SimpleNamespace(identity=identity), run=run)

        async def look() -> tuple[str, str]:
            await roster.look(client)
            if not roster.is_known:
                known.clear()
                await known.wait()
            seen = roster.blindness.sighted((_WORKER,), _MACHINE, 0.0)
            return roster.host_of(_WORKER), "sees" if seen else "is blind"

        assert await look() == ("host1", "sees")
        roster.blindness.note(_WORKER, Missed(EVERYTHING, "full"), now=0.0)
        assert await look() == ("host1", "is blind")
        folders[:] = ["/scratch/worker-2"]
        assert await look() == ("host2", "sees")
        roster.blindness.note(_WORKER, Missed(EVERYTHING, "full"), now=0.0)
        # what it was given did not even begin, for it was started anew
        roster.doubt(_WORKER)
        assert await look() == ("host3", "is blind")
        folders[:] = ["/scratch/worker-3"]
        roster.doubt(_WORKER)
        assert await look() == ("host4", "sees")
        roster.blindness.note(_WORKER, Missed(EVERYTHING, "full"), now=0.0)
        folders.clear()
        assert await look() == ("", "sees")

    asyncio.run(asyncio.wait_for(main(), 60.0))
    assert asked == [_WORKER] * 4
