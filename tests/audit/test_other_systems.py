"""Systems that are not rewritten, audited from small disks as they are told: verdict, who supports them, hardware they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from drivers.other.profiles import PROFILES
from p2v.audit.catalogue_file import catalogue
from p2v.audit.checks import CHECKS
from p2v.audit.document import MachineAudit, Verdict, verdict
from p2v.audit.examine import Wish, examine
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.gather import together
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.units import GIB, KIB, MIB
from tests.audit.planned_guests import bare, examined
from tests.audit.small_machines import AS_OF
from tests.drivers.other.test_planning import guest
from tests.drivers.other.test_signs import fat, gpt, mbr, signed, ufs

RULES = catalogue()
_NOT_REWRITTEN, _UNKNOWN, _ENDED = "other.not-rewritten", "support.unknown", "support.ended"
_NO_VIRTIO, _NOT_CERTIFIED, _NO_OS = "support.no-virtio", "support.not-certified", "guest.no-os"
_FREEBSD_TYPE = "516e7cb6-6ecf-11d6-8ff8-00022d09712b"
Files = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Row:
    """A disk: an MBR type with bytes, or with a UFS or FAT of files. ``state``: of its support; ``rules``: all that fire."""

    name: str
    type_id: int
    id_: str
    state: str
    rules: set[str]
    contents: bytes = b""
    in_ufs: Files = field(default_factory=dict)
    in_fat: Files = field(default_factory=dict)
    ends: str = ""


def _freebsd(version: str) -> Files:
    return {"bin/freebsd-version": f'USERLAND_VERSION="{version}-RELEASE"\n', "etc/fstab": "/dev/ada0p2 / ufs rw 1 1\n"}


_OLD = {_NOT_REWRITTEN, _NO_VIRTIO, _NOT_CERTIFIED}
_BSD = {_NOT_REWRITTEN, _NOT_CERTIFIED}
_DOS = {"IO.SYS": "x", "COMMAND.COM": "x"}
_NT3 = b"regf" + bytes(20) + b"\x02\0\0\0" + bytes(99)
ROWS = (
    Row("freebsd-13.2", 0xA5, "freebsd", "ended", {*_BSD, _ENDED}, in_ufs=_freebsd("13.2"), ends="2024-06-30"),
    Row("freebsd-99.0", 0xA5, "freebsd", "unknown", {*_BSD, _UNKNOWN} - {_NOT_CERTIFIED}, in_ufs=_freebsd("99.0")),
    Row(
        "openbsd-7.3", 0xA6, "openbsd", "ended", {*_BSD, _ENDED}, ends="2024-04-05",
        in_ufs={"bsd": "k", "etc/motd": "OpenBSD 7.3 (GENERIC.MP) #1125\n"},
    ),
    Row(
        "netbsd-9.3", 0xA9, "netbsd", "unknown", {*_BSD, _UNKNOWN},
        in_ufs={"netbsd": "k", "etc/release": "NetBSD 9.3/amd64\n"},
    ),
    Row(
        "solaris-10", 0xBF, "solaris", "extended", {*_BSD, "support.extended", "support.ending"}, ends="2027-01-01",
        in_ufs={"etc/release": "   Oracle Solaris 10 1/13 s10x_u11wos_24a X86\n", "etc/vfstab": "-\n"},
    ),
    Row("dos", 0x06, "dos", "unknown", {*_OLD, _UNKNOWN}, in_fat={**_DOS, "MSDOS.SYS": "binary"}),
    Row(
        "win9x", 0x06, "win9x", "ended", {*_OLD, _ENDED}, ends="2006-07-11",
        in_fat={**_DOS, "MSDOS.SYS": "[Paths]\r\nWinDir=C:\\WINDOWS\r\n"},
    ),
    Row(
        "nt3", 0x06, "nt3", "ended", {*_OLD, _ENDED}, ends="2001-12-31",
        in_fat={"NTLDR": "x", "WINNT35/SYSTEM32/CONFIG/SOFTWARE": _NT3},
    ),
    # nothing reads its JFS
    Row("os2", 0x35, "os2", "unknown", {*_OLD, _UNKNOWN, "guest.reading"}, contents=signed((32 * KIB, b"JFS1"))),
    Row("netware", 0x65, "netware", "ended", {*_OLD, _ENDED}, contents=signed((0x4000, b"HOTFIX00")), ends="2016-12-31"),
    Row("haiku", 0xEB, "haiku", "unknown", {_NOT_REWRITTEN, _UNKNOWN}, contents=signed((544, b"1SFB"))),
    Row("unix", 0x63, "unix", "unknown", {_NOT_REWRITTEN, _UNKNOWN}, contents=signed((KIB, b"\xf5\xfc\x01\xa5"))),
    Row("macos", 0xAF, "macos", "unknown", {_NOT_REWRITTEN, _UNKNOWN}, contents=signed((KIB, b"H+\0\x04"))),
    Row("esxi", 0xFB, "esxi", "unknown", {_NOT_REWRITTEN, _UNKNOWN}, contents=signed((MIB, b"\x0d\xd0\x01\xc0"))),
)  # fmt: skip


def audited(disk: Path) -> MachineAudit:
    (subject,) = together([disk]).subjects
    answer = examine(subject, Wish(RULES, AS_OF), lambda: Acceleration(Accelerator.TCG, "these tests start none"))
    (examination,) = answer.examinations
    return examination.machine


def judged(machine: MachineAudit) -> tuple[Verdict, set[str]]:
    """Without what is said of the chain of its start and of raw disks, which have tests of their own."""
    findings = [each for each in machine.findings if not each.rule.startswith(("start.", "disk."))]
    return verdict(findings, RULES), {each.rule for each in findings}


def of(machine: MachineAudit, rule: str) -> AuditFinding:
    (found,) = (each for each in machine.findings if each.rule == rule)
    return found


def disk_of(row: Row, folder: Path) -> Path:
    contents = row.contents or (ufs(folder, row.in_ufs) if row.in_ufs else fat(folder, row.in_fat))
    return mbr(folder / "d", row.type_id, contents)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_system(row: Row, tmp_path: Path) -> None:
    machine = audited(disk_of(row, tmp_path))
    assert machine.system is not None
    assert machine.support is not None
    assert machine.system.id == row.id_
    # it was never run on KVM here, so it is never ready without a word
    assert judged(machine) == (Verdict.WARNINGS, row.rules)
    assert machine.support.state == row.state
    assert row.ends in (machine.support.standard_end, machine.support.extended_end)
    assert all(each.remedy for each in machine.findings)
    assert [each.text.partition(":")[0] for each in of(machine, _NOT_REWRITTEN).evidence] == ["partition 1"]


def test_every_system_that_is_recognised_has_a_row() -> None:
    assert {row.id_ for row in ROWS} == set(PROFILES) - {"minix"}, "MINIX is told by its appliance alone"


def test_hypervisor_is_not_to_be_moved(tmp_path: Path) -> None:
    row = next(row for row in ROWS if row.name == "esxi")
    assert "the machines that it runs" in of(audited(disk_of(row, tmp_path)), _UNKNOWN).remedy


def test_disk_without_a_system_is_told_of_once(tmp_path: Path) -> None:
    machine = audited(mbr(tmp_path / "d", 0x06, fat(tmp_path, {"data.txt": "x"})))
    assert judged(machine) == (Verdict.BLOCKED, {_NO_OS})
    assert any("vfat" in each.text for each in of(machine, _NO_OS).evidence)


def test_zfs_that_nothing_here_reads_is_recognised_without_its_version(tmp_path: Path) -> None:
    disk = gpt(tmp_path / "d", "516e7cba-6ecf-11d6-8ff8-00022d09712b", signed((128 * KIB, b"\x0c\xb1\xba\0\0\0\0\0")))
    machine = audited(disk)
    assert judged(machine) == (Verdict.WARNINGS, {*_BSD, _UNKNOWN, "guest.reading"})
    assert "one of" in of(machine, _UNKNOWN).message


_LOST = {"hardware.cpus", "hardware.memory"}


@pytest.mark.parametrize("id_", [name for name, profile in PROFILES.items() if profile.cpus_at_most])
def test_what_an_old_system_does_not_stand_is_told_where_the_machine_had_more(id_: str) -> None:
    small = replace(bare(1), cpus=1, memory_bytes=64 * MIB)
    large = replace(bare(1), cpus=4, memory_bytes=16 * GIB)
    unstated = replace(large, assumed=("cpus", "memory"))
    told = {name: rules_of(id_, machine) & _LOST for name, machine in
            (("small", small), ("large", large), ("unstated", unstated))}  # fmt: skip
    assert told == {"small": set(), "large": _LOST, "unstated": set()}


def rules_of(id_: str, machine: object) -> set[str]:
    found = examined(guest(id_), machine)  # type: ignore[arg-type]
    return {each.rule for check in CHECKS for each in check(found)}


def test_names_that_kvm_does_not_give_are_warned_of_with_their_line() -> None:
    texts = {"/etc/fstab": "/dev/mfid0s1a / ufs rw 1 1\n", "/etc/rc.conf": 'ifconfig_igb0="DHCP"\n'}
    found = [each for check in CHECKS for each in check(examined(guest("freebsd", texts)))]
    for rule, path in (("other.disk-name", "/etc/fstab"), ("other.card-name", "/etc/rc.conf")):
        (one,) = (each for each in found if each.rule == rule)
        assert one.severity is Severity.WARNING
        assert (one.evidence[0].where, one.evidence[0].line) == (path, 1)
