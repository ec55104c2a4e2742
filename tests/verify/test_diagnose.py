"""Verdicts on recorded boots (tests/verify/recorded, made by the boot check's own log) and on known messages."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from p2v.core import jsonio
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.verify.boot import patience_for
from p2v.verify.diagnose import Observations, Patience, at_login, clean, diagnose, in_initramfs_shell
from p2v.verify.evidence import BootEvidence, GuestReport, InterfaceAddresses, Reason, Verdict
from p2v.verify.qmp import decode_text_screen
from p2v.verify.text import render

PATIENCE = Patience(total=300, silence=75, report=90)
EARLY = Observations(seconds=50.0, silent_seconds=1.0)
RECORDED = Path(__file__).with_name("recorded")
PARTITIONS = "major minor  #blocks  name\n\n 254        0    3145728 {0}\n 254        1    3078144 {0}1\n"


def recorded(name: str, silent_seconds: float = 1.0) -> Observations:
    text = (RECORDED / f"{name}.txt").read_text("utf-8")
    parts = re.split(r"^=== (firmware|screen|serial console) ===\n", text, flags=re.MULTILINE)[1:]
    by_title = dict(zip(parts[::2], parts[1::2], strict=True))
    return dataclasses.replace(
        EARLY,
        serial=by_title.get("serial console", ""),
        firmware=by_title.get("firmware", ""),
        screen=by_title.get("screen", "").rstrip(),
        silent_seconds=silent_seconds,
    )


def reason_of(seen: Observations) -> Reason | None:
    verdict = diagnose(seen, PATIENCE)
    return verdict.reason if verdict else None


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("no-virtio", Reason.NO_ROOT_DRIVER, "UUID=5a3c1f0e-2b7d-4c58-9e61-0d8f4b7a6c11"),
        ("no-root", Reason.ROOT_MISSING, "UUID=deadbeef-0000-4000-8000-000000000000"),
        ("panic", Reason.KERNEL_PANIC, "Attempted to kill init! exitcode=0x00000100"),
        ("grub-rescue", Reason.BOOT_LOADER_FAILED, "unknown filesystem"),
        ("uefi-shell", Reason.NO_BOOT_LOADER, "nothing to boot"),
        ("emergency", Reason.EMERGENCY_MODE, "emergency mode"),
    ],
)
def test_a_recorded_failure_is_certain_at_once_and_named(name: str, reason: Reason, words: str) -> None:
    verdict = diagnose(recorded(name), PATIENCE)
    assert verdict is not None
    assert verdict.reason is reason
    assert words in verdict.sentence
    assert verdict.evidence


@pytest.mark.parametrize("name", ["no-virtio", "no-root", "panic", "emergency", "good-virtio", "failed-unit"])
def test_nothing_is_certain_before_the_end_of_a_recorded_boot(name: str) -> None:
    seen = recorded(name)
    lines = seen.serial.splitlines(keepends=True)
    first_half = dataclasses.replace(seen, serial="".join(lines[: len(lines) // 3]))
    assert diagnose(first_half, PATIENCE) is None


def test_boot_code_that_does_nothing_is_no_boot_loader_but_gets_some_time() -> None:
    assert reason_of(recorded("no-bootloader", silent_seconds=9)) is None
    assert reason_of(recorded("no-bootloader", silent_seconds=11)) is Reason.NO_BOOT_LOADER


def test_a_slow_boot_loader_is_not_taken_for_none() -> None:
    seen = recorded("no-bootloader", silent_seconds=11)
    loading = dataclasses.replace(seen, screen=seen.screen + "\nGRUB loading.")
    assert reason_of(loading) is None


@pytest.mark.parametrize("firmware", ["No bootable device.\n", "No bootable device.  Retrying in 60 seconds.\n"])
def test_a_disk_without_signature_is_no_boot_loader(firmware: str) -> None:
    assert reason_of(Observations(firmware=firmware)) is Reason.NO_BOOT_LOADER


def test_a_kernel_that_watches_its_clock_does_not_hide_the_last_telling_line() -> None:
    seen = recorded("hang", silent_seconds=76)
    noise = "[  119.510374] clocksource: wd-tsc-wd read-back delay of 108980ns, clock-skew test skipped!\n"
    verdict = diagnose(dataclasses.replace(seen, serial=seen.serial.rstrip("\n") + "\n" + noise * 5), PATIENCE)
    assert verdict == diagnose(seen, PATIENCE)


def test_a_hang_shows_after_its_silence_with_the_last_line() -> None:
    assert reason_of(recorded("hang", silent_seconds=74)) is None
    verdict = diagnose(recorded("hang", silent_seconds=76), PATIENCE)
    assert verdict is not None
    assert verdict.reason is Reason.HANG
    assert "init-bottom" in verdict.sentence


def test_a_boot_that_goes_on_at_the_end_of_the_time_timed_out() -> None:
    seen = dataclasses.replace(recorded("hang"), seconds=301.0, silent_seconds=2.0)
    assert reason_of(seen) is Reason.TIMED_OUT


def test_the_shells_own_answer_outweighs_the_log() -> None:
    missing = recorded("no-root")
    assert reason_of(dataclasses.replace(missing, partitions=PARTITIONS.format("vda"))) is Reason.ROOT_MISSING
    quiet = dataclasses.replace(missing, serial=re.sub(r".*vda.*\n", "", missing.serial))
    assert reason_of(quiet) is Reason.NO_ROOT_DRIVER
    assert reason_of(dataclasses.replace(quiet, partitions=PARTITIONS.format("sda"))) is Reason.ROOT_MISSING
    assert reason_of(dataclasses.replace(quiet, partitions="major minor  #blocks  name\n\n  11 0 1048575 sr0\n")) is (
        Reason.NO_ROOT_DRIVER
    )


KERNEL = "[    0.000000] Linux version 6.1.0\n[    2.0] virtio_blk virtio1: [vda] 100 512-byte logical blocks\n"


@pytest.mark.parametrize(
    ("serial", "reason"),
    [
        (
            KERNEL + "Warning: /dev/disk/by-uuid/1 does not exist\n\nGenerating /run/initramfs/rdsosreport.txt\n"
            "\nEntering emergency mode. Exit the shell to continue.\n:/# ",
            Reason.ROOT_MISSING,
        ),
        (
            "[    0.000000] Linux version 6\nWarning: /dev/disk/by-uuid/1 does not exist\nsave "
            '"/run/initramfs/rdsosreport.txt" to a USB stick\nGive root password for maintenance\n',
            Reason.NO_ROOT_DRIVER,
        ),
        (
            "[    2.0] VFS: Unable to mount root fs on unknown-block(0,0)\n"
            "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n",
            Reason.NO_ROOT_DRIVER,
        ),
        (
            KERNEL + "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(8,1)\n",
            Reason.ROOT_MISSING,
        ),
        (
            KERNEL + "mount: mounting /dev/vda1 on /root failed: Invalid argument\n(initramfs) ",
            Reason.ROOT_UNUSABLE,
        ),
        (
            KERNEL + "The root filesystem on /dev/vda1 requires a manual fsck\n\n(initramfs) ",
            Reason.ROOT_UNUSABLE,
        ),
        (KERNEL * 4, Reason.REBOOT_LOOP),
        ("error: file `/boot/grub/i386-pc/normal.mod' not found.\ngrub rescue> ", Reason.BOOT_LOADER_FAILED),
    ],
)
def test_known_messages(serial: str, reason: Reason) -> None:
    assert reason_of(Observations(serial=serial)) is reason


@pytest.mark.parametrize("serial", [KERNEL, KERNEL * 2, "[    1.0] printk: grub> is not a prompt here\n", ""])
def test_what_is_no_failure_is_waited_for(serial: str) -> None:
    assert diagnose(dataclasses.replace(EARLY, serial=serial), PATIENCE) is None


def test_a_guest_that_switches_itself_off_did_not_boot() -> None:
    assert reason_of(Observations(powered_off=True)) is Reason.POWERED_OFF


def test_a_panic_counts_more_than_what_qemu_did_after_it() -> None:
    seen = dataclasses.replace(recorded("panic"), powered_off=True, qemu_ended="gone")
    assert reason_of(seen) is Reason.KERNEL_PANIC


def test_qemus_last_words_are_the_evidence_when_it_ended() -> None:
    verdict = diagnose(Observations(qemu_ended='one\nFailed to get "write" lock'), PATIENCE)
    assert verdict is not None
    assert verdict.reason is Reason.QEMU_FAILED
    assert 'Failed to get "write" lock' in verdict.sentence


def test_a_full_scratch_folder_is_the_hosts_trouble() -> None:
    assert reason_of(Observations(disk_full=True)) is Reason.QEMU_FAILED


def test_a_flooded_console_ends_the_check() -> None:
    assert reason_of(Observations(runaway=True, serial="x\n")) is Reason.TIMED_OUT


def test_a_guest_without_reporter_and_console_is_not_called_hung() -> None:
    silent = Observations(instrumented=False, silent_seconds=100, seconds=200)
    assert diagnose(silent, PATIENCE) is None
    assert reason_of(dataclasses.replace(silent, seconds=301)) is Reason.NO_EVIDENCE


@pytest.mark.parametrize(("said", "reason", "words"), [
    ("BOOTMGR is missing\nPress Ctrl+Alt+Del to restart", Reason.BOOT_LOADER_FAILED, "BOOTMGR is missing"),
    ("A disk read error occurred\nPress Ctrl+Alt+Del to restart", Reason.BOOT_LOADER_FAILED, "disk read error"),
    ("NTLDR is missing", Reason.BOOT_LOADER_FAILED, "NTLDR"),
    ("*** STOP: 0x0000007B (0xF78D2524,0xC0000034,0x00000000,0x00000000)", Reason.KERNEL_PANIC, "0x0000007B"),
])  # fmt: skip
def test_what_windows_own_loaders_say_is_a_verdict_about_a_guest_that_tells_nothing_of_itself(
    said: str, reason: Reason, words: str
) -> None:
    seen = dataclasses.replace(EARLY, screen=f"Booting from Hard Disk...\n{said}\n", instrumented=False)
    verdict = diagnose(seen, PATIENCE)
    assert verdict is not None
    assert verdict.reason is reason
    assert words in verdict.sentence
    assert reason_of(dataclasses.replace(seen, instrumented=True)) is None


def test_a_check_that_could_tell_nothing_is_neither_passed_nor_failed() -> None:
    silent = dataclasses.replace(EARLY, instrumented=False, seconds=301.0)
    verdict = diagnose(silent, PATIENCE)
    assert verdict is not None
    evidence = BootEvidence(verdict, Accelerator.TCG, 301.0, not_instrumented="nothing is known to report from inside Windows 10")
    assert render(evidence).startswith("NOT PROVEN: ")
    assert not evidence.booted


UP = GuestReport("running", active=("multi-user.target", "graphical.target"), uptime_seconds=40.0)


def test_a_report_of_a_running_system_is_a_boot() -> None:
    assert reason_of(Observations(report=UP)) is Reason.BOOTED


def test_failed_units_are_told_and_do_not_fail_the_boot() -> None:
    report = dataclasses.replace(UP, state="degraded", failed_units=("always-fails.service",))
    verdict = diagnose(Observations(report=report), PATIENCE)
    assert verdict is not None
    assert verdict.reason is Reason.BOOTED
    assert "always-fails.service" in verdict.sentence


@pytest.mark.parametrize("name", ["good-virtio", "failed-unit"])
def test_a_login_prompt_waits_for_the_report_and_counts_without_it(name: str) -> None:
    seen = recorded(name)
    assert at_login(seen.serial)
    assert diagnose(dataclasses.replace(seen, login_seconds=10, silent_seconds=80), PATIENCE) is None
    assert reason_of(dataclasses.replace(seen, login_seconds=91)) is Reason.BOOTED
    assert reason_of(dataclasses.replace(seen, instrumented=False)) is Reason.BOOTED
    assert reason_of(dataclasses.replace(seen, seconds=301)) is Reason.BOOTED


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (GuestReport("maintenance", active=("emergency.target",)), Reason.EMERGENCY_MODE),
        (GuestReport("degraded", active=("rescue.target",), failed_units=("data.mount",)), Reason.EMERGENCY_MODE),
        (GuestReport("starting", pending_jobs=("slow.service",)), Reason.NOT_FINISHED),
        (GuestReport("starting", active=("multi-user.target",), pending_jobs=("late.service",)), Reason.BOOTED),
    ],
)
def test_a_report_of_less_than_a_running_system(report: GuestReport, reason: Reason) -> None:
    assert reason_of(Observations(report=report)) is reason


def test_terminal_sequences_do_not_get_through() -> None:
    assert clean("a\x1b[0;31mred\x1b[0m\x07\r\nb\x00\x9b1m\x1b]0;title\x07c") == "ared\nb1m0;titlec"


def test_an_initramfs_shell_is_seen() -> None:
    assert in_initramfs_shell(recorded("no-root").serial)
    assert not in_initramfs_shell(recorded("good-virtio").serial)


def test_a_text_screen_is_read_and_pixels_are_not() -> None:
    text = b"".join(bytes([c, 7]) for c in b"grub rescue>".ljust(80) + b" " * 80 * 24)
    assert decode_text_screen(text) == "grub rescue>"
    assert decode_text_screen(bytes(range(256)) * 16) == ""
    assert decode_text_screen(b"") == ""


@pytest.mark.parametrize(("load", "total"), [(0.0, 300), (1.0, 300), (2.0, 600), (50.0, 900)])
def test_a_busy_host_is_given_more_time_within_bounds(load: float, total: float) -> None:
    assert patience_for(Acceleration(Accelerator.TCG, "in a test"), load).total == total


EVIDENCE = BootEvidence(
    verdict=Verdict(Reason.BOOTED, "multi-user.target was reached", ("system state: degraded",)),
    accelerator=Accelerator.TCG,
    seconds=41.5,
    report=dataclasses.replace(
        UP,
        failed_units=("always-fails.service",),
        interfaces=(InterfaceAddresses("ens3", "52:54:00:00:00:01", ("10.0.2.15/24",)),),
        root_device="/dev/vda1",
    ),
    serial_tail=("login:",),
    screenshot="web1.png",
)


def test_evidence_survives_json() -> None:
    conv = jsonio.converter()
    assert jsonio.decode(conv, jsonio.encode(conv, EVIDENCE), BootEvidence) == EVIDENCE


def test_the_text_tells_the_verdict_and_what_is_wrong() -> None:
    assert EVIDENCE.booted
    assert EVIDENCE.degraded == ("always-fails.service",)
    text = render(EVIDENCE)
    for fact in ("passed", "booted", "/dev/vda1", "10.0.2.15/24", "always-fails.service", "web1.png"):
        assert fact in text
