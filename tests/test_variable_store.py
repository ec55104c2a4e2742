"""The file of UEFI variables that a converted machine begins with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from p2v import variable_store as module
from p2v.core.events import Event, Warned
from p2v.core.firmware import FirmwareFiles
from p2v.machine import Firmware, Machine, UefiVariable
from p2v.nvram.edk2 import read_store
from p2v.targets.front_ends import FrontEnd
from p2v.variable_store import VariableStore, variable_store
from tests.nvram import writer
from tests.nvram.writer import DATABASE, GLOBAL
from tests.targets.samples import hardware

ENTRY = UefiVariable("Boot0001", GLOBAL, 7, writer.entry("debian", writer.partition() + writer.loader("a") + writer.END).hex())
KEY = UefiVariable("PK", GLOBAL, 0x27, writer.keys().hex())
UEFI = hardware(firmware=Firmware.UEFI)


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "VARS.fd"
    path.write_bytes(writer.store(()))
    monkeypatch.setattr(module, "installed_firmware", lambda **_: FirmwareFiles(path, path))
    return path


def made(*variables: UefiVariable, told: list[Event], to: FrontEnd = FrontEnd.QEMU, secure: bool = False) -> VariableStore:
    machine = Machine("web1", (), variables=variables)
    return variable_store(machine, dataclasses.replace(UEFI, secure_boot=secure), to, told.append)


@pytest.mark.usefixtures("template")
@pytest.mark.parametrize("secure", [False, True])
def test_what_comes_along_stands_in_the_firmwares_own_template(secure: bool) -> None:
    told: list[Event] = []
    store = made(ENTRY, KEY, told=told, secure=secure)
    (file,) = store.files
    assert (file.name, store.hardware.variables) == ("web1_VARS.fd", Path("web1_VARS.fd"))
    assert isinstance(file.text, bytes)
    # keys mean nothing to a firmware without secure boot
    assert [each.name for each in read_store(file.text)] == (["Boot0001", "PK"] if secure else ["Boot0001"])
    assert told == []


@pytest.mark.usefixtures("template")
def test_nothing_is_written_where_nothing_comes_along() -> None:
    told: list[Event] = []
    assert made(KEY, told=told) == VariableStore(UEFI)
    assert variable_store(Machine("web1", (), variables=(ENTRY,)), hardware(), FrontEnd.QEMU, told.append).files == ()
    assert told == []


def test_without_a_firmware_here_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    monkeypatch.setattr(module, "installed_firmware", lambda **_: None)
    assert made(ENTRY, told=told) == VariableStore(UEFI)
    assert [isinstance(event, Warned) and "no UEFI firmware is installed" in event.message for event in told] == [True]


def test_variables_that_do_not_fit_are_told(template: Path) -> None:
    told: list[Event] = []
    template.write_bytes(writer.store((), volume=0x20000, area=0xDFB8))
    large = UefiVariable("dbx", DATABASE, 0x27, writer.keys(1, 60_000).hex())
    assert made(ENTRY, large, told=told, secure=True).files == ()
    assert [isinstance(event, Warned) and "has room for" in event.message for event in told] == [True]


@pytest.mark.usefixtures("template")
@pytest.mark.parametrize("to", [FrontEnd.KUBEVIRT, FrontEnd.OPENSTACK])
def test_a_front_end_without_a_place_for_them_is_told(to: FrontEnd) -> None:
    told: list[Event] = []
    assert made(ENTRY, told=told, to=to).files
    assert [isinstance(event, Warned) and "has no place" in event.message for event in told] == [True]
