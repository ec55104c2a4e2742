"""Network cards keep the names that the guest's configuration knows (systemd.link(5)).

A card on KVM sits elsewhere and would be called otherwise (``ens33`` -> ``enp1s0``), so a .link file names it: by
its MAC address where the machine keeps that, else, when there is one card and one name, as the only PCI card. udev
takes the first .link file that matches, by file name: ours come before the distribution's 73- and 99- files. The
supplement to the initramfs has no virtio_net, so no card is named before these files are read.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers.changes import Change
from drivers.facts import GuestFacts
from drivers.linux import keyfile
from drivers.linux.architectures import architecture_of
from drivers.linux.contribution import Contribution
from drivers.linux.desired import written
from drivers.linux.macs import normal_mac
from drivers.plan import Finding

LINK_FOLDER = "/etc/systemd/network"
LINK_PREFIX = "70-p2v-"
DEFAULT_LINK = f"{LINK_FOLDER}/99-default.link"
NAMING_RULES = "/etc/udev/rules.d/80-net-setup-link.rules"
PERSISTENT_RULES = (
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/etc/udev/rules.d/30-net_persistent_names.rules",
    "/etc/udev/rules.d/z25_persistent-net.rules",
)
"""Where udev of Debian 4 to 8, RHEL 6 and SLES 10 to 12 writes which card has which name."""

WHY = "the network configuration knows the card as {name}; on KVM it would get another name and stay unconfigured"
HINT = "Give the cards' MAC addresses with --mac, in the order of the source's network cards."

# what systemd and biosdevname call cards; bridges, bonds and the like have names that no move changes
_CARD = re.compile(
    r"en(?:x[0-9a-f]{12}|[a-zA-Z][0-9][a-zA-Z0-9]{0,11})|eth[0-9]{1,3}|em[0-9]{1,3}|p[0-9]{1,3}p[0-9]{1,3}(?:_[0-9]{1,3})?"
)
# names end up in a file's name
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
KERNEL_NAME = re.compile(r"eth[0-9]+")
_RULE_MAC = re.compile(r"(?:ATTRS?|SYSFS)\{address\}==\"([^\"]+)\"")
_RULE_NAME = re.compile(r"(?:NAME=\"|rename_netiface[ \t]+%k[ \t]+)([^\"%\s]+)\"")
# what a card on KVM has
_NEW_HARDWARE = ("virtio", "pci-*", "*", "?*")


@dataclass(frozen=True, slots=True)
class Naming:
    """A .link file or udev rule of the guest's own: the name it gives, and to which card (None: not by MAC)."""

    path: str
    name: str
    mac: str | None
    any_card: bool = False


def contribute(facts: GuestFacts, nic_macs: Sequence[str | None]) -> Contribution:
    """.link files for the names that need them; warnings where cards and names cannot be matched.

    ``nic_macs``: the machine's cards in order, None where the MAC is not known (and so not kept).
    """
    cards = cards_of(nic_macs)
    namings = tuple(namings_of(facts))
    warnings = [*_mac_findings(facts, namings, cards), *_hardware_findings(facts), *_unread(facts)]
    names = _names_to_keep(facts, namings, cards)
    if not names:
        return Contribution(warnings=tuple(warnings))
    matches, problem = matched(names, known_macs(facts, namings), cards)
    if problem is not None:
        warnings.append(problem)
    warnings += [_shadowing(naming) for naming in namings if matches and naming.any_card]
    changes = [change for name, mac in matches.items() for change in _link(facts, name, mac)]
    return Contribution(tuple(changes), tuple(warnings))


def cards_of(nic_macs: Sequence[str | None]) -> tuple[str | None, ...]:
    """The machine's cards in one spelling; a machine of which nothing is known has one."""
    return tuple(normal_mac(mac) if mac else None for mac in nic_macs) or (None,)


def is_card(name: str) -> bool:
    """Whether systemd, biosdevname or the kernel would call a card so."""
    return _CARD.fullmatch(name) is not None


def _names_to_keep(facts: GuestFacts, namings: Sequence[Naming], cards: Sequence[str | None]) -> tuple[str, ...]:
    if kernel_names_apply(facts):
        return ()
    kept = {naming.name for naming in namings if naming.mac and naming.mac in cards}
    given = {naming.name for naming in namings if naming.name and not naming.any_card}
    configured = {interface.name.partition(".")[0] for interface in facts.network.interfaces}
    names = {name for name in configured if _CARD.fullmatch(name)}
    predictable = {name for name in names if not KERNEL_NAME.fullmatch(name)}
    by_mac = {interface.name for interface in facts.network.interfaces if interface.mac and interface.mac in cards}
    # beside a card named by its place, an eth0 is a leftover: systemd calls none so
    names = (predictable or names) | (given & configured) | (names & by_mac)
    return tuple(sorted((name for name in names - kept if SAFE_NAME.fullmatch(name)), key=natural))


def kernel_names_apply(facts: GuestFacts) -> bool:
    """Whether the guest takes the kernel's eth0, eth1, ...: these go by order, which the move keeps."""
    if without_systemd(facts):
        return True
    if any(facts.links.get(path) == "/dev/null" for path in (DEFAULT_LINK, NAMING_RULES)):
        return True
    return facts.boot_loader.starts_with("net.ifnames=0")


def known_macs(facts: GuestFacts, namings: Sequence[Naming]) -> dict[str, str]:
    """Which card has which name, as far as the guest says so."""
    known = {interface.name: interface.mac for interface in facts.network.interfaces if interface.mac}
    return known | {naming.name: naming.mac for naming in namings if naming.mac}


def matched(
    names: Sequence[str], known: Mapping[str, str], cards: Sequence[str | None]
) -> tuple[dict[str, str | None], Finding | None]:
    """Which card each name belongs to; None as MAC: there is one card only, whatever its MAC."""
    matches: dict[str, str | None] = {name: known[name] for name in names if name in known and known[name] in cards}
    left = [name for name in names if name not in matches]
    free = [mac for mac in cards if mac is None or mac not in matches.values()]
    if not left:
        return matches, None
    if len(left) == 1 and len(free) == 1 and (free[0] or len(cards) == 1):
        return matches | {left[0]: free[0]}, None
    if len(left) <= len(free) and all(free):
        guessed = dict(zip(left, free, strict=False))
        pairs = ", ".join(f"{name} for {mac}" for name, mac in guessed.items())
        message = f"nothing in the guest says which card is which; by their order they are taken as {pairs}"
        hint = "Check the guest's addresses after the migration."
        return matches | guessed, Finding("linux.network.order-guessed", message, hint)
    count = f"{len(cards)} network card{'' if len(cards) == 1 else 's'}"
    message = f"the configuration names {', '.join(left)}, and which of {count} each is cannot be told"
    return matches, Finding("linux.network.names-ambiguous", message, HINT)


def _link(facts: GuestFacts, name: str, mac: str | None) -> Iterator[Change]:
    path = f"{LINK_FOLDER}/{LINK_PREFIX}{name}.link"
    # Path= fits real cards and no VLAN or bridge, which may carry the card's MAC
    match = (f"MACAddress={mac}\n" if mac else "") + f"Path={architecture_of(facts).card_paths}\n"
    text = (
        f"# Made by p2v when this machine was moved to KVM: its network configuration names {name}.\n"
        "# Without this file the card gets a name by its new place.\n"
        f"[Match]\n{match}\n[Link]\nName={name}\n"
    )
    return written(facts, path, text, 0o644, WHY.format(name=name))


def namings_of(facts: GuestFacts) -> Iterator[Naming]:
    """What the guest's own .link files and udev rules name."""
    for path in sorted(facts.texts):
        base = posixpath.basename(path)
        if posixpath.dirname(path) != LINK_FOLDER or not path.endswith(".link") or base.startswith(LINK_PREFIX):
            continue
        settings = keyfile.parse(facts.texts[path].text)
        matched = [s for s in settings if s.section == "Match"]
        macs = [word for s in matched if s.key in ("MACAddress", "PermanentMACAddress") for word in s.value.split()]
        any_card = base < LINK_PREFIX and all(s.key in ("OriginalName", "Type") for s in matched)
        name = keyfile.first(settings, "Link", "Name")
        yield from (Naming(path, name, normal_mac(mac)) for mac in macs)
        if not macs:
            yield Naming(path, name, None, any_card)
    for path in PERSISTENT_RULES:
        rules = facts.texts.get(path)
        for line in rules.text.split("\n") if rules else ():
            mac, named = _RULE_MAC.search(line), _RULE_NAME.search(line)
            if mac and named and not line.lstrip().startswith("#"):
                yield Naming(path, named[1], normal_mac(mac[1]))


def _mac_findings(facts: GuestFacts, namings: Sequence[Naming], cards: Sequence[str | None]) -> Iterator[Finding]:
    """Configuration that knows a card by its MAC alone works only where the machine keeps that."""
    by_mac = {interface.source: interface.mac for interface in facts.network.interfaces if interface.mac}
    by_mac |= {naming.path: naming.mac for naming in namings if naming.mac and without_systemd(facts)}
    for path, mac in sorted(by_mac.items()):
        if mac not in cards:
            message = f"{path} is for the network card {mac}, and it is not known that the machine keeps that address"
            yield Finding("linux.network.by-mac", message, HINT)


def _hardware_findings(facts: GuestFacts) -> Iterator[Finding]:
    for interface in facts.network.interfaces:
        old = [word for word in interface.hardware.split() if not word.startswith(_NEW_HARDWARE)]
        if old:
            message = f"{interface.source} is for a card of the old machine ({' '.join(old)[:80]}), which is not there on KVM"
            yield Finding("linux.network.by-hardware", message, "Match the card by its MAC address in the guest.")


def _unread(facts: GuestFacts) -> Iterator[Finding]:
    for interface in facts.network.interfaces:
        if interface.method == "unread":
            message = f"{interface.source} could not be read, so names of network cards in it are not kept"
            hint = "Look into it in the guest; if it names a card, rename it there after the migration."
            yield Finding("linux.network.unread", message, hint)


def _shadowing(naming: Naming) -> Finding:
    return Finding(
        "linux.network.link-shadowed",
        f"{naming.path} matches every card and is read before ours, so the card's name may not be kept",
        f"Rename it so that it sorts after {LINK_PREFIX}*.link.",
    )


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key to sort names of cards by: numbers by their size."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((int(piece), "") if piece[0] in "0123456789" else (-1, piece) for piece in pieces)


def without_systemd(facts: GuestFacts) -> bool:
    """Whether the guest knows no .link files."""
    return facts.os is not None and facts.os.init not in ("", "systemd")
