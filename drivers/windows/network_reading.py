"""Network adapters and their addresses, from the keys that were read of a guest's hives. Pure.

Up from Windows 2000 an adapter is a device below Enum, an instance of the class of network adapters (``Control\\Class``, whose
NetCfgInstanceId is the GUID of its settings), and a connection with a name (``Control\\Network``). On NT 4.0 it is a service.

Sources: Microsoft Q120642 and Q314053 (TCP/IP parameters), "Network Adapter Installation Registry Values"; PCI Express Base
Specification, "Device Serial Number", from which Windows makes instance ids. Where the address of a card stands is not documented:
``NetworkSetup2\\Interfaces\\GUID\\Kernel`` (10 and later) is what guides of forensics agree on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping

from drivers.windows import c_regf as c
from drivers.windows.facts import HiveFile, RegistryValue
from drivers.windows.network_facts import SUFFIX, Gateway, NetworkAdapter

ADAPTERS_AT_MOST = 64
ADDRESSES_AT_MOST = 64
_TEXT_AT_MOST = 200
_INSTANCE_AT_MOST = 400
_CLASS = "{4d36e972-e325-11ce-bfc1-08002be10318}"
_INSTANCE = re.compile(r"[^\\\x00]+\\[^\\\x00]+\\[^\\\x00]+")
_SERIAL = re.compile(r"([0-9a-f]{6})fff[ef]([0-9a-f]{6})00", re.IGNORECASE)
_METRIC_AT_MOST = 9999
_NONE = frozenset({"", "0.0.0.0"})
_CARDS = "Microsoft\\Windows NT\\CurrentVersion\\NetworkCards"


def devices_of(keys: Mapping[str, tuple[RegistryValue, ...]]) -> Iterator[str]:
    """The keys below Enum that connections of any control set name: whether a device is still known to be there."""
    for path, values in keys.items():
        parts = path.split("\\")
        if len(parts) == 6 and parts[1:3] == ["Control", "Network"] and parts[5].lower() == "connection":
            for value in values:
                text = value.value().text() or ""
                if value.name.lower() == "pnpinstanceid" and _INSTANCE.fullmatch(text):
                    yield f"{parts[0]}\\Enum\\{text[:_INSTANCE_AT_MOST]}"


def read_adapters(system: HiveFile, software: HiveFile, control_set: int) -> tuple[NetworkAdapter, ...]:
    """All adapters of a control set that have connections, in the order of their class' instances."""
    base = f"ControlSet{control_set:03d}"
    found = list(_by_class(system, base)) or list(_by_service(system, software, base))
    return tuple(found[:ADAPTERS_AT_MOST])


def _by_class(system: HiveFile, base: str) -> Iterator[NetworkAdapter]:
    for key in sorted(system.below(f"{base}\\Control\\Class\\{_CLASS}")):
        id_ = system.text(key, "NetCfgInstanceId")
        connection = f"{base}\\Control\\Network\\{_CLASS}\\{id_}\\Connection"
        # layers of the network stack are instances of the class too, without a connection
        if not id_ or system.key(connection) is None:
            continue
        instance = system.text(connection, "PnpInstanceID")[:_INSTANCE_AT_MOST]
        if system.key(f"{base}\\Enum\\{instance}") is None:
            instance = ""
        settings = _Settings(system, f"{base}\\Services\\Tcpip\\Parameters\\Interfaces\\{id_}")
        yield settings.adapter(
            id_[:_TEXT_AT_MOST],
            system.text(connection, "Name"),
            system.text(key, "DriverDesc"),
            instance,
            tuple(dict.fromkeys(_macs(system, base, key, id_, instance))),
        )


def _by_service(system: HiveFile, software: HiveFile, base: str) -> Iterator[NetworkAdapter]:
    """NT 4.0: NetworkCards lists the services of adapters, each with its addresses below it."""
    shared = _dns(system.text(f"{base}\\Services\\Tcpip\\Parameters", "NameServer"))
    for key in sorted(software.below(_CARDS)):
        service = software.text(key, "ServiceName")
        path = f"{base}\\Services\\{service}\\Parameters\\Tcpip"
        if service and system.key(path) is not None:
            settings = _Settings(system, path, shared)
            yield settings.adapter(service[:_TEXT_AT_MOST], service, software.text(key, "Description"), "", ())


class _Settings:
    """The TCP/IP settings below a key."""

    def __init__(self, system: HiveFile, key: str, dns: tuple[str, ...] = ()) -> None:
        self._system, self._key, self._shared_dns = system, key, dns

    def adapter(self, id_: str, name: str, description: str, instance: str, macs: tuple[str, ...]) -> NetworkAdapter:
        """The adapter that has these settings."""
        dhcp = bool(self._system.number(self._key, "EnableDHCP"))
        suffix, metric = self._system.text(self._key, "Domain"), self._system.number(self._key, "InterfaceMetric")
        return NetworkAdapter(
            id_,
            name[:_TEXT_AT_MOST],
            description[:_TEXT_AT_MOST],
            instance,
            macs,
            dhcp,
            # what DHCP gave is under other names; what is left of a time before it has no effect
            () if dhcp else tuple(self._addresses()),
            () if dhcp else tuple(self._gateways()),
            _dns(self._system.text(self._key, "NameServer")) or (() if dhcp else self._shared_dns),
            suffix if SUFFIX.fullmatch(suffix) else "",
            metric if metric is not None and 0 < metric <= _METRIC_AT_MOST else None,
        )

    def _texts(self, name: str) -> tuple[str, ...]:
        value = self._system.value(self._key, name)
        return ((value.texts() or ()) if value is not None else ())[:ADDRESSES_AT_MOST]

    def _addresses(self) -> Iterator[str]:
        for address, mask in zip(self._texts("IPAddress"), self._texts("SubnetMask"), strict=False):
            try:
                found = ipaddress.IPv4Interface(f"{address}/{mask}")
                if address not in _NONE and found.network.prefixlen:
                    yield str(found)
            except ValueError:
                continue

    def _gateways(self) -> Iterator[Gateway]:
        metrics = self._texts("DefaultGatewayMetric")
        for index, address in enumerate(self._texts("DefaultGateway")):
            metric = metrics[index] if index < len(metrics) else ""
            if address not in _NONE and _is_ipv4(address):
                yield Gateway(address, int(metric) if re.fullmatch("[1-9][0-9]{0,4}", metric) else None)


def _dns(text: str) -> tuple[str, ...]:
    """Servers as they are listed: with commas, or on old systems with spaces."""
    return tuple(word for word in re.split(r"[,\s]+", text) if word and _is_ipv4(word))[:ADDRESSES_AT_MOST]


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _macs(system: HiveFile, base: str, key: str, id_: str, instance: str) -> Iterator[str]:
    kernel = f"{base}\\Control\\NetworkSetup2\\Interfaces\\{id_}\\Kernel"
    for name in ("PermanentAddress", "CurrentAddress"):
        value = system.value(kernel, name)
        if value is not None and value.type == c.REG_BINARY:
            yield from _spelt([value.data.hex()])
    serial = _SERIAL.fullmatch(instance.rpartition("\\")[2])
    yield from _spelt([serial[1] + serial[2]] if serial else [])
    # what an administrator gave it takes the place of the card's own
    yield from _spelt([re.sub("[-:]", "", system.text(key, "NetworkAddress"))])


def _spelt(addresses: Iterable[str]) -> Iterator[str]:
    for digits in addresses:
        plain = digits.lower()
        if re.fullmatch("[0-9a-f]{12}", plain) and plain.strip("0"):
            yield ":".join(plain[at : at + 2] for at in range(0, 12, 2))
