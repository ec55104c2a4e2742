"""What the doctor says of the appliance that starts quicker, and that it removes it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers.fixed_appliance import choosing
from drivers.fixed_appliance.choosing import quick_appliance
from drivers.fixed_appliance.parts import Parts, fingerprint
from drivers.fixed_appliance.store import Store
from p2v import quick_appliance as module
from p2v.cli.main import main
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import P2vError, ProgramFailed
from p2v.core.run import Completed
from p2v.doctor import Status, examine
from p2v.quick_appliance import ApplianceKept, QuickAppliance, look, remove, try_again
from tests.drivers.fixed_appliance.made_parts import Supermin, parts

TCG = Acceleration(Accelerator.TCG, "a test")
KVM = Acceleration(Accelerator.KVM, "a test")


class Library:
    """A runner whose guestfs says where it looks."""

    def __init__(self, path: object, failure: P2vError | None = None) -> None:
        self.path, self.failure = path, failure

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        if self.failure is not None:
            raise self.failure
        return Completed(json.dumps({"version": "1.48.6", "path": self.path}), "", 0.0)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Parts that the library's path leads to, and the rest of the host made up, too."""
    host = parts(tmp_path / "host")
    monkeypatch.delenv(choosing.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choosing, "_ARCHITECTURE", os.uname().machine)
    monkeypatch.setattr("drivers.fixed_appliance.building.NEEDED_BYTES", 1)
    monkeypatch.setattr(module, "Parts", lambda version, folder: host)
    return host


@pytest.fixture
def library(host: Parts) -> Library:
    return Library(str(host.supermin.parent))


def build(host: Parts) -> Path:
    with quick_appliance(host, Accelerator.TCG, Supermin(), lambda event: None) as quick:
        assert quick is not None
        quick.note_works()
        return quick.folder


def test_none_yet_is_no_fault_and_nothing_is_made_by_looking(library: Library, tmp_path: Path) -> None:
    there = look(library, TCG)
    assert there.used
    assert "--build-appliance" in there.what
    assert not (tmp_path / "cache").exists()


def test_one_that_is_built_is_named_and_whether_it_started(host: Parts, library: Library) -> None:
    folder = build(host)
    there, with_kvm = look(library, TCG), look(library, KVM)
    assert there.used
    assert there.what.startswith(str(folder))
    assert there.what.endswith("has started here")
    assert with_kvm.what.endswith("has not started yet")


def test_what_was_found_against_it_is_told_until_it_is_tried_again(host: Parts, library: Library) -> None:
    build(host)
    choosing.default_store().note_reason(fingerprint(host), "it hung", Accelerator.TCG)
    assert look(library, TCG) == QuickAppliance(False, "not used: it hung")
    assert look(library, KVM).used
    try_again()
    assert look(library, TCG).used


def test_a_cache_that_others_can_write_to_is_told(host: Parts, library: Library) -> None:
    folder = build(host)
    folder.parent.chmod(0o777)
    there = look(library, TCG)
    assert not there.used
    assert str(folder.parent) in there.what


@pytest.mark.parametrize(
    "library",
    [Library("", ProgramFailed("python", 1, "no guestfs")), Library(None), Library(7)],
    ids=["none", "null", "number"],
)
def test_a_library_that_does_not_answer_is_no_crash(library: Library, host: Parts) -> None:
    assert not look(library, TCG).used


def test_one_that_was_built_elsewhere_needs_none(host: Parts, tmp_path: Path) -> None:
    (tmp_path / "README.fixed").touch()
    there = look(Library(str(tmp_path)), TCG)
    assert there.used
    assert "elsewhere" in there.what


def test_the_doctor_tells_of_it_and_it_is_not_essential(monkeypatch: pytest.MonkeyPatch, host: Parts) -> None:
    monkeypatch.setenv(choosing.VARIABLE, choosing.PLAIN)
    check = next(check for check in examine(answer=TCG) if check.name == "quick appliance")
    assert (check.status, check.essential) == (Status.WARN, False)
    assert choosing.VARIABLE in check.found


def test_the_doctor_removes_it(host: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(host)
    main(["doctor", "--remove-appliance", "--json"])
    captured = capsys.readouterr()
    assert "Removed appliances: 1." in captured.err
    assert not folder.exists()
    assert "quick appliance" in {check["name"] for check in json.loads(captured.out)}


def test_one_in_use_is_kept_and_the_doctor_says_so(host: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(host)
    monkeypatch.setattr(module, "_REMOVE_SECONDS", 0.1)
    store = Store(folder.parent)
    with store.locked(5, alone=False), pytest.raises(ApplianceKept) as caught:
        remove()
    assert caught.value.exit_code == 75
    assert folder.exists()
