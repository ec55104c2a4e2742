"""What the page is made of, without a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from p2v.audit.chain import Link, LinkState
from p2v.audit.document import AuditDocument
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.audit.report import report_html
from p2v.audit.report.limits import FINDINGS_LETTERS, PLANS_LETTERS, RULE_FINDINGS
from tests.audit.documents import AGENT, AS_OF, FSTAB, LISTED, RULES, SIZING, WEB, finding, fleet, hostile, sample
from tests.pages import nesting
from tests.pages.nesting import Nesting


def text_of(page: str) -> str:
    return nesting.text_of(page, "")


@pytest.mark.parametrize(
    "document", [sample(), hostile(), fleet(3), AuditDocument(AS_OF, ())], ids=["sample", "hostile", "fleet", "empty"]
)
def test_every_element_is_closed_and_the_file_is_utf_8(document: AuditDocument) -> None:
    page = report_html(document)
    assert Nesting(page).text
    page.encode("utf-8")


def test_the_policy_names_the_page_s_own_style_and_script_and_nothing_else() -> None:
    page = report_html(hostile())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    parts = dict(each.split(" ", 1) for each in policy[1].split("; "))
    assert parts["default-src"] == "'none'"
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in contents]
        assert parts[name].split() == digests
    assert "unsafe" not in policy[1]


def test_findings_have_their_evidence_their_remedy_and_their_rule() -> None:
    text = text_of(report_html(sample()))
    assert f"{FSTAB.title} {FSTAB.id}" in text
    assert "File /etc/fstab, line 7: /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0 /srv xfs" in text
    assert "What to do: Name it by UUID." in text
    assert "Registry SYSTEM\\ControlSet001\\Services\\vioscsi\\Start: absent" in text
    assert "Disk /srv/vault.raw, byte 1,048,576: LUKS" in text
    assert "What the conversion does: The conversion adds the driver." in text
    for rule in RULES:
        assert rule.meaning in text


def test_use_that_is_not_known_is_a_dash() -> None:
    text = text_of(report_html(sample()))
    assert "vault20.0 GiB20.0 GiB–" in text
    assert "file systems use 39.0 GiB on the 2 whose use is known" in text


def test_a_suppressed_finding_is_shown_with_its_reason_and_not_among_the_warnings() -> None:
    text = text_of(report_html(sample()))
    assert "Suppressed, because: removed by our own tooling, ticket 4711" in text
    assert "Warnings (1)" in text
    assert "Suppressed (1)" in text
    assert "1 finding suppressed with a reason" in text


def test_findings_of_a_rule_that_nobody_explains_are_shown_too() -> None:
    page = report_html(replace(sample(), rules=()))
    assert "open-vm-tools is installed" in text_of(page)
    assert 'href="#rule-' not in page


def test_a_boot_chain_is_shown_link_by_link() -> None:
    broken = Link(
        "initramfs", LinkState.BROKEN, "no virtio_blk <b>", (Evidence(EvidenceKind.FILE, "/boot/initrd.img"),)
    )
    chain = (Link("partition table", LinkState.PROVEN, "GPT"), broken, Link("root", LinkState.UNSEEN, "encrypted"))

    given = sample()
    machines = tuple(replace(each, chain=chain if each.name == "web01" else ()) for each in given.machines)
    text = text_of(report_html(replace(given, machines=machines)))
    assert "partition table proven GPT" in text
    assert "initramfs broken no virtio_blk <b>File /boot/initrd.img" in text
    assert "root could not be seen encrypted" in text
    assert text.count("Boot chain") == 1


def test_hosts_before_and_after_and_what_they_rest_on() -> None:
    text = text_of(report_html(replace(sample(), sizing=SIZING)))
    assert "12 hosts now. 6 hosts on KVM, machines by use, 1 of them to spare; no packing takes fewer than 4." in text
    assert "Memory of a host: 512 GiB [given]" in text
    assert "Time to copy: nothing was measured" in text
    assert "12 hosts now" not in text_of(report_html(replace(sample(), sizing=replace(SIZING, before=None))))
    assert "Hosts before" not in text_of(report_html(replace(sample(), sizing=replace(SIZING, hosts=()))))
    assert 'href="#sizing"' not in report_html(sample())


def test_a_report_stays_below_its_limits_whatever_is_put_into_it() -> None:
    evidence = tuple(Evidence(EvidenceKind.FILE, '"' * 5000, 1, text='"' * 5000) for _ in range(30))
    findings = tuple(
        AuditFinding(f"rule-{number}", Severity.WARNING, '"' * 5000, '"' * 5000, evidence) for number in range(40)
    )
    large = replace(LISTED, findings=findings, plan="<" * 2_000_000)
    page = report_html(AuditDocument(AS_OF, (large,) * 60))
    assert len(page) < FINDINGS_LETTERS + 4 * PLANS_LETTERS + 2_000_000
    assert "left out here for the size of the page" in page
    assert "more letters)" in page


def test_what_is_small_stays_whole_beside_what_is_large() -> None:
    large = replace(LISTED, name="large", plan="x" * 3_000_000)
    page = report_html(AuditDocument(AS_OF, (large,) * 80 + (WEB,), rules=RULES))
    assert "UUID=5f3c / ext4 defaults 0 1" in page
    assert len(page) < PLANS_LETTERS + 2_000_000


def test_of_very_many_findings_of_one_rule_the_first_are_shown() -> None:
    many = replace(WEB, findings=tuple(finding(AGENT, f"agent {number}.") for number in range(500)))
    text = text_of(report_html(AuditDocument(AS_OF, (many,), rules=RULES)))
    assert f"agent {RULE_FINDINGS - 1}." in text
    assert f"agent {RULE_FINDINGS}." not in text
    assert f"and {500 - RULE_FINDINGS} more findings of this rule, in the JSON document" in text
    assert "Warnings (500)" in text


def test_the_same_document_gives_the_same_page() -> None:
    assert report_html(fleet(5)) == report_html(fleet(5))
