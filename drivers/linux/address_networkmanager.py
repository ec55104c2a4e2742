"""A card's address in NetworkManager's keyfiles (nm-settings-keyfile(5))."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.facts import TextFile
from drivers.linux import keyfile
from drivers.linux.address_parts import SEVERAL, Card, Rewritten, holder
from drivers.linux.keyfile import Setting
from drivers.linux.macs import normal_mac
from drivers.linux.network import CONNECTIONS
from drivers.plan import Addressing

_ETHERNET = ("ethernet", "802-3-ethernet")
_REPLACED = re.compile(r"(?:address(?:es)?[0-9]*|gateway)")


@dataclass(frozen=True, slots=True)
class _Connection:
    text: TextFile
    settings: tuple[Setting, ...]

    def value(self, section: str, *keys: str) -> str:
        return keyfile.first(self.settings, section, *keys)

    @property
    def name(self) -> str:
        """The interface; a connection of none is known by its UUID."""
        return self.value("connection", "interface-name") or self.value("connection", "uuid") or self.text.path

    @property
    def mac(self) -> str | None:
        return next((mac for section in _ETHERNET if (mac := normal_mac(self.value(section, "mac-address")))), None)

    @property
    def is_for_any_card(self) -> bool:
        kind = self.value("connection", "type")
        named = self.value("connection", "interface-name") or any(s.section == "match" for s in self.settings)
        return kind in _ETHERNET and not named and self.mac is None and not self.upper

    @property
    def upper(self) -> str:
        return self.value("connection", "controller", "master")

    @property
    def has_address(self) -> bool:
        return self.value("ipv4", "method") in ("auto", "manual")


def rewrite(texts: Mapping[str, TextFile], card: Card, wanted: Addressing) -> Rewritten:
    """The connection of the card, or of what is made of it, with its new address."""
    found = Rewritten()
    folder = posixpath.dirname(CONNECTIONS)
    all_ = [_Connection(t, keyfile.parse(t.text)) for p, t in texts.items() if posixpath.dirname(p) == folder]
    own = [c for c in all_ if (card.name and c.name == card.name) or (card.mac and c.mac == card.mac)]
    own = own or ([c for c in all_ if c.is_for_any_card] if card.is_only else [])
    if not own:
        return found
    this = card.name or own[0].name
    above = _above(all_, own, this)
    addressed = {c.name for c in all_ if c.has_address} | {this for c in own if c.has_address}
    name = holder(this, above, addressed)
    chosen = own if name == this else [c for c in all_ if c.name == name]
    if len(chosen) != 1:
        problem = SEVERAL if name is None else f"{len(chosen)} connections are for {name}"
        found.problems[own[0].text.path] = problem
        return found
    found.texts[chosen[0].text.path] = _with_address(chosen[0], wanted)
    return found


def _above(all_: list[_Connection], own: list[_Connection], this: str) -> dict[str, list[str]]:
    """What is made of an interface; a connection may name another one by its interface or its UUID."""
    by_uuid = {c.value("connection", "uuid"): c.name for c in all_}
    above: dict[str, list[str]] = {}
    for connection in all_:
        name = this if connection in own else connection.name
        if connection.upper:
            above.setdefault(name, []).append(by_uuid.get(connection.upper, connection.upper))
        parent = connection.value("vlan", "parent") or connection.value("macvlan", "parent")
        if parent:
            mac = normal_mac(parent)
            lower = this if mac and any(c.mac == mac for c in own) else by_uuid.get(parent, parent)
            above.setdefault(lower, []).append(connection.name)
    return above


def _with_address(connection: _Connection, wanted: Addressing) -> str:
    text = connection.text.text
    has_gateway_key = bool(connection.value("ipv4", "gateway"))
    addresses, gateways = [], []
    if wanted.address is not None:
        together = wanted.gateway is not None and not has_gateway_key
        addresses = [f"{wanted.address},{wanted.gateway}" if together else wanted.address]
        gateways = [wanted.gateway] if wanted.gateway is not None and has_gateway_key else []
    text = keyfile.with_values(text, "ipv4", "address1", addresses, lambda key: _REPLACED.fullmatch(key) is not None)
    text = keyfile.with_values(text, "ipv4", "gateway", gateways)
    if wanted.dns or wanted.address is None:
        text = keyfile.with_values(text, "ipv4", "dns", [";".join((*wanted.dns, ""))] if wanted.dns else [])
    return keyfile.with_values(text, "ipv4", "method", ["auto" if wanted.address is None else "manual"])
