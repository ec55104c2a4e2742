"""Options of ``p2v batch run`` that say where machines are converted: on this host, or on the workers of a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2v.batch.children import Starter
from p2v.batch.cluster import Certificates, ClusterWish, open_engine, parse_storage
from p2v.batch.runner import Settings
from p2v.core.errors import Usage

_OTHERS = ("tls_ca", "tls_cert", "tls_key", "storage")


@dataclass(frozen=True, slots=True)
class Engine:
    """What ``run_batch`` takes; None: its own."""

    starter: Starter | None = None
    settings: Settings | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    what = "convert on the workers of this scheduler of dask.distributed; the budget is then of all of them together"
    group = configure_address(parser, what)
    group.add_argument(
        "--storage", action="append", default=[], metavar="NAME=FOLDER[:COUNT]",
        help="jobs with a file below FOLDER take a token: one of COUNT in the whole cluster, as long as they copy; without COUNT "
        "one of those that their worker was given by --resources storage-NAME=...; can be given repeatedly",
    )  # fmt: skip


def configure_address(parser: argparse.ArgumentParser, what: str) -> argparse._ArgumentGroup:
    """Add those that say where a scheduler is. ``what``: it is named for."""
    group = parser.add_argument_group("on other hosts", "docs/cluster.md says how schedulers and workers are set up")
    group.add_argument("--engine", metavar="dask://HOST:PORT", help=what)
    group.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="certificate of the authority of everybody in the cluster"
    )
    group.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="our certificate; needed on any address but 127.0.0.1 and ::1"
    )
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    parser.set_defaults(storage=[])
    return group


def wish_of(arguments: argparse.Namespace) -> ClusterWish | None:
    """The cluster that is asked for, None: none is. Raises Usage."""
    if arguments.engine is None:
        for name in _OTHERS:
            if getattr(arguments, name):
                raise Usage(
                    f"--{name.replace('_', '-')} is for --engine", "As in --engine dask://scheduler.example:8786."
                )
        return None
    files = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    if any(files) and not all(files):
        raise Usage("--tls-ca, --tls-cert and --tls-key go together", "docs/cluster.md shows how they are made.")
    storages = tuple(parse_storage(text) for text in arguments.storage)
    if len({each.name for each in storages}) < len(storages):
        raise Usage("--storage: a name was given twice", "One name, one folder.")
    return ClusterWish(arguments.engine, Certificates(*files) if all(files) else None, storages)


@contextmanager
def engine(arguments: argparse.Namespace, store: Path) -> Iterator[Engine]:
    """Where the batch with this store is converted. Raises Usage, and what ``open_engine`` raises."""
    wish = wish_of(arguments)
    if wish is None:
        yield Engine()
        return
    with open_engine(wish, store) as starter:
        # machines that one host alone can reach go there by themselves
        yield Engine(starter, Settings(host=None))
