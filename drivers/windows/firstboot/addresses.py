"""Which network card gets which address: from the guest's registry and the machine's cards, as values. Pure.

A card's settings stand under its adapter's GUID (``Tcpip\\Parameters\\Interfaces``), and the adapter is tied to a
device by the network class's keys (``NetCfgInstanceId``). On KVM every card is a new device, and so a new adapter:
what lasts is the MAC address. The registry does not say which MAC address an adapter had, so adapters and the
machine's cards are taken in the same order; where their numbers differ nothing is moved, and where there are several
that is said.

Source: Microsoft, knowledge base article 314053 (TCP/IP parameters), "Network class" keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, NetmaskValueError

from drivers.plan import Addressing, Finding
from drivers.windows.facts import SYSTEM, HiveFile, WindowsFacts

NETWORK_CLASS = "{4d36e972-e325-11ce-bfc1-08002be10318}"
_LOCAL = IPv4Address("0.0.0.0")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_GUID = re.compile(r"\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_METRIC_AT_MOST = 9999
_ADDRESSES_AT_MOST = 64
# devices that are cards, and not tunnels, bridges or the like, which Windows makes itself
_BUSES = ("pci\\", "vmbus\\", "xen\\", "xenvif\\", "isapnp\\", "usb\\")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A default route; ``metric``: None leaves it to Windows."""

    address: str
    metric: int | None = None


@dataclass(frozen=True, slots=True)
class CardAddresses:
    """What a card gets. ``mac``: ``52:54:00:12:34:56``. ``addresses``: IPv4 with their prefixes; none for DHCP.

    ``dns``: empty leaves what is there. ``metric``: of the card; None leaves it. ``domain``: its DNS suffix, empty for none.
    """

    mac: str
    addresses: tuple[IPv4Interface, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    dns: tuple[str, ...] = ()
    metric: int | None = None
    domain: str = ""


@dataclass(frozen=True, slots=True)
class CardPlan:
    """The cards that get addresses, and what is to be said of that."""

    cards: tuple[CardAddresses, ...]
    warnings: tuple[Finding, ...] = ()


def plan_cards(
    windows: WindowsFacts, macs: Sequence[str | None], wished: Sequence[Addressing | None]
) -> CardPlan:
    """Who gets what. ``macs``: of the machine's cards on KVM, in order; ``wished``: for each of them, None for as it was."""
    adapters = tuple(_adapters(windows))
    static = [adapter for adapter in adapters if adapter is not None]
    warnings = []
    kept: dict[int, CardAddresses] = {}
    if static and len(adapters) == len(macs):
        kept = {n: adapter for n, adapter in enumerate(adapters) if adapter is not None}
        if len(adapters) > 1:
            warnings.append(_by_order(len(adapters)))
    elif len(static) == 1 and len(macs) == 1:
        # adapters of cards that are gone stay in the registry, and nothing in it tells that they are
        kept = {0: static[0]}
        warnings.append(_only_one(static, len(adapters)))
    elif static and not all(_wish(wished, n) for n in range(max(1, len(macs)))):
        warnings.append(_no_match(static, len(adapters), len(macs)))
    cards = []
    for n, mac in enumerate(macs):
        wish = _wish(wished, n)
        settings = _as_wished(wish) if wish is not None else kept.get(n)
        if settings is None:
            continue
        if mac is None or not _MAC.fullmatch(mac.lower()):
            warnings.append(_no_mac(settings))
            continue
        cards.append(replace(settings, mac=mac.lower()))
    return CardPlan(tuple(cards), tuple(warnings))


def _wish(wished: Sequence[Addressing | None], number: int) -> Addressing | None:
    return wished[number] if number < len(wished) else None


def _as_wished(wish: Addressing) -> CardAddresses:
    addresses = (IPv4Interface(wish.address),) if wish.address is not None else ()
    gateways = (Gateway(wish.gateway),) if wish.gateway is not None else ()
    return CardAddresses("", addresses, gateways, wish.dns)


def _adapters(windows: WindowsFacts) -> Iterator[CardAddresses | None]:
    """For each adapter of a card, in the order of the class's keys: what it has, None for DHCP or nothing."""
    system = windows.registry[SYSTEM]
    control_set = f"ControlSet{windows.control_sets.current or 1:03d}"
    for key in sorted(system.below(f"{control_set}\\Control\\Class\\{NETWORK_CLASS}")):
        guid = system.text(key, "NetCfgInstanceId")
        device = (system.text(key, "MatchingDeviceId") or system.text(key, "ComponentId")).lower()
        if _GUID.fullmatch(guid) and device.startswith(_BUSES):
            yield _settings(system, f"{control_set}\\Services\\Tcpip\\Parameters\\Interfaces\\{guid}")


def _settings(system: HiveFile, key: str) -> CardAddresses | None:
    if system.number(key, "EnableDHCP") != 0:
        return None
    pairs = zip(_texts(system, key, "IPAddress"), _texts(system, key, "SubnetMask"), strict=False)
    addresses = tuple(found for pair in pairs if (found := _interface(*pair)) is not None)
    if not addresses:
        return None
    metrics = _texts(system, key, "DefaultGatewayMetric")
    gateways = tuple(
        Gateway(address, _metric(metrics[n]) if n < len(metrics) else None)
        for n, address in enumerate(_texts(system, key, "DefaultGateway"))
        if _address(address)
    )
    servers = tuple(part for part in re.split(r"[ ,]+", system.text(key, "NameServer"))[:_ADDRESSES_AT_MOST] if _address(part))
    domain = system.text(key, "Domain")
    metric = system.number(key, "InterfaceMetric")
    return CardAddresses(
        "", addresses, gateways, servers,
        metric if metric is not None and 0 < metric <= _METRIC_AT_MOST else None,
        domain if _DOMAIN.fullmatch(domain) else "",
    )  # fmt: skip


def _texts(system: HiveFile, key: str, name: str) -> Sequence[str]:
    value = system.value(key, name)
    # Windows NT 4.0's way of writing one is still met
    found = (value.texts() or ([text] if (text := value.text()) else [])) if value is not None else []
    return [text for text in found if text][:_ADDRESSES_AT_MOST]


def _interface(address: str, mask: str) -> IPv4Interface | None:
    try:
        found = IPv4Interface(f"{address}/{mask}")
    except (AddressValueError, NetmaskValueError, ValueError):
        return None
    return found if found.ip != _LOCAL and found.network.prefixlen else None


def _address(text: str) -> bool:
    try:
        return IPv4Address(text) != _LOCAL
    except AddressValueError:
        return False


def _metric(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 5 and int(text) else None


def _shown(cards: Sequence[CardAddresses]) -> str:
    return ", ".join(str(address) for card in cards for address in card.addresses)


def _by_order(count: int) -> Finding:
    message = f"its {count} network cards get their addresses in the machine's order: which had which MAC address is not kept"
    hint = "Look at them after the first start, or say which address a card gets with --ip."
    return Finding("windows.addresses-by-order", message, hint)


def _only_one(static: Sequence[CardAddresses], adapters: int) -> Finding:
    message = f"{adapters} cards are or were in it, of which one has static addresses: its only card gets them ({_shown(static)})"
    return Finding("windows.addresses-by-order", message, "Say which address it gets with --ip where that is not so.")


def _no_match(static: Sequence[CardAddresses], adapters: int, cards: int) -> Finding:
    message = (
        f"it has static addresses ({_shown(static)}), and which card of KVM they are for cannot be told: "
        f"{adapters} of its adapters are cards, and the machine has {cards or 'none that is known'}"
    )
    return Finding("windows.addresses-left", message, "Say which address a card gets with --ip, or set them after the first start.")


def _no_mac(card: CardAddresses) -> Finding:
    message = f"its static addresses ({_shown([card])}) are for a card whose MAC address on KVM is not known"
    return Finding("windows.addresses-left", message, "Give the card a MAC address, or set them after the first start.")
