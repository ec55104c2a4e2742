"""The options about network cards: ``--mac``, ``--network``, ``--ip``, and the cards they make.

A card is named by its number, counted from 1 in the order of the ``--mac`` options, or by its MAC address (the source's or
the new one). docs/network.md describes them for people.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from drivers.linux.macs import normal_mac
from drivers.plan import Addressing
from p2v.core.errors import Usage
from p2v.machine import Connection, Nic
from p2v.sources.description import read_small
from p2v.sources.networks import parse_mapping

_CARD = re.compile(r"(?P<card>(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|[0-9]{1,3}):(?P<rest>.*)", re.DOTALL)
_IP_FORM = "As in --ip 1:10.0.2.40/24,10.0.2.2 (CARD:ADDRESS/PREFIX[,GATEWAY[,DNS...]]) or --ip 1:dhcp."
_NETWORK_FORM = "As in --network lan, --network bridge:br0, or for one card --network 2:user."


def configure(group: argparse._ArgumentGroup) -> None:
    """Add the options that say what cards there are."""
    group.add_argument(
        "--mac",
        action="append",
        default=[],
        metavar="[OLD=]MAC",
        help="MAC address of a network card; with OLD=, the one it gets in place of the source's, which the guest's "
        "configuration then follows; repeat for more cards",
    )
    group.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="[CARD:]NETWORK",
        help="what a card hangs on: network:NAME (of libvirt's; NAME alone is the same), bridge:NAME or user (QEMU's NAT); CARD "
        "is a MAC address or a number from 1 on, all cards without it (default: network:default); repeat for more cards",
    )
    group.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="SOURCE=NETWORK",
        help="what a network of the source's description is here, as for --network; repeat for more networks",
    )
    group.add_argument(
        "--map-if",
        action="append",
        default=[],
        metavar="SOURCE=NETWORK",
        help="as --map, and passed over for a machine without a card on that network: one mapping for a fleet",
    )
    group.add_argument("--map-file", type=Path, metavar="FILE", help="the same from a file, a line each; # begins a comment")


def configure_addresses(group: argparse._ArgumentGroup) -> None:
    """Add the option that says what their addresses in the guest are to be."""
    group.add_argument(
        "--ip",
        action="append",
        default=[],
        metavar="CARD:ADDRESS",
        help="the IPv4 address the guest's configuration gives a card: ADDRESS/PREFIX[,GATEWAY[,DNS...]], as in "
        "1:10.0.2.40/24,10.0.2.2, or dhcp; CARD as above; repeat for more cards",
    )


def cards_of(arguments: argparse.Namespace, described: tuple[Nic, ...] | None = None) -> tuple[Nic, ...]:
    """The machine's cards: one for each ``--mac``, one of which nothing is known without any.

    ``described``: the cards that the source's description tells of, to which the options are then applied. Raises Usage.
    """
    cards = _named(arguments.mac) if described is None else _renumbered(described, arguments.mac)
    _refuse_repeated(cards)
    cards = _connected(cards, arguments.network)
    # a verb that changes nothing in the guest has no such option
    return _addressed(cards, getattr(arguments, "ip", ()))


def networks_of(arguments: argparse.Namespace, cards: Sequence[Nic]) -> dict[str, tuple[Connection, str]]:
    """What ``--map``, ``--map-file`` and ``--map-if`` say: networks of the source to what they are here.

    ``cards``: as the description has them; of ``--map-if`` only what is for them counts, and what says more goes before it.
    Raises Usage, NoSource.
    """
    texts = list(arguments.map)
    if arguments.map_file is not None:
        lines = (line.strip() for line in read_small(arguments.map_file).decode("utf-8", "surrogateescape").splitlines())
        texts += [line for line in lines if line and not line.startswith("#")]
    there, named = {card.network.lower() for card in cards}, parse_mapping(texts)
    said = {name.lower() for name in named}
    for name, target in parse_mapping(arguments.map_if).items():
        if name.lower() in there and name.lower() not in said:
            named[name] = target
    made = {name: _on(Nic(), target, target) for name, target in named.items()}
    return {name: (nic.connection, nic.network) for name, nic in made.items()}


def _named(texts: Sequence[str]) -> tuple[Nic, ...]:
    return tuple(_card(text) for text in texts) or (Nic(),)


def _renumbered(cards: tuple[Nic, ...], texts: Sequence[str]) -> tuple[Nic, ...]:
    """The described cards with new addresses where ``--mac OLD=NEW`` gives them."""
    changed = list(cards)
    for text in texts:
        old, equals, new = text.rpartition("=")
        if not equals:
            message = f"--mac {text}: the machine's description says what cards it has"
            raise Usage(message, "Write --mac OLD=NEW (or NUMBER=NEW) to give one of them another address.")
        index = _index(cards, old, f"--mac {text}")
        mac, had = _mac(new, text), cards[index].mac
        if mac == had:
            raise Usage(f"--mac {text}: both addresses are the same", "Leave it out for a card that keeps its address.")
        changed[index] = replace(cards[index], mac=mac, source_mac=had)
    return tuple(changed)


def _card(text: str) -> Nic:
    old, equals, new = text.rpartition("=")
    if not equals:
        return Nic(_mac(new, text))
    source_mac, mac = _mac(old, text), _mac(new, text)
    if source_mac == mac:
        raise Usage(f"--mac {text}: both addresses are the same", "Write --mac MAC for a card that keeps its address.")
    return Nic(mac, source_mac=source_mac)


def _mac(text: str, option: str) -> str:
    mac = normal_mac(text)
    if mac is None:
        raise Usage(f"--mac {option}: {text!r} is not a MAC address", "As in --mac 00:50:56:aa:bb:cc, or --mac OLD=NEW.")
    if int(mac[:2], 16) & 1:
        raise Usage(f"--mac {option}: {mac} is a multicast address; a network card cannot have it")
    return mac


def _refuse_repeated(cards: Sequence[Nic]) -> None:
    macs = [mac for card in cards for mac in (card.source_mac, card.mac) if mac]
    for mac in macs:
        if macs.count(mac) > 1:
            # also an address that goes from one card to another: in the result nobody could tell old from new
            raise Usage(f"--mac: {mac} was given twice", "Every card has an address of its own, before and after.")


def _connected(cards: tuple[Nic, ...], texts: Sequence[str]) -> tuple[Nic, ...]:
    single: dict[int, Nic] = {}
    every: str | None = None
    for text in texts:
        match = _CARD.fullmatch(text)
        if match is not None:
            index = _index(cards, match["card"], f"--network {text}")
            _refuse_second(index in single, "--network", text, cards[index], index)
            single[index] = _on(cards[index], match["rest"], text)
        elif every is None:
            every = text
        else:
            raise Usage(f"--network {text}: --network {every} is for all cards already", "Name the card: --network 2:...")
    others = tuple(_on(card, every, every) for card in cards) if every is not None else cards
    return tuple(single.get(index, card) for index, card in enumerate(others))


def _on(card: Nic, text: str, option: str) -> Nic:
    kind, colon, name = text.partition(":")
    card = replace(card, is_mapped=True)
    if text == Connection.USER.value:
        return replace(card, connection=Connection.USER, network="")
    if not colon:
        kind, name = Connection.NETWORK.value, text
    if kind not in (Connection.NETWORK.value, Connection.BRIDGE.value) or not name:
        raise Usage(f"--network {option}: {text!r} is no network", _NETWORK_FORM)
    return replace(card, connection=Connection(kind), network=name)


def _addressed(cards: tuple[Nic, ...], texts: Sequence[str]) -> tuple[Nic, ...]:
    found: dict[int, Addressing] = {}
    for text in texts:
        match = _CARD.fullmatch(text)
        if match is None:
            raise Usage(f"--ip {text}: it does not say which card", _IP_FORM)
        index = _index(cards, match["card"], f"--ip {text}")
        _refuse_second(index in found, "--ip", text, cards[index], index)
        found[index] = _addressing(match["rest"], text)
    addresses = [wanted.address.partition("/")[0] for wanted in found.values() if wanted.address]
    if len(set(addresses)) != len(addresses):
        raise Usage("--ip: two cards were given the same address")
    return tuple(replace(card, addressing=found.get(index)) for index, card in enumerate(cards))


def _addressing(text: str, option: str) -> Addressing:
    if text == "dhcp":
        return Addressing(None)
    first, *more = text.split(",")
    address, slash, _ = first.partition("/")
    _ipv4(address, option)
    if not slash:
        raise Usage(f"--ip {option}: {address} has no prefix, so its network is not known", _IP_FORM)
    try:
        interface = ipaddress.IPv4Interface(first)
    except ValueError as error:
        raise Usage(f"--ip {option}: {error}", _IP_FORM) from error
    given = tuple(_ipv4(part, option) for part in more)
    gateway = given[0] if given else None
    if gateway is not None and ipaddress.IPv4Address(gateway) not in interface.network:
        raise Usage(f"--ip {option}: the gateway {gateway} is not in the network {interface.network}")
    return Addressing(interface.with_prefixlen, gateway, given[1:])


def _ipv4(text: str, option: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        if ":" in text:
            message = f"--ip {option}: IPv6 addresses are not set; the guest keeps those that it configures"
            raise Usage(message, "Change them in the guest after the migration.") from error
        raise Usage(f"--ip {option}: {text!r} is not an IPv4 address", _IP_FORM) from error


def _index(cards: Sequence[Nic], name: str, option: str) -> int:
    mac = normal_mac(name)
    for index, card in enumerate(cards):
        if (mac is not None and mac in (card.mac, card.source_mac)) or (mac is None and name.strip() == str(index + 1)):
            return index
    known = ", ".join(_described(cards))
    # a description has named them all; of disks alone the options are all that does
    more = "" if any(card.source_network for card in cards) else " Name its cards with --mac, in their order."
    hint = f"The machine has {known}.{more}"
    raise Usage(f"{option}: the machine has no network card {name}", hint)


def _described(cards: Sequence[Nic]) -> Iterator[str]:
    for number, card in enumerate(cards, start=1):
        yield f"card {number} ({card.mac or 'its MAC address is not known'})"


def _refuse_second(is_there: bool, option: str, text: str, card: Nic, index: int) -> None:
    if is_there:
        raise Usage(f"{option} {text}: {option} was given twice for card {index + 1} ({card.mac or 'no MAC address known'})")
