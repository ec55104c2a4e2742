"""The audit's rules about itself and about files: each with what makes it fire; and that a sound machine fires none."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import MachineAudit, Verdict
from p2v.audit.faults import cut_off, fault
from p2v.core import errors
from p2v.core.errors import P2vError
from tests.audit.small_machines import audited, linux_disk, rules_of
from tests.drivers.making import MIB, make_ext, patch_word, run
from tests.faulty_files import NEEDS_FUSE, Faults, faulty_file
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device, mounted

RULES = catalogue()
FILE = Path("/vms/web/web.vmdk")
ERRORS: dict[str, P2vError] = {
    "audit.parent-missing": errors.ParentMissing(FILE, "base.vmdk"),
    "audit.wrong-parent": errors.WrongParent(FILE, "/vms/web/base.vmdk", "its CID is another"),
    "audit.forbidden-reference": errors.ForbiddenReference(FILE, "names /etc/shadow"),
    "audit.no-known-format": errors.NoKnownFormat(FILE, "starts with nothing that is known"),
    "audit.ambiguous-format": errors.AmbiguousFormat(FILE, "could be qcow2 and VHD"),
    "audit.unsupported-image": errors.UnsupportedImage(FILE, "is encrypted"),
    "audit.bad-image": errors.BadImage(FILE, "grain 5 is outside"),
    "audit.bad-description": errors.BadDescription(FILE, "is cut off"),
    "audit.not-permitted": errors.NotPermitted(str(FILE), "read"),
    "audit.not-there": errors.NoSource(str(FILE), "is not there"),
    "audit.read-failed": errors.ReadFailed(str(FILE), "Input/output error"),
    "audit.reader-crashed": errors.ReaderCrashed(str(FILE), "took longer than 60 s"),
    "audit.half-converted": errors.Interrupted(FILE, Path("/vms/web/web.undo")),
    "audit.failed": errors.ToolMissing("qemu-nbd", "read it"),
}
NOT_BY_ERRORS = {
    "audit.took-too-long", "audit.needs-appliance", "audit.in-use",
    # of the whole audit: tests/audit/test_auditing.py
    "audit.folder-unread", "audit.nothing-found",
}  # fmt: skip


def test_every_rule_of_the_audits_own_has_something_here_that_fires_it() -> None:
    assert set(ERRORS) | NOT_BY_ERRORS == {name for name in RULES if name.startswith("audit.")}


@pytest.mark.parametrize("rule", ERRORS)
def test_an_error_is_a_finding_with_the_file_that_it_is_about(rule: str) -> None:
    error = ERRORS[rule]
    found = fault(error, str(FILE), RULES)
    assert found.rule == rule
    assert found.message == error.sentence()
    assert found.remedy
    assert [each.where for each in found.evidence] == [str(FILE)]


def test_a_kind_of_error_without_a_rule_of_its_own_is_still_told() -> None:
    class Surprise(P2vError):
        """Something new."""

    assert fault(Surprise(), "/x", RULES).rule == "audit.failed"


def test_what_a_process_died_of_is_told_without_its_control_characters() -> None:
    found = cut_off("/vms/a\x1b[2J", "ended\nwithout an answer", False, RULES)
    assert found.rule == "audit.failed"
    assert "\x1b" not in found.message
    assert "\n" not in found.message


def _orphan(folder: Path) -> None:
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "gone.qcow2", "16M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "gone.qcow2", folder / "web.qcow2")
    (folder / "gone.qcow2").unlink()


def _host_file(folder: Path) -> None:
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-u", "-b", "/etc/passwd", folder / "web.qcow2", "16M")


def _encrypted(folder: Path) -> None:
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "web.qcow2", "16M")
    with (folder / "web.qcow2").open("r+b") as image:
        image.seek(32)
        image.write(b"\0\0\0\x01")


def _dirty(folder: Path) -> None:
    linux_disk(folder / "web.img")
    # needs_recovery among the superblock's incompatible features, and a journal that says so
    patch_word(folder / "web.img", MIB + 1024 + 0x60, set_bits=0x4)


REAL: dict[str, Callable[[Path], None]] = {
    "audit.parent-missing": _orphan,
    "audit.forbidden-reference": _host_file,
    "audit.unsupported-image": _encrypted,
    "audit.needs-appliance": _dirty,
}


@pytest.mark.parametrize("rule", REAL)
def test_a_real_image_fires_it_and_is_never_ready(rule: str, tmp_path: Path) -> None:
    REAL[rule](tmp_path)
    (found,) = audited(tmp_path).machines
    assert rule in rules_of(found)
    assert found.verdict in (Verdict.BLOCKED, Verdict.UNKNOWN)


def test_what_could_not_be_seen_makes_no_blocker(tmp_path: Path) -> None:
    _dirty(tmp_path)
    (found,) = audited(tmp_path).machines
    assert found.verdict is Verdict.UNKNOWN, [each.message for each in found.findings]


@NEEDS_FUSE
def test_a_disk_that_cannot_be_read_is_blocked(tmp_path: Path) -> None:
    backing = linux_disk(tmp_path / "backing.img")
    (tmp_path / "mount").mkdir()
    with faulty_file(tmp_path / "mount", backing, Faults(gone=errno.EIO)) as file:
        (found,) = audited(file.path).machines
    assert rules_of(found) == {"audit.read-failed"}
    assert found.verdict is Verdict.BLOCKED


@NEEDS_FUSE
def test_a_disk_that_does_not_answer_is_cut_off(tmp_path: Path) -> None:
    backing = linux_disk(tmp_path / "backing.img")
    (tmp_path / "mount").mkdir()
    with faulty_file(tmp_path / "mount", backing, Faults(hangs=((MIB, 64 * MIB),))) as file:
        (found,) = audited(file.path, seconds=6.0).machines
        file.set(Faults())
    assert rules_of(found) & {"audit.took-too-long", "audit.reader-crashed"}
    assert found.verdict is Verdict.UNKNOWN


@NEEDS_LOOP_DEVICES
def test_a_device_in_use_is_audited_and_said_to_be_in_use(tmp_path: Path) -> None:
    image = make_ext(tmp_path / "part", 16 * MIB)
    with loop_device(image) as device:
        assert "audit.in-use" not in rules_of(_only(device))
        with mounted(device, tmp_path / "mount"):
            assert "audit.in-use" in rules_of(_only(device))


def _only(path: Path) -> MachineAudit:
    (found,) = audited(path).machines
    return found


def test_a_sound_disk_fires_none_of_them(tmp_path: Path) -> None:
    linux_disk(tmp_path / "web.img")
    assert not {rule for rule in rules_of(_only(tmp_path / "web.img")) if rule.startswith("audit.")}
