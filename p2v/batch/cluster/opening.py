"""Opening a cluster: the first line that needs Dask."""

from __future__ import annotations

import logging
import resource
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2v.batch.children import Child, Order
from p2v.batch.cluster.address import Address, parse_address
from p2v.batch.cluster.handshake import trouble
from p2v.batch.cluster.placing import ClusterWish
from p2v.core.errors import ClusterRefused, ToolMissing

if TYPE_CHECKING:
    from distributed.security import Security

    from p2v.batch.cluster.link import Link
    from p2v.batch.cluster.visiting import Visit

_CLOSING_SECONDS = 60.0
_DESCRIPTORS = 16384
_MISSING = ("dask.distributed", "p2v-suite[cluster] by pip")


@dataclass(frozen=True, slots=True)
class ClusterStarter:
    """See ``p2v.batch.children.Starter``."""

    link: Link
    store: Path

    def start(self, order: Order) -> Child:
        """Have it started on some worker, as soon as one fits."""
        return self.link.add(order, self.store)


@contextmanager
def open_engine(wish: ClusterWish, store: Path) -> Iterator[ClusterStarter]:
    """A starter of children in a cluster, for the batch with this store; at the end all of ours there are told to end.

    Raises ToolMissing without Dask, ClusterGone when no scheduler answers, ClusterRefused for one that is not safe, and what
    ``parse_address`` raises.
    """
    address = parse_address(wish.engine, wish.certificates)
    try:
        from p2v.batch.cluster.link import Link
    except ImportError as error:
        raise ToolMissing(*_MISSING) from error
    link = Link(address, wish, _security(wish, address), f"p2v-{uuid.uuid4().hex}")
    thread = threading.Thread(target=link.run, name="p2v-cluster", daemon=True)
    with _silent_dask(), many_descriptors():
        thread.start()
        try:
            link.first.wait()
            if link.refusal is not None:
                raise link.refusal
            yield ClusterStarter(link, store)
        finally:
            link.close()
            thread.join(_CLOSING_SECONDS)


@contextmanager
def open_visit(wish: ClusterWish, store: Path) -> Iterator[Visit]:
    """Asks a cluster's workers what a crash of the batch with this store left on their own disks. Raises as ``open_engine``."""
    address = parse_address(wish.engine, wish.certificates)
    try:
        from p2v.batch.cluster.asking import visited
    except ImportError as error:
        raise ToolMissing(*_MISSING) from error
    with _silent_dask(), visited(wish, address, _security(wish, address), store) as visit:
        yield visit


def _security(wish: ClusterWish, address: Address) -> Security:
    """How a scheduler is talked to, once it is known that nothing speaks against that. Raises ClusterRefused."""
    from distributed.security import Security

    files = wish.certificates
    refused = trouble(address, files)
    if refused is not None:
        raise ClusterRefused(wish.engine, *refused)
    if files is None:
        return Security(require_encryption=False)
    return Security(
        tls_ca_file=str(files.authority),
        tls_client_cert=str(files.certificate),
        tls_client_key=str(files.key),
        require_encryption=True,
    )


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Each job that is under way has a descriptor here, and hosts allow 1024 as a rule, though a thousand jobs may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def _silent_dask() -> Iterator[None]:
    """Only the console prints: what Dask would log to stderr is told by children that are lost."""
    logger = logging.getLogger("distributed")
    before, logger.disabled = logger.level, False
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
