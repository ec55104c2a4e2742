"""A card's address in netplan's YAML (https://netplan.readthedocs.io/en/stable/netplan-yaml/)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from drivers.facts import TextFile
from drivers.linux import netplan, plain_yaml
from drivers.linux.address_parts import SEVERAL, USUAL_NAMES, Card, Rewritten, holder, is_ipv4
from drivers.linux.macs import normal_mac
from drivers.linux.plain_yaml import Node
from drivers.linux.splice import Splice, spliced
from drivers.linux.yaml_edits import edits, listed, rendered
from drivers.plan import Addressing

_KINDS = ("ethernets", "bonds", "bridges", "vlans", "vrfs", "dummy-devices", "tunnels")
_DEFAULT = ("default", "0.0.0.0/0", "0/0")


@dataclass(frozen=True, slots=True)
class _Definition:
    """What a file says of an interface; ``id`` is netplan's name for it."""

    file: TextFile
    kind: str
    id: str
    node: Node

    @property
    def settings(self) -> dict[str, plain_yaml.Value]:
        return plain_yaml.mapping(self.node.value)

    @property
    def has_address(self) -> bool:
        listed_ = self.settings.get("addresses", [])
        return self.is_on("dhcp4") or (isinstance(listed_, list) and any(is_ipv4(netplan.address(item)) for item in listed_))

    def is_on(self, key: str) -> bool:
        return str(self.settings.get(key, "")).lower() in netplan.TRUE

    def words(self, key: str) -> list[str]:
        value = self.settings.get(key, [])
        return [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]

    def is_for(self, card: Card) -> bool:
        match = plain_yaml.mapping(self.settings, "match")
        mac, name = normal_mac(str(match.get("macaddress", ""))), str(match.get("name", ""))
        if mac is not None:
            return mac == card.mac
        if not match:
            return bool(card.name) and self.id == card.name
        if card.name and (self.settings.get("set-name") == card.name or fnmatchcase(card.name, name)):
            return True
        return card.is_only and any(fnmatchcase(usual, name) for usual in USUAL_NAMES)


def rewrite(texts: Mapping[str, TextFile], card: Card, wanted: Addressing) -> Rewritten:
    """The definition of the card, or of what is made of it, with its new address; earlier files' parts of it go."""
    found = Rewritten()
    files = [texts[path] for path in _in_order(texts)]
    definitions = [definition for file in files for definition in _definitions(file)]
    own = [each for each in definitions if each.kind == "ethernets" and each.is_for(card)]
    if not own:
        return found
    this = own[-1].id
    name = holder(this, _above(definitions), {each.id for each in definitions if each.has_address})
    chosen = [each for each in definitions if each.id == name]
    if not chosen:
        found.problems[own[-1].file.path] = SEVERAL if name is None else f"nothing defines {name}"
        return found
    for definition in chosen:
        path, text = definition.file.path, definition.file.text
        if path in found.texts:
            found.problems[path] = f"it defines {name} twice"
            continue
        found.texts[path] = spliced(text, _splices(text, definition, wanted if definition is chosen[-1] else None))
    return found


def _in_order(texts: Mapping[str, TextFile]) -> list[str]:
    """netplan's files; one hides another of the same name in an earlier folder."""
    by_name: dict[str, str] = {}
    for folder in netplan.FOLDERS:
        inside = [path for path in texts if posixpath.dirname(path) == folder and path.endswith(".yaml")]
        by_name |= {posixpath.basename(path): path for path in inside}
    return [by_name[name] for name in sorted(by_name)]


def _definitions(file: TextFile) -> Iterator[_Definition]:
    try:
        root = plain_yaml.locate(file.text)
    except plain_yaml.BadYaml:
        return  # nic_names says so
    network = root.child("network") if root is not None else None
    for kind in _KINDS:
        section = network.child(kind) if network is not None else None
        for key, node in (section.pairs or []) if section is not None else []:
            yield _Definition(file, kind, key.text, node)


def _above(definitions: list[_Definition]) -> dict[str, list[str]]:
    above: dict[str, list[str]] = {}
    for each in definitions:
        for lower in (*each.words("interfaces"), *each.words("link")):
            above.setdefault(lower, []).append(each.id)
    return above


def _splices(text: str, definition: _Definition, wanted: Addressing | None) -> Iterator[Splice]:
    """``wanted`` None: everything about IPv4 addresses goes, as a later file says it."""
    node = definition.node
    is_dhcp = wanted is not None and wanted.address is None
    new: dict[str, str | None] = {}
    if is_dhcp != definition.is_on("dhcp4"):
        new["dhcp4"] = "true" if is_dhcp else "false"
    address = [wanted.address] if wanted is not None and wanted.address is not None else []
    new["addresses"] = _addresses(text, node.child("addresses"), address)
    gateway = wanted.gateway if wanted is not None else None
    has_old_key = node.child("gateway4") is not None
    new["gateway4"] = gateway if has_old_key else None
    new["routes"] = _routes(text, node.child("routes"), None if has_old_key else gateway)
    if wanted is not None and (wanted.dns or is_dhcp):
        yield from _name_servers(text, node.child("nameservers"), wanted.dns, new)
    yield from edits(text, node, new)


def _addresses(text: str, node: Node | None, wanted: list[str]) -> str | None:
    items = (node.items or []) if node is not None else []
    kept = [rendered(text, item) for item in items if not is_ipv4(netplan.address(item.value))]
    return listed([*wanted, *kept]) if wanted or kept else None


def _routes(text: str, node: Node | None, gateway: str | None) -> str | None:
    items = (node.items or []) if node is not None else []
    given = [plain_yaml.mapping(item.value) for item in items]
    is_replaced = [each.get("to") in _DEFAULT and is_ipv4(str(each.get("via", ""))) for each in given]
    kept = [rendered(text, item) for item, gone in zip(items, is_replaced, strict=True) if not gone]
    # what every version of netplan understands, unless the file has the newer word
    old = [str(each["to"]) for each, gone in zip(given, is_replaced, strict=True) if gone]
    new = [f"{{to: {old[0] if old else _DEFAULT[1]}, via: {gateway}}}"] if gateway is not None else []
    return listed([*new, *kept]) if new or kept else None


def _name_servers(
    text: str, node: Node | None, servers: tuple[str, ...], new: dict[str, str | None]
) -> Iterator[Splice]:
    """Into the mapping that is there, else as a new one."""
    before = node.child("addresses") if node is not None else None
    items = (before.items or []) if before is not None else []
    kept = [rendered(text, item) for item in items if not is_ipv4(str(item.value))]
    addresses = listed([*servers, *kept]) if servers or kept else None
    others = [key for key, _ in (node.pairs or []) if key.text != "addresses"] if node is not None else []
    if node is None or not others:
        new["nameservers"] = f"{{addresses: {addresses}}}" if addresses is not None else None
    else:
        yield from edits(text, node, {"addresses": addresses})
