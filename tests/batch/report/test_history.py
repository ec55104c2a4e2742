"""What events tell of machines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2v.batch.jobs import Job, JobEvent, State
from p2v.batch.report.chronicle import Chronicle
from p2v.batch.report.history import History
from p2v.batch.report.limits import KNOWN, MOVES, WARNINGS
from tests.batch.report.samples import NOW, START, Teller, history, hostile, machine, sample

RUNNING = Job(machine("web"), State.RUNNING, 1, 1, began=START, lease_until=NOW + 60)
DONE = replace(RUNNING, state=State.DONE, ended=START + 50)


def told(teller: Teller, job: Job = RUNNING) -> History:
    return history([job], teller.in_order(), NOW)


def test_phases_that_overlap_have_their_times_and_the_bytes_of_each() -> None:
    teller = Teller()
    teller.tell(0, "web", 1, "claimed", worker="host-a")
    teller.phase("web", 1, "copy", 1, 21, 1000)
    teller.phase("web", 1, "rewrite", 2, 10)
    teller.tell(30, "web", 1, "done")
    (attempt,) = told(teller, DONE).of("web").attempts
    assert [(each.phase, each.begin - START, each.seconds, each.bytes_done) for each in attempt.spans] == [
        ("copy", 1, 20, 1000),
        ("rewrite", 2, 8, 0),
    ]
    assert (attempt.kind, attempt.worker, attempt.end - START) == ("done", "host-a", 30)


def test_a_phase_that_is_open_lasts_until_now_and_has_a_rate() -> None:
    teller = Teller()
    teller.tell(0, "web", 1, "claimed")
    teller.tell(10, "web", 1, "phase-started", phase="copy")
    teller.tell(20, "web", 1, "bytes-done", phase="copy", count=7180)
    past = told(teller)
    assert past.of("web").open_phases == ("copy",)
    assert past.copy_rate("web") == 7180 / (NOW - START - 10)
    assert past.copy_rate("no such machine") is None
    assert past.is_run


def test_warnings_and_hooks_that_failed() -> None:
    teller = Teller()
    teller.tell(0, "web", 1, "warning", message="a warning")
    teller.tell(1, "web", 1, "hook", when="before", failed=False, message="")
    teller.tell(2, "web", 1, "hook", when="after", failed=True, message="it ended with exit status 1")
    assert told(teller).of("web").warnings == ("a warning", "The hook after it: it ended with exit status 1")


def test_an_attempt_that_failed_cuts_its_phases_off() -> None:
    teller = Teller()
    teller.tell(0, "web", 1, "claimed")
    teller.tell(1, "web", 1, "phase-started", phase="copy")
    teller.tell(5, "web", 1, "again", failure={"message": "the disk is full"}, not_before=START + 10)
    teller.tell(10, "web", 2, "claimed")
    first, second = told(teller).of("web").attempts
    assert (first.kind, first.message, first.spans[0].failed, first.spans[0].seconds) == (
        "again",
        "the disk is full",
        True,
        4,
    )
    assert (second.kind, second.fence, second.spans) == ("", 2, ())


def test_a_lease_that_was_lost_ends_the_attempt_where_the_next_begins() -> None:
    teller = Teller()
    teller.tell(0, "web", 1, "claimed")
    teller.tell(1, "web", 1, "phase-started", phase="copy")
    teller.tell(90, "web", 2, "claimed")
    first, second = told(teller).of("web").attempts
    assert (first.kind, first.end - START) == ("lease-lost", 1)
    assert second.kind == ""


def test_a_machine_that_does_not_run_has_no_open_phase() -> None:
    teller = Teller()
    teller.tell(0, "web", 1, "phase-started", phase="copy")
    assert told(teller, replace(RUNNING, state=State.WAITING)).of("web").open_phases == ()


def test_pauses() -> None:
    teller = Teller()
    for at, kind in ((1, "paused"), (2, "paused"), (5, "resumed"), (9, "paused")):
        teller.tell(at, "", 0, kind)
    past = told(teller)
    assert past.pauses == ((START + 1, START + 5), (START + 9, NOW))
    assert past.is_paused


@pytest.mark.parametrize(
    ("kinds", "leases", "is_run"),
    [
        ((), (), False),
        (("batch-began",), (), True),
        (("batch-began", "batch-ended"), (), False),
        (("batch-began", "stopping"), (), False),
        (("batch-began", "batch-ended", "batch-began"), (), True),
        (("batch-began",), (NOW - 1,), False),
        ((), (NOW - 1, NOW + 1), True),
    ],
)
def test_whether_somebody_runs_the_batch(kinds: tuple[str, ...], leases: tuple[float, ...], is_run: bool) -> None:
    teller = Teller()
    for at, kind in enumerate(kinds):
        teller.tell(at, "", 0, kind)
    jobs = [Job(machine(f"r{each}"), State.RUNNING, lease_until=each) for each in leases]
    jobs.append(Job(machine("w"), State.WAITING))
    assert history(jobs, teller.in_order(), NOW).is_run is is_run
    assert history(jobs, teller.in_order(), NOW, is_run=True).is_run


def test_an_ended_batch_ends_with_its_last_machine() -> None:
    assert told(Teller(), DONE).end == START + 50
    assert told(Teller()).end == NOW


def test_a_batch_that_nobody_runs_has_ended_for_now() -> None:
    teller = Teller()
    teller.tell(0, "", 0, "batch-began")
    teller.tell(10, "web", 1, "claimed", attempt=1, worker="here")
    teller.tell(50, "web", 1, "done")
    jobs = [DONE, Job(machine("w"), State.WAITING)]
    assert history(jobs, teller.in_order(), NOW).end == NOW
    teller.tell(60, "", 0, "batch-ended")
    # a page that is made in the morning is no wider than the night
    assert history(jobs, teller.in_order(), NOW).end == START + 50


def test_very_many_events_are_kept_within_limits_and_counted() -> None:
    teller = Teller()
    for number in range(KNOWN + 100):
        teller.tell(number, "web", number, "claimed")
        teller.tell(number, "web", number, "warning", message="w" * 10_000)
        teller.tell(number + 0.5, "web", number, "again")
    for number in range(3 * KNOWN):
        teller.phase("web", 2 * KNOWN, f"phase-{number}", 2 * KNOWN + number, 2 * KNOWN + number + 0.5)
    found = told(teller).of("web")
    assert (len(found.attempts), found.attempts_left_out) == (KNOWN, 101)
    assert (found.failed, found.failed_seconds) == (KNOWN + 100, 0.5 * (KNOWN + 100)), "all of them, also those left out"
    assert (len(found.warnings), found.warnings_left_out) == (WARNINGS, KNOWN + 100 - WARNINGS)
    assert all(len(each) < 1000 for each in found.warnings)
    assert len(found.attempts[-1].spans) == KNOWN


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_events_that_are_heard_piece_by_piece_tell_the_same(pieces: int) -> None:
    given = sample()
    heard = Chronicle()
    for begin in range(0, len(given.events), pieces):
        heard.hear(given.events[begin : begin + pieces])
        heard.history(given.jobs, NOW - 1000)  # a page that is made meanwhile changes nothing
    assert heard.history(given.jobs, NOW) == history(given.jobs, given.events, NOW)
    assert heard.number == given.events[-1].number


def test_bytes_of_a_long_run_are_all_counted_in_few_pieces() -> None:
    heard = Chronicle()
    teller = Teller()
    for number in range(3 * MOVES):
        teller.tell(number / 3, "web", 1, "bytes-done", phase="copy", count=number)
    heard.hear(teller.made)
    moved = heard.history([RUNNING], NOW).moved
    assert MOVES / 3 < len(moved) <= MOVES
    assert sum(count for _, count in moved) == sum(range(3 * MOVES))
    assert [at for at, _ in moved] == sorted(at for at, _ in moved)


@pytest.mark.parametrize("value", [None, True, -5, "5", float("nan"), float("inf"), [5], {}])
def test_what_is_no_count_moves_no_bytes(value: object) -> None:
    event = JobEvent(1, START, "web", 1, "bytes-done", {"phase": "copy", "count": value})
    assert history([RUNNING], [event], NOW).moved == ()


def test_hostile_events_are_no_trouble() -> None:
    given = hostile()
    assert history(given.jobs, given.events, NOW).machines


def test_the_host_of_each_attempt_is_the_one_that_it_was_told_to_be_at() -> None:
    teller = Teller()
    teller.tell(0, "web", 1, "claimed", worker="runner:7")
    teller.tell(1, "web", 1, "worker", worker="tls://10.0.0.2:4000", host="node2")
    teller.tell(5, "web", 1, "again", failure={"message": "its worker went away"})
    teller.tell(6, "web", 2, "claimed", worker="runner:7")
    teller.tell(7, "web", 2, "worker", worker="tls://10.0.0.3:4000", host="")
    teller.tell(9, "web", 2, "done")
    teller.tell(10, "web", 3, "claimed", worker="runner:7")
    teller.tell(11, "web", 3, "worker", worker=7, host=["x"])

    past = told(teller)

    assert [each.host for each in past.of("web").attempts] == ["node2", "tls://10.0.0.3:4000", ""]
    assert {each.worker for each in past.of("web").attempts} == {"runner:7"}
    assert past.host(RUNNING) == "runner:7"
    assert past.host(replace(RUNNING, host="node9")) == "node9"
