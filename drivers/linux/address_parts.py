"""What all styles of network configuration share when a card's address is changed."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

_LEVELS_AT_MOST = 8
# what a pattern for any card is tried on
USUAL_NAMES = ("eth0", "ens3", "enp1s0")


@dataclass(frozen=True, slots=True)
class Card:
    """A network card as the guest may know it: by name (empty: none that is known), by MAC address, as the only one."""

    name: str
    mac: str | None
    is_only: bool


@dataclass
class Rewritten:
    """One style's files that are about a card: their texts as they are to be, by path, and what stays and why."""

    texts: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def knows_card(self) -> bool:
        """Whether the style has anything about the card."""
        return bool(self.texts or self.problems)


def holder(name: str, above: Mapping[str, Sequence[str]], addressed: Collection[str]) -> str | None:
    """The interface that has the address: the card, or what is made of it (bridge, bond, VLAN); None where several may."""
    level, seen = [name], {name}
    for _ in range(_LEVELS_AT_MOST):
        holding = [each for each in level if each in addressed]
        if holding:
            return holding[0] if len(holding) == 1 else None
        following = [upper for each in level for upper in dict.fromkeys(above.get(each, ())) if upper not in seen]
        if not following:
            return level[0] if len(level) == 1 else None
        seen.update(following)
        level = list(dict.fromkeys(following))
    return None


SEVERAL = "several interfaces are made of the card, and which of them is to have the address cannot be told"


def netmask(address: str) -> str:
    """``255.255.255.0`` of ``10.0.2.40/24``."""
    return str(ipaddress.IPv4Interface(address).netmask)


def bare(address: str) -> str:
    """``10.0.2.40`` of ``10.0.2.40/24``."""
    return address.partition("/")[0]


def is_ipv4(text: str) -> bool:
    """Whether a word is an IPv4 address, with or without prefix."""
    parts = text.partition("/")[0].split(".")
    return len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts)
