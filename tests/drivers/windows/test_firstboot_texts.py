"""The texts that a Windows guest runs at its first start, letter by letter: what is handed to its own programs must be exact."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from drivers.plan import Addressing
from drivers.windows.facts import SOFTWARE, SYSTEM, ControlSets, HiveFile, RegistryValue, WindowsFacts, WindowsVersion
from drivers.windows.firstboot.addresses import CardAddresses, Gateway, plan_cards
from drivers.windows.firstboot.install_drivers import install_drivers, unsuitable
from drivers.windows.firstboot.leftovers import uninstall
from drivers.windows.firstboot.network import set_addresses
from drivers.windows.firstboot.online_disks import bring_online
from drivers.windows.firstboot.program import INSTALLER
from drivers.windows.firstboot.steps import Step, batch, step_list
from drivers.windows.firstboot.tools import GuestTools, tools_of
from tests.fixtures.hives import Data, Tree, dword, expand_sz, multi_sz, sz

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
CARD = CardAddresses(
    MAC,
    (IPv4Interface("192.168.40.21/24"), IPv4Interface("192.168.40.22/25")),
    (Gateway("192.168.40.1", 5), Gateway("192.168.40.9")),
    ("192.168.40.2", "192.168.40.3"),
    10,
    "branch.example.test",
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


def facts(system: Tree | None = None, software: Tree | None = None, *, version: tuple[int, int] = (10, 0)) -> WindowsFacts:
    def hive(name: str, tree: Tree) -> HiveFile:
        keys = {path: tuple(_value(*value) for value in values.items()) for path, values in tree.items()}
        return HiveFile(f"/Windows/System32/config/{name}", 1, "", "clean", keys=keys)

    hives = {SYSTEM: hive(SYSTEM, system or {}), SOFTWARE: hive(SOFTWARE, software or {})}
    return WindowsFacts("/Windows", WindowsVersion(*version, 17763), "x86_64", ControlSets(2, 2, 0, 1, (1, 2)), hives)


def _value(name: str, data: Data) -> RegistryValue:
    return RegistryValue(name, data.type, data.data.hex())


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


def test_nt_4_has_nothing_to_install_with() -> None:
    assert install_drivers(PACKAGES, replace(XP, version=(4, 0))) is None
    assert set_addresses([CARD], replace(XP, version=(4, 0))) is None


FIND_CARD = [
    "$ErrorActionPreference = 'Stop'",
    "function Find-Card([string]$Mac) {",
    "    for ($look = 0; $look -lt 60; $look++) {",
    "        $found = @(Get-NetAdapter -ErrorAction SilentlyContinue | Where-Object { $_.MacAddress -eq $Mac })",
    "        if ($found.Count -eq 1) { return $found[0].ifIndex }",
    "        Start-Sleep -Seconds 5",
    "    }",
    '    throw "no network card, or more than one, has the address $Mac"',
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
    assert lines(set_addresses([CardAddresses(MAC)], S2019)) == [
        *FIND_CARD,
        "    $card = Find-Card '52-54-00-12-34-56'",
        *FORGET,
        "    Set-NetIPInterface -InterfaceIndex $card -AddressFamily IPv4 -Dhcp Enabled",
        *CAUGHT,
    ]


NETSH = f'    Run """{SYSTEM32}\\netsh.exe"" interface ip '
NAME = 'name=""" & name & """'
INTERFACES = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters\\Interfaces\\"
FIND = [
    "Function Find(mac)",
    "    Dim look, cards, card",
    "    Find = False",
    "    On Error Resume Next",
    "    For look = 1 To 60",
    '        Set cards = GetObject("winmgmts:\\\\.\\root\\cimv2").ExecQuery( _',
    "            \"SELECT * FROM Win32_NetworkAdapterConfiguration WHERE MACAddress = '\" & mac & \"'\")",
    "        For Each card In cards",
    "            ' filters above a card have its address and no connection",
    '            name = ""',
    "            guid = card.SettingID",
    '            name = shell.RegRead("HKLM\\SYSTEM\\CurrentControlSet\\Control\\Network\\'
    '{4D36E972-E325-11CE-BFC1-08002BE10318}\\" & guid & "\\Connection\\Name")',
    '            If name <> "" Then',
    "                Find = True",
    "                Exit Function",
    "            End If",
    "        Next",
    "        WScript.Sleep 5000",
    "    Next",
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
        '    WScript.Echo "no network card has the address 52:54:00:12:34:56"',
        "    failed = 1",
        "End If",
        "WScript.Quit failed",
        *FIND,
    ]
    assert step is not None
    assert step.command == f'"{SYSTEM32}\\cscript.exe" //nologo "%P2V_FOLDER%\\network.vbs"'


def test_netsh_without_a_gateway_and_for_dhcp() -> None:
    one = CardAddresses(MAC, (IPv4Interface("10.0.0.1/8"),))
    assert f'{NETSH}set address {NAME} source=static addr=10.0.0.1 mask=255.0.0.0 gateway=none"' in lines(set_addresses([one], XP))
    assert f'{NETSH}set address {NAME} source=dhcp"' in lines(set_addresses([CardAddresses(MAC)], XP))


def test_data_disks_by_cmdlets_only_where_the_policy_keeps_them() -> None:
    step, said = bring_online(2, facts(), S2019)
    assert lines(step) == [
        "$ErrorActionPreference = 'Stop'",
        "try {",
        "    foreach ($disk in @(Get-Disk | Where-Object { $_.IsOffline -and $_.OfflineReason -eq 'Policy' })) {",
        '        Write-Output "disk $($disk.Number): $($disk.FriendlyName)"',
        "        Set-Disk -Number $disk.Number -IsOffline $false",
        "        Set-Disk -Number $disk.Number -IsReadOnly $false",
        "    }",
        *CAUGHT,
    ]
    assert said == ()


def test_data_disks_by_diskpart() -> None:
    step, _ = bring_online(2, facts(), W7)
    disk = ["online disk noerr", "attributes disk clear readonly noerr"]
    assert lines(step) == ["rescan", "select disk 0", *disk, "select disk 1", *disk]
    assert step is not None
    assert step.command == f'"{SYSTEM32}\\diskpart.exe" /s "%P2V_FOLDER%\\disks.txt"'


def test_no_step_for_one_disk_for_old_systems_and_for_clusters() -> None:
    assert bring_online(1, facts(), S2019) == (None, ())
    assert bring_online(2, facts(), XP) == (None, ())
    clustered = {"ControlSet002\\Services\\ClusSvc": {"Start": dword(2)}}
    step, said = bring_online(2, facts(clustered), S2019)
    assert (step, [finding.id for finding in said]) == (None, ["windows.cluster-disks"])
    disabled = {"ControlSet002\\Services\\ClusSvc": {"Start": dword(4)}}
    assert bring_online(2, facts(disabled), S2019)[0] is not None


LIST = "Microsoft\\Windows\\CurrentVersion\\Uninstall"
PRODUCT = "{2A6E1C55-0000-4C5B-8D5B-5E0E0F1A0003}"
UNINSTALLED = ["if %errorlevel%==1605 exit 0", "exit %errorlevel%"]


def test_tools_that_can_be_uninstalled_anywhere_are() -> None:
    programs = "C:\\Program Files\\Oracle\\VirtualBox Guest Additions\\uninst.exe"
    additions, agent = "Oracle VM VirtualBox Guest Additions 6.1.50", "Citrix Hypervisor Windows Management Agent"
    software: Tree = {
        f"{LIST}\\Oracle VM VirtualBox Guest Additions": {"DisplayName": sz(additions), "UninstallString": sz(programs)},
        f"{LIST}\\{PRODUCT}": {"DisplayName": sz("Parallels Tools"), "UninstallString": expand_sz(f"MsiExec.exe /I{PRODUCT}")},
        f"Wow6432Node\\{LIST}\\{PRODUCT[:-2]}4}}": {"DisplayName": sz(agent)},
    }
    steps = uninstall(facts(software=software), S2019)
    msiexec = f'"{SYSTEM32}\\msiexec.exe" /x'
    quiet = "/qn /norestart REBOOT=ReallySuppress"
    assert [lines(step) for step in steps] == [
        ["@echo off", f'"{programs}" /S', *UNINSTALLED],
        ["@echo off", f"{msiexec} {PRODUCT} {quiet} REMOVE=ALL PREVENT_REBOOT=Yes LAUNCHED_BY_SETUP_EXE=Yes", *UNINSTALLED],
        ["@echo off", f"{msiexec} {PRODUCT[:-2]}4}} {quiet}", *UNINSTALLED],
    ]
    assert [step.name for step in steps] == ["uninstall-1", "uninstall-2", "uninstall-3"]
    # of a name from the guest no more is shown than what is known
    assert steps[0].why == "Oracle VM VirtualBox Guest Additions are for another hypervisor"


@pytest.mark.parametrize(
    "key, name, command",
    [
        (PRODUCT, "VMware Tools", f"MsiExec.exe /X{PRODUCT}"),
        (PRODUCT, "Nutanix VirtIO", f"MsiExec.exe /X{PRODUCT}"),
        ("{not a product}", "Parallels Tools", "MsiExec.exe /X{not a product}"),
        (PRODUCT + " & format c:", "Parallels Tools", ""),
        ("x", "Oracle VM VirtualBox Guest Additions", "C:\\a%b%\\uninst.exe"),
        ("x", "Oracle VM VirtualBox Guest Additions", 'C:\\a" & calc & "\\uninst.exe'),
        ("x", "Oracle VM VirtualBox Guest Additions", "\\\\server\\share\\uninst.exe"),
        ("x", "My Oracle VM VirtualBox Guest Additions", "C:\\a\\uninst.exe"),
    ],
)
def test_nothing_else_of_the_list_of_programs_is_run(key: str, name: str, command: str) -> None:
    software = {f"{LIST}\\{key}": {"DisplayName": sz(name), "UninstallString": sz(command)}}
    assert uninstall(facts(software=software), S2019) == ()


GUIDS = ("{11111111-2222-3333-4444-555555555551}", "{11111111-2222-3333-4444-555555555552}")
CLASS = "ControlSet002\\Control\\Class\\{4D36E972-E325-11CE-BFC1-08002BE10318}"
SETTINGS = "ControlSet002\\Services\\Tcpip\\Parameters\\Interfaces"
STATIC: dict[str, Data] = {
    "EnableDHCP": dword(0), "IPAddress": multi_sz("192.168.40.21", "192.168.40.22"),
    "SubnetMask": multi_sz("255.255.255.0", "255.255.255.128"), "DefaultGateway": multi_sz("192.168.40.1", "192.168.40.9"),
    "DefaultGatewayMetric": multi_sz("5"), "NameServer": sz("192.168.40.2,192.168.40.3"), "Domain": sz("branch.example.test"),
    "InterfaceMetric": dword(10),
}  # fmt: skip


def adapters(*settings: dict[str, Data], device: str = "pci\\ven_8086&dev_100f") -> Tree:
    tree: dict[str, dict[str, Data]] = {}
    for number, (guid, values) in enumerate(zip(GUIDS, settings, strict=False)):
        tree[f"{CLASS}\\000{number}"] = {"NetCfgInstanceId": sz(guid), "MatchingDeviceId": sz(device)}
        tree[f"{SETTINGS}\\{guid.lower()}"] = values
    return tree


def test_the_only_card_keeps_its_addresses_without_a_word() -> None:
    plan = plan_cards(facts(adapters(STATIC)), [MAC], ())
    assert plan.cards == (CARD,)
    assert plan.warnings == ()


def test_several_cards_get_theirs_in_order_and_that_is_said() -> None:
    plan = plan_cards(facts(adapters({"EnableDHCP": dword(1)}, STATIC)), ["52:54:00:00:00:01", MAC], ())
    assert plan.cards == (CARD,)
    assert [finding.id for finding in plan.warnings] == ["windows.addresses-by-order"]


def test_of_a_card_that_is_gone_nothing_is_in_the_way() -> None:
    plan = plan_cards(facts(adapters({"EnableDHCP": dword(1)}, STATIC)), [MAC], ())
    assert plan.cards == (CARD,)
    assert [finding.id for finding in plan.warnings] == ["windows.addresses-by-order"]
    assert plan_cards(facts(adapters(STATIC, STATIC)), [MAC], ()).cards == ()


@pytest.mark.parametrize("macs", [[], [MAC, MAC], [None]])
def test_addresses_whose_card_is_not_known_stay_and_that_is_said(macs: list[str | None]) -> None:
    plan = plan_cards(facts(adapters(STATIC)), macs, ())
    assert plan.cards == ()
    assert [finding.id for finding in plan.warnings] == ["windows.addresses-left"]
    assert "192.168.40.21/24" in plan.warnings[0].message


def test_what_was_asked_for_comes_before_what_was_there() -> None:
    wish = Addressing("10.0.2.40/16", "10.0.0.1", ("10.0.0.2",))
    plan = plan_cards(facts(adapters(STATIC)), [MAC.upper()], [wish])
    expected = CardAddresses(MAC, (IPv4Interface("10.0.2.40/16"),), (Gateway("10.0.0.1"),), ("10.0.0.2",))
    assert plan.cards == (expected,)
    assert plan_cards(facts(adapters(STATIC)), [MAC], [Addressing(None)]).cards == (CardAddresses(MAC),)
    assert plan_cards(facts(adapters(STATIC)), [MAC, "52:54:00:00:00:01"], [wish, wish]).warnings == ()


def test_dhcp_and_what_is_no_card_are_left_alone() -> None:
    assert plan_cards(facts(adapters({"EnableDHCP": dword(1)})), [MAC], ()).cards == ()
    assert plan_cards(facts(adapters(STATIC, device="tap0901")), [MAC], ()) == plan_cards(facts(), [MAC], ())


@pytest.mark.parametrize(
    "values",
    [
        {"IPAddress": multi_sz("0.0.0.0"), "SubnetMask": multi_sz("0.0.0.0")},
        {"IPAddress": multi_sz("1.2.3.4'; calc"), "SubnetMask": multi_sz("255.255.255.0")},
        {"IPAddress": multi_sz("192.168.1.1"), "SubnetMask": multi_sz("255.0.255.0")},
        {"IPAddress": multi_sz("192.168.1.1"), "SubnetMask": multi_sz()},
        {"IPAddress": dword(1), "SubnetMask": dword(1)},
    ],
)
def test_addresses_that_are_none_are_not_handed_on(values: dict[str, Data]) -> None:
    assert plan_cards(facts(adapters({**STATIC, **values})), [MAC], ()).cards == ()


def test_of_the_rest_only_what_is_right_is_handed_on() -> None:
    odd = {
        "DefaultGateway": multi_sz("nowhere", "192.168.40.1"), "DefaultGatewayMetric": multi_sz("-1", "x"),
        "NameServer": sz("192.168.40.2 'x'"), "Domain": sz("a' ; b"), "InterfaceMetric": dword(0xFFFFFFFF),
    }  # fmt: skip
    (card,) = plan_cards(facts(adapters({**STATIC, **odd})), [MAC], ()).cards
    expected = replace(CARD, gateways=(Gateway("192.168.40.1"),), dns=("192.168.40.2",), domain="", metric=None)
    assert card == expected


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
    tools = tools_of(replace(facts(), arch=arch))
    assert (tools.program if tools else None) == program
    assert tools is None or tools.command("cmd.exe") == f'"%SystemRoot%\\{folder}\\cmd.exe"'
