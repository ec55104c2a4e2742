"""What the steps of the first start run, by Wine: what a batch file makes of its programs' codes; the installer of drivers."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.windows.edits import AddKey, SetValue
from drivers.windows.firstboot.addresses import NETWORK_CLASS
from drivers.windows.firstboot.install_drivers import install_drivers
from drivers.windows.firstboot.leftovers import uninstall
from drivers.windows.firstboot.network import set_addresses
from drivers.windows.firstboot.program import INSTALLER, PROGRAMS
from drivers.windows.firstboot.tools import program
from drivers.windows.inf_registry import terminated
from tests.drivers.windows.test_firstboot_texts import CARD, LIST, PACKAGES, PRODUCT, S2019, W7, facts
from tests.drivers.windows.wine import ON_WINE, Wine
from tests.fixtures.hives import sz

pytestmark = ON_WINE

INF = """[Version]
Signature="$WINDOWS NT$"
Class=Net
ClassGuid={4d36e972-e325-11ce-bfc1-08002be10318}
Provider=%P%
DriverVer=01/01/2020,1.0.0.0
[Manufacturer]
%P%=Models
[Models]
%P%=Install,PCI\\VEN_1AF4&DEV_1000
[Install]
[Strings]
P="nobody"
"""


def codes(wine: Wine, folder: Path, commands: list[str]) -> list[int]:
    """What command lines end with, run one after the other in a folder of drive C by the command interpreter."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["@echo off", f"cd /d C:\\{folder.name}"]
    for command in commands:
        lines += [command, "echo code=%errorlevel%"]
    (folder / "all.cmd").write_text("".join(f"{line}\r\n" for line in lines), newline="")
    # it ends with the last of them
    said = wine.run("cmd", "/d", "/c", f"C:\\{folder.name}\\all.cmd", check=False)
    wine.wait_until_off()
    return [int(line[5:]) for line in said.splitlines() if line.startswith("code=")]


def test_the_installation_of_drivers_ends_with_what_its_packages_ended_with(wine: Wine) -> None:
    cases = {(0, 0): 0, (0, 259): 0, (3010, 0): 3010, (259, 1641): 3010, (2, 0): 2, (0, 5): 5, (3010, 2): 2, (2, 3010): 2}
    step = install_drivers(PACKAGES, S2019)
    assert step is not None
    folder = wine.drive / "codes"
    folder.mkdir()
    commands = []
    for number, case in enumerate(cases):
        text = step.files[0].content
        for path, code in zip(PACKAGES, case, strict=True):
            pnputil = f'{program("pnputil.exe")} /add-driver "{path}" /install'
            assert text.count(pnputil) == 1
            text = text.replace(pnputil, f"cmd /d /c exit {code}")
        (folder / f"case{number}.cmd").write_text(text, newline="")
        commands.append(f"cmd /d /c .\\case{number}.cmd")
    assert codes(wine, folder, commands) == list(cases.values())


def test_an_uninstaller_that_finds_nothing_to_do_has_done_it(wine: Wine) -> None:
    (step,) = uninstall(facts(software={f"{LIST}\\{PRODUCT}": {"DisplayName": sz("Nutanix Guest Tools")}}), S2019)
    folder = wine.drive / "gone"
    folder.mkdir()
    cases = {1605: 0, 0: 0, 3010: 3010, 1603: 1603}
    command = step.files[0].content.split("\r\n")[1]
    assert command.startswith(program("msiexec.exe"))
    for code in cases:
        text = step.files[0].content.replace(command, f"cmd /d /c exit {code}")
        (folder / f"case{code}.cmd").write_text(text, newline="")
    # and as it is: Wine's installer knows no such product
    (folder / "real.cmd").write_text(step.files[0].content, newline="")
    commands = [f"cmd /d /c .\\case{code}.cmd" for code in cases]
    assert codes(wine, folder, [*commands, "cmd /d /c .\\real.cmd"]) == [*cases.values(), 0]


def test_the_installer_puts_a_driver_where_plug_and_play_finds_it(wine: Wine) -> None:
    folder = wine.drive / "drivers and more"
    folder.mkdir()
    shutil.copy(PROGRAMS[INSTALLER]["x64"].source, folder / "pnpinstall.exe")
    (folder / "net.inf").write_text(INF.replace("\n", "\r\n"), newline="")
    place = f"C:\\{folder.name}"
    device = '"PCI\\VEN_1AF4&DEV_1000"'
    found = codes(wine, folder, [
        f'pnpinstall.exe "{place}\\net.inf" {device}',
        f'pnpinstall.exe "{place}\\absent.inf" {device}',
        f'pnpinstall.exe "{place}\\net.inf"',
    ])  # fmt: skip
    # no such device is in Wine, which is no error; no such file (2) is one, and so is a call without a device (87)
    assert found == [0, 2, 87]
    # Windows calls the copy oemN.inf, Wine as it was called
    copies = [path for path in (wine.drive / "windows/inf").glob("*.inf") if path.read_text(errors="replace") == INF]
    assert len(copies) == 1


def test_a_card_is_found_by_its_mac_address_and_its_connection_in_any_language(wine: Wine) -> None:
    query = 'GetObject("winmgmts:\\\\.\\root\\cimv2").ExecQuery("SELECT * FROM Win32_NetworkAdapterConfiguration")'
    listing = f'For Each card In {query}\r\nWScript.Echo card.MACAddress & " " & card.SettingID\r\nNext\r\n'
    (wine.drive / "cards.vbs").write_text(listing, newline="")
    cards = [line.split() for line in wine.run("cscript", "//nologo", "C:\\cards.vbs").splitlines() if "{" in line]
    if not cards:
        pytest.skip("this host has no network card that Wine could show")
    mac, guid = cards[-1]
    connection = f"ControlSet001\\Control\\Network\\{NETWORK_CLASS.upper()}\\{guid}\\Connection"
    name = SetValue(connection, "Name", 1, terminated("Verbindung größer als 2").hex(), None, "t")
    wine.import_registry([AddKey(connection, "t"), name])
    step = set_addresses([replace(CARD, mac=mac.lower())], W7)
    assert step is not None
    (wine.drive / "network.vbs").write_text(step.files[0].content, newline="")
    said = wine.run("cscript", "//nologo", "C:\\network.vbs").splitlines()
    # code page 1252 or another one, which no matter
    told = [re.sub("name=\"Verbindung gr.* als 2\" ", "", line) for line in said]
    netsh = '0: "%SystemRoot%\\System32\\netsh.exe" interface ip'
    assert told == [
        f"{netsh} set address source=static addr=192.168.40.21 mask=255.255.255.0 gateway=192.168.40.1 gwmetric=5",
        f"{netsh} add address addr=192.168.40.22 mask=255.255.255.128",
        f"{netsh} add address gateway=192.168.40.9 gwmetric=1",
        f"{netsh} set dns source=static addr=192.168.40.2 validate=no",
        f"{netsh} add dns addr=192.168.40.3 index=2 validate=no",
    ]
    interface = f"HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters\\Interfaces\\{guid}"
    values = wine.run("reg", "query", interface).split()
    assert values[-6:] == ["Domain", "REG_SZ", "branch.example.test", "InterfaceMetric", "REG_DWORD", "0xa"]


def test_where_no_card_has_the_mac_address_the_step_fails(wine: Wine) -> None:
    step = set_addresses([replace(CARD, mac="52:54:00:de:ad:00")], W7)
    assert step is not None
    text = step.files[0].content.replace("For look = 1 To 60", "For look = 1 To 1").replace("Sleep 5000", "Sleep 1")
    assert text != step.files[0].content
    (wine.drive / "nobody").mkdir()
    (wine.drive / "nobody/network.vbs").write_text(text, newline="")
    assert codes(wine, wine.drive / "nobody", ["cscript //nologo network.vbs"]) == [1]


@pytest.fixture(autouse=True)
def _is_off(wine: Wine) -> None:
    """No service of another test runs beside these."""
    wine.wait_until_off()
