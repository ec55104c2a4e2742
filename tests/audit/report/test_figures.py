"""The numbers behind the charts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from p2v.audit.document import AuditDocument, DiskAudit, SupportAudit, Verdict
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.report.figures import (
    LEAST_QUARTERS,
    MOST_QUARTERS,
    causes,
    day_of,
    readiness,
    space,
    state_on,
    support_by_quarter,
)
from tests.audit.documents import AGENT, DC, DRIVER, ENCRYPTED, FSTAB, LISTED, SNAPSHOT, VAULT, WEB, finding, sample

BOTH = SupportAudit("supported", standard_end="2026-12-31", extended_end="2028-06-30")


@pytest.mark.parametrize(
    ("day", "state"),
    [
        ("2026-12-31", "supported"),
        ("2027-01-01", "extended"),
        ("2028-06-30", "extended"),
        ("2028-07-01", "ended"),
    ],
)
def test_the_last_day_of_support_is_supported(day: str, state: str) -> None:
    assert state_on(BOTH, date.fromisoformat(day)) == state


def test_what_has_no_date_is_not_known_but_what_ended_stays_ended() -> None:
    day = date(2027, 1, 1)
    assert state_on(None, day) == "unknown"
    assert state_on(SupportAudit("supported"), day) == "unknown"
    assert state_on(SupportAudit("ended"), day) == "ended"
    assert state_on(SupportAudit("supported", standard_end="2026-06-30"), day) == "ended"
    assert state_on(SupportAudit("unknown", standard_end="soon"), day) == "unknown"


@pytest.mark.parametrize("text", ["", "2026", "20261126", "2026-13-01", "2026-W01-1", "2026-11-26T00", "x" * 10_000])
def test_what_is_no_day_is_none(text: str) -> None:
    assert day_of(text) is None


def test_quarters_go_from_the_audits_day_to_the_last_end() -> None:
    quarters = support_by_quarter(replace(sample(), machines=(replace(LISTED, support=BOTH), VAULT)))
    assert [each.label for each in quarters] == [
        "now", "2026 Q4", "2027 Q1", "2027 Q2", "2027 Q3", "2027 Q4", "2028 Q1", "2028 Q2", "2028 Q3",
    ]  # fmt: skip
    told = {each.label: [state for state, count in each.counts.items() if count] for each in quarters}
    assert told["2026 Q4"] == ["supported", "unknown"]
    assert told["2027 Q1"] == ["extended", "unknown"]
    assert told["2028 Q3"] == ["ended", "unknown"]
    assert all(sum(each.counts.values()) == 2 for each in quarters)


def test_a_chart_has_a_least_and_a_most_number_of_quarters() -> None:
    far = replace(LISTED, support=SupportAudit("supported", standard_end="9999-12-31"))
    assert len(support_by_quarter(AuditDocument(date(2026, 1, 1), (far,)))) == MOST_QUARTERS + 1
    assert len(support_by_quarter(AuditDocument(date(2026, 1, 1), ()))) == LEAST_QUARTERS + 1
    assert [each.label for each in support_by_quarter(AuditDocument(date.max, (far,)))] == ["now"]


def test_now_is_as_the_audit_judged_it() -> None:
    now = support_by_quarter(sample())[0]
    assert now.counts == {"supported": 1, "extended": 1, "ended": 1, "unknown": 1}


def test_readiness_counts_every_verdict() -> None:
    assert readiness((WEB, DC, DC)) == {Verdict.BLOCKED: 1, Verdict.UNKNOWN: 0, Verdict.WARNINGS: 2, Verdict.READY: 0}


def test_used_space_is_of_the_disks_whose_use_is_known() -> None:
    disks = (DiskAudit("a", "raw", 10, 6, 3), DiskAudit("b", "raw", 100, 60, None), DiskAudit("c", "raw", 1, 1, 0))
    told = space(disks)
    assert (told.virtual, told.allocated, told.used, told.known, told.disks) == (111, 67, 3, 2, 3)


def test_use_that_nobody_knows_is_not_none_used() -> None:
    assert space((DiskAudit("a", "raw", 10, 6),)).used is None
    assert space((DiskAudit("a", "raw", 10, 6, 0),)).used == 0


def test_causes_count_machines_and_leave_out_what_asks_for_nothing() -> None:
    twice = replace(
        WEB, findings=(finding(AGENT, "one"), finding(AGENT, "two"), finding(SNAPSHOT, "x"), finding(DRIVER, "y"))
    )
    fixed_only = replace(WEB, findings=(finding(DRIVER, "y"), finding(ENCRYPTED, "z", suppressed="known")))
    blocked = replace(
        WEB, findings=(finding(FSTAB, "a"), AuditFinding(AGENT.id, Severity.BLOCKER, "worse"), finding(AGENT, "b"))
    )
    found = causes((twice, twice, fixed_only, blocked))
    assert [(each.rule, dict(each.machines)) for each in found] == [
        (AGENT.id, {Severity.BLOCKER: 1, Severity.WARNING: 2}),
        (FSTAB.id, {Severity.BLOCKER: 1}),
    ]
