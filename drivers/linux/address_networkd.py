"""A card's address in systemd-networkd's files (systemd.network(5))."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from drivers.facts import TextFile
from drivers.linux import keyfile
from drivers.linux.address_parts import SEVERAL, USUAL_NAMES, Card, Rewritten, holder, is_ipv4
from drivers.linux.keyfile import Setting
from drivers.linux.macs import normal_mac
from drivers.linux.nic_names import LINK_FOLDER
from drivers.plan import Addressing

_YES = frozenset({"yes", "true", "1", "on", "both"})
_EVERYWHERE = ("", "0.0.0.0/0", "0.0.0.0")
_INTERFACES_AT_MOST = 64
_UPPERS = ("Bridge", "Bond", "VLAN", "MACVLAN", "IPVLAN", "VRF")


@dataclass(frozen=True, slots=True)
class _File:
    text: TextFile
    settings: tuple[Setting, ...]

    def is_for(self, name: str) -> bool:
        patterns = keyfile.values(self.settings, "Match", "Name")[:_INTERFACES_AT_MOST]
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    def is_for_card(self, card: Card) -> bool:
        words = [w for key in ("MACAddress", "PermanentMACAddress") for w in keyfile.values(self.settings, "Match", key)]
        if words:
            return card.mac is not None and card.mac in map(normal_mac, words)
        if card.name and self.is_for(card.name):
            return True
        return card.is_only and any(map(self.is_for, USUAL_NAMES))

    @property
    def has_address(self) -> bool:
        dhcp = keyfile.first(self.settings, "Network", "DHCP").lower()
        return dhcp in _YES | {"ipv4"} or any(is_ipv4(s.value) for s in self.settings if s.key == "Address")


def rewrite(texts: Mapping[str, TextFile], card: Card, wanted: Addressing) -> Rewritten:
    """The first file that fits the card, as networkd takes it, or the one of what is made of the card."""
    found = Rewritten()
    paths = sorted((p for p in texts if p.endswith(".network") and posixpath.dirname(p) == LINK_FOLDER), key=posixpath.basename)
    files = [_File(texts[path], keyfile.parse(texts[path].text)) for path in paths]
    own = next((file for file in files if file.is_for_card(card)), None)
    if own is None:
        return found
    this = card.name or "the card"
    by_name, above = _made_of(this, own, files)
    name = holder(this, above, {name for name, file in by_name.items() if file.has_address})
    if name is None or name not in by_name:
        found.problems[own.text.path] = SEVERAL if name is None else f"no file is for {name}, which is made of the card"
        return found
    found.texts[by_name[name].text.path] = _with_address(by_name[name], wanted)
    return found


def _made_of(this: str, own: _File, files: list[_File]) -> tuple[dict[str, _File], dict[str, list[str]]]:
    """The files of the card and of everything that is made of it, by interface, and what is made of each."""
    by_name, above, todo = {this: own}, dict[str, list[str]](), [this]
    while todo and len(by_name) < _INTERFACES_AT_MOST:
        name = todo.pop()
        settings = by_name[name].settings
        uppers = [upper for key in _UPPERS for upper in keyfile.values(settings, "Network", key)]
        above[name] = uppers[:_INTERFACES_AT_MOST]
        for upper in above[name]:
            file = next((each for each in files if each.is_for(upper)), None) if upper not in by_name else None
            if file is not None:
                by_name[upper] = file
                todo.append(upper)
    return by_name, above


def _with_address(file: _File, wanted: Addressing) -> str:
    text = keyfile.without_sections(file.text.text, _is_replaced)
    before = keyfile.parse(text)
    dhcp = keyfile.first(before, "Network", "DHCP").lower()
    by_ipv6 = dhcp in _YES | {"ipv6"}
    modes = ("ipv4", "yes") if wanted.address is None else ("no", "ipv6")
    if wanted.address is None or dhcp not in ("", "no", "false", "0", "off", "none"):
        text = keyfile.with_values(text, "Network", "DHCP", [modes[by_ipv6]])
    text = _with_ipv4(text, "Address", () if wanted.address is None else (wanted.address,))
    text = _with_ipv4(text, "Gateway", () if wanted.gateway is None else (wanted.gateway,))
    if wanted.dns or wanted.address is None:
        text = _with_ipv4(text, "DNS", wanted.dns)
    return text


def _with_ipv4(text: str, key: str, wanted: tuple[str, ...]) -> str:
    old = [s.value for s in keyfile.parse(text) if (s.section, s.key) == ("Network", key)]
    # lists of servers may mix both kinds on a line
    kept = [" ".join(word for word in value.split() if not is_ipv4(word)) for value in old]
    return keyfile.with_values(text, "Network", key, [*wanted, *filter(None, kept)])


def _is_replaced(section: tuple[Setting, ...]) -> bool:
    """An IPv4 address with a section of its own, and a default route of IPv4."""
    values = {setting.key: setting.value for setting in section}
    kind = section[0].section if section else ""
    if kind == "Address":
        return is_ipv4(values.get("Address", ""))
    gateway = values.get("Gateway", "")
    return kind == "Route" and is_ipv4(gateway) and values.get("Destination", "") in _EVERYWHERE
