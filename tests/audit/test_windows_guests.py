"""Sample guests of every Windows, audited: one row a guest, with its verdict and every rule that fires for it.

What a conversion of the same guests gives is tested in tests/pipeline/test_windows.py and tests/windows_startup. Rules about the
chain of a start and about raw disks are left to their own tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import hivex
import pytest

from drivers.plan import PlanOptions
from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import MachineAudit, Verdict, verdict
from p2v.audit.examine import Wish, examine
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.audit.gather import together
from p2v.core.acceleration import Acceleration, Accelerator
from tests.audit.small_machines import AS_OF
from tests.fixtures import virtio_win
from tests.fixtures.windows import GUESTS, REPRESENTATIVE, WindowsGuest, named, windows_disks
from tests.windows_startup.guests import sample

RULES = catalogue()
READY, WARNINGS, BLOCKED = Verdict.READY, Verdict.WARNINGS, Verdict.BLOCKED


@dataclass(frozen=True)
class Row:
    """A guest without a medium of drivers. ``rules``: ids of all that fire, by spaces."""

    name: str
    verdict: Verdict
    rules: str


ROWS = (
    Row(
        "nt4-workstation",
        WARNINGS,
        "software.edition-limit support.ended support.no-virtio support.not-certified windows.addresses-by-hand",
    ),
    Row(
        "nt4-server",
        WARNINGS,
        "software.edition-limit support.ended support.no-virtio support.not-certified windows.addresses-by-hand",
    ),
    Row(
        "win2000",
        WARNINGS,
        "software.edition-limit support.ended support.no-virtio support.not-certified windows.addresses "
        "windows.hal-one-processor windows.leftover",
    ),
    Row(
        "win2000-server",
        WARNINGS,
        "software.edition-limit support.ended support.no-virtio support.not-certified windows.addresses "
        "windows.hal-one-processor windows.leftover",
    ),
    Row(
        "xp",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.hal-no-acpi windows.hal-one-processor windows.leftover windows.no-drivers",
    ),
    Row(
        "xp-buslogic",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "xp-x64",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "2003",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "2003-x64",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "2003-r2",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "2003-r2-x64",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "vista",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.no-drivers",
    ),
    Row(
        "vista-x64",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "2008",
        WARNINGS,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover "
        "windows.no-drivers",
    ),
    Row(
        "2008-x64",
        WARNINGS,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover "
        "windows.no-drivers",
    ),
    Row(
        "2008-core",
        WARNINGS,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover "
        "windows.no-drivers",
    ),
    Row(
        "win7-x86",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.no-drivers",
    ),
    Row(
        "win7",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "2008-r2",
        WARNINGS,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover "
        "windows.no-drivers",
    ),
    Row(
        "2008-r2-core",
        WARNINGS,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover "
        "windows.no-drivers",
    ),
    Row(
        "win8-x86",
        WARNINGS,
        "support.ended support.not-certified support.old-drivers windows.addresses windows.fast-startup "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "win8",
        WARNINGS,
        "support.ended support.not-certified support.old-drivers windows.addresses windows.fast-startup "
        "windows.no-drivers",
    ),
    Row("2012", WARNINGS, "support.ended support.old-drivers windows.addresses windows.leftover windows.no-drivers"),
    Row("2012-core", WARNINGS, "support.ended support.old-drivers windows.addresses windows.no-drivers"),
    Row(
        "win8.1-x86",
        WARNINGS,
        "support.ended support.not-certified support.old-drivers windows.addresses windows.fast-startup "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "win8.1",
        WARNINGS,
        "support.ended support.not-certified support.old-drivers windows.addresses windows.fast-startup "
        "windows.leftover windows.no-drivers",
    ),
    Row("2012-r2", WARNINGS, "support.ended support.old-drivers windows.addresses windows.leftover windows.no-drivers"),
    Row("2012-r2-core", WARNINGS, "support.ended support.old-drivers windows.addresses windows.no-drivers"),
    Row(
        "win10-x86",
        WARNINGS,
        "support.ended windows.addresses windows.fast-startup windows.leftover windows.no-drivers",
    ),
    Row("win10", WARNINGS, "support.ended windows.addresses windows.fast-startup windows.leftover windows.no-drivers"),
    Row(
        "win10-arm64",
        BLOCKED,
        "support.ended windows.addresses windows.fast-startup windows.no-card-driver windows.no-disk-driver",
    ),
    Row(
        "win11",
        WARNINGS,
        "hardware.tpm-added support.ended windows.addresses windows.fast-startup windows.leftover windows.no-drivers",
    ),
    Row(
        "win11-arm64",
        BLOCKED,
        "hardware.tpm-added support.ended windows.addresses windows.fast-startup windows.leftover "
        "windows.no-card-driver windows.no-disk-driver",
    ),
    Row("2016", READY, "support.ending windows.addresses windows.leftover windows.no-drivers"),
    Row("2016-core", READY, "support.ending windows.addresses windows.no-drivers"),
    Row("2019", READY, "support.extended windows.addresses windows.leftover windows.no-drivers"),
    Row("2019-core", READY, "support.extended windows.addresses windows.leftover windows.no-drivers"),
    Row("2022", READY, "support.extended windows.addresses windows.leftover windows.no-drivers"),
    Row("2022-core", READY, "support.extended windows.addresses windows.leftover windows.no-drivers"),
    Row("2025", READY, "windows.addresses windows.leftover windows.no-drivers"),
    Row("2025-core", READY, "windows.addresses windows.no-drivers"),
    Row(
        "xp-virtual-pc",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "2003-xen",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "2008-r2-ibm",
        WARNINGS,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover "
        "windows.no-drivers",
    ),
    Row(
        "2008-r2-kvm",
        WARNINGS,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover "
        "windows.no-drivers",
    ),
    Row("2016-nutanix", READY, "support.ending windows.addresses windows.leftover windows.no-drivers"),
    Row(
        "hibernated-xp",
        BLOCKED,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.hal-one-processor windows.hibernated windows.leftover windows.no-drivers",
    ),
    Row(
        "hibernated",
        BLOCKED,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.hibernated windows.leftover windows.no-drivers",
    ),
    Row(
        "fast-started",
        BLOCKED,
        "support.ended windows.addresses windows.hibernated windows.leftover windows.no-drivers",
    ),
    Row(
        "dirty-ntfs",
        BLOCKED,
        "support.ending windows.addresses windows.dirty-volume windows.leftover windows.no-drivers",
    ),
    Row(
        "dirty-hive-7",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.hive-replayed windows.leftover windows.no-drivers",
    ),
    Row(
        "dirty-hive-xp",
        WARNINGS,
        "software.edition-limit support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.hal-one-processor windows.hive-replayed windows.leftover windows.no-drivers",
    ),
    Row(
        "dirty-hive",
        READY,
        "support.extended windows.addresses windows.hive-replayed windows.leftover windows.no-drivers",
    ),
    Row("bitlocker", BLOCKED, "windows.bitlocker"),
    Row(
        "dynamic",
        BLOCKED,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.dynamic-disk "
        "windows.leftover windows.no-drivers",
    ),
    Row(
        "multi-boot",
        WARNINGS,
        "guest.second-system software.edition-limit support.ended support.not-certified support.old-drivers "
        "windows.addresses windows.no-drivers",
    ),
    Row(
        "upgraded",
        WARNINGS,
        "support.ended windows.addresses windows.fast-startup windows.leftover windows.no-drivers windows.upgraded",
    ),
    Row(
        "domain-controller",
        WARNINGS,
        "support.ended support.old-drivers windows.addresses windows.domain-controller windows.leftover "
        "windows.no-drivers",
    ),
    Row("data-offline", READY, "support.extended windows.addresses windows.leftover windows.no-drivers"),
    Row("pending", WARNINGS, "support.ending windows.addresses windows.leftover windows.no-drivers windows.pending"),
    Row("utc-clock", READY, "support.extended windows.addresses windows.leftover windows.no-drivers"),
    Row(
        "missing-driver",
        WARNINGS,
        "software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover "
        "windows.no-drivers",
    ),
    Row(
        "stale-filter",
        WARNINGS,
        "support.ended support.old-drivers windows.addresses windows.leftover windows.no-drivers",
    ),
)
# with a medium: all that is told of these, and the verdict
WITH_MEDIUM = (
    Row(
        "nt4-server",
        WARNINGS,
        "software.edition-limit support.ended support.no-virtio support.not-certified windows.addresses-by-hand",
    ),
    Row(
        "win2000-server",
        WARNINGS,
        "software.edition-limit support.ended support.no-virtio support.not-certified windows.addresses "
        "windows.hal-one-processor windows.leftover",
    ),
    Row(
        "xp",
        WARNINGS,
        "driver.asks software.edition-limit support.ended support.not-certified support.old-drivers "
        "windows.addresses windows.hal-no-acpi windows.hal-one-processor windows.leftover",
    ),
    Row(
        "2003",
        WARNINGS,
        "driver.asks driver.older software.edition-limit support.ended support.not-certified "
        "support.old-drivers windows.addresses windows.leftover",
    ),
    Row(
        "2003-x64",
        WARNINGS,
        "driver.asks software.edition-limit support.ended support.not-certified support.old-drivers "
        "windows.addresses windows.leftover",
    ),
    Row(
        "vista",
        WARNINGS,
        "driver.publisher software.edition-limit support.ended support.not-certified support.old-drivers "
        "windows.addresses",
    ),
    Row(
        "2008",
        WARNINGS,
        "driver.publisher software.edition-limit support.ended support.old-drivers windows.addresses windows.leftover",
    ),
    Row(
        "win7",
        WARNINGS,
        "driver.boot-unsigned driver.sha2 software.edition-limit support.ended support.not-certified "
        "support.old-drivers windows.addresses windows.leftover",
    ),
    Row(
        "2008-r2",
        WARNINGS,
        "driver.boot-unsigned driver.sha2 software.edition-limit support.ended support.old-drivers "
        "windows.addresses windows.leftover",
    ),
    Row(
        "win8-x86",
        WARNINGS,
        "support.ended support.not-certified support.old-drivers windows.addresses windows.fast-startup "
        "windows.leftover",
    ),
    Row("2012", WARNINGS, "driver.boot-unsigned support.ended support.old-drivers windows.addresses windows.leftover"),
    Row(
        "2012-r2",
        WARNINGS,
        "driver.boot-unsigned support.ended support.old-drivers windows.addresses windows.leftover",
    ),
    Row(
        "win8.1",
        WARNINGS,
        "driver.boot-unsigned support.ended support.not-certified support.old-drivers windows.addresses "
        "windows.fast-startup windows.leftover",
    ),
    Row(
        "win10",
        WARNINGS,
        "driver.boot-unsigned support.ended windows.addresses windows.fast-startup windows.leftover",
    ),
    Row("win10-arm64", WARNINGS, "driver.boot-unsigned support.ended windows.addresses windows.fast-startup"),
    Row(
        "win11",
        WARNINGS,
        "driver.boot-unsigned hardware.tpm-added support.ended windows.addresses windows.fast-startup windows.leftover",
    ),
    Row(
        "win11-arm64",
        WARNINGS,
        "driver.boot-unsigned hardware.tpm-added support.ended windows.addresses windows.fast-startup windows.leftover",
    ),
    Row("2016", WARNINGS, "driver.boot-unsigned support.ending windows.addresses windows.leftover"),
    Row("2019", WARNINGS, "driver.boot-unsigned support.extended windows.addresses windows.leftover"),
    Row("2022-core", WARNINGS, "driver.boot-unsigned support.extended windows.addresses windows.leftover"),
    Row("2025-core", WARNINGS, "driver.boot-unsigned windows.addresses"),
    Row(
        "2008-r2-kvm",
        WARNINGS,
        "driver.boot-unsigned driver.replaced driver.sha2 software.edition-limit support.ended "
        "support.old-drivers windows.addresses windows.leftover",
    ),
    Row(
        "2016-nutanix",
        WARNINGS,
        "driver.boot-unsigned driver.replaced support.ending windows.addresses windows.leftover",
    ),
    Row(
        "fast-started",
        BLOCKED,
        "driver.boot-unsigned support.ended windows.addresses windows.hibernated windows.leftover",
    ),
)


@pytest.fixture(autouse=True)
def no_medium_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.windows.media.find_media", lambda: None)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = virtio_win.startable(virtio_win.medium().files)
    folder = tmp_path_factory.mktemp("virtio-win")
    return virtio_win.write_iso(virtio_win.write_folder(files, folder / "cd"), folder / "virtio-win.iso")


def audited(guest: WindowsGuest, medium: Path | None = None) -> MachineAudit:
    return _audited(guest.name, medium)


@cache
def _audited(name: str, medium: Path | None) -> MachineAudit:
    (subject,) = together(windows_disks(named(name))).subjects
    wish = Wish(RULES, AS_OF, options=PlanOptions(virtio_win=medium))
    answer = examine(subject, wish, lambda: Acceleration(Accelerator.TCG, "these tests start none"))
    (examination,) = answer.examinations
    return examination.machine


def judged(machine: MachineAudit) -> tuple[Verdict, set[str]]:
    findings = [each for each in machine.findings if not each.rule.startswith(("start.", "disk."))]
    return verdict(findings, RULES), {each.rule for each in findings}


def parameters(rows: tuple[Row, ...]) -> Iterator[object]:
    for row in rows:
        # the others are built by `make matrix`
        marks = () if row.name in REPRESENTATIVE else (pytest.mark.matrix,)
        yield pytest.param(row, id=row.name, marks=marks)


def test_every_sample_guest_has_a_row() -> None:
    assert [row.name for row in ROWS] == [guest.name for guest in GUESTS]


@pytest.mark.parametrize("row", parameters(ROWS))
def test_guest_without_a_medium(row: Row) -> None:
    machine = audited(named(row.name))
    assert judged(machine) == (row.verdict, set(row.rules.split()))
    assert machine.system is None or machine.read_by == "host"
    for finding in machine.findings:
        assert finding.message
        assert finding.remedy
    seen = [(each.rule, each.message) for each in machine.findings]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("row", parameters(WITH_MEDIUM))
def test_guest_with_a_medium(row: Row, medium: Path) -> None:
    assert judged(audited(named(row.name), medium)) == (row.verdict, set(row.rules.split()))


@pytest.mark.parametrize("row", parameters(tuple(row for row in ROWS if not row.name.startswith("dirty-hive"))))
def test_registry_that_is_pointed_at_is_in_the_hive(row: Row, tmp_path: Path) -> None:
    """By another reader than the audit's. Of a hive that has to be replayed the disk holds an older state."""
    pieces = [
        piece.where for finding in audited(named(row.name)).findings for piece in finding.evidence if is_value(piece)
    ]
    if row.verdict is not BLOCKED:
        assert pieces
    for where in pieces:
        hive, _, path = where.partition("\\")
        file = tmp_path / hive
        if not file.exists():
            with sample(row.name) as found:
                file.write_bytes(found.read(found.path(f"system32/config/{hive}")))
        assert is_in(hivex.Hivex(str(file)), path), where


def is_value(piece: Evidence) -> bool:
    return piece.kind is EvidenceKind.REGISTRY


def is_in(hive: hivex.Hivex, path: str) -> bool:
    """Whether a hive has a key or a value of that path."""
    *keys, last = path.split("\\")
    node = hive.root()
    for key in keys:
        node = hive.node_get_child(node, key)
        if node is None:
            return False
    values = {hive.value_key(each).lower() for each in hive.node_values(node)}
    return last.lower() in values or hive.node_get_child(node, last) is not None


def test_another_path_is_not_in_a_hive(tmp_path: Path) -> None:
    with sample("2019") as found:
        (tmp_path / "SYSTEM").write_bytes(found.read(found.path("system32/config/SYSTEM")))
    hive = hivex.Hivex(str(tmp_path / "SYSTEM"))
    assert is_in(hive, "Select\\Current")
    assert not is_in(hive, "Select\\NoSuch")
    assert not is_in(hive, "NoSuch\\Current")


def of(machine: MachineAudit, rule: str) -> AuditFinding:
    (found,) = (each for each in machine.findings if each.rule == rule)
    return found


def test_healthy_server_has_nothing_to_be_warned_of() -> None:
    machine = audited(named("2019"))
    assert machine.verdict is Verdict.UNKNOWN, "it is judged once all is known"
    assert judged(machine)[0] is READY
    assert len(machine.findings) <= 5
    assert {each.severity for each in machine.findings} == {Severity.INFORMATION}
    assert "bought" not in of(machine, "support.extended").remedy


def test_medium_is_read_and_is_what_arm_needs(medium: Path) -> None:
    arm = named("win11-arm64")
    assert judged(audited(arm))[0] is BLOCKED
    verdict_, rules = judged(audited(arm, medium))
    assert verdict_ is WARNINGS
    assert not rules & {"windows.no-disk-driver", "windows.no-card-driver", "windows.no-drivers"}


def test_second_windows_is_no_failure_of_reading() -> None:
    found = of(audited(named("multi-boot")), "guest.second-system")
    assert found.severity is Severity.WARNING
    assert "partition 3" in found.message
    assert found.evidence


def test_hardware_that_nobody_stated_is_not_lost() -> None:
    machine = audited(named("xp"))
    assert machine.cpus is None
    assert not {"hardware.cpus", "hardware.memory"} & {each.rule for each in machine.findings}
    edition = of(machine, "software.edition-limit")
    assert [(each.where.rpartition("\\")[2], each.text) for each in edition.evidence[:-1]] == [("ProductType", "WinNT")]
