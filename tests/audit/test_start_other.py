"""The chain of guests that are not read any further, the catalogue of the start's rules, and the chain itself."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import p2v.audit.rules
from drivers.facts import Disk, FileSystem, GuestFacts, OperatingSystem, Partition, ReadBy
from p2v.audit.catalogue_file import Area, catalogue
from p2v.audit.chain import Judged, LinkState, shown
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.rules.start import SAID_OTHERWISE, chain
from p2v.core.units import GIB, MIB
from tests.audit.start_guests import debian, examined, facts_of, fired

SLICE = Partition(0, 1, MIB, GIB, "a5", True, "01-01", filesystem=FileSystem("ufs2"))
FREEBSD = GuestFacts(
    ReadBy.HOST,
    (Disk(0, 4 * GIB, "mbr", "00000001", "unknown"),),
    (SLICE,),
    os=OperatingSystem("other", "freebsd", "14.1", "FreeBSD 14.1", "x86_64", "other"),
)
NOTHING = GuestFacts(
    ReadBy.HOST, (Disk(0, GIB, "none"),), (), notes=("no operating system was found on the host's way",)
)


def test_system_that_is_not_read_is_unknown() -> None:
    seen = examined(FREEBSD)
    assert fired(seen) == {"start.other.unseen": Severity.UNKNOWN}
    assert [each.state for each in chain(seen)] == [LinkState.PROVEN, LinkState.UNSEEN]
    assert "FreeBSD 14.1" in chain(seen)[1].message


def test_system_that_is_not_read_needs_boot_code_with_a_bios() -> None:
    seen = examined(replace(FREEBSD, disks=(replace(FREEBSD.disks[0], boot_code=""),)))
    assert fired(seen) == {"start.other.no-boot-code": Severity.BLOCKER, "start.other.unseen": Severity.UNKNOWN}
    by_uefi = examined(replace(FREEBSD, firmware="uefi", disks=(replace(FREEBSD.disks[0], boot_code=""),)))
    assert fired(by_uefi) == {"start.other.unseen": Severity.UNKNOWN}


def test_machine_without_a_system_has_one_link_that_nobody_saw() -> None:
    seen = examined(NOTHING)
    (link,) = chain(seen)
    assert (link.state, link.message) == (LinkState.UNSEEN, "no operating system was found in the disks")
    assert fired(seen) == {}


def test_linux_has_no_other_chain() -> None:
    assert not {rule for rule in fired(examined(facts_of(debian()))) if rule.startswith("start.other")}


def test_every_rule_of_the_start_is_in_the_catalogue_and_every_entry_has_a_rule() -> None:
    folder = Path(p2v.audit.rules.__file__).parent
    text = "".join(path.read_text() for path in folder.glob("start_*.py"))
    used = set(re.findall(r'"(start\.(?:linux|windows|other)\.[a-z-]+)"', text))
    rules = {name: rule for name, rule in catalogue().items() if name.startswith("start.")}
    mine = {name for name in rules if name.startswith(("start.linux.", "start.windows.", "start.other."))}
    assert used == mine
    assert {rules[name].area for name in mine} == {Area.START}
    assert all(rules[name].meaning.endswith(".") and rules[name].remedy.endswith(".") for name in mine)
    assert set(SAID_OTHERWISE.values()) <= mine


def test_every_rule_of_the_start_has_a_guest_that_triggers_it() -> None:
    folder = Path(__file__).parent
    text = "".join(path.read_text() for path in folder.glob("test_start_*.py"))
    names = {name for name in catalogue() if name.startswith(("start.linux.", "start.windows.", "start.other."))}
    assert {name for name in names if name.rpartition(".")[2] not in text} == set()


def told(severity: Severity, *, fixed: bool = False) -> AuditFinding:
    return AuditFinding("start.linux.x", severity, severity.value, fixed_by_conversion=fixed)


def test_state_of_a_link_is_that_of_its_worst_finding() -> None:
    whole = Judged("kernel", "it is there")
    assert (whole.link().state, whole.link().message) == (LinkState.PROVEN, "it is there")
    both = whole.with_findings([told(Severity.UNKNOWN), told(Severity.BLOCKER)])
    assert (both.link().state, both.link().message) == (LinkState.BROKEN, "blocker")
    assert whole.with_findings([told(Severity.UNKNOWN)]).link().state is LinkState.UNSEEN
    assert whole.with_findings([told(Severity.WARNING)]).link().state is LinkState.PROVEN
    assert whole.with_findings([told(Severity.BLOCKER, fixed=True)]).link().state is LinkState.PROVEN
    assert replace(whole, told="the plan", unseen="nobody").link().state is LinkState.BROKEN
    assert replace(whole, unseen="nobody").link().state is LinkState.UNSEEN


def test_texts_are_cut_and_made_safe() -> None:
    assert shown("\x1b[31m") == "\\x1b[31m"
    assert shown("x" * 500) == "x" * 200 + "..."
