"""A child that the scheduler has, until its end is told: its task, and what its worker has handed over of the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from distributed import Client, Future, Queue

from p2v.batch.children import Ended
from p2v.batch.cluster.child import ClusterChild, Stage
from p2v.batch.cluster.kept import keep
from p2v.batch.cluster.messages import Piece
from p2v.batch.cluster.roster import ANSWER_SECONDS, taken, within
from p2v.batch.cluster.worker import new_limit
from p2v.batch.failures import CONVERTED

_AGAIN_SECONDS = 1.0


@dataclass(eq=False)
class Sent:
    """A child that the scheduler has; ``asked``: since when its last word is waited for."""

    child: ClusterChild
    future: Future[None]
    token: Queue
    wanted: Mapping[str, float]
    """What it has of its worker's resources, or takes turns at there."""
    asked: float | None = None
    refused: bool = False
    """Its worker has done nothing, for it does not see what the task is about."""
    telling: asyncio.Task[None] | None = None
    """Tells the worker a limit; one after the other, so that the last one counts."""
    left: dict[Piece, bytes] = field(default_factory=dict)
    """What its worker has handed over of its result."""
    keeping: asyncio.Task[None] | None = None
    """Keeps that, before its end is told."""

    async def stop(self) -> None:
        """Take the token back, so that it never begins; one that has begun is ended by its worker, which tells of it."""
        if self.child.stage is Stage.SENT and await taken(self.token):
            self.child.end(Ended(143, "stopped before it began", 0.0))
        await self.future.cancel(reason="stopped by p2v batch")

    async def close(self) -> None:
        """Nothing more of it is wanted of the scheduler."""
        if self.telling is not None:
            self.telling.cancel()
        if not self.future.done():
            await self.future.cancel(reason="over")
        self.token.close()

    def tell_limit(self, client: Client, wake: Callable[[], None]) -> None:
        """Beside everything else: a worker that does not answer has its copy go on at its old limit, which counts until then."""
        child, limit = self.child, self.child.limit_wished
        if limit is None or child.stage is not Stage.BEGUN or (self.telling is not None and not self.telling.done()):
            return
        child.limit_wished = None

        async def tell() -> None:
            try:
                await within(ANSWER_SECONDS, client.run(new_limit, child.task.key, limit, workers=[child.worker]))
            except Exception:  # noqa: BLE001 - whatever Dask raises here, it is told again where nothing newer is wished
                await asyncio.sleep(_AGAIN_SECONDS)
                child.limit_wished = child.limit_wished or limit
            wake()

        self.telling = asyncio.create_task(tell())

    def hand_over(self, piece: Piece, data: bytes) -> None:
        """A worker has handed something over; each counts once, and where this host sees the results none does."""
        if self.child.stage is Stage.BEGUN and not self.child.task.fenced:
            self.left.setdefault(piece, data)

    def over(self, ended: Ended, done: Callable[[], None]) -> None:
        """Its worker has told how it ended; ``done`` is called when its child knows."""
        if ended.exit_status not in CONVERTED or ended.lost or self.child.task.fenced or self.child.stage is Stage.OVER:
            self.child.end(ended)
            done()
        elif self.keeping is None:
            self.keeping = asyncio.create_task(self._keep(ended, done))

    async def _keep(self, ended: Ended, done: Callable[[], None]) -> None:
        order, record, why = self.child.task.order, None, "its worker could not hand it over"
        try:
            if Piece.RECORD in self.left:
                record, why = await asyncio.to_thread(
                    keep, self.child.task.store, order.machine, order.fence, self.left
                )
        except OSError as error:
            why = f"nobody could be started who keeps it ({error.strerror})"
        finally:
            if record is None:
                words = f"this host has no record of it: {why}; it stands in {order.machine.folder} of the host that converted it"
                self.child.tell({"event": "warning", "message": words})
            self.child.end(replace(ended, record=record))
            done()
