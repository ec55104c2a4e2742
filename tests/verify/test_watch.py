"""Watching a machine: what the evidence shows once the verdict is certain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from p2v.verify import watch
from p2v.verify.diagnose import Observations, Patience
from p2v.verify.evidence import Reason, Verdict
from p2v.verify.watch import RunningMachine, Watch


@dataclass
class Log:
    """A log that says its lines one at a time."""

    lines: list[str]
    said: str = ""
    runaway: bool = False

    def grew(self) -> bool:
        if not self.lines:
            return False
        self.said += self.lines.pop(0)
        return True

    def text(self) -> str:
        return self.said


@dataclass
class Qemu:
    """A program that ends after some waits."""

    waits: int = 1000
    waited: list[float] = field(default_factory=list)

    def wait(self, timeout: float) -> int | None:
        self.waited.append(timeout)
        return None if len(self.waited) < self.waits else 0


def watched(
    serial: list[str], qemu: Qemu, verdict: Verdict, monkeypatch: pytest.MonkeyPatch, passphrases: tuple[str, ...] = ()
) -> tuple[Verdict, Observations]:
    """A watch whose verdict is certain at once, on a clock that goes by what was waited."""
    monkeypatch.setattr(watch, "diagnose", lambda seen, patience: verdict)
    monkeypatch.setattr("p2v.verify.watch.time.monotonic", lambda: sum(qemu.waited))
    monkeypatch.setattr(Watch, "_look", lambda self, now: None)
    machine: Any = RunningMachine(qemu, None, None, None, Log(serial), Log([]), Log([]))  # type: ignore[arg-type]
    return Watch(machine, Patience(300, 75, 90), "nonce", Observations(), passphrases).until_certain()


BOOTED = Verdict(Reason.BOOTED, "multi-user.target was reached", ())


def test_a_prompt_that_comes_after_the_report_is_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, seen = watched(["starting\n", "still starting\n", "vmguest login: "], Qemu(), BOOTED, monkeypatch)
    assert verdict == BOOTED
    assert "login:" in seen.serial


def test_a_system_without_a_prompt_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = Qemu()
    verdict, _ = watched(["starting\n"], qemu, BOOTED, monkeypatch)
    assert verdict == BOOTED
    assert 0 < sum(qemu.waited) <= 16


def test_a_machine_that_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = Qemu(waits=2)
    assert watched(["starting\n"], qemu, BOOTED, monkeypatch)[0] == BOOTED
    assert len(qemu.waited) == 2


def test_a_guest_that_failed_is_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = Qemu()
    panic = Verdict(Reason.KERNEL_PANIC, "Attempted to kill init", ())
    assert watched(["x\n", "vmguest login: "], qemu, panic, monkeypatch)[0] == panic
    assert qemu.waited == []


def test_a_console_that_asks_for_a_passphrase_gets_each_given_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[str] = []
    monkeypatch.setattr(watch, "type_line", lambda path, text: typed.append(text))
    asks = ["Please unlock disk sda2_crypt: ", "\ncryptsetup failed\nPlease unlock disk sda2_crypt: ", "\n", "vmguest login: "]
    watched(asks, Qemu(), BOOTED, monkeypatch, ("first", "second"))
    assert typed == ["first", "second"]


def test_a_console_that_asks_nothing_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[str] = []
    monkeypatch.setattr(watch, "type_line", lambda path, text: typed.append(text))
    watched(["Please wait\n", "vmguest login: "], Qemu(), BOOTED, monkeypatch, ("first",))
    assert typed == []
