"""A launch that fails in the quick appliance goes on in libguestfs' own; one that was stopped, or had its time, does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers import appliance_launch as module
from drivers.appliance_launch import open_appliance
from drivers.appliance_values import ApplianceNotStarted, ApplianceStopped
from drivers.fixed_appliance.choosing import Quick
from drivers.fixed_appliance.store import Store
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import P2vError, ProgramTimedOut
from p2v.core.events import Event, Warned

KEY = "0123"


class Started:
    """An appliance that does nothing."""

    def shutdown(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class Launches:
    """What is started: the quick appliance fails with ``quick``, the usual one with ``usual``, where there is an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store, *, proved: bool) -> None:
        self.quick: P2vError | None = None
        self.usual: P2vError | None = None
        self.folders: list[Path | None] = []
        self.limits: list[float] = []
        self.accelerators: list[Accelerator] = []
        self.store, self.proved = store, proved
        store.path(KEY).mkdir(parents=True)
        monkeypatch.setattr(module, "quick_appliance", self._quick_appliance)
        monkeypatch.setattr(module, "installed_parts", lambda: None)
        launches = self

        def start(_: object, folder: Path | None, seconds: float) -> Started:
            launches.folders.append(folder)
            launches.limits.append(seconds)
            if error := launches.usual if folder is None else launches.quick:
                raise error
            return Started()

        monkeypatch.setattr(module._Launch, "_start", start)

    @contextmanager
    def _quick_appliance(
        self, parts: object, accelerator: Accelerator, runner: object, report: object
    ) -> Iterator[Quick]:
        self.accelerators.append(accelerator)
        yield Quick(self.store, KEY, accelerator, self.proved)

    def go(self, kvm: bool = False, **options: Any) -> list[str]:
        """Launch; the warnings."""
        events: list[Event] = []
        how = Acceleration(Accelerator.KVM if kvm else Accelerator.TCG, "a test")
        with open_appliance([], how, report=events.append, **options):
            pass
        return [event.message for event in events if isinstance(event, Warned)]


@pytest.fixture(params=[False, True], ids=["new", "proved"])
def launches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launches:
    return Launches(monkeypatch, Store(tmp_path), proved=request.param)


@pytest.mark.parametrize("kvm", [False, True], ids=["tcg", "kvm"])
def test_the_quick_one_is_started_with_and_without_kvm(kvm: bool, launches: Launches) -> None:
    assert launches.go(kvm) == []
    how = Accelerator.KVM if kvm else Accelerator.TCG
    assert (launches.folders, launches.accelerators) == ([launches.store.path(KEY)], [how])
    assert launches.store.works(KEY, how)
    assert launches.limits == [90 if kvm else 300]


def test_where_it_does_not_start_the_usual_one_does(launches: Launches) -> None:
    launches.quick = ApplianceNotStarted("start", "QEMU ended with status 1")
    warnings = launches.go()
    assert launches.folders == [launches.store.path(KEY), None]
    assert len(warnings) == 1
    assert "QEMU ended with status 1" in warnings[0]
    assert (launches.store.reason_against(KEY, Accelerator.TCG) is None) == launches.proved


def test_where_neither_starts_the_quick_one_is_not_to_blame(launches: Launches) -> None:
    launches.quick = ApplianceNotStarted("start", "no such disk")
    launches.usual = ApplianceNotStarted("start", "no such disk, really")
    with pytest.raises(ApplianceNotStarted, match="really"):
        launches.go()
    assert launches.store.reason_against(KEY, Accelerator.TCG) is None


def test_one_that_hangs_is_given_up_for_the_usual_one_only_where_it_never_started(launches: Launches) -> None:
    launches.quick = ProgramTimedOut("the libguestfs appliance", 300)
    if launches.proved:
        with pytest.raises(ProgramTimedOut):
            launches.go()
        assert launches.folders == [launches.store.path(KEY)]
    else:
        assert len(launches.go()) == 1
        assert launches.folders == [launches.store.path(KEY), None]
        assert "300" in str(launches.store.reason_against(KEY, Accelerator.TCG))


def test_the_limit_of_a_caller_is_for_the_whole_launch(launches: Launches) -> None:
    launches.quick = ProgramTimedOut("the libguestfs appliance", 3)
    with pytest.raises(ProgramTimedOut):
        launches.go(launch_seconds=3)
    assert (launches.folders, launches.limits) == ([launches.store.path(KEY)], [3])


def test_one_that_was_to_end_is_not_started_again(launches: Launches) -> None:
    launches.quick = ApplianceStopped("go on", "it was to end")
    with pytest.raises(ApplianceStopped):
        launches.go(stop=threading.Event())
    assert launches.folders == [launches.store.path(KEY)]
    assert launches.store.reason_against(KEY, Accelerator.TCG) is None
