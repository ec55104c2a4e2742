"""The whole audit over small machines: what is one, what is part of one, what is none; and one bad disk among good ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from p2v.audit.auditing import Running, audit
from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import LeftAside, MachineAudit, Verdict
from p2v.audit.examine import Wish
from p2v.audit.findings import Severity
from p2v.audit.gather import Gathered
from p2v.audit.side_by_side import Bounds
from p2v.audit.suppressing import Suppression
from p2v.core import jsonio
from p2v.core.acceleration import Acceleration
from p2v.core.events import silent
from p2v.documents import Inspection
from p2v.inspection import inspect
from p2v.machine import MachineDisk
from tests.audit.small_machines import AS_OF, audited, described, linux_disk, rules_of
from tests.drivers.making import MIB, run


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linux_disk(tmp_path_factory.mktemp("disks") / "tiny.img")


def by_name(*paths: Path) -> dict[str, MachineAudit]:
    return {each.name: each for each in audited(*paths).machines}


def test_a_loose_disk_is_a_machine_with_its_system_and_what_is_used_of_it(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "web.img")
    (found,) = audited(tmp_path).machines
    assert found.name == "web"
    assert found.system is not None
    assert (found.system.id, found.system.version, found.system.hostname) == ("debian", "12", "tiny")
    assert found.disks[0].virtual_bytes == 16 * MIB
    assert found.disks[0].used_bytes is not None
    assert 0 < found.disks[0].used_bytes < 12 * MIB
    # nothing tells them, so they are not invented
    assert (found.cpus, found.memory_bytes) == (None, None)


def test_a_described_machine_owns_its_disks(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "web.img")
    run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", tmp_path / "web.img", tmp_path / "web.vmdk")
    (tmp_path / "web.img").unlink()
    described(tmp_path / "web.vmx", "web01", "web.vmdk")
    (found,) = audited(tmp_path).machines
    assert (found.name, found.cpus, found.memory_bytes) == ("web01", 2, 2048 * MIB)
    assert found.system is not None


def test_what_a_snapshot_stands_on_is_no_machine_of_its_own(disk: Path, tmp_path: Path) -> None:
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, tmp_path / "base.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", tmp_path / "tip.qcow2")
    assert set(by_name(tmp_path)) == {"tip"}


def test_neighbours_in_one_tmp_path_are_not_told_of_each_others_disks(disk: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", disk, tmp_path / f"{name}.vmdk")
        described(tmp_path / f"{name}.vmx", name, f"{name}.vmdk")
    assert not any("source.disks-beside" in rules_of(each) for each in audited(tmp_path).machines)
    shutil.copy(tmp_path / "one.vmdk", tmp_path / "stray.vmdk")
    assert [each.name for each in audited(tmp_path).machines if "source.disks-beside" in rules_of(each)] == []
    assert "stray" in by_name(tmp_path)


def test_bad_and_hostile_disks_are_findings_and_stop_nobody(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "good.img")
    (tmp_path / "cut.vhdx").write_bytes(b"vhdxfile" + bytes(100))
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "gone.qcow2", "16M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "gone.qcow2", tmp_path / "orphan.qcow2")
    (tmp_path / "gone.qcow2").unlink()
    (tmp_path / "bad.vmx").write_text('config.version = "8"\n.encoding = "no-such"\nscsi0:0.fileName = "x.vmdk"\n')
    found = by_name(tmp_path)
    assert found["good"].system is not None
    assert rules_of(found["cut"]) == {"audit.bad-image"}
    assert rules_of(found["orphan"]) == {"audit.parent-missing"}
    assert found["cut"].verdict is found["orphan"].verdict is Verdict.BLOCKED
    assert rules_of(found["bad.vmx"]) == {"audit.bad-description"}


def test_a_file_that_is_a_disk_by_its_name_alone_is_left_aside_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "initrd.img").write_bytes(os.urandom(MIB))
    document = audited(tmp_path)
    assert document.machines == ()
    assert [Path(each.path).name for each in document.left_aside] == ["initrd.img"]
    assert "initrd.img" not in document.left_aside[0].why
    # who names it wants to hear of it
    assert rules_of(audited(tmp_path / "initrd.img").machines[0]) == {"audit.no-known-format"}


def test_a_disk_that_hangs_its_reader_is_cut_off_and_the_rest_goes_on(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(disk, tmp_path / "good.img")
    shutil.copy(disk, tmp_path / "hung.img")

    def hangs(disks: Sequence[MachineDisk], *others: Any) -> Inspection:
        if "hung" in str(disks[0]):
            threading.Event().wait()
        return inspect(disks, *others)

    monkeypatch.setattr("p2v.audit.examine.inspect", hangs)
    for seconds in (6.0, 60.0):
        found = {each.name: each for each in audited(tmp_path, seconds=seconds).machines}
        assert rules_of(found["hung"]) == {"audit.took-too-long"}
        if "audit.took-too-long" not in rules_of(found["good"]):
            break  # a busy host may take longer for a good one, too
    assert found["hung"].verdict is Verdict.UNKNOWN
    assert found["good"].system is not None


def test_nothing_is_written_to_or_beside_the_source(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "web.img")
    described(tmp_path / "web.vmx", "web", "web.img")

    def state() -> list[tuple[str, int, str]]:
        return [
            (each.name, each.stat().st_mtime_ns, hashlib.sha256(each.read_bytes()).hexdigest())
            for each in sorted(tmp_path.iterdir())
        ]

    before = state()
    tmp_path.chmod(0o555)
    audited(tmp_path)
    assert state() == before


def test_an_ordinary_user_can_audit_what_he_can_read(disk: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("is an ordinary user's run already")
    shutil.copy(disk, tmp_path / "web.img")
    shutil.copy(disk, tmp_path / "secret.img")
    (tmp_path / "secret.img").chmod(0o600)
    for each in (tmp_path, *tmp_path.parents):
        if each != Path("/") and each.stat().st_uid == 0 and not each.stat().st_mode & 0o005:
            each.chmod(0o755)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            found = {each.name: sorted(rules_of(each)) for each in audited(tmp_path).machines}
            os.write(writing, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        told = json.loads(answer.read())
    os.waitpid(pid, 0)
    assert told["secret"] == ["audit.not-permitted"]
    assert "audit.not-permitted" not in told["web"]


def test_what_is_suppressed_keeps_its_reason_and_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "cut.vhdx").write_bytes(b"vhdxfile" + bytes(100))
    reason = Suppression("audit.bad-image", "known to be broken", "c*")
    (found,) = audited(tmp_path, suppressions=(reason,)).machines
    assert [each.suppressed for each in found.findings] == ["known to be broken"]
    # nobody read it: what is not to be heard of is not therefore fine
    assert found.verdict is Verdict.UNKNOWN
    (other,) = audited(tmp_path, suppressions=(Suppression("audit.bad-image", "no", "other"),)).machines
    assert other.verdict is Verdict.BLOCKED


def test_a_document_survives_json(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "web.img")
    document = audited(tmp_path)
    conv = jsonio.converter()
    data = json.loads(json.dumps(jsonio.encode(conv, document)))
    assert jsonio.decode(conv, data, type(document)) == document


def test_each_machine_of_a_package_is_audited(tmp_path: Path) -> None:
    package = Path(__file__).parent.parent / "sources" / "data" / "ovf" / "vapp.ovf"
    shutil.copy(package, tmp_path / "two.ovf")
    document = audited(tmp_path)
    assert len({each.name for each in document.machines}) == 2
    # its disks did not come along
    assert all(rules_of(each) == {"audit.bad-description"} for each in document.machines)


def test_a_machines_further_disks_are_named_together(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "one.img")
    run("truncate", "-s", "8M", tmp_path / "two.img")
    run("mke2fs", "-q", "-F", tmp_path / "two.img")
    (found,) = audited(tmp_path / "one.img", tmp_path / "two.img", one_machine=True).machines
    assert [Path(each.path).name for each in found.disks] == ["one.img", "two.img"]
    assert len(audited(tmp_path / "one.img", tmp_path / "two.img").machines) == 2


@pytest.mark.parametrize("way", ["up", "folder link", "link", "hard link"])
def test_a_disk_is_one_machine_by_whatever_name_it_is_found(
    disk: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fleet"
    (folder / "below").mkdir(parents=True)
    shutil.copy(disk, folder / "web.img")
    described(folder / "web.vmx", "web01", "web.img")
    named = folder
    if way == "up":
        monkeypatch.chdir(folder / "below")
        named = Path("..")
    elif way == "folder link":
        named = tmp_path / "link"
        named.symlink_to(folder)
    elif way == "link":
        (folder / "also.img").symlink_to("web.img")
    else:
        os.link(folder / "web.img", folder / "also.img")
    document = audited(named)
    assert [each.name for each in document.machines] == ["web01"]
    assert not document.fleet


def test_two_descriptions_of_one_disk_share_it_by_whatever_names(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "web.img")
    (tmp_path / "also.img").symlink_to("web.img")
    described(tmp_path / "one.vmx", "one", "web.img", "00:50:56:00:00:01")
    described(tmp_path / "two.vmx", "two", "also.img", "00:50:56:00:00:02")
    assert "fleet.disk-shared" in {each.rule for each in audited(tmp_path).fleet}


def test_each_machine_of_an_archive_with_several_descriptions_is_audited(disk: Path, tmp_path: Path) -> None:
    described(tmp_path / "a.txt", "a", "web.img", "00:50:56:00:00:01")
    described(tmp_path / "b.txt", "b", "none.img", "00:50:56:00:00:02")
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        archive.write(tmp_path / "a.txt", "a.vmx")
        archive.write(tmp_path / "b.txt", "b.vmx")
        archive.write(disk, "web.img")
    document = audited(tmp_path)
    found = {each.name: each for each in document.machines}
    assert found["a"].system is not None
    assert rules_of(found["b.vmx"]) == {"audit.bad-description"}
    # they share the archive, which is no disk of either
    assert {each.rule for each in document.fleet}.isdisjoint({"fleet.disk-shared", "fleet.base-shared"})


def test_where_there_may_be_machines_that_were_not_found_is_unknown(tmp_path: Path) -> None:
    (found,) = audited(tmp_path).fleet
    assert (found.rule, found.severity) == ("audit.nothing-found", Severity.UNKNOWN)
    gathered = Gathered((), unread=(LeftAside(f"{tmp_path}/shut", "Permission denied"),))
    wish = Wish(catalogue(), AS_OF)
    document = audit(gathered, wish, Running(1, Bounds()), _no_appliance, silent)
    assert [(each.rule, each.severity) for each in document.fleet if "unread" in each.rule] == [
        ("audit.folder-unread", Severity.UNKNOWN)
    ]


def _no_appliance() -> Acceleration:
    raise AssertionError("nobody asked for an appliance")


def test_the_access_times_of_disks_and_descriptions_stay(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "web.img")
    described(tmp_path / "web.vmx", "web", "web.img")
    files = [tmp_path / "web.img", tmp_path / "web.vmx"]
    for each in files:
        # older than the change: even with relatime the next read would move it
        os.utime(each, (1_000_000_000, each.stat().st_mtime))
    (found,) = audited(tmp_path).machines
    assert found.system is not None
    assert [each.stat().st_atime for each in files] == [1_000_000_000] * 2


def test_what_is_used_of_a_blank_disk_is_not_known(tmp_path: Path) -> None:
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "blank.qcow2", "64T")
    (found,) = audited(tmp_path / "blank.qcow2").machines
    assert [(each.virtual_bytes, each.used_bytes) for each in found.disks] == [(64 << 40, None)]
