"""What a plan says becomes findings of the audit: severities by the list they stand in, remedies, evidence, bounds."""

from __future__ import annotations

from dataclasses import replace

from drivers.plan import Finding, GuestPlan
from p2v.audit.document import Verdict, verdict
from p2v.audit.evidence import evidence_of
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.planned import PER_RULE_AT_MOST, planned
from tests.audit.planned_guests import examined
from tests.drivers.linux.guest import facts_of, files

GUEST = examined(facts_of(files()))


def told(warnings: tuple[Finding, ...] = (), blockers: tuple[Finding, ...] = ()) -> list[AuditFinding]:
    """What becomes of a plan's findings."""
    return list(planned(_with(GUEST, warnings, blockers)))


def _with(guest: Examined, warnings: tuple[Finding, ...], blockers: tuple[Finding, ...]) -> Examined:
    plan: GuestPlan = replace(guest.document.plan, warnings=warnings, blockers=blockers)
    return replace(guest, document=replace(guest.document, plan=plan))


def test_all_of_a_plan_is_told_blockers_first() -> None:
    plan = GUEST.document.plan
    assert [each.rule for each in planned(GUEST)] == [each.id for each in (*plan.blockers, *plan.warnings)]
    assert plan.warnings


def test_what_blocks_the_plan_is_a_blocker_whatever_the_catalogue_says() -> None:
    (found,) = told(blockers=(Finding("source.disk-shared", "a VHD set"),))
    assert (found.severity, found.rule) == (Severity.BLOCKER, "source.disk-shared")


def test_a_rule_of_blockers_among_the_warnings_is_a_warning() -> None:
    (found,) = told((Finding("windows.dirty-volume", "dirty"),))
    assert found.severity is Severity.WARNING


def test_warnings_have_the_catalogues_severity() -> None:
    severities = [each.severity for each in told((Finding("linux.agent-missing", "a"), Finding("guest.reading", "b")))]
    assert severities == [Severity.INFORMATION, Severity.UNKNOWN]


def test_the_findings_own_hint_is_the_remedy_and_else_the_catalogues() -> None:
    with_hint, without = told(
        (Finding("linux.space.bytes", "full", "Delete /tmp/x."), Finding("linux.space.bytes", "full"))
    )
    assert with_hint.remedy == "Delete /tmp/x."
    assert without.remedy == GUEST.rules["linux.space.bytes"].remedy


def test_an_id_that_no_rule_has_is_a_warning_with_its_own_words() -> None:
    (found,) = told((Finding("linux.of-tomorrow", "something new", "Look at it."),))
    assert (found.severity, found.message, found.remedy) == (Severity.WARNING, "something new", "Look at it.")
    (blocker,) = told(blockers=(Finding("linux.of-tomorrow", "something new"),))
    assert (blocker.severity, blocker.remedy) == (Severity.BLOCKER, "")


def test_what_the_conversion_sets_right_is_so_marked_unless_it_blocks() -> None:
    removed = Finding("linux.lvm.devices-file-removed", "removed")
    (warning,) = told((removed,))
    (blocker,) = told(blockers=(removed,))
    assert warning.fixed_by_conversion
    assert not blocker.fixed_by_conversion
    assert verdict([warning], GUEST.rules) is Verdict.READY
    assert verdict([blocker], GUEST.rules) is Verdict.BLOCKED


def test_texts_of_guests_are_cut_and_cannot_steer_a_terminal() -> None:
    (found,) = told((Finding("guest.reading", "\x1b[2J\r\n" + "x" * 100_000, "\x07hint"),))
    assert found.message.startswith("\\x1b[2J\\x0d\\x0a")
    assert len(found.message) < 3000
    assert found.remedy == "\\x07hint"


def test_a_guest_with_a_finding_for_each_line_does_not_fill_the_report() -> None:
    many = tuple(Finding("linux.fstab.unresolved", f"line {number}") for number in range(PER_RULE_AT_MOST + 7))
    found = told((*many, Finding("linux.agent-missing", "none")))
    assert len(found) == PER_RULE_AT_MOST + 2
    (rest,) = [each for each in found if "7 more" in each.message]
    assert (rest.rule, rest.severity) == ("linux.fstab.unresolved", Severity.WARNING)
    assert len(told(many[:PER_RULE_AT_MOST])) == PER_RULE_AT_MOST


def test_findings_bring_their_evidence() -> None:
    for each, finding in zip(
        planned(GUEST), (*GUEST.document.plan.blockers, *GUEST.document.plan.warnings), strict=True
    ):
        assert each.evidence == evidence_of(GUEST, finding)
