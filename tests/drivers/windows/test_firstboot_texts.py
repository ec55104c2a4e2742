"""The texts that a Windows guest runs at its first start, letter by letter: what is handed to its own programs must be exact."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.windows.firstboot.ghosts import can_remove, remove_ghosts
from drivers.windows.firstboot.install_drivers import install_drivers, unsuitable
from drivers.windows.firstboot.network import set_addresses
from drivers.windows.firstboot.program import INSTALLER, REMOVER
from drivers.windows.firstboot.steps import Step, batch, step_list
from drivers.windows.firstboot.tools import GuestTools, tools_of
from drivers.windows.firstboot.uninstall import uninstall
from drivers.windows.network_facts import Gateway
from drivers.windows.network_setup import CardSettings
from drivers.windows.uninstalling import Uninstall
from tests.drivers.windows.guest_facts import facts

SYSTEM32 = "%SystemRoot%\\System32"
W2000 = GuestTools("x86", SYSTEM32, (5, 0), 2195)
XP = GuestTools("x86", SYSTEM32, (5, 1), 2600)
S2008 = GuestTools("x64", SYSTEM32, (6, 0), 6001)
W7 = GuestTools("x64", SYSTEM32, (6, 1), 7601)
W8 = GuestTools("x64", SYSTEM32, (6, 2), 9200)
S2019 = GuestTools("x64", SYSTEM32, (10, 0), 17763)
ARM64 = GuestTools("x86", "%SystemRoot%\\Sysnative", (10, 0), 22621)

VIOSTOR = "%SystemRoot%\\Drivers\\VirtIO\\viostor\\viostor.inf"
NETKVM = "%SystemRoot%\\Drivers\\VirtIO\\netkvm\\netkvm.inf"
PACKAGES = {VIOSTOR: ("PCI\\VEN_1AF4&DEV_1001", "PCI\\VEN_1AF4&DEV_1042"), NETKVM: ("PCI\\VEN_1AF4&DEV_1000",)}
MAC = "52:54:00:12:34:56"
CARD = CardSettings(
    MAC,
    False,
    ("192.168.40.21/24", "192.168.40.22/25"),
    (Gateway("192.168.40.1", 5), Gateway("192.168.40.9")),
    ("192.168.40.2", "192.168.40.3"),
    "branch.example.test",
    10,
)


def lines(step: Step | None) -> list[str]:
    """The lines of a step's only file, each of which ends as Windows has it."""
    assert step is not None
    (file,) = step.files
    assert file.content.isascii()
    assert file.content.endswith("\r\n")
    found = file.content.split("\r\n")[:-1]
    assert not any("\n" in line for line in found)
    return found


ENDED = [
    ":ended",
    "set code=%errorlevel%",
    "echo %~1: %code%",
    "if %code%==0 goto :eof",
    "if %code%==259 goto :eof",
    "if %code%==3010 set restart=3010",
    "if %code%==3010 goto :eof",
    "if %code%==1641 set restart=3010",
    "if %code%==1641 goto :eof",
    "set worst=%code%",
]


@pytest.mark.parametrize(
    "tools, viostor, netkvm",
    [
        (
            S2019,
            f'"{SYSTEM32}\\pnputil.exe" /add-driver "{VIOSTOR}" /install',
            f'"{SYSTEM32}\\pnputil.exe" /add-driver "{NETKVM}" /install',
        ),
        (
            ARM64,
            f'"{SYSTEM32}\\pnputil.exe" /add-driver "{VIOSTOR}" /install',
            f'"{SYSTEM32}\\pnputil.exe" /add-driver "{NETKVM}" /install',
        ),
        (W7, f'"{SYSTEM32}\\pnputil.exe" -i -a "{VIOSTOR}"', f'"{SYSTEM32}\\pnputil.exe" -i -a "{NETKVM}"'),
        (S2008, f'"{SYSTEM32}\\pnputil.exe" -i -a "{VIOSTOR}"', f'"{SYSTEM32}\\pnputil.exe" -i -a "{NETKVM}"'),
        (
            XP,
            f'"%P2V_FOLDER%\\pnpinstall.exe" "{VIOSTOR}" "PCI\\VEN_1AF4&DEV_1001" "PCI\\VEN_1AF4&DEV_1042"',
            f'"%P2V_FOLDER%\\pnpinstall.exe" "{NETKVM}" "PCI\\VEN_1AF4&DEV_1000"',
        ),
    ],
)
def test_drivers_are_installed_by_what_the_windows_has_for_it(tools: GuestTools, viostor: str, netkvm: str) -> None:
    step = install_drivers(PACKAGES, tools)
    assert lines(step) == [
        "@echo off", "set worst=0", "set restart=0",
        viostor, f'call :ended "{VIOSTOR}"',
        netkvm, f'call :ended "{NETKVM}"',
        "if not %worst%==0 exit %worst%", "exit %restart%", *ENDED,
    ]  # fmt: skip
    assert step is not None
    assert step.command == f'"{tools.folder}\\cmd.exe" /d /c .\\drivers.cmd'
    assert step.programs == ((INSTALLER,) if tools is XP else ())


def test_the_last_build_before_the_new_options_gets_the_old_ones() -> None:
    assert "-i -a" in lines(install_drivers(PACKAGES, replace(S2019, build=14392)))[3]
    assert "/add-driver" in lines(install_drivers(PACKAGES, replace(S2019, build=14393)))[3]


@pytest.mark.parametrize("path", ['%SystemRoot%\\a"b.inf', "%SystemRoot%\\50%.inf", "%SystemRoot%\\größer.inf", "C:\\a.inf"])
def test_what_cannot_stand_in_a_batch_file_is_left_out_and_told(path: str) -> None:
    assert unsuitable({path: (), **PACKAGES}) == (path,)
    assert path not in "".join(lines(install_drivers({path: (), **PACKAGES}, S2019)))
    assert install_drivers({path: ()}, S2019) is None
    assert unsuitable({VIOSTOR: ('PCI\\"&del',)}) == (VIOSTOR,)


FIND_CARD = [
    "$ErrorActionPreference = 'Stop'",
    "function Find-Card([string]$Mac) {",
    "    for ($look = 0; $look -lt 60; $look++) {",
    "        $cards = @(Get-NetAdapter -Physical -ErrorAction SilentlyContinue)",
    "        $found = @($cards | Where-Object { !$Mac -or $_.MacAddress -eq $Mac })",
    "        if ($found.Count -eq 1) { return $found[0].ifIndex }",
    "        Start-Sleep -Seconds 5",
    "    }",
    '    throw "there is not exactly one network card $Mac"',
    "}",
    "try {",
]
FORGET = [
    "    Get-NetRoute -InterfaceIndex $card -DestinationPrefix '0.0.0.0/0' -ErrorAction SilentlyContinue"
    " | Remove-NetRoute -Confirm:$false",
    "    Get-NetIPAddress -InterfaceIndex $card -AddressFamily IPv4 -ErrorAction SilentlyContinue"
    " | Remove-NetIPAddress -Confirm:$false",
]
CAUGHT = ["} catch {", "    Write-Output $_", "    exit 1", "}", "exit 0"]


@pytest.mark.parametrize("tools", [W8, S2019, ARM64])
def test_addresses_by_cmdlets(tools: GuestTools) -> None:
    step = set_addresses([CARD], tools)
    assert lines(step) == [
        *FIND_CARD,
        "    $card = Find-Card '52-54-00-12-34-56'",
        *FORGET,
        "    Set-NetIPInterface -InterfaceIndex $card -AddressFamily IPv4 -Dhcp Disabled",
        "    New-NetIPAddress -InterfaceIndex $card -IPAddress '192.168.40.21' -PrefixLength 24 | Out-Null",
        "    New-NetIPAddress -InterfaceIndex $card -IPAddress '192.168.40.22' -PrefixLength 25 | Out-Null",
        "    New-NetRoute -InterfaceIndex $card -DestinationPrefix '0.0.0.0/0' -NextHop '192.168.40.1' -RouteMetric 5 | Out-Null",
        "    New-NetRoute -InterfaceIndex $card -DestinationPrefix '0.0.0.0/0' -NextHop '192.168.40.9' | Out-Null",
        "    Set-NetIPInterface -InterfaceIndex $card -AddressFamily IPv4 -InterfaceMetric 10",
        "    Set-DnsClientServerAddress -InterfaceIndex $card -ServerAddresses '192.168.40.2','192.168.40.3'",
        "    Set-DnsClient -InterfaceIndex $card -ConnectionSpecificSuffix 'branch.example.test'",
        *CAUGHT,
    ]
    assert step is not None
    assert step.command == (
        f'"{tools.folder}\\WindowsPowerShell\\v1.0\\powershell.exe" -NoProfile -NonInteractive -Command '
        "\"& ([ScriptBlock]::Create([IO.File]::ReadAllText($env:P2V_FOLDER + '\\network.ps1')))\""
    )


def test_dhcp_by_cmdlets() -> None:
    assert lines(set_addresses([CardSettings(MAC, True)], S2019)) == [
        *FIND_CARD,
        "    $card = Find-Card '52-54-00-12-34-56'",
        *FORGET,
        "    Set-NetIPInterface -InterfaceIndex $card -AddressFamily IPv4 -Dhcp Enabled",
        *CAUGHT,
    ]


NETSH = f'    Run """{SYSTEM32}\\netsh.exe"" interface ip '
NAME = 'name=""" & name & """'
INTERFACES = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters\\Interfaces\\"
CLASS = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
CONNECTION = f'shell.RegRead("HKLM\\SYSTEM\\CurrentControlSet\\Control\\Network\\{CLASS}\\" & card.SettingID & '
FIND = [
    "Function Find(mac)",
    "    Dim look, cards, card, found, title, device, query",
    "    Find = False",
    '    query = "SELECT * FROM Win32_NetworkAdapterConfiguration WHERE MACAddress IS NOT NULL"',
    "    If mac <> \"\" Then query = query & \" AND MACAddress = '\" & mac & \"'\"",
    "    On Error Resume Next",
    "    For look = 1 To 60",
    "        found = 0",
    '        Set cards = GetObject("winmgmts:\\\\.\\root\\cimv2").ExecQuery(query)',
    "        For Each card In cards",
    "            ' filters above a card have its address and no connection",
    '            title = ""',
    f'            title = {CONNECTION}"\\Connection\\Name")',
    '            device = ""',
    f'            device = {CONNECTION}"\\Connection\\PnpInstanceID")',
    '            If title <> "" And Not IsOfSoftware(device) Then',
    "                found = found + 1",
    "                name = title",
    "                guid = card.SettingID",
    "            End If",
    "        Next",
    "        If found = 1 Then",
    "            Find = True",
    "            Exit Function",
    "        End If",
    "        WScript.Sleep 5000",
    "    Next",
    "End Function",
    "' teams, tunnels and the like are no cards",
    "Function IsOfSoftware(device)",
    "    Dim enumerator, top",
    '    enumerator = UCase(device) & "\\"',
    '    top = Left(enumerator, InStr(enumerator, "\\") - 1)',
    '    IsOfSoftware = Left(top, 1) = "{" Or (top <> "" And '
    'InStr("|BTH|COMPOSITEBUS|HTREE|MS_NDISWANIP|ROOT|SW|SWD|", "|" & top & "|") > 0)',
    "End Function",
    "Sub Run(command)",
    "    Dim code",
    "    code = shell.Run(command, 0, True)",
    '    WScript.Echo code & ": " & command',
    "    If code <> 0 Then failed = 1",
    "End Sub",
]


@pytest.mark.parametrize("tools, unasked", [(W2000, ""), (XP, ""), (S2008, ""), (W7, " validate=no")])
def test_addresses_by_netsh(tools: GuestTools, unasked: str) -> None:
    step = set_addresses([CARD], tools)
    assert lines(step) == [
        "Option Explicit",
        "Dim shell, failed, guid, name",
        'Set shell = CreateObject("WScript.Shell")',
        "failed = 0",
        'If Find("52:54:00:12:34:56") Then',
        f'{NETSH}set address {NAME} source=static addr=192.168.40.21 mask=255.255.255.0 gateway=192.168.40.1 gwmetric=5"',
        f'{NETSH}add address {NAME} addr=192.168.40.22 mask=255.255.255.128"',
        f'{NETSH}add address {NAME} gateway=192.168.40.9 gwmetric=1"',
        f'{NETSH}set dns {NAME} source=static addr=192.168.40.2{unasked}"',
        f'{NETSH}add dns {NAME} addr=192.168.40.3 index=2{unasked}"',
        f'    shell.RegWrite "{INTERFACES}" & guid & "\\InterfaceMetric", 10, "REG_DWORD"',
        f'    shell.RegWrite "{INTERFACES}" & guid & "\\Domain", "branch.example.test", "REG_SZ"',
        "Else",
        '    WScript.Echo "there is not exactly one network card 52:54:00:12:34:56"',
        "    failed = 1",
        "End If",
        "WScript.Quit failed",
        *FIND,
    ]
    assert step is not None
    assert step.command == f'"{SYSTEM32}\\cscript.exe" //nologo "%P2V_FOLDER%\\network.vbs"'


def test_netsh_without_a_gateway_and_for_dhcp() -> None:
    one = CardSettings(MAC, False, ("10.0.0.1/8",))
    assert f'{NETSH}set address {NAME} source=static addr=10.0.0.1 mask=255.0.0.0 gateway=none"' in lines(set_addresses([one], XP))
    assert f'{NETSH}set address {NAME} source=dhcp"' in lines(set_addresses([CardSettings(MAC, True)], XP))


def test_only_card_is_found_without_a_mac_address() -> None:
    only = replace(CARD, mac=None)
    assert "    $card = Find-Card ''" in lines(set_addresses([only], S2019))
    assert 'If Find("") Then' in lines(set_addresses([only], XP))


def test_servers_of_a_card_without_addresses_leave_its_addresses_as_they_are() -> None:
    servers = CardSettings(MAC, False, dns=("10.0.0.2",))
    by_cmdlets, by_netsh = lines(set_addresses([servers], S2019)), lines(set_addresses([servers], XP))
    assert not any("Remove-NetIPAddress" in line or "-Dhcp" in line for line in by_cmdlets)
    assert not any("address name=" in line for line in by_netsh)
    assert f'{NETSH}set dns {NAME} source=static addr=10.0.0.2"' in by_netsh


@pytest.mark.parametrize(
    "odd",
    [
        {"mac": "52:54:00:12:34:5'"}, {"mac": ""}, {"suffix": "a' ; b"}, {"suffix": "a\r\nb"}, {"addresses": ("1.2.3.4'; calc",)},
        {"gateways": (Gateway("'; calc"),)}, {"dns": ("nowhere",)},
    ],
)  # fmt: skip
@pytest.mark.parametrize("tools", [XP, S2019])
def test_what_could_end_a_string_never_gets_into_a_script(odd: dict[str, object], tools: GuestTools) -> None:
    with pytest.raises(ValueError, match=r"MAC|suffix|'"):
        set_addresses([replace(CARD, **odd)], tools)  # type: ignore[arg-type]


GHOSTS = ("PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\4&3b1d9ab8&0&0088", "XENVIF\\VEN_XS0001&DEV_NET\\0")


def test_ghosts_are_removed_by_pnputil_where_it_can_and_never_one_that_is_present() -> None:
    for tools in (replace(S2019, build=19041), ARM64):
        step = remove_ghosts(GHOSTS, tools)
        assert lines(step) == [
            "$failed = 0",
            "$restart = 0",
            "$devices = @(Get-PnpDevice -ErrorAction SilentlyContinue)",
            "foreach ($id in @(",
            f"    '{GHOSTS[0]}',",
            f"    '{GHOSTS[1]}'",
            ")) {",
            "    $device = $devices | Where-Object { $_.InstanceId -eq $id }",
            "    if (!$device) { continue }",
            '    if ($device.Present -ne $false) { Write-Output "${id}: present, left alone"; continue }',
            '    & "$env:SystemRoot\\System32\\pnputil.exe" /remove-device $id',
            "    if ($LASTEXITCODE -eq 3010 -or $LASTEXITCODE -eq 1641) { $restart = 3010 }",
            "    elseif ($LASTEXITCODE -ne 0) { $failed = $LASTEXITCODE }",
            "}",
            "if ($failed -ne 0) { exit $failed }",
            "exit $restart",
        ]
        assert step is not None
        assert step.programs == ()
        assert step.command.startswith(f'"{tools.folder}\\WindowsPowerShell')


@pytest.mark.parametrize("tools", [W2000, XP, S2008, W7, W8, S2019, replace(S2019, build=19040)])
def test_ghosts_are_removed_by_a_program_of_our_own_before(tools: GuestTools) -> None:
    step = remove_ghosts(GHOSTS, tools)
    assert lines(step) == [
        "@echo off", "set worst=0", "set restart=0",
        f'"%P2V_FOLDER%\\pnpremove.exe" "{GHOSTS[0]}"', "call :ended",
        f'"%P2V_FOLDER%\\pnpremove.exe" "{GHOSTS[1]}"', "call :ended",
        "if not %worst%==0 exit %worst%", "exit %restart%",
        ":ended", "set code=%errorlevel%", "if %code%==0 goto :eof",
        "if %code%==3010 set restart=3010", "if %code%==3010 goto :eof", "set worst=%code%",
    ]  # fmt: skip
    assert step is not None
    assert (step.programs, step.command) == ((REMOVER,), f'"{SYSTEM32}\\cmd.exe" /d /c .\\ghosts.cmd')


def test_ghosts_stay_where_nothing_can_remove_them() -> None:
    early = replace(ARM64, build=18363)
    assert (can_remove(early), remove_ghosts(GHOSTS, early)) == (False, None)
    assert remove_ghosts((), S2019) is None


@pytest.mark.parametrize("odd", ["PCI\\A'\\1", 'PCI\\A\\"1', "PCI\\A\\%X%", "PCI\\A\\1\r\n", "PCI\\A $x\\1", "PCI\\A"])
@pytest.mark.parametrize("tools", [XP, ARM64])
def test_device_whose_id_could_end_a_string_never_gets_into_a_script(odd: str, tools: GuestTools) -> None:
    with pytest.raises(ValueError, match="no instance"):
        remove_ghosts((*GHOSTS, odd), tools)


def test_programs_are_uninstalled_each_by_a_step_of_its_own() -> None:
    msiexec = f'"{SYSTEM32}\\msiexec.exe" /x {{2A6E1C55-0000-4C5B-8D5B-5E0E0F1A0003}} /qn'
    programs = [
        Uninstall("a", "A", '"C:\\a (x86)\\uninst.exe" /S', "native", "k", "A is"),
        Uninstall("b", "B", msiexec, "32-bit", "k", "B is"),
    ]
    steps = uninstall(programs, S2019)
    ended = ["if %errorlevel%==1605 exit 0", "exit %errorlevel%"]
    assert [lines(step) for step in steps] == [
        ["@echo off", '"C:\\a (x86)\\uninst.exe" /S', *ended],
        ["@echo off", msiexec, *ended],
    ]
    assert [(step.name, step.why) for step in steps] == [("uninstall-1", "A is"), ("uninstall-2", "B is")]
    assert steps[0].command == f'"{SYSTEM32}\\cmd.exe" /d /c .\\uninstall-1.cmd'


def test_the_list_of_steps() -> None:
    steps = [Step("drivers", 480, 3, f'"{SYSTEM32}\\cmd.exe" /d /c .\\drivers.cmd', "why\r\nnot"), Step("b", 1, 1, "größer", "x")]
    assert step_list(steps, 10, 2) == (
        "p2v-firstboot-1 10 2 starts and restarts at most; then name, seconds, tries, command\r\n"
        "# why  not\r\n"
        'drivers 480 3 "%SystemRoot%\\System32\\cmd.exe" /d /c .\\drivers.cmd\r\n'
        "# x\r\n"
        "b 1 1 größer\r\n"
    )


@pytest.mark.parametrize(
    "steps",
    [
        [Step("No", 1, 1, "x", "")],
        [Step("a" * 32, 1, 1, "x", "")],
        [Step("a", 0, 1, "x", "")],
        [Step("a", 1, 1_000_000, "x", "")],
        [Step("a", 1, 1, "", "")],
        [Step("a", 1, 1, "x\ny", "")],
        [Step("a", 1, 1, "x" * 1001, "")],
        [Step("a", 1, 1, "x", "")] * 2,
        [Step(f"s{number}", 1, 1, "x", "") for number in range(32)],
        [Step(f"s{number}", 1, 1, "ß" * 900, "") for number in range(20)],
    ],
)
def test_a_list_that_the_program_would_not_read_is_not_written(steps: list[Step]) -> None:
    with pytest.raises(ValueError, match=r"list of steps|no name|no command|too many"):
        step_list(steps, 10, 2)


def test_a_batch_file_says_nothing_but_what_its_programs_say() -> None:
    assert batch("exit 0") == "@echo off\r\nexit 0\r\n"


@pytest.mark.parametrize(
    "arch, program, folder",
    [("i386", "x86", "System32"), ("x86_64", "x64", "System32"), ("aarch64", "x86", "Sysnative"), ("alpha", None, "")],
)
def test_each_processor_has_its_program(arch: str, program: str | None, folder: str) -> None:
    tools = tools_of(replace(facts({}), arch=arch))
    assert (tools.program if tools else None) == program
    assert tools is None or tools.command("cmd.exe") == f'"%SystemRoot%\\{folder}\\cmd.exe"'


def test_nt_4_has_no_first_start() -> None:
    assert tools_of(facts({}, version=(4, 0), arch="i386")) is None
    assert tools_of(facts({}, version=(5, 0), arch="i386")) is not None
