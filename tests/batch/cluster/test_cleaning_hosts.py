"""``p2v batch clean --engine``: a real scheduler and two workers on 127.0.0.1, whose hosts have names and disks of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.jobs import Failure
from p2v.batch.manifest import read_batch
from p2v.batch.store import Store
from tests.batch.cluster.batches import P2V, SLOW, disks, manifest, python_path, runner
from tests.batch.cluster.clusters import PATIENCE, Cluster, Program, cluster, processes_with, until
from tests.batch.cluster.hosts import Host, housemates, missing
from tests.batch.fitting import Fitting
from tests.batch.output_schemas import output

LACKS = missing()
pytestmark = [
    pytest.mark.skipif(bool(LACKS), reason=f"needs {LACKS}"),
    pytest.mark.xdist_group("cluster"),
]
ENVIRONMENT = {**os.environ, "PYTHONPATH": python_path()}
NOTES = "notes.partial"
"""Somebody's file, which is nobody's business here."""
LEFT = {f".{SLOW}.p2v-lock", f".{SLOW}.p2v-fence", f"{SLOW}.img.partial"}
DONE_LEFT = "files1.json.partial"
"""What a crash between two names leaves of a machine that is done."""


@dataclass
class Site:
    """``nodea`` is to have what a killed conversion of ``web`` left, and results of ``files2``; ``nodeb`` those of ``files1``."""

    folder: Path
    path: Path
    cluster: Cluster
    nodea: Host
    nodeb: Host
    workers: tuple[Program, Program]

    @property
    def results(self) -> Path:
        """The folder's name is one at all hosts, and the disk at each its own."""
        return self.folder / "there"

    def names(self, host: Host) -> set[str]:
        return set(host.names_in(self.results))

    def clean(self, *options: str) -> subprocess.CompletedProcess[str]:
        words = [*P2V, "batch", "clean", str(self.path), *options]
        return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def document(self, *options: str) -> dict[str, Any]:
        said = self.clean("--json", "--engine", self.cluster.engine, *options).stdout
        found = Fitting(output("batch-clean").published()).take(said)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    disks(tmp_path)
    hosts = {"files1": "nodeb", "files2": "nodea", SLOW: "nodea"}
    path = manifest(tmp_path, "there", limit="64K", hosts=hosts, attempts=1)
    (tmp_path / "there").mkdir()
    with housemates("nodea", "nodeb") as (nodea, nodeb), cluster(tmp_path) as made:
        made.scheduler()
        for host in (nodea, nodeb):
            host.hide(tmp_path / "there", 1024)
        workers = (made.worker(enter=nodea.enter), made.worker(enter=nodeb.enter))
        yield Site(tmp_path, path, made, nodea, nodeb, workers)


def _crash(site: Site) -> None:
    """A conversion is killed in the middle of its copy, of a machine that has no further attempt."""
    words = ["batch", "run", str(site.path), "--engine", site.cluster.engine]
    with runner(words, site.folder, ENVIRONMENT) as batch:
        until(lambda: batch.copying_at() or batch.of("", "batch-ended"), "a copy that goes on")
        assert batch.copying_at(), batch.said()
        for pid in processes_with(f"exports/{SLOW}.raw"):
            os.kill(pid, 9)
        status, machines = batch.end()
        assert status == 5, batch.said()
    assert {name: each["state"] for name, each in machines.items()} == {
        SLOW: "parked",
        "files1": "done",
        "files2": "done",
    }
    assert {name: each["host"] for name, each in machines.items()} == {
        SLOW: "nodea",
        "files1": "nodeb",
        "files2": "nodea",
    }
    until(lambda: not processes_with(f"exports/{SLOW}.raw"), "the end of what was killed")
    for host, names in ((site.nodea, [NOTES]), (site.nodeb, [NOTES, DONE_LEFT])):
        host.run("touch", *(str(site.results / name) for name in names))


@pytest.fixture
def played(site: Site) -> Site:
    """The same without a conversion: what the store knows then, and empty files."""
    batch = read_batch(site.path)
    with Store.create(batch.store) as store:
        store.put(batch)
        for name, host in {SLOW: site.nodea, "files2": site.nodea, "files1": site.nodeb}.items():
            now = time.time()
            lease = store.claim(name, "elsewhere:1", 60.0, now)
            assert lease is not None
            store.event(lease, "worker", {"worker": "tcp://127.0.0.1:1", "host": host.name}, now)
            if name == SLOW:
                store.park(lease, Failure("crashed", 70, "it was killed"), now)
            else:
                store.finish(lease, now, record=None, seconds={}, verified=None)
    for host, names in ((site.nodea, [*LEFT, "files2.json"]), (site.nodeb, ["files1.json", DONE_LEFT])):
        host.run("touch", *(str(site.results / name) for name in names))
    return site


def _results(site: Site, host: Host, name: str) -> set[str]:
    return {each for each in site.names(host) if each.startswith(f"{name}.") and not each.endswith(".partial")}


def test_what_a_crash_left_on_own_disks_is_shown_and_removed_and_nothing_else_is_touched(site: Site) -> None:
    _crash(site)
    before = site.names(site.nodea), site.names(site.nodeb)
    left = {each for each in before[0] if SLOW in each}
    assert left >= LEFT
    kept = before[0] - left, before[1] - {DONE_LEFT}
    assert kept == (
        {NOTES, *_results(site, site.nodea, "files2")},
        {NOTES, *_results(site, site.nodeb, "files1")},
    )
    assert "files2.json" in kept[0]
    assert "files1.json" in kept[1]

    unasked = site.clean()
    assert unasked.returncode == 0
    assert str(site.results) not in unasked.stdout
    (line,) = [line for line in unasked.stderr.splitlines() if "--engine" in line]
    assert "nodea, nodeb" in line

    shown = site.clean("--engine", site.cluster.engine)
    assert shown.returncode == 0, shown.stderr
    lines = {line.strip() for line in shown.stdout.splitlines() if str(site.results) in line}
    assert {line.partition(": ")[0] for line in lines} == {f"{SLOW} at nodea", "files1 at nodeb"}
    assert len(lines) == len(left) + 1
    assert all(any(f"{site.results}/{name}" in line for line in lines) for name in (*left, DONE_LEFT))
    assert (site.names(site.nodea), site.names(site.nodeb)) == before

    gone = site.document("--remove")
    assert {(each["host"], Path(each["path"]).name) for each in gone["removed"] if each["kind"] == "file"} == {
        *(("nodea", name) for name in left),
        ("nodeb", DONE_LEFT),
    }
    assert not any(each["refused"] for each in gone["removed"])
    assert gone["unasked"] == []
    assert (site.names(site.nodea), site.names(site.nodeb)) == kept
    assert site.document()["left"] == []


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_host_that_is_not_there_any_more_is_told_with_a_status_and_the_other_one_is_seen(
    played: Site, how: str
) -> None:
    """Or that gives no answer; what was left is still there when it comes back."""
    site = played
    if how == "killed":
        site.workers[0].kill()
    else:
        site.workers[0].process.send_signal(signal.SIGSTOP)
    before = site.names(site.nodea)
    until(lambda: site.document()["unasked"], "a host without its worker")

    ended = site.clean("--engine", site.cluster.engine, "--remove")

    assert ended.returncode == 2
    assert "nodea is not asked" in ended.stderr
    assert site.names(site.nodea) == before
    assert DONE_LEFT not in site.names(site.nodeb)
    # it is back
    if how == "killed":
        site.cluster.worker(enter=site.nodea.enter)
    else:
        site.workers[0].process.send_signal(signal.SIGCONT)
    assert site.clean("--engine", site.cluster.engine, "--remove").returncode == 0
    assert not {each for each in site.names(site.nodea) if SLOW in each}


HOLD = "import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); time.sleep(600)"


def test_a_conversion_that_lives_at_its_host_loses_nothing(played: Site) -> None:
    """Of a run that the store has not heard of, as one that has just begun."""
    site = played
    before = site.names(site.nodea)
    lock = site.results / f".{SLOW}.p2v-lock"
    holder = subprocess.Popen([*site.nodea.enter, sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        found = site.document("--remove")
    finally:
        holder.kill()
        holder.communicate()
    assert [each["host"] for each in found["left"] if each["kind"] == "file"] == ["nodeb"]
    assert site.names(site.nodea) == before


def test_a_folder_that_all_hosts_see_is_looked_at_once(played: Site) -> None:
    """Its disk is taken away at both hosts: what is below is the runner's."""
    site = played
    for host in (site.nodea, site.nodeb):
        host.run("umount", str(site.results))
    (site.results / f"{SLOW}.img.partial").write_text("x")
    found = site.document()
    assert [(each["host"], Path(each["path"]).name) for each in found["left"]] == [(None, f"{SLOW}.img.partial")]
    assert found["unasked"] == []


def test_what_may_not_be_talked_to_is_refused_before_anything_is_removed(played: Site) -> None:
    """As by `run`: without certificates no scheduler but one of this host; and none that is not there."""
    (played.results / f"{SLOW}.img.partial").write_text("x")
    for words, status in (
        (["--engine", "dask://192.0.2.1:1"], 77),
        (["--engine", f"dask://127.0.0.1:{_free_port()}"], 75),
        (["--engine", "nonsense"], 64),
        (["--tls-ca", "ca.pem"], 64),
    ):
        ended = played.clean("--remove", *words)
        assert ended.returncode == status, ended.stderr
        assert ended.stdout == ""
    assert (played.results / f"{SLOW}.img.partial").exists()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
