"""What the steps of the first start run, by Wine: what a batch file makes of its programs' codes; the installer of drivers."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.windows.edits import AddKey, HiveEdit, SetValue
from drivers.windows.firstboot.ghosts import remove_ghosts
from drivers.windows.firstboot.install_drivers import install_drivers
from drivers.windows.firstboot.network import NETWORK_CLASS, set_addresses
from drivers.windows.firstboot.program import INSTALLER, PROGRAMS, REMOVER
from drivers.windows.firstboot.tools import program
from drivers.windows.firstboot.uninstall import uninstall
from drivers.windows.inf_registry import terminated
from drivers.windows.uninstalling import Uninstall
from tests.drivers.windows.test_firstboot_texts import CARD, GHOSTS, PACKAGES, S2019, W7
from tests.drivers.windows.wine import ON_WINE, Wine

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
    command = f"{program('msiexec.exe')} /x {{2A6E1C55-0000-4C5B-8D5B-5E0E0F1A0003}} /qn /norestart"
    (step,) = uninstall([Uninstall("a", "A", command, "native", "k", "A is")], S2019)
    folder = wine.drive / "gone"
    folder.mkdir()
    cases = {1605: 0, 0: 0, 3010: 3010, 1603: 1603}
    assert step.files[0].content.count(command) == 1
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


def test_a_card_is_found_by_its_mac_address_or_as_the_only_one_and_its_connection_in_any_language(wine: Wine) -> None:
    cards = cards_of(wine)
    mac, guid = cards[-1]
    wine.import_registry([each for card in cards for each in connection(card[1], "ROOT\\NET\\0000", "Team")])
    wine.import_registry(connection(guid, "PCI\\VEN_1AF4&DEV_1000\\0", "Verbindung größer als 2"))
    for number, wanted in enumerate((mac.lower(), None)):
        step = set_addresses([replace(CARD, mac=wanted, metric=10 + number)], W7)
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
        assert values[-6:] == ["Domain", "REG_SZ", "branch.example.test", "InterfaceMetric", "REG_DWORD", f"0x{10 + number:x}"]


def test_what_is_no_card_is_not_taken_for_one(wine: Wine) -> None:
    cards = cards_of(wine)
    for instance in ("ROOT\\NET\\0000", "{5d624f94-8850-40c3-a3fa-a4fd2080baf3}\\VWIFIMP\\5", "swd\\msrras\\1"):
        wine.import_registry([each for card in cards for each in connection(card[1], instance, "a")])
        for wanted in (cards[-1][0].lower(), None):
            assert codes(wine, wine.drive / "nocard", [quick(wine, wanted)]) == [1]


def cards_of(wine: Wine) -> list[list[str]]:
    """MAC address and GUID of each card that Wine shows of this host."""
    query = 'GetObject("winmgmts:\\\\.\\root\\cimv2").ExecQuery("SELECT * FROM Win32_NetworkAdapterConfiguration")'
    listing = f'For Each card In {query}\r\nWScript.Echo card.MACAddress & " " & card.SettingID\r\nNext\r\n'
    (wine.drive / "cards.vbs").write_text(listing, newline="")
    cards = [line.split() for line in wine.run("cscript", "//nologo", "C:\\cards.vbs").splitlines() if "{" in line]
    if not cards:
        pytest.skip("this host has no network card that Wine could show")
    return cards


def connection(guid: str, instance: str, name: str) -> list[HiveEdit]:
    """What makes a card's connection be called so, and its device that."""
    key = f"ControlSet001\\Control\\Network\\{NETWORK_CLASS}\\{guid}\\Connection"
    values = {"Name": name, "PnpInstanceID": instance}
    return [AddKey(key, "t"), *(SetValue(key, each, 1, terminated(text).hex(), None, "t") for each, text in values.items())]


def quick(wine: Wine, mac: str | None) -> str:
    """The command of a step that looks for a card once."""
    step = set_addresses([replace(CARD, mac=mac)], W7)
    assert step is not None
    text = step.files[0].content.replace("For look = 1 To 60", "For look = 1 To 1").replace("Sleep 5000", "Sleep 1")
    assert text != step.files[0].content
    (wine.drive / "quick.vbs").write_text(text, newline="")
    return "cscript //nologo C:\\quick.vbs"


def test_where_no_card_has_the_mac_address_the_step_fails(wine: Wine) -> None:
    assert codes(wine, wine.drive / "nobody", [quick(wine, "52:54:00:de:ad:00")]) == [1]


# Wine tells of no device whether it is present: in its place, those whose instance ends with a zero are gone
PRESENCE = """
#include <windows.h>
#include <cfgmgr32.h>
CMAPI CONFIGRET WINAPI CM_Locate_DevNodeW(PDEVINST node, DEVINSTID_W id, ULONG flags)
{
    (void)node;
    return flags == CM_LOCATE_DEVNODE_NORMAL && id[lstrlenW(id) - 1] == '0' ? CR_NO_SUCH_DEVNODE : CR_SUCCESS;
}
BOOL WINAPI DllMainCRTStartup(HINSTANCE a, DWORD b, void *c) { (void)a; (void)b; (void)c; return TRUE; }
"""
COMPILER = "x86_64-w64-mingw32-gcc"
DEVICES = "ControlSet001\\Enum\\PCI\\VEN_15AD&DEV_07B0"


def device(number: int) -> list[HiveEdit]:
    key = f"{DEVICES}\\{number}"
    return [AddKey(key, "t"), SetValue(key, "ClassGUID", 1, terminated(NETWORK_CLASS).hex(), None, "t")]


def remover(wine: Wine, name: str) -> Path:
    """A folder of drive C with the program."""
    folder = wine.drive / name
    folder.mkdir()
    shutil.copy(PROGRAMS[REMOVER]["x64"].source, folder / "pnpremove.exe")
    return folder


def has_device(wine: Wine, number: int) -> bool:
    found = wine.has_key(f"{DEVICES}\\{number}".replace("ControlSet001", "SYSTEM\\CurrentControlSet"))
    wine.wait_until_off()
    return found


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
def test_a_device_is_removed_where_it_is_gone_and_one_that_is_present_never(wine: Wine) -> None:
    folder = remover(wine, "remover")
    (folder / "presence.c").write_text(PRESENCE)
    flags = ["-shared", "-nostdlib", "-ffreestanding", "-Os"]
    made = [COMPILER, *flags, "-o", str(folder / "cfgmgr32.dll"), str(folder / "presence.c"), "-lkernel32"]
    subprocess.run(made, check=True, capture_output=True)
    own = "HKCU\\Software\\Wine\\AppDefaults\\pnpremove.exe\\DllOverrides"
    wine.run("reg", "add", own, "/v", "cfgmgr32", "/d", "native", "/f")
    wine.import_registry([each for number in (10, 20, 11, 21) for each in device(number)])
    ids = [f'"PCI\\VEN_15AD&DEV_07B0\\{number}"' for number in (11, 10, 21, 20)]
    # one of which nothing is left any more is as good as removed
    calls = [f"pnpremove.exe {' '.join(ids)}", 'pnpremove.exe "PCI\\X\\30"', "pnpremove.exe"]
    try:
        assert codes(wine, folder, calls) == [0, 0, 87]
    finally:
        wine.run("reg", "delete", own, "/f")
        wine.wait_until_off()
    assert [has_device(wine, number) for number in (10, 20, 11, 21)] == [False, False, True, True]


def test_a_device_of_which_nothing_tells_whether_it_is_present_is_left_alone(wine: Wine) -> None:
    wine.import_registry(device(40))
    folder = remover(wine, "untold")
    assert codes(wine, folder, ['pnpremove.exe "PCI\\VEN_15AD&DEV_07B0\\40"']) == [5023]
    assert has_device(wine, 40)


def test_the_removal_of_ghosts_ends_with_what_its_calls_ended_with(wine: Wine) -> None:
    cases = {(0, 0): 0, (3010, 0): 3010, (0, 5023): 5023, (5, 3010): 5}
    step = remove_ghosts(GHOSTS, S2019)
    assert step is not None
    folder = wine.drive / "ghosts"
    folder.mkdir()
    for number, case in enumerate(cases):
        text = step.files[0].content
        for instance, code in zip(GHOSTS, case, strict=True):
            call = f'"%P2V_FOLDER%\\pnpremove.exe" "{instance}"'
            assert text.count(call) == 1
            text = text.replace(call, f"cmd /d /c exit {code}")
        (folder / f"case{number}.cmd").write_text(text, newline="")
    commands = [f"cmd /d /c .\\case{number}.cmd" for number in range(len(cases))]
    assert codes(wine, folder, commands) == list(cases.values())


@pytest.fixture(autouse=True)
def _is_off(wine: Wine) -> None:
    """No service of another test runs beside these."""
    wine.wait_until_off()
