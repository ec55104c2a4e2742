"""Each rule about support fires for a guest that it is about, and not for one that it is not."""

from __future__ import annotations

from datetime import date

import pytest

from drivers.facts import GuestFacts, OperatingSystem, ReadBy
from drivers.windows.versions import short_id
from p2v.audit import lifecycle_data
from p2v.audit.catalogue_file import Area, catalogue
from p2v.audit.document import SystemAudit
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, EvidenceKind, Severity
from p2v.audit.rules.support import check_support, support_findings
from p2v.documents import Inspection
from p2v.planning import plan_found
from tests.drivers.linux.guest import facts_of, files
from tests.targets.windows_machines import GENERATIONS, SOURCE, windows_of

RULES = catalogue()
OWN = {id_: rule for id_, rule in RULES.items() if id_.startswith("support.")}
TODAY = date(2026, 11, 26)


def system(id_: str, version: str = "", name: str = "", kind: str = "linux", edition: str = "") -> SystemAudit:
    return SystemAudit(kind, id_, version, name or f"{id_} {version}", "x86_64", edition=edition)


def found(who: SystemAudit, as_of: date = TODAY) -> dict[str, AuditFinding]:
    findings = list(support_findings(who, as_of, RULES))
    assert len({each.rule for each in findings}) == len(findings)
    return {each.rule: each for each in findings}


def examined(facts: GuestFacts, as_of: date = TODAY) -> Examined:
    return Examined(plan_found(SOURCE, Inspection((), facts)), RULES, as_of)


# the rule, a system that it is about, and one that it is not about
CASES = [
    ("support.ended", system("centos", "7"), system("rhel", "9.4")),
    ("support.ending", system("ubuntu", "22.04"), system("ubuntu", "24.04")),
    ("support.extended", system("rhel", "7.9"), system("rhel", "8.10")),
    ("support.unknown", system("templeos", "5"), system("debian", "12")),
    (
        "support.no-virtio",
        system("winnt4.0", "4.0.1381", kind="windows"),
        system("win2k22", "10.0.20348", kind="windows"),
    ),
    ("support.old-drivers", system("win7", "6.1.7601", kind="windows"), system("win11", "10.0.26200", kind="windows")),
    ("support.not-certified", system("debian", "12"), system("rhel", "9.4")),
]


@pytest.mark.parametrize(("rule", "about", "other"), CASES, ids=[case[0] for case in CASES])
def test_rule_fires_for_what_it_is_about_alone(rule: str, about: SystemAudit, other: SystemAudit) -> None:
    finding = found(about)[rule]
    assert finding.severity is RULES[rule].severity or rule == "support.extended"
    assert finding.remedy
    assert not finding.fixed_by_conversion
    assert rule not in found(other)


def test_data_that_is_more_than_a_year_old_is_told() -> None:
    guest = system("debian", "13")
    day = next(p.as_of for p in lifecycle_data.lifecycle().products if "debian" in p.ids)
    assert "support.data-old" not in found(guest, day.replace(year=day.year + 1))
    late = found(guest, day.replace(year=day.year + 2))["support.data-old"]
    assert day.isoformat() in late.message
    assert late.severity is Severity.INFORMATION


def test_every_rule_of_the_catalogue_has_a_case() -> None:
    assert set(OWN) == {rule for rule, _, _ in CASES} | {"support.data-old"}
    assert {rule.area for rule in OWN.values()} == {Area.SUPPORT}
    assert OWN["support.unknown"].severity is Severity.UNKNOWN


def test_evidence_is_the_dated_file_and_the_published_source() -> None:
    evidence = found(system("centos", "7"))["support.ended"].evidence[0]
    assert (evidence.kind, evidence.where) == (EvidenceKind.DATA, "p2v/audit/data/lifecycle-redhat.toml")
    assert evidence.text == "https://www.centos.org/centos-linux-eol/"
    # of a phase that is published elsewhere, that place
    extended = found(system("ubuntu", "18.04"))["support.extended"].evidence[0]
    assert extended.text == "https://ubuntu.com/about/release-cycle"
    drivers = found(system("win7", "6.1.7601", kind="windows"))["support.old-drivers"].evidence[0]
    assert drivers.text == "https://github.com/virtio-win/virtio-win-pkg-scripts/issues/40"
    assert found(system("templeos"))["support.unknown"].evidence
    lists = found(system("debian", "12"))["support.not-certified"].evidence[0]
    assert lists.where == "p2v/audit/data/lifecycle-certified.toml"
    assert "https://access.redhat.com/articles/973163" in lists.text


@pytest.mark.parametrize(
    ("day", "rules"),
    [
        (date(2025, 5, 31), {"support.ending"}),
        (date(2025, 6, 1), {"support.extended"}),
        (date(2024, 5, 31), {"support.ending"}),
        (date(2024, 5, 30), set()),
        (date(2029, 4, 23), {"support.extended", "support.ending"}),
        (date(2030, 4, 23), {"support.extended", "support.ending"}),
        (date(2030, 4, 24), {"support.ended"}),
    ],
)
def test_what_is_said_changes_with_the_day(day: date, rules: set[str]) -> None:
    said = set(found(system("ubuntu", "20.04"), day)) - {"support.not-certified", "support.data-old"}
    assert said == rules


def test_extended_support_that_is_bought_apart_is_a_warning() -> None:
    assert found(system("rhel", "7.9"))["support.extended"].severity is Severity.WARNING
    free = found(system("debian", "12"))["support.extended"]
    assert free.severity is Severity.INFORMATION
    assert "2028-06-30" in free.message
    assert "bought" not in free.message


def test_ended_tells_of_what_can_still_be_bought() -> None:
    ten = system("win10", "10.0.19045", "Windows 10 Pro", "windows", "Professional")
    assert "Extended Security Updates" in found(ten)["support.ended"].message
    assert "2028-10-10" in found(ten)["support.ended"].message
    assert "Extended Security Updates" not in found(ten, date(2028, 10, 11))["support.ended"].message


def test_ending_tells_what_follows() -> None:
    message = found(system("ubuntu", "22.04"))["support.ending"].message
    assert "2027-06-01" in message
    assert "Ubuntu Pro follows for those who buy it, until 2032-04-21" in message
    last = found(system("sles", "15.4", "SUSE Linux Enterprise Server 15 SP4"))["support.ending"].message
    assert "Long Term Service Pack Support ends on 2026-12-31" in last
    open_end = found(system("ol", "10.1"), date(2035, 1, 1))["support.ending"].message
    assert "not known" in open_end
    for_money = found(system("win10", "10.0.19045", "", "windows", "Core"), date(2025, 1, 1))["support.ending"].message
    assert "can be bought until 2028-10-10" in for_money


def test_ended_of_several_releases_says_at_the_latest() -> None:
    message = found(system("win9x", "", "Windows 95, 98 or Me", "other"))["support.ended"].message
    assert "2006-07-11 at the latest" in message
    assert "at the latest" not in found(system("centos", "7"))["support.ended"].message


@pytest.mark.parametrize(
    ("who", "word"),
    [
        (system("templeos", "5"), "templeos"),
        (system("win10", "", "Windows 10", "windows"), "releases of Windows 10"),
        (system("debian", "14"), "version 14"),
        (system("debian", "trixie/sid"), "trixie/sid"),
        (system("openbsd", "7.7"), "sure to the day"),
        (system("esxi", "", "VMware ESXi", "other"), "hypervisor"),
        (system("kylin", "V10"), "gathered"),
    ],
)
def test_unknown_says_why(who: SystemAudit, word: str) -> None:
    assert word in found(who)["support.unknown"].message


def test_successor_is_part_of_the_remedy() -> None:
    assert "AlmaLinux" in found(system("centos", "7"))["support.ended"].remedy
    assert RULES["support.ended"].remedy in found(system("centos", "7"))["support.ended"].remedy


def test_a_linux_guest_is_told_by_its_facts() -> None:
    findings = {each.rule: each for each in check_support(examined(facts_of(files())))}
    assert set(findings) == {"support.extended", "support.not-certified"}
    assert "Debian 12" in findings["support.extended"].message


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        ("nt4-server", {"support.ended", "support.no-virtio"}),
        ("xp", {"support.ended", "support.old-drivers"}),
        ("10", {"support.ended"}),
        ("2022", {"support.extended"}),
        ("2025", set()),
    ],
)
def test_a_windows_guest_is_told_by_its_facts(generation: str, expected: set[str]) -> None:
    windows = windows_of(GENERATIONS[generation])
    version = windows.version
    text = f"{version.major}.{version.minor}.{version.build}"
    own = OperatingSystem("windows", short_id(version), text, version.product_name, windows.arch, "windows")
    findings = check_support(examined(GuestFacts(ReadBy.HOST, (), (), own, windows=windows)))
    assert {each.rule for each in findings} - {"support.not-certified"} == expected


def test_nothing_is_said_of_disks_without_a_system() -> None:
    assert list(check_support(examined(GuestFacts(ReadBy.HOST, (), ())))) == []


def test_a_guests_own_words_do_not_get_out_unescaped() -> None:
    hostile = SystemAudit("linux", "x\x1b[2J" * 999, "1\x9b\x00" * 999, "n\x1b]0;a\x07" * 9999, "\x00", edition="\x00")
    for who in (hostile, SystemAudit("linux", "debian", "99\x1b[2J" * 999, "\x1b" * 9999, "")):
        for finding in found(who).values():
            assert finding.message.isprintable()
            assert len(finding.message) < 2000
