"""Rows of whole batches."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from p2v.core.units import MIB
from tests.batch.nfs.batches import WORK, Batch
from tests.batch.nfs.host_rows import NFS, NFS_2
from tests.batch.nfs.runner import LEASE, SILENT
from tests.batch.nfs.servers import EXPORT, SMALL, Server, measured, mounted, second_host, served, until

_SLOW = {"limit": "1M"}


@contextmanager
def _batch(version: str, *, squash: bool = False, store_on_nfs: bool = False) -> Iterator[tuple[Server, Batch]]:
    shutil.rmtree(WORK, ignore_errors=True)
    with served(squash=squash) as server, mounted(NFS, (f"vers={version}",)):
        made = Batch(NFS, NFS / "near" if store_on_nfs else WORK)
        try:
            yield server, made
        except BaseException:
            print(made.said())
            raise
        finally:
            server.go_on()
            made.end_all()


def whole(version: str = "4.2") -> Mapping[str, Any]:
    """A run to its end."""
    with _batch(version) as (_, batch):
        batch.add("plain", 8)
        batch.add("grains", 8, packed="vmdk", form="qcow2")
        batch.add("blocks", 8, packed="vhdx")
        batch.write()
        began = time.monotonic()
        assert batch.ended(batch.start()) == 0, batch.said()
        return {"seconds": measured(began), **batch.verdict()}


def server_stopped(version: str = "4.2") -> Mapping[str, Any]:
    """The server gives no answer in the middle of copies, for longer than leases last and silence is borne, and comes back."""
    with _batch(version) as (server, batch):
        batch.add("slow1", 16, **_SLOW)
        batch.add("slow2", 12, form="qcow2", packed="vmdk", **_SLOW)
        batch.add("later", 4, wave=1)
        batch.write()
        ran = batch.start()
        batch.await_copying("slow1")
        server.stop()
        stopped = time.monotonic()
        until(lambda: batch.heard("again", "slow1"), f"the end of patience\n{batch.said()}")
        patience = measured(stopped)
        time.sleep(max(0.0, 1.5 * SILENT - patience))
        assert ran.poll() is None
        server.go_on()
        began = time.monotonic()
        assert batch.ended(ran) == 0, batch.said()
        return {
            "stopped": measured(stopped) - measured(began),
            "patience": patience,
            "codes": batch.codes(),
            "seconds after": measured(began),
            **batch.verdict(),
        }


def server_killed(version: str = "4.2") -> Mapping[str, Any]:
    """The server dies in the middle of copies and is started again: copies go on, and nothing is tried anew."""
    with _batch(version) as (server, batch):
        batch.add("slow1", 12, **_SLOW)
        batch.add("slow2", 12, form="qcow2", **_SLOW)
        batch.write()
        ran = batch.start()
        batch.await_copying("slow1")
        server.kill()
        began = time.monotonic()
        server.start()
        assert batch.ended(ran) == 0, batch.said()
        return {"seconds after": measured(began), **batch.verdict()}


def runner_killed(version: str = "4.2") -> Mapping[str, Any]:
    """The runner is killed while its storage hangs; the next one waits with nobody, and goes on when the storage is back."""
    with _batch(version) as (server, batch):
        batch.add("slow1", 16, **_SLOW)
        batch.add("slow2", 12, form="qcow2", **_SLOW)
        batch.write()
        ran = batch.start()
        batch.await_copying("slow1")
        server.stop()
        time.sleep(3)
        batch.kill(ran)
        killed = time.monotonic()
        assert batch.ended(ran) == -signal.SIGKILL
        gone = measured(killed)
        ran = batch.start()
        until(lambda: batch.heard("again"), f"the next run's word about the storage\n{batch.said()}")
        server.go_on()
        began = time.monotonic()
        assert batch.ended(ran) == 0, batch.said()
        return {"runner gone after": gone, "codes": batch.codes(), "seconds after": measured(began), **batch.verdict()}


def source_replaced(version: str = "3") -> Mapping[str, Any]:
    """The server's file is another one in the middle of a copy (the old one is gone): the result is of the new one, wholly."""
    with _batch(version) as (server, batch):
        made = batch.add("slow", 16, **_SLOW)
        batch.write()
        ran = batch.start()
        batch.await_copying("slow", 4 * MIB)
        fresh = made.source.with_name("fresh")
        shutil.copy(made.disk, fresh)
        with fresh.open("r+b") as file:
            file.seek(2 * MIB)
            file.write(os.urandom(12 * MIB))
        shutil.copy(fresh, made.disk)
        os.replace(fresh, made.source)
        server.kill()
        server.start()
        batch.write()
        status = batch.ended(ran)
        codes = [str(each["code"]) for each in batch.heard("again")]
        assert status == 0, batch.said()
        return {"codes": codes, **batch.verdict()}


def full(version: str = "4.2") -> Mapping[str, Any]:
    """The export takes nothing more in the middle of copies, and then does."""
    with _batch(version) as (_, batch), mounted(NFS / "small", (f"vers={version}",), SMALL):
        batch.add("slow", 16, place="small/out", **_SLOW)
        batch.add("thin", 12, place="small/out", form="qcow2", **_SLOW)
        batch.write()
        ran = batch.start()
        batch.await_copying("slow")
        ballast = SMALL / "ballast"
        with ballast.open("wb") as file:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(SMALL).free)
            with contextlib.suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(4096))
        until(lambda: batch.heard("again"), f"the word about the full storage\n{batch.said()}")
        ballast.unlink()
        assert batch.ended(ran) == 0, batch.said()
        return {"codes": batch.codes(), **batch.verdict()}


def squashed(version: str = "4.2") -> Mapping[str, Any]:
    """Root is nobody on the server: a folder that nobody may write to is told of; one that it may is used."""
    with _batch(version, squash=True) as (_, batch):
        batch.add("open", 4, place="open")
        batch.add("closed", 4, place="closed")
        (EXPORT / "open").mkdir(mode=0o777)
        (EXPORT / "open").chmod(0o777)
        (EXPORT / "closed").mkdir(mode=0o755)
        batch.write()
        assert batch.ended(batch.start()) == 5, batch.said()
        jobs, _ = batch.look()
        failure = jobs["closed"].failure
        assert failure is not None
        assert failure.code == "permission", failure
        assert list((EXPORT / "closed").iterdir()) == []
        (EXPORT / "closed").chmod(0o777)
        batch.verb("retry", "closed", "--batch", str(batch.jobs))
        assert batch.ended(batch.start()) == 0, batch.said()
        return {"said": f"{failure.message} / {failure.hint}", **batch.verdict()}


def store_on_nfs(version: str = "4.2") -> Mapping[str, Any]:
    """The store is on NFS, too: its host alone opens it; a stopped server stops the run, and no more."""
    with _batch(version, store_on_nfs=True) as (server, batch), second_host(NFS_2, (f"vers={version}",)) as other:
        batch.add("slow1", 8, **_SLOW)
        batch.add("quick", 4, form="qcow2")
        batch.write()
        ran = batch.start()
        batch.await_copying("slow1")
        before = {path.name: path.stat().st_mtime_ns for path in (EXPORT / "near").iterdir()}
        refused = batch.verb("status", str(NFS_2 / "near" / "jobs.yaml"), status=64, prefix=other.prefix)
        assert "two" not in before
        server.stop()
        time.sleep(LEASE + 15)
        server.go_on()
        began = time.monotonic()
        assert batch.ended(ran) == 0, batch.said()
        again = batch.verb("status", str(NFS_2 / "near" / "jobs.batch.sqlite"), status=64, prefix=other.prefix)
        return {
            "refused": refused.stderr.strip(),
            "again": again.returncode,
            "seconds after": measured(began),
            **batch.verdict(),
        }
