"""The step that gives network cards their addresses, found by their MAC addresses. Pure.

Windows 8 and Server 2012 and later have cmdlets for it. Before, ``netsh`` knows cards by the names that people see,
in the guest's language: a script of the Windows Script Host finds the connection of a MAC address (by WMI, and its
name in the registry, which Windows 2000 has as well) and hands the name on. Both wait for the card, whose driver may
just be about to be installed.

Sources: Microsoft, "NetTCPIP Module", "Netsh commands for Interface IP", "Win32_NetworkAdapterConfiguration class".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drivers.windows.firstboot.addresses import NETWORK_CLASS, CardAddresses, Gateway
from drivers.windows.firstboot.steps import ScriptFile, Step
from drivers.windows.firstboot.tools import GuestTools, program

_LOOKS, _PAUSE_SECONDS = 60, 5
_SECONDS_EACH = _LOOKS * _PAUSE_SECONDS + 60
_NETSH_SINCE = (5, 0)
_ASKS_NAME_SERVERS = (6, 1)
_WHY = "its network cards have the addresses that their predecessors had, or those that were asked for"


def set_addresses(cards: Sequence[CardAddresses], tools: GuestTools) -> Step | None:
    """The step; None where no card gets anything, or Windows has nothing that could do it (NT 4.0)."""
    if not cards or tools.version < _NETSH_SINCE:
        return None
    if tools.has_network_cmdlets:
        file, command = ScriptFile("network.ps1", _text(_powershell(cards))), tools.powershell("network.ps1")
    else:
        file, command = ScriptFile("network.vbs", _text(_vbscript(cards, tools))), tools.script("network.vbs")
    return Step("network", _SECONDS_EACH * len(cards), 3, command, _WHY, (file,))


def _text(lines: Iterator[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def _powershell(cards: Sequence[CardAddresses]) -> Iterator[str]:
    yield "$ErrorActionPreference = 'Stop'"
    yield "function Find-Card([string]$Mac) {"
    yield f"    for ($look = 0; $look -lt {_LOOKS}; $look++) {{"
    yield "        $found = @(Get-NetAdapter -ErrorAction SilentlyContinue | Where-Object { $_.MacAddress -eq $Mac })"
    yield "        if ($found.Count -eq 1) { return $found[0].ifIndex }"
    yield f"        Start-Sleep -Seconds {_PAUSE_SECONDS}"
    yield "    }"
    yield '    throw "no network card, or more than one, has the address $Mac"'
    yield "}"
    yield "try {"
    for card in cards:
        yield from (f"    {line}" for line in _cmdlets(card))
    yield "} catch {"
    yield "    Write-Output $_"
    yield "    exit 1"
    yield "}"
    yield "exit 0"


def _cmdlets(card: CardAddresses) -> Iterator[str]:
    yield f"$card = Find-Card '{card.mac.upper().replace(':', '-')}'"
    # what a try that did not come to its end has set, or DHCP
    quietly, unasked = "-ErrorAction SilentlyContinue", "-Confirm:$false"
    yield f"Get-NetRoute -InterfaceIndex $card -DestinationPrefix '0.0.0.0/0' {quietly} | Remove-NetRoute {unasked}"
    yield f"Get-NetIPAddress -InterfaceIndex $card -AddressFamily IPv4 {quietly} | Remove-NetIPAddress {unasked}"
    if not card.addresses:
        yield "Set-NetIPInterface -InterfaceIndex $card -AddressFamily IPv4 -Dhcp Enabled"
    else:
        yield "Set-NetIPInterface -InterfaceIndex $card -AddressFamily IPv4 -Dhcp Disabled"
    for address in card.addresses:
        prefix = address.network.prefixlen
        yield f"New-NetIPAddress -InterfaceIndex $card -IPAddress '{address.ip}' -PrefixLength {prefix} | Out-Null"
    for gateway in card.gateways:
        metric = f" -RouteMetric {gateway.metric}" if gateway.metric is not None else ""
        yield f"New-NetRoute -InterfaceIndex $card -DestinationPrefix '0.0.0.0/0' -NextHop '{gateway.address}'{metric} | Out-Null"
    if card.metric is not None:
        yield f"Set-NetIPInterface -InterfaceIndex $card -AddressFamily IPv4 -InterfaceMetric {card.metric}"
    if card.dns:
        servers = ",".join(f"'{server}'" for server in card.dns)
        yield f"Set-DnsClientServerAddress -InterfaceIndex $card -ServerAddresses {servers}"
    if card.domain:
        yield f"Set-DnsClient -InterfaceIndex $card -ConnectionSpecificSuffix '{card.domain}'"


def _vbscript(cards: Sequence[CardAddresses], tools: GuestTools) -> Iterator[str]:
    yield "Option Explicit"
    yield "Dim shell, failed, guid, name"
    yield 'Set shell = CreateObject("WScript.Shell")'
    yield "failed = 0"
    for card in cards:
        yield f'If Find("{card.mac.upper()}") Then'
        yield from (f"    {line}" for line in _netsh(card, tools))
        yield "Else"
        yield f'    WScript.Echo "no network card has the address {card.mac.upper()}"'
        yield "    failed = 1"
        yield "End If"
    yield "WScript.Quit failed"
    yield from _finding()
    yield "Sub Run(command)"
    yield "    Dim code"
    yield "    code = shell.Run(command, 0, True)"
    yield '    WScript.Echo code & ": " & command'
    yield "    If code <> 0 Then failed = 1"
    yield "End Sub"


def _finding() -> Iterator[str]:
    connection = f"HKLM\\SYSTEM\\CurrentControlSet\\Control\\Network\\{NETWORK_CLASS.upper()}\\"
    yield "Function Find(mac)"
    yield "    Dim look, cards, card"
    yield "    Find = False"
    yield "    On Error Resume Next"
    yield f"    For look = 1 To {_LOOKS}"
    yield '        Set cards = GetObject("winmgmts:\\\\.\\root\\cimv2").ExecQuery( _'
    yield "            \"SELECT * FROM Win32_NetworkAdapterConfiguration WHERE MACAddress = '\" & mac & \"'\")"
    yield "        For Each card In cards"
    yield "            ' filters above a card have its address and no connection"
    yield '            name = ""'
    yield "            guid = card.SettingID"
    yield f'            name = shell.RegRead("{connection}" & guid & "\\Connection\\Name")'
    yield '            If name <> "" Then'
    yield "                Find = True"
    yield "                Exit Function"
    yield "            End If"
    yield "        Next"
    yield f"        WScript.Sleep {_PAUSE_SECONDS * 1000}"
    yield "    Next"
    yield "End Function"


def _netsh(card: CardAddresses, tools: GuestTools) -> Iterator[str]:
    def run(words: str) -> str:
        exe = program("netsh.exe").replace('"', '""')
        return f'Run "{exe} interface ip {words}"'

    name = '""" & name & """'
    if not card.addresses:
        yield run(f"set address name={name} source=dhcp")
    first, *others = card.gateways or (None,)
    for n, address in enumerate(card.addresses):
        both = f"addr={address.ip} mask={address.netmask}"
        # a second try begins with what replaces all that the first has set
        yield run(f"add address name={name} {both}" if n else f"set address name={name} source=static {both} {_gateway(first)}")
    for gateway in others:
        yield run(f"add address name={name} {_gateway(gateway)}")
    # Windows 7 asks the server whether it is one, and the card may not have a network yet
    unasked = " validate=no" if tools.version == _ASKS_NAME_SERVERS else ""
    for n, server in enumerate(card.dns):
        words = f"add dns name={name} addr={server} index={n + 1}" if n else f"set dns name={name} source=static addr={server}"
        yield run(words + unasked)
    interface = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters\\Interfaces\\"
    if card.metric is not None:
        yield f'shell.RegWrite "{interface}" & guid & "\\InterfaceMetric", {card.metric}, "REG_DWORD"'
    if card.domain:
        yield f'shell.RegWrite "{interface}" & guid & "\\Domain", "{card.domain}", "REG_SZ"'


def _gateway(gateway: Gateway | None) -> str:
    return "gateway=none" if gateway is None else f"gateway={gateway.address} gwmetric={gateway.metric or 1}"
