"""What two rules say of one thing is told once; what they say of two is told twice."""

from __future__ import annotations

from pathlib import Path

from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.audit.told_once import once
from tests.audit.small_machines import audited, linux_disk

NEEDED = "/dev/sdb1 /data ext4 defaults 0 2\n"
NOT_NEEDED = "/dev/sdc1 /backup ext4 nofail 0 2\n"


def test_a_line_that_no_start_needs_is_told_beside_one_that_it_needs(tmp_path: Path) -> None:
    (found,) = audited(linux_disk(tmp_path / "web.img", fstab=NEEDED + NOT_NEEDED)).machines
    told = {rule: [each.message for each in found.findings if each.rule == rule] for rule in
            ("start.linux.mount-missing", "linux.fstab.unresolved")}  # fmt: skip
    assert [len(messages) for messages in told.values()] == [1, 1]
    assert "/data" in told["start.linux.mount-missing"][0]
    assert "/backup" in told["linux.fstab.unresolved"][0]


def _at(rule: str, *lines: int | None) -> AuditFinding:
    evidence = tuple(Evidence(EvidenceKind.FILE, "/etc/fstab", line) for line in lines)
    return AuditFinding(rule, Severity.WARNING, "something is missing", evidence=evidence)


def test_two_are_one_unless_they_point_at_different_lines() -> None:
    better = "start.linux.mount-missing"
    cases = (((7,), (7,), 1), ((7,), (8,), 2), ((7, 8), (8,), 1), ((), (8,), 1), ((None,), (8,), 1))
    for plans, rules, count in cases:
        told = list(once([_at("linux.fstab.unresolved", *plans), _at(better, *rules)]))
        assert len(told) == count, (plans, rules)
    alone = [_at("linux.fstab.unresolved", 7)]
    assert list(once(alone)) == alone
