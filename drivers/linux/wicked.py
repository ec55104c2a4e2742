"""The interfaces that wicked's own configuration names: /etc/wicked/ifconfig/*.xml (wicked(8), wicked-ifreload's "Configuration").

SUSE's ifcfg files are read as such (``network``); these take their place where somebody wrote them. Elements are looked for by
name: what they are nested in does not matter here, and a document that is none has none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from drivers.facts import InterfaceConfig
from drivers.linux import paths
from drivers.linux.macs import normal_mac
from drivers.tree import GuestTree

CONFIGS = "/etc/wicked/ifconfig/*.xml"

# one try at each place, whatever the document is
_TAG = re.compile(r"<(?P<end>/?)(?P<name>[A-Za-z0-9:._-]{1,64})(?P<attributes>[^<>]*)>(?P<text>[^<]*)")
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,15}")


@dataclass
class _Interface:
    """What was found between ``<interface>`` and its end."""

    name: str = ""
    mac: str | None = None
    addresses: list[str] = field(default_factory=list)
    dhcp: list[bool] = field(default_factory=list)
    below: list[str] = field(default_factory=list)

    def add(self, tag: re.Match[str]) -> None:
        """Take note of an element that begins."""
        text = tag["text"].strip()
        match tag["name"]:
            # with a namespace the element holds an address and no name
            case "name" if not tag["attributes"].strip() and _PLAIN.fullmatch(text):
                self.name = self.name or text
            case "permanent-address":
                self.mac = self.mac or normal_mac(text)
            case "local" if text:
                self.addresses.append(text)
            case "ipv4:dhcp" | "ipv6:dhcp":
                self.dhcp.append(True)
            case "enabled" if text == "false" and self.dhcp:
                self.dhcp[-1] = False
            # ports of bridges, parts of bonds, what a VLAN stands on
            case "device" if _PLAIN.fullmatch(text):
                self.below.append(text)

    def configured(self, path: str) -> Iterator[InterfaceConfig]:
        """The facts."""
        method = "static" if self.addresses else "dhcp" if any(self.dhcp) else "manual"
        if self.name or self.mac:
            yield InterfaceConfig(self.name, path, method, tuple(self.addresses), self.mac)
        for below in self.below:
            yield InterfaceConfig(below, path, "manual")


def interfaces(tree: GuestTree) -> Iterator[InterfaceConfig]:
    """Each interface once for each file that names it."""
    for path in paths.matching(tree, CONFIGS):
        file = paths.read_text(tree, path)
        current: _Interface | None = None
        for tag in _TAG.finditer(_without_comments(file.text) if file is not None else ""):
            if tag["name"] == "interface":
                if tag["end"] and current is not None:
                    yield from current.configured(path)
                current = None if tag["end"] else _Interface()
            elif current is not None and not tag["end"]:
                current.add(tag)


def _without_comments(text: str) -> str:
    parts, at = [], 0
    while (begin := text.find("<!--", at)) >= 0:
        parts.append(text[at:begin])
        end = text.find("-->", begin)
        if end < 0:
            return "".join(parts)
        at = end + len("-->")
    return "".join((*parts, text[at:]))
