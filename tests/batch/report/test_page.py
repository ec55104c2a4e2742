"""What the page is made of, without a browser."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from p2v.batch.jobs import Failure, Job, State
from p2v.batch.report import batch_html
from p2v.core.units import GIB
from tests.batch.making import terms_of_sizes
from tests.batch.report.samples import (
    LOCKED,
    NOW,
    START,
    Sample,
    Teller,
    batch_of,
    done,
    fleet,
    hostile,
    machine,
    sample,
)
from tests.pages import nesting
from tests.pages.hostile import HOSTILE
from tests.pages.nesting import Nesting

EMPTY = Sample(batch_of(()), (), (), {})


def text_of(page: str) -> str:
    return nesting.text_of(page, " ")


@pytest.mark.parametrize("given", [sample(), hostile(), fleet(20), EMPTY], ids=["sample", "hostile", "fleet", "empty"])
@pytest.mark.parametrize("refresh", [None, 10])
def test_every_element_is_closed_every_link_leads_somewhere_and_the_file_is_utf_8(
    given: Sample, refresh: int | None
) -> None:
    page = given.html(refresh)
    seen = Nesting(page)
    assert len(seen.ids) == len(set(seen.ids))
    assert {each[1:] for each in seen.links} <= set(seen.ids)
    page.encode("utf-8")


def test_why_a_machine_was_parked_and_what_to_do() -> None:
    text = text_of(sample().html())
    assert "encrypted vault: its root is encrypted What to do: Give its key with keys: in jobs.yaml." in text
    assert "Exit code 4 after 1 attempt. Trying again alone does not help." in text
    assert (
        "converted, but its boot check did not see it come up Its boot check: nothing happened any more What to do"
        in text
    )
    assert "What is known of it: /srv/kvm/jobs-failures/vault-1" in text


def test_how_the_run_stands() -> None:
    text = text_of(sample().html(10))
    assert re.search(r"10 of 14 machines have ended, after 1 h 00 min: from \d{4}-\d\d-\d\d \d\d:06:40 to now\.", text)
    assert "Boot checks: 6, of which 5 saw the machine come up. Screens: 5 in this page, 1 beside the results." in text
    assert "under way" in text
    assert "files copy" in text
    assert "50.0 GiB of 100.0 GiB" in text
    assert "/etc/fstab names a disk by its path" in text
    assert "not run at present" in text_of(replace(sample(), now=NOW + 3600).html())


def test_a_machine_has_the_same_address_however_it_stands() -> None:
    before = sample()
    after = replace(before, jobs=tuple(replace(each, state=State.CANCELLED) for each in reversed(before.jobs)))

    def addresses(page: str) -> dict[str, str]:
        return {
            name: anchor for anchor, name in re.findall(r'<th scope="row"><a href="#(job-\d+)"><bdi>([^<]*)<', page)
        }

    assert addresses(before.html()) == addresses(after.html())
    assert len(addresses(before.html())) == 14


def test_an_ended_batch_says_so_and_does_not_refresh() -> None:
    teller = Teller()
    jobs = (done(teller, "one", 0, 60),)
    page = Sample(batch_of(jobs), jobs, teller.in_order(), {}).html()
    assert "<title>Ended: " in page
    assert "ended after 1 min 47 s" in text_of(page)
    assert 'http-equiv="refresh"' not in page
    assert 'id="refresh"' not in page
    assert "<title>10 of 14: " in sample().html(10)


def test_secrets_are_not_in_the_page() -> None:
    """Options, keys and hooks of a machine may hold words that are nobody's."""
    from p2v.batch.jobs import Hook

    hook = Hook(("notify", "token-4711"))
    given = machine("one", options=("--password=token-4711",), keys=("env:token-4711",), before=hook, after=hook)
    jobs = (Job(given, State.WAITING),)
    assert "token-4711" not in Sample(batch_of(jobs), jobs, (), {}).html()


def test_screens_stand_in_the_page_once_and_those_left_out_are_told_of() -> None:
    page = sample().html()
    assert page.count("data:image/png;base64,") == 5
    assert "1 more screen beside the results" in text_of(page)
    assert "Its screen is in /srv/kvm/web00.png" in text_of(page)


def test_a_page_stays_small_whatever_is_put_into_it() -> None:
    assert len(hostile().html()) < 150_000 + 40_000 * len(HOSTILE)
    assert len(fleet(300).html()) < 300 * 5_000


def test_the_same_batch_gives_the_same_page() -> None:
    assert fleet(10).html(10) == fleet(10).html(10)
    assert START < NOW


def test_how_long_the_rest_takes_is_told_by_sizes_also_of_what_has_not_begun() -> None:
    jobs = [Job(machine(f"d{n}"), State.DONE, began=NOW - 600, ended=NOW - 600 + 100 * n) for n in (1, 2, 3)]
    jobs += [Job(machine("r"), State.RUNNING, began=NOW, lease_until=NOW + 60), Job(machine("w"), State.WAITING)]
    sizes = {"d1": GIB, "d2": 2 * GIB, "d3": 3 * GIB, "r": GIB, "w": 100 * GIB}
    terms = terms_of_sizes(sizes)
    text = text_of(batch_html(batch_of(tuple(jobs)), jobs, (), NOW, 5, terms=terms))
    # a large one that is left is what the end waits for
    assert re.search(r"The rest takes about 2 h [45]\d min, until ", text)
    assert "The rest takes" not in text_of(batch_html(batch_of(tuple(jobs)), jobs[:3], (), NOW, 5, terms=terms))


def _steps(page: str) -> str:
    return text_of(page).split("What to do first")[-1].split("Under way")[0].split("Parked, and why")[0]


def test_what_to_do_first_is_what_most_machines_need_and_names_them() -> None:
    full = Failure("no-space", 73, "the disk is full", "Make room, then `p2v batch retry`.", True)
    jobs = [Job(machine(f"f{number}"), State.PARKED, failure=full) for number in range(7)]
    jobs += [Job(machine("vault"), State.PARKED, failure=LOCKED), Job(machine("up"), State.DONE, verified=True)]
    jobs += [Job(machine("dark"), State.DONE, verified=False)]
    teller = Teller()
    teller.tell(0, "up", 1, "warning", message="look at its fstab")
    told = _steps(batch_html(batch_of(tuple(jobs)), jobs, teller.in_order(), NOW, None))
    steps = ("7 machines parked, no-space : Make room", "1 machine parked, encrypted", "look at the screens")
    places = [told.index(each) for each in steps]
    assert places == sorted(places)
    assert "f0 , f1 , f2 , f3 , f4 and 2 more" in told
    assert "1 machine converted with warnings: read them before you start it. up" in told
    jobs = [Job(machine("up"), State.DONE, verified=True)]
    assert _steps(batch_html(batch_of(tuple(jobs)), jobs, (), NOW, None)).strip() == "Nothing."


def test_machines_that_nobody_is_at_are_something_to_do() -> None:
    jobs = [Job(machine("a"), State.WAITING), Job(machine("b"), State.DONE)]
    told = _steps(batch_html(batch_of(tuple(jobs)), jobs, (), NOW, None))
    assert "1 machine to be converted, and nobody is at it: p2v batch run" in told
    assert _steps(batch_html(batch_of(tuple(jobs)), jobs, (), NOW, 5)).strip() == "Nothing at present."


def test_very_many_reasons_to_park_machines_are_bounded() -> None:
    jobs = [Job(machine(f"m{n}"), State.PARKED, failure=Failure(f"code-{n}", 1, "m", "h" * 5000)) for n in range(40)]
    told = _steps(batch_html(batch_of(tuple(jobs)), jobs, (), NOW, None))
    assert "30 more machines parked for other reasons" in told
    assert len(told) < 10 * 500


def test_a_batch_that_has_ended_says_nothing_of_what_is_under_way_or_waits() -> None:
    jobs = (Job(machine("one"), State.DONE, verified=True, began=START, ended=NOW),)
    page = Sample(batch_of(jobs), jobs, (), {}).html()
    assert "Under way" not in page
    assert [each for each in re.findall("<dt>([^<]*)</dt><dd>", page) if each in ("Running", "Waiting")] == []
