"""Which workers a job may go to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2v.batch.cluster.placing import (
    Storage,
    WorkerSeen,
    fitting,
    needs,
    parse_storage,
    roomiest,
    seen,
    storages_of,
    turns,
    why_none,
)
from p2v.batch.jobs import MachineJob, Verify
from p2v.core.errors import Usage

NFS, SAN = Storage("nfs1", Path("/mnt/nfs1"), 4), Storage("san", Path("/mnt/san"))


def _job(
    source: str = "/local/a.vmdk", folder: str = "/out", host: str = "", verify: Verify = Verify.NONE
) -> MachineJob:
    return MachineJob("a", (Path(source),), Path(folder), host=host, verify=verify)


def _worker(address: str, *, hostname: str = "one.example", problem: str = "", **resources: float) -> WorkerSeen:
    return WorkerSeen(address, address, hostname, resources or {"convert": 1.0}, problem)


def test_a_job_takes_a_conversion_and_its_turn_at_booting() -> None:
    assert needs(_job(), ()) == {"convert": 1.0}
    assert needs(_job(verify=Verify.BOOT), ()) == {"convert": 1.0}
    assert turns(_job(verify=Verify.BOOT)) == {"kvm": 1.0}
    assert turns(_job()) == {}


def test_a_job_takes_a_token_of_each_storage_it_touches_unless_the_whole_cluster_counts_it() -> None:
    assert needs(_job("/mnt/san/a.vmdk"), (NFS, SAN)) == {"convert": 1.0, "storage-san": 1.0}
    assert needs(_job(folder="/mnt/san"), (NFS, SAN)) == {"convert": 1.0, "storage-san": 1.0}
    assert needs(_job("/mnt/nfs1/a.vmdk"), (NFS, SAN)) == {"convert": 1.0}
    assert needs(_job("/mnt/sandbox/a.vmdk"), (NFS, SAN)) == {"convert": 1.0}


def test_tokens_are_taken_in_one_order_by_all_jobs() -> None:
    assert storages_of(_job("/mnt/san/a", "/mnt/nfs1"), (SAN, NFS)) == (NFS, SAN)
    assert storages_of(_job("/mnt/nfs1/a", "/mnt/san"), (NFS, SAN)) == (NFS, SAN)


def test_a_worker_fits_that_offers_everything_a_job_takes() -> None:
    both, one = _worker("tcp://a:1", convert=1.0, kvm=1.0), _worker("tcp://b:1", convert=2.0)

    assert fitting(_job(verify=Verify.BOOT), (both, one), ()) == ("tcp://a:1",)
    assert fitting(_job(), (both, one), ()) == ("tcp://a:1", "tcp://b:1")
    assert fitting(_job("/mnt/san/a"), (both, one), (SAN,)) == ()
    assert "storage-san" in why_none(_job("/mnt/san/a"), (both, one), (SAN,))


def test_a_job_goes_where_most_room_is_and_nowhere_when_none_has_any() -> None:
    workers = (_worker("tcp://a:1", convert=4.0, kvm=1.0), _worker("tcp://b:1", convert=2.0, kvm=2.0))
    wanted, boots = {"convert": 1.0}, {"kvm": 1.0}

    def taken(**counts: float) -> Callable[[str, str], float]:
        return lambda address, name: counts.get(f"{address[6]}_{name}", 0.0)

    assert roomiest(workers, wanted, taken()) == "tcp://a:1"
    assert roomiest(workers, wanted, taken(a_convert=3.0)) == "tcp://b:1"
    assert roomiest(workers, wanted, taken(a_convert=4.0, b_convert=1.0)) == "tcp://b:1"
    assert roomiest(workers, wanted, taken(a_kvm=1.0, b_kvm=1.0), boots) == "tcp://b:1"
    assert roomiest(workers, wanted, taken(a_convert=4.0, b_convert=2.0)) == ""
    # others that wait for their turn to boot fill no worker
    assert roomiest(workers, wanted, taken(a_kvm=9.0, b_kvm=2.0), boots) == "tcp://b:1"
    assert roomiest(workers, wanted, taken(a_kvm=9.0, b_kvm=2.0, b_convert=2.0), boots) == "tcp://a:1"
    assert roomiest((), wanted, taken()) == ""


@pytest.mark.parametrize("host", ["two.example", "TWO", "192.0.2.2"])
def test_a_job_whose_disk_one_host_has_goes_to_that_host_alone(host: str) -> None:
    workers = (_worker("tls://192.0.2.1:1"), _worker("tls://192.0.2.2:1", hostname="two.example"))

    assert fitting(_job(host=host), workers, ()) == ("tls://192.0.2.2:1",)


def test_a_host_of_which_no_worker_is_there_is_named() -> None:
    assert "three" in why_none(_job(host="three"), (_worker("tcp://a:1"),), ())
    assert fitting(_job(host="three"), (_worker("tcp://a:1"),), ()) == ()


def test_a_worker_with_a_problem_gets_nothing() -> None:
    unfit = _worker("tcp://a:1", problem="is of yesterday")

    assert fitting(_job(), (unfit,), ()) == ()
    assert "yesterday" in why_none(_job(), (unfit,), ())


def test_workers_of_another_version_or_without_p2v_or_without_tls_are_no_use() -> None:
    said = {"name": "w", "resources": {"convert": 1}}

    def problem(address: str = "tcp://127.0.0.1:1", **described: object) -> str:
        return seen(address, said, {"version": "1", "protocol": 2, "hostname": "h", **described}, "1", 2).problem

    assert problem() == ""
    assert "version 2" in problem(version="2")
    assert "protocol" in problem(protocol=1)
    assert "protocol" in problem(protocol=None)
    assert "p2v" in problem(error="No module named 'p2v'")
    assert "TLS" in problem("tcp://192.0.2.1:1")


def test_what_workers_say_of_themselves_is_cut_and_checked() -> None:
    worker = seen(
        "tcp://127.0.0.1:1", {"name": "x" * 9999, "resources": {"convert": "many"}}, {"version": "1" * 9999}, "1", 2
    )

    assert len(worker.name) == 255
    assert worker.resources == {}
    assert len(worker.problem) < 200


def test_a_storage_is_a_name_a_folder_and_a_count() -> None:
    assert parse_storage("nfs1=/mnt/nfs1:4") == NFS
    assert parse_storage("san=/mnt/san") == SAN
    assert parse_storage("a=/mnt/a:b") == Storage("a", Path("/mnt/a:b"))


@pytest.mark.parametrize("text", ["", "san", "=/mnt", "san=mnt", "s n=/mnt", "san=/mnt:0"])
def test_what_is_no_storage_is_a_usage_error(text: str) -> None:
    with pytest.raises(Usage):
        parse_storage(text)
