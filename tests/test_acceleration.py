"""Whether KVM works: the decision for every kind of host, the tiny guest, and what is remembered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from p2v import acceleration as module
from p2v.acceleration import (
    BOOT_SECTOR,
    SUCCESS_STATUS,
    GuestRun,
    KvmDevice,
    Trial,
    acceleration,
    decide,
    device_state,
    try_guest,
)
from p2v.core.acceleration import Accelerator
from p2v.core.errors import ProgramFailed, ProgramTimedOut
from p2v.core.qemu import find_qemu
from p2v.core.run import Completed, SystemRunner

QEMU = "/usr/bin/qemu 7.2"
WORKS = Trial(GuestRun.WORKS, 3)
HANGS = Trial(GuestRun.HANGS, 3)
FAILS = Trial(GuestRun.FAILS, 3, "QEMU ended with status 1: no such CPU")
QEMU_HERE = pytest.mark.skipif(find_qemu() is None, reason="qemu-system-x86_64 is not installed")


@pytest.mark.parametrize(
    ("qemu", "device", "kvm", "tcg", "accelerator", "qemu_works", "evidence"),
    [
        (QEMU, KvmDevice.PRESENT, WORKS, None, Accelerator.KVM, True, "ran under KVM"),
        (QEMU, KvmDevice.PRESENT, HANGS, WORKS, Accelerator.TCG, True, "did not run within 3 seconds"),
        (QEMU, KvmDevice.PRESENT, FAILS, WORKS, Accelerator.TCG, True, "no such CPU"),
        (QEMU, KvmDevice.MISSING, None, WORKS, Accelerator.TCG, True, "there is no /dev/kvm"),
        (QEMU, KvmDevice.FORBIDDEN, None, WORKS, Accelerator.TCG, True, "no permission"),
        (QEMU, KvmDevice.MISSING, None, FAILS, Accelerator.TCG, False, "failed"),
        (QEMU, KvmDevice.PRESENT, HANGS, HANGS, Accelerator.TCG, False, "hung"),
        (None, KvmDevice.PRESENT, None, None, Accelerator.TCG, False, "not installed, or does not start"),
    ],
)
def test_only_a_guest_that_ran_makes_it_kvm(
    qemu: str | None,
    device: KvmDevice,
    kvm: Trial | None,
    tcg: Trial | None,
    accelerator: Accelerator,
    qemu_works: bool,
    evidence: str,
) -> None:
    found = decide(qemu, device, kvm, tcg)
    assert (found.accelerator, found.qemu_works) == (accelerator, qemu_works)
    assert evidence in found.evidence


def test_the_boot_sector_is_one() -> None:
    assert len(BOOT_SECTOR) == 512
    assert BOOT_SECTOR.endswith(b"\x55\xaa")


@QEMU_HERE
def test_the_tiny_guest_runs_without_kvm() -> None:
    assert try_guest(SystemRunner(), Accelerator.TCG, 120).run is GuestRun.WORKS


@QEMU_HERE
def test_a_guest_that_never_signals_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOT_SECTOR", b"\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa")  # hlt for ever
    assert try_guest(SystemRunner(), Accelerator.TCG, 3).run is GuestRun.HANGS


@QEMU_HERE
def test_a_guest_that_resets_itself_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOT_SECTOR", b"\xea\xf0\xff\x00\xf0".ljust(510, b"\0") + b"\x55\xaa")  # jmp f000:fff0
    assert try_guest(SystemRunner(), Accelerator.TCG, 120).run is GuestRun.FAILS


class Host:
    """A runner that plays QEMU: its version, and how a guest fares under each accelerator."""

    def __init__(self, kvm: GuestRun, tcg: GuestRun = GuestRun.WORKS, version: str = "7.2.22") -> None:
        self.outcome = {"kvm": kvm, "tcg": tcg}
        self.version = version
        self.tried: list[str] = []

    def run(self, argv: Sequence[str], *, timeout: float, accept: Sequence[int] = (0,), **options: Any) -> Completed:
        if "--version" in argv:
            return Completed(f"QEMU emulator version {self.version}", "", 0.0)
        accelerator = argv[argv.index("-accel") + 1]
        self.tried.append(accelerator)
        match self.outcome[accelerator]:
            case GuestRun.WORKS:
                assert SUCCESS_STATUS in accept
                return Completed("", "", 0.0, SUCCESS_STATUS)
            case GuestRun.HANGS:
                raise ProgramTimedOut(argv[0], timeout)
            case GuestRun.FAILS:
                raise ProgramFailed(argv[0], 1, "some warning\nbad luck")


@pytest.fixture
def device(tmp_path: Path) -> Path:
    (tmp_path / "kvm").touch()
    return tmp_path / "kvm"


@QEMU_HERE
@pytest.mark.parametrize("kvm", GuestRun)
def test_the_answer_is_remembered(tmp_path: Path, device: Path, kvm: GuestRun) -> None:
    host, cache = Host(kvm), tmp_path / "cache" / "acceleration.json"
    first = acceleration(host, cache=cache, device=device)
    assert first.kvm is (kvm is GuestRun.WORKS)
    tried = list(host.tried)
    assert acceleration(host, cache=cache, device=device) == first
    assert host.tried == tried
    acceleration(host, cache=cache, device=device, fresh=True)
    assert host.tried == tried * 2
    assert [p.name for p in cache.parent.iterdir()] == ["acceleration.json"]


@QEMU_HERE
def test_the_answer_is_asked_for_again_when_what_it_rests_on_changed(
    tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "acceleration.json"
    acceleration(Host(GuestRun.WORKS), cache=cache, device=device)
    newer = Host(GuestRun.HANGS, version="8.0")
    assert not acceleration(newer, cache=cache, device=device).kvm
    gone = Host(GuestRun.WORKS, version="8.0")
    assert not acceleration(gone, cache=cache, device=tmp_path / "nothing").kvm
    (tmp_path / "boot_id").write_text("another boot")
    monkeypatch.setattr(module, "BOOT_ID", tmp_path / "boot_id")
    rebooted = Host(GuestRun.WORKS, version="8.0")
    assert acceleration(rebooted, cache=cache, device=device).kvm


@QEMU_HERE
@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"schema": 1}', "\x00\x01", "[" * 100000])
def test_a_damaged_memory_is_ignored(tmp_path: Path, device: Path, damage: str) -> None:
    cache = tmp_path / "acceleration.json"
    cache.write_text(damage)
    assert acceleration(Host(GuestRun.WORKS), cache=cache, device=device).kvm
    assert json.loads(cache.read_text())["acceleration"]["accelerator"] == "kvm"


@QEMU_HERE
def test_a_memory_that_cannot_be_written_stops_nothing(tmp_path: Path, device: Path) -> None:
    (tmp_path / "file").touch()
    assert acceleration(Host(GuestRun.WORKS), cache=tmp_path / "file" / "below", device=device).kvm


@QEMU_HERE
def test_a_qemu_that_does_not_work_is_not_remembered(tmp_path: Path, device: Path) -> None:
    cache = tmp_path / "acceleration.json"
    assert not acceleration(Host(GuestRun.HANGS, GuestRun.FAILS), cache=cache, device=device).qemu_works
    assert not cache.exists()


def test_without_qemu_nothing_is_tried(tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_qemu", lambda: None)
    host = Host(GuestRun.WORKS)
    found = acceleration(host, cache=tmp_path / "c", device=device)
    assert (found.kvm, found.qemu_works, host.tried) == (False, False, [])


def test_a_missing_device_is_missing(tmp_path: Path) -> None:
    assert device_state(tmp_path / "nothing") is KvmDevice.MISSING


def test_a_device_that_may_not_be_opened_is_forbidden(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may open everything
    assert device_state(device) is KvmDevice.FORBIDDEN
