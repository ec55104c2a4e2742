"""``p2v drivers``: what people read about a medium of Windows drivers, and what scripts do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from drivers.windows.driver_changes import DriverChanges
from drivers.windows.driver_choice import DriverChoice
from drivers.windows.virtio_win import DriverCatalogue
from p2v.cli.main import main
from p2v.core import jsonio
from tests.fixtures.virtio_win import DRIVERS, medium, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = medium(DRIVERS[:3], releases=("w7", "2k19"))
    made.files["/autorun.inf"] = b"[autorun]\n"
    return write_folder(made.files, tmp_path_factory.mktemp("medium"))


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["drivers", *argv]) == 0
    return capsys.readouterr().out


def test_a_medium_is_shown_with_a_row_for_each_windows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, str(folder)).splitlines()
    rows = {line[:32].strip(): line[32:].split() for line in lines}
    assert rows["Windows 7, x64"][:3] == ["yes", "yes", "yes"]
    assert rows["Windows Server 2019, x64"][:3] == ["yes", "yes", "yes"]
    assert rows["Windows Server 2022, x64"][:3] == ["older", "older", "older"]
    assert "Windows XP, x86" not in rows
    assert any("/autorun.inf" in line for line in lines)


def test_the_choice_for_a_windows_names_packages_reasons_and_warnings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, str(folder), "--for", "10.0.20348", "--server")
    for part in ("Windows Server 2022", "/NetKVM/2k19/amd64/netkvm.inf", "(100.93.104.24000, 2023-07-03, WHQL, SHA-256)",
                 "those for Windows Server 2019"):  # fmt: skip
        assert part in text
    assert "memory balloon" not in text


def test_a_release_is_as_good_as_a_version(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "/NetKVM/w7/x86/netkvm.inf" in said(capsys, str(folder), "--for", "w7", "--arch", "x86")


def test_what_has_no_driver_is_said_and_is_no_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, str(folder), "--for", "xp", "--arch", "x86")
    assert "no driver at all" in text
    assert "driver.missing-network" in text


def test_secure_boot_is_what_was_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, str(folder), "--for", "w7", "--secure-boot", "yes")
    assert "driver.sha2" in text


def test_documents_are_the_values_themselves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue = jsonio.decode(jsonio.converter(), json.loads(said(capsys, str(folder), "--json")), DriverCatalogue)
    assert catalogue.source == str(folder)
    choice = json.loads(said(capsys, str(folder), "--json", "--for", "2k19"))
    assert jsonio.decode(jsonio.converter(), choice, DriverChoice).driver("network") is not None


def test_changes_are_shown_as_regedit_writes_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, str(folder), "--for", "2k19", "--changes").splitlines()
    for line in (
        r"  [ControlSet001\Services\viostor]",
        '  "Start"=dword:00000000',
        r'  "ImagePath"=expand:"System32\\drivers\\viostor.sys"',
        '  @=multi:"p2v-viostor.inf_amd64_0000000000000000"',
        '  "p2v-viostor.inf"=hex:01,ff,00,00',
        r"  [-ControlSet001\Services\viostor\StartOverride]",
        r"  %SystemRoot%\Drivers\VirtIO\netkvm",
    ):
        assert line in lines, line
    assert any(line.startswith("  /Windows/System32/drivers/viostor.sys  (") for line in lines)
    old = said(capsys, str(folder), "--for", "w7", "--changes")
    assert r"CriticalDeviceDatabase\PCI#VEN_1AF4&DEV_1001&REV_00]" in old


def test_changes_are_a_document_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(said(capsys, str(folder), "--for", "2k19", "--changes", "--json"))
    found = jsonio.decode(jsonio.converter(), document, DriverChanges)
    file = next(file for file in found.files if file.path == "/Windows/Drivers/VirtIO/netkvm/netkvm.sys")
    assert file.sha256 == hashlib.sha256((folder / "NetKVM/2k19/amd64/netkvm.sys").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "argv, status, word",
    [
        (["--for", "eleven"], 64, "--for eleven"),
        (["--for", "w10", "--server"], 64, "no server"),
        (["--server"], 64, "--server"),
        (["--changes"], 64, "--changes"),
        (["--secure-boot", "no"], 64, "--secure-boot"),
    ],
)
def test_what_makes_no_sense_is_said(
    argv: list[str], status: int, word: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drivers", str(folder), *argv]) == status
    assert word in capsys.readouterr().err


def test_without_a_path_the_usual_places_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("p2v.cli.drivers.find_media", lambda: None)
    assert main(["drivers"]) == 66
    assert "/usr/share/virtio-win" in capsys.readouterr().err


def test_names_on_a_medium_cannot_colour_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = medium(DRIVERS[2:3], releases=("2k19",))
    files = {path.replace("/NetKVM/", "/Net\x1b[31m\n/"): data for path, data in made.files.items()}
    text = said(capsys, str(write_folder(files, tmp_path)), "--for", "2k19")
    assert "\x1b" not in text
    assert "/Net\\x1b[31m" in text
