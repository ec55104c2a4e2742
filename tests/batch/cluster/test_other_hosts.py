"""The page's commands on hosts with addresses of their own: network namespaces, TLS between them, one shared folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2v.batch.kinds import FOUND
from p2v.record import load_record
from tests.batch.cluster import pages
from tests.batch.cluster.batches import (
    NAMES,
    P2V,
    SLOW,
    Runner,
    assert_same,
    disks,
    manifest,
    python_path,
    run_here,
    runner,
)
from tests.batch.cluster.clusters import Program, processes_with, until
from tests.batch.cluster.hosts import Host, Switch, missing

LACKS = missing()
pytestmark = pytest.mark.skipif(bool(LACKS), reason=f"needs {LACKS}")
_ENVIRONMENT = {**os.environ, "PYTHONPATH": python_path()}


@dataclass
class Site:
    """Hosts by their names, and a folder that all of them see. ``programs``: of Dask, by their host's name."""

    folder: Path
    hosts: Mapping[str, Host]
    programs: Mapping[str, Program]

    @contextmanager
    def batch(self, path: Path, options: list[str] | None = None) -> Iterator[Runner]:
        """The page's first command on the runner's host; ``options``: in place of those of certificates."""
        there = self.command("p2v batch run", path, options)
        with runner(there, self.folder, _ENVIRONMENT, self.hosts["runner"].enter) as made:
            yield made

    def command(self, beginning: str, path: Path, options: list[str] | None = None) -> list[str]:
        """The page's first one that begins so, without its first word, for this site."""
        words = pages.commands(beginning)[0][1:]
        words = words if options is None else [*words[: words.index("--tls-ca")], *options]
        changes = {"jobs.yaml": str(path), "scheduler.example": self.hosts["scheduler"].address}
        return [_certificate(word, self.folder) for word in pages.replaced("\n".join(words), changes).split("\n")]

    def clean(self, path: Path, *options: str, certificates: bool = True) -> subprocess.CompletedProcess[str]:
        """The page's command for that on the runner's host."""
        words = self.command("p2v batch clean", path, None if certificates else [])
        command = [*self.hosts["runner"].enter, *P2V, *words, *options]
        return subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture(params=["5 minutes"])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A scheduler, two workers, and a host for the runner, started by the page's commands.

    ``params``: for how long a worker may be silent until the scheduler gives it up.
    """
    (tmp_path / "tls").mkdir()
    for command in pages.authority_commands():
        subprocess.run(command, cwd=tmp_path / "tls", check=True, stdin=subprocess.DEVNULL, capture_output=True)
    disks(tmp_path)
    with ExitStack() as stack:
        switch = Switch(stack)
        names = ("scheduler", "node1", "node2", "runner")
        hosts = {name: switch.host(name) for name in names}
        programs: dict[str, Program] = {}
        for words, name in zip(_page_commands(hosts["scheduler"].address, tmp_path), names, strict=False):
            programs[name] = _started(hosts[name], words, tmp_path, str(request.param))
            stack.callback(programs[name].end)
            _registered(programs[name], b"Registered to:" if words[0] == "worker" else b"Scheduler at:")
        yield Site(tmp_path, hosts, programs)


def _registered(program: Program, word: bytes) -> None:
    """Wait until it has said so."""

    def has_said() -> bool:
        assert program.process.poll() is None, program.log.read_text()
        return word in program.log.read_bytes()

    until(has_said, f"{word.decode()} of {program.log.stem}")


def _page_commands(address: str, folder: Path) -> Iterator[list[str]]:
    """The scheduler's, and a worker's twice."""
    scheduler, worker = pages.commands("dask ", "By hand")
    for words in (scheduler, worker, worker):
        there = [word.replace("scheduler.example", address) for word in words[1:]]
        yield [_certificate(word, folder) for word in there]


def _certificate(word: str, folder: Path) -> str:
    """A word of a command; one that is a file of certificates with its folder: the working folder is not that of the page."""
    return str(folder / "tls" / word) if word.endswith((".pem", ".key")) else word


def _started(host: Host, words: list[str], folder: Path, ttl: str) -> Program:
    log = folder / f"{host.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*host.enter, sys.executable, "-m", f"distributed.cli.dask_{words[0]}", *words[1:]], cwd=folder,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            env={**_ENVIRONMENT, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": ttl, "DASK_TEMPORARY_DIRECTORY": str(folder)},
        )  # fmt: skip
    return Program(process, log)


def test_a_batch_at_other_hosts_has_the_same_bytes_and_says_where_each_machine_was_converted(site: Site) -> None:
    run_here(site.folder)
    path = manifest(site.folder, "there", hosts={"files1": "node1", "files2": site.hosts["node2"].address})
    with site.batch(path, []) as refused:
        assert refused.end()[0] == 77
        assert "certificates" in refused.said()

    with site.batch(path) as batch:
        status, machines = batch.end()
        assert status == 0, batch.said()

    assert {name: machine["state"] for name, machine in machines.items()} == dict.fromkeys(NAMES, "done")
    assert (machines["files1"]["host"], machines["files2"]["host"]) == ("node1", "node2")
    assert machines[SLOW]["host"] in ("node1", "node2")
    (told,) = batch.of("files1", "worker")
    assert told["worker"].startswith(f"tls://{site.hosts['node1'].address}:")
    assert_same(site.folder, "there")


@pytest.mark.matrix
@pytest.mark.parametrize("site", ["15s"], indirect=True)
def test_a_host_that_is_cut_off_in_the_middle_of_a_copy_is_given_up_and_its_conversion_gives_no_names(
    site: Site,
) -> None:
    run_here(site.folder)
    # a copy that lasts until the host is given up: else it would end there, and be taken as it is
    path = manifest(site.folder, "there", limit="64K", attempts=100)
    with site.batch(path) as batch:
        address = until(batch.copying_at, "a copy that goes on")
        (cut,) = [host for host in site.hosts.values() if f"//{host.address}:" in address]

        cut.cut()
        status, machines = batch.end()
        assert status == 0, batch.said()

    assert machines[SLOW]["state"] == "done"
    assert machines[SLOW]["host"] in {"node1", "node2"} - {cut.name}
    assert "lost" in [event["code"] for event in batch.of(SLOW, "again")]
    # the one that was cut off finds that out by itself, and ends what it did
    until(lambda: not processes_with(f"{site.folder}/there"), "the end of the conversion at the host that was cut off")
    assert_same(site.folder, "there")


@pytest.mark.parametrize("hidden", ["exports", "there"])
def test_a_worker_without_a_mount_says_so_and_the_machines_go_to_one_that_has_it(site: Site, hidden: str) -> None:
    """The folder of the sources is missing, or an empty one stands in the place of that of the results."""
    run_here(site.folder)
    path = manifest(site.folder, "there", attempts=1)
    (site.folder / "there").mkdir()
    site.hosts["node1"].hide(site.folder / hidden)

    with site.batch(path) as batch:
        status, machines = batch.end()
        assert status == 0, batch.said()

    assert {name: machine["host"] for name, machine in machines.items()} == dict.fromkeys(NAMES, "node2")
    warnings = [event["message"] for name in NAMES for event in batch.of(name, "warning")]
    missing = site.folder / (f"{hidden}/" if hidden == "exports" else hidden)
    assert [text for text in warnings if text.startswith(f"node1 does not see what this machine needs: {missing}")]
    assert_same(site.folder, "there")


def test_a_machine_whose_disk_nobody_sees_is_parked_with_the_hosts_that_looked(site: Site) -> None:
    path = manifest(site.folder, "there")
    (site.folder / "exports" / "web.raw").unlink()

    with site.batch(path) as batch:
        status, machines = batch.end()
        assert status == 5, batch.said()

    assert machines[SLOW]["state"] == "parked"
    failure = machines[SLOW]["failure"]
    assert (failure["code"], failure["exit_code"]) == ("no-source", 66)
    assert "at node1" in failure["message"]
    assert "at node2" in failure["message"]
    assert str(site.folder / "exports" / "web.raw") in failure["message"]


def test_results_on_a_disk_that_one_host_has_are_known_to_the_runner_and_made_once(site: Site) -> None:
    path = manifest(site.folder, "there", hosts=dict.fromkeys(NAMES, "node1"))
    there, records = site.folder / "there", site.folder / "there-records"
    there.mkdir()
    site.hosts["node1"].hide(there, 1024)

    with site.batch(path) as batch:
        status, machines = batch.end()
        assert status == 0, batch.said()
    made = site.hosts["node1"].names_in(there)

    assert {name: (each["state"], each["host"]) for name, each in machines.items()} == dict.fromkeys(NAMES, ("done", "node1"))
    for name in NAMES:
        record = Path(machines[name]["record"])
        assert record == records / f"{name}-1" / "record.json"
        assert load_record(record).disks[0].target in made
    # nothing is left on either host, no fence among it
    assert list(there.iterdir()) == []
    assert not [name for name in made if name.startswith(".")]

    page = subprocess.run(
        [*P2V, "batch", "report", str(path), "-o", str(site.folder / "page.html")], env=_ENVIRONMENT, capture_output=True
    )
    assert page.returncode == 0, page.stderr
    with site.batch(path) as again:
        assert again.end()[0] == 0, again.said()
        assert not [event for event in again.events() if event["event"] == "claimed"]
    assert site.hosts["node1"].names_in(there) == made
    _assert_cleans(site, path, there / "web.json.partial")
    assert site.hosts["node1"].names_in(there) == made
    assert (site.folder / "page.html").read_text().count("there-records/web-1/record.json") == 1


def _assert_cleans(site: Site, path: Path, left: Path) -> None:
    """What is left at a host is removed by who has certificates, and by nobody else."""
    site.hosts["node1"].run("touch", str(left))
    refused = site.clean(path, "--remove", certificates=False)
    assert refused.returncode == 77
    assert "certificates" in refused.stderr
    shown = site.clean(path)
    assert shown.returncode == 0, shown.stderr
    assert f"web at node1: record without its name {left}" in shown.stdout
    assert left.name in site.hosts["node1"].names_in(left.parent)
    assert site.clean(path, "--remove").returncode == 0


@pytest.mark.matrix
def test_what_a_killed_runner_s_worker_had_made_on_its_own_disk_is_found_by_the_next_run(site: Site) -> None:
    """The runner is killed when the worker has given the results their names, before it is heard."""
    path = manifest(site.folder, "there", hosts=dict.fromkeys(NAMES, "node1"))
    there = site.folder / "there"
    there.mkdir()
    site.hosts["node1"].hide(there, 1024)
    with site.batch(path) as batch:
        until(lambda: batch.of(NAMES[0], "worker"), "a machine at a worker")
        batch.stop()  # it hears nothing any more
        until(lambda: f"{NAMES[0]}.json" in site.hosts["node1"].names_in(there), "a result")
        until(lambda: not processes_with(f"{site.folder}/exports"), "the end of what was begun")
    made = set(site.hosts["node1"].names_in(there))

    with site.batch(path) as again:
        status, machines = again.end()
        assert status == 0, again.said()

    assert {name: each["state"] for name, each in machines.items()} == dict.fromkeys(NAMES, "done")
    assert made <= set(site.hosts["node1"].names_in(there)) | {f".{name}.p2v-fence" for name in NAMES}
    assert FOUND in [event["message"] for event in again.of(NAMES[0], "warning")], again.said()
    assert not [event for event in again.of(NAMES[0], "bytes-done") if event["phase"] == "copy"]
    assert load_record(Path(machines[NAMES[0]]["record"])).document.machine.name == NAMES[0]
