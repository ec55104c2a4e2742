"""Hosts of a cluster on the page: what each did, and which is slow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from p2v.batch.jobs import Job, State
from p2v.batch.report.hosts import host_figures, slow_hosts
from p2v.batch.report.limits import HOSTS
from p2v.core.units import GIB
from tests.batch.report.samples import NOW, Sample, Teller, batch_of, done, history
from tests.pages import nesting
from tests.pages.hostile import HOSTILE


def _fleet(teller: Teller, count: int, host_of: Callable[[int], str], boot: float = 40.0) -> tuple[Job, ...]:
    jobs = []
    for number in range(count):
        name, host = f"m{number}", host_of(number)
        job = done(teller, name, number * 60.0, 80 if host == "node1" else 160)
        teller.tell(number * 60.0 + 1, name, 1, "worker", worker=f"tls://{host}:1", host=host)
        seconds = {**job.seconds, "boot": boot if host == "node2" else 40.0}
        jobs.append(replace(job, seconds=seconds, host=host))
    return tuple(jobs)


def _by_turns(number: int) -> str:
    return ("node1", "node2")[number % 2]


def test_each_host_has_its_machines_its_rate_and_what_failed_there() -> None:
    teller = Teller()
    jobs = _fleet(teller, 6, _by_turns)
    teller.tell(900, "m0", 2, "claimed", worker="runner:7")
    teller.tell(901, "m0", 2, "worker", worker="tls://node2:1", host="node2")
    teller.tell(950, "m0", 2, "again", failure={"message": "its worker went away"})
    running = replace(jobs[1], machine=replace(jobs[1].machine, name="now"), state=State.RUNNING, bytes_copied=7)
    jobs = (*jobs, running)

    one, two = host_figures(jobs, history(jobs, teller.in_order(), NOW))

    assert (one.host, one.done, one.running, one.lost, one.bytes_copied) == ("node1", 2, 0, 0, 2 * 8 * GIB)
    assert (two.host, two.done, two.running, two.lost) == ("node2", 4, 1, 1)
    assert one.rates == [8 * GIB / 80] * 2


def test_a_host_that_boots_slowly_is_told_of() -> None:
    teller = Teller()
    jobs = _fleet(teller, 6, _by_turns, boot=600.0)
    (found,) = slow_hosts(jobs, history(jobs, teller.in_order(), NOW))
    assert found.what == "The phase boot takes 10 min 00 s at node2, and 40.0 s elsewhere."
    assert found.why == ("3 machines there, 3 elsewhere.",)

    teller = Teller()
    few = _fleet(teller, 5, _by_turns, boot=600.0)
    assert [*slow_hosts(few, history(few, teller.in_order(), NOW))] == [], "two machines are too few to tell"


def test_machines_that_a_phase_had_nothing_to_do_for_are_no_measure_of_a_host() -> None:
    teller = Teller()
    jobs = _fleet(teller, 8, _by_turns)
    node2 = [number for number in range(8) if _by_turns(number) == "node2"]
    rewritten = dict.fromkeys(node2[:3], 120.0)
    jobs = tuple(
        replace(job, seconds={**job.seconds, "rewrite": rewritten.get(number, 0.001)}) for number, job in enumerate(jobs)
    )
    told = history(jobs, teller.in_order(), NOW)
    assert [*slow_hosts(jobs, told)] == []
    assert [each.seconds.get("rewrite") for each in host_figures(jobs, told)] == [None, [120.0] * 3]


def test_the_page_has_hosts_where_there_is_a_cluster_and_nothing_of_them_elsewhere() -> None:
    teller = Teller()
    jobs = _fleet(teller, 6, _by_turns, boot=600.0)
    page = Sample(batch_of(jobs), jobs, teller.in_order(), {}).html()
    text = nesting.text_of(page, " ")
    assert "#hosts" in page
    assert "2 hosts that machines were converted at" in text
    assert "The phase boot takes 10 min 00 s at node2, and 40.0 s elsewhere." in text
    assert ", by host-a , at node2" in text

    plain = Teller()
    here = (done(plain, "one", 0, 60),)
    alone = Sample(batch_of(here), here, plain.in_order(), {}).html()
    assert "hosts" not in alone


def test_hosts_that_mean_harm_are_escaped_and_bounded_in_number() -> None:
    teller = Teller()
    jobs = _fleet(teller, HOSTS + 5, lambda number: f"{HOSTILE[number % len(HOSTILE)]}{number}")
    page = Sample(batch_of(jobs), jobs, teller.in_order(), {}).html()
    assert not [text for text in HOSTILE if "<" in text and text in page]
    assert "5 more hosts." in nesting.text_of(page, " ")
    assert len(nesting.Nesting(page).ids) == len(set(nesting.Nesting(page).ids))
