"""The step that gives network cards their addresses, found by their MAC addresses. Pure.

Windows 8 and Server 2012 and later have cmdlets for it. Before, ``netsh`` knows cards by the names that people see,
in the guest's language: a script of the Windows Script Host finds the connection of a MAC address (by WMI, and its
name in the registry, which Windows 2000 has as well) and hands the name on. Both wait for the card, whose driver may
just be about to be installed. The only card of a machine needs no MAC address to be found: then they wait until there is
exactly one.

Sources: Microsoft, "NetTCPIP Module", "Get-NetAdapter" (``-Physical``), "Netsh commands for Interface IP",
"Win32_NetworkAdapterConfiguration class".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

from drivers.windows.firstboot.steps import ScriptFile, Step
from drivers.windows.firstboot.tools import GuestTools, program
from drivers.windows.network_facts import ENUMERATORS_OF_SOFTWARE, MAC, SUFFIX, Gateway
from drivers.windows.network_setup import CardSettings

NETWORK_CLASS = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
_LOOKS, _PAUSE_SECONDS = 60, 5
_SECONDS_EACH = _LOOKS * _PAUSE_SECONDS + 60
_ASKS_NAME_SERVERS = (6, 1)
_WHY = "its network cards have the addresses that their predecessors had, or those that were asked for"


def set_addresses(cards: Sequence[CardSettings], tools: GuestTools) -> Step | None:
    """The step; None where no card gets anything. Raises ValueError for settings that must not stand in a script."""
    if not cards:
        return None
    safe = [_checked(card) for card in cards]
    if tools.has_network_cmdlets:
        file, command = ScriptFile("network.ps1", _text(_powershell(safe))), tools.powershell("network.ps1")
    else:
        file, command = ScriptFile("network.vbs", _text(_vbscript(safe, tools))), tools.script("network.vbs")
    return Step("network", _SECONDS_EACH * len(cards), 3, command, _WHY, (file,))


def _checked(card: CardSettings) -> CardSettings:
    """The same with its texts as they were parsed: who plans has looked at them already."""
    if card.mac is not None and not MAC.fullmatch(card.mac):
        raise ValueError(f"no MAC address: {card.mac!r}")
    if card.suffix and not SUFFIX.fullmatch(card.suffix):
        raise ValueError(f"no suffix of DNS names: {card.suffix!r}")
    return replace(
        card,
        addresses=tuple(str(IPv4Interface(address)) for address in card.addresses),
        gateways=tuple(replace(gateway, address=str(IPv4Address(gateway.address))) for gateway in card.gateways),
        dns=tuple(str(IPv4Address(server)) for server in card.dns),
    )


def _text(lines: Iterator[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def _powershell(cards: Sequence[CardSettings]) -> Iterator[str]:
    yield "$ErrorActionPreference = 'Stop'"
    yield "function Find-Card([string]$Mac) {"
    yield f"    for ($look = 0; $look -lt {_LOOKS}; $look++) {{"
    yield "        $cards = @(Get-NetAdapter -Physical -ErrorAction SilentlyContinue)"
    yield "        $found = @($cards | Where-Object { !$Mac -or $_.MacAddress -eq $Mac })"
    yield "        if ($found.Count -eq 1) { return $found[0].ifIndex }"
    yield f"        Start-Sleep -Seconds {_PAUSE_SECONDS}"
    yield "    }"
    yield '    throw "there is not exactly one network card $Mac"'
    yield "}"
    yield "try {"
    for card in cards:
        yield from (f"    {line}" for line in _cmdlets(card))
    yield "} catch {"
    yield "    Write-Output $_"
    yield "    exit 1"
    yield "}"
    yield "exit 0"


def _cmdlets(card: CardSettings) -> Iterator[str]:
    yield f"$card = Find-Card '{(card.mac or '').upper().replace(':', '-')}'"
    if card.dhcp or card.addresses:
        # what a try that did not come to its end has set, or DHCP
        quietly, unasked = "-ErrorAction SilentlyContinue", "-Confirm:$false"
        yield f"Get-NetRoute -InterfaceIndex $card -DestinationPrefix '0.0.0.0/0' {quietly} | Remove-NetRoute {unasked}"
        yield f"Get-NetIPAddress -InterfaceIndex $card -AddressFamily IPv4 {quietly} | Remove-NetIPAddress {unasked}"
        yield f"Set-NetIPInterface -InterfaceIndex $card -AddressFamily IPv4 -Dhcp {'Enabled' if card.dhcp else 'Disabled'}"
    for address in map(IPv4Interface, card.addresses):
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
    if card.suffix:
        yield f"Set-DnsClient -InterfaceIndex $card -ConnectionSpecificSuffix '{card.suffix}'"


def _vbscript(cards: Sequence[CardSettings], tools: GuestTools) -> Iterator[str]:
    yield "Option Explicit"
    yield "Dim shell, failed, guid, name"
    yield 'Set shell = CreateObject("WScript.Shell")'
    yield "failed = 0"
    for card in cards:
        mac = (card.mac or "").upper()
        yield f'If Find("{mac}") Then'
        yield from (f"    {line}" for line in _netsh(card, tools))
        yield "Else"
        yield f'    WScript.Echo "there is not exactly one network card {mac}"'
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
    """A function that leaves the connection's name and GUID in ``name`` and ``guid``, where there is exactly one."""
    connection = f"HKLM\\SYSTEM\\CurrentControlSet\\Control\\Network\\{NETWORK_CLASS}\\"
    software = "".join(f"|{name}" for name in sorted(ENUMERATORS_OF_SOFTWARE))
    yield "Function Find(mac)"
    yield "    Dim look, cards, card, found, title, device, query"
    yield "    Find = False"
    yield '    query = "SELECT * FROM Win32_NetworkAdapterConfiguration WHERE MACAddress IS NOT NULL"'
    yield "    If mac <> \"\" Then query = query & \" AND MACAddress = '\" & mac & \"'\""
    yield "    On Error Resume Next"
    yield f"    For look = 1 To {_LOOKS}"
    yield "        found = 0"
    yield '        Set cards = GetObject("winmgmts:\\\\.\\root\\cimv2").ExecQuery(query)'
    yield "        For Each card In cards"
    yield "            ' filters above a card have its address and no connection"
    yield '            title = ""'
    yield f'            title = shell.RegRead("{connection}" & card.SettingID & "\\Connection\\Name")'
    yield '            device = ""'
    yield f'            device = shell.RegRead("{connection}" & card.SettingID & "\\Connection\\PnpInstanceID")'
    yield '            If title <> "" And Not IsOfSoftware(device) Then'
    yield "                found = found + 1"
    yield "                name = title"
    yield "                guid = card.SettingID"
    yield "            End If"
    yield "        Next"
    yield "        If found = 1 Then"
    yield "            Find = True"
    yield "            Exit Function"
    yield "        End If"
    yield f"        WScript.Sleep {_PAUSE_SECONDS * 1000}"
    yield "    Next"
    yield "End Function"
    yield "' teams, tunnels and the like are no cards"
    yield "Function IsOfSoftware(device)"
    yield '    Dim enumerator, top'
    yield '    enumerator = UCase(device) & "\\"'
    yield '    top = Left(enumerator, InStr(enumerator, "\\") - 1)'
    yield f'    IsOfSoftware = Left(top, 1) = "{{" Or (top <> "" And InStr("{software}|", "|" & top & "|") > 0)'
    yield "End Function"


def _netsh(card: CardSettings, tools: GuestTools) -> Iterator[str]:
    def run(words: str) -> str:
        exe = program("netsh.exe").replace('"', '""')
        return f'Run "{exe} interface ip {words}"'

    name = '""" & name & """'
    if card.dhcp:
        yield run(f"set address name={name} source=dhcp")
    first, *others = card.gateways or (None,)
    for n, address in enumerate(map(IPv4Interface, card.addresses)):
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
    if card.suffix:
        yield f'shell.RegWrite "{interface}" & guid & "\\Domain", "{card.suffix}", "REG_SZ"'


def _gateway(gateway: Gateway | None) -> str:
    return "gateway=none" if gateway is None else f"gateway={gateway.address} gwmetric={gateway.metric or 1}"
