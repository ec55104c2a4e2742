"""netplan's YAML (https://netplan.readthedocs.io/en/stable/netplan-yaml/): the cards that it names or matches."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from drivers.facts import InterfaceConfig
from drivers.linux import paths, plain_yaml
from drivers.linux.macs import normal_mac
from drivers.tree import GuestTree

FOLDERS = ("/usr/lib/netplan", "/lib/netplan", "/etc/netplan")
"""In the order in which one hides another's file of the same name; /run/netplan is not on the disk."""
TRUE = frozenset({"true", "yes", "on", "y"})


def files(tree: GuestTree) -> tuple[str, ...]:
    """The files that are read, in their order: by name, whatever their folder."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        found |= {posixpath.basename(path): path for path in paths.matching(tree, f"{folder}/*.yaml")}
    return tuple(found[name] for name in sorted(found))


def interfaces(tree: GuestTree) -> Iterator[InterfaceConfig]:
    """The cards below ``ethernets``; a file that cannot be read gives one without name and address."""
    cards: dict[str, dict[str, plain_yaml.Value]] = {}
    sources: dict[str, str] = {}
    for path in files(tree):
        file = paths.read_text(tree, path)
        try:
            found = plain_yaml.mapping(plain_yaml.load(file.text) if file else None, "network", "ethernets")
        except plain_yaml.BadYaml:
            yield InterfaceConfig("", path, "unread")
            continue
        for name, settings in found.items():
            # a later file adds to the definition of an earlier one
            cards[name] = cards.get(name, {}) | plain_yaml.mapping(settings)
            sources[name] = path
    for name, settings in cards.items():
        yield _card(name, sources[name], settings)


def _card(name: str, source: str, settings: dict[str, plain_yaml.Value]) -> InterfaceConfig:
    match = plain_yaml.mapping(settings, "match")
    driver = match.get("driver", "")
    drivers = driver if isinstance(driver, list) else [driver]
    listed = settings.get("addresses", [])
    addresses = tuple(address(item) for item in listed) if isinstance(listed, list) else ()
    dhcp = any(_text(settings, key).lower() in TRUE for key in ("dhcp4", "dhcp6"))
    return InterfaceConfig(
        # with a match, the definition's name is no more than a handle
        name=_text(settings, "set-name") or (_text(match, "name") if match else name),
        source=source,
        method="dhcp" if dhcp else "static" if addresses else "manual",
        addresses=addresses,
        mac=normal_mac(_text(match, "macaddress")),
        hardware=" ".join(item for item in drivers if isinstance(item, str)),
    )


def address(item: plain_yaml.Value) -> str:
    """The address in an item of ``addresses``."""
    # an address with options is a mapping of one key
    return next(iter(item), "") if isinstance(item, dict) else item if isinstance(item, str) else ""


def _text(settings: dict[str, plain_yaml.Value], key: str) -> str:
    value = settings.get(key, "")
    return value if isinstance(value, str) else ""
