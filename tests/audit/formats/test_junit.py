"""JUnit XML, as readers of it count it."""

from __future__ import annotations

from dataclasses import replace

from defusedxml.ElementTree import fromstring

from p2v.audit.document import AuditDocument
from p2v.audit.formats import junit_xml
from tests.audit.documents import AS_OF, DRIVER, ENCRYPTED, FSTAB, WEB, finding, hostile, sample
from tests.pages.hostile import HOSTILE


def test_a_suite_a_machine_and_a_case_a_rule() -> None:
    root = fromstring(junit_xml(sample()))
    assert [each.get("name") for each in root] == ["the fleet", "web01", "dc-2012", "vault", "print"]
    assert [each.get("name") for each in root.findall("testsuite[@name='web01']/testcase")] == [
        "fstab-by-path", "agent-of-old-host", "snapshot-present",
    ]  # fmt: skip
    counts = {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "8", "failures": "1", "errors": "0", "skipped": "1"}
    properties = root.findall("testsuite[@name='web01']/properties/property")
    assert {each.get("name"): each.get("value") for each in properties}["verdict"] == "blocked"


def test_blockers_fail_with_their_evidence_and_remedy() -> None:
    failure = fromstring(junit_xml(sample())).find("testsuite[@name='web01']/testcase[@name='fstab-by-path']/failure")
    assert failure is not None
    assert failure.get("message") == "/srv is mounted by /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0"
    assert "file /etc/fstab:7" in (failure.text or "")
    assert "Name it by UUID." in (failure.text or "")


def test_what_could_not_be_seen_is_skipped_and_a_warning_passes_and_is_told() -> None:
    root = fromstring(junit_xml(sample()))
    skipped = root.find("testsuite[@name='vault']/testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "could not be seen: the second partition is LUKS2"
    warning = root.find("testsuite[@name='web01']/testcase[@name='agent-of-old-host']")
    assert warning is not None
    assert [each.tag for each in warning] == ["system-out"]


def test_what_is_suppressed_or_set_right_by_the_conversion_fails_nothing() -> None:
    machine = replace(WEB, findings=(finding(FSTAB, "x", suppressed="known"), finding(DRIVER, "y")))
    root = fromstring(junit_xml(AuditDocument(AS_OF, (machine,))))
    assert (root.get("failures"), root.get("skipped"), root.get("tests")) == ("0", "1", "2")
    skipped = root.find("testsuite/testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "suppressed: known"


def test_one_suppressed_finding_does_not_hide_another_of_its_rule() -> None:
    machine = replace(
        WEB, findings=(finding(FSTAB, "x", suppressed="known"), finding(FSTAB, "y"), finding(ENCRYPTED, "z"))
    )
    root = fromstring(junit_xml(AuditDocument(AS_OF, (machine,))))
    assert (root.get("failures"), root.get("skipped")) == ("1", "1")
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "y"


def test_a_machine_without_findings_is_there() -> None:
    suite = fromstring(junit_xml(sample())).find("testsuite[@name='print']")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")


def test_hostile_texts_are_well_formed_xml() -> None:
    text = junit_xml(hostile())
    root = fromstring(text.encode("utf-8"))
    assert len(root) == len(HOSTILE) + 1
    assert {each.tag for each in root} == {"testsuite"}
    assert all(each.get("value") for each in root.iter("property"))
