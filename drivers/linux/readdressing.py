"""``--ip``: the address of a network card changed in the guest's configuration, in whatever style that is written.

Which interface a card is, is told as for keeping names (``nic_names``): by MAC address, by the only one of both, by order.
Where a bridge, a bond or one VLAN is made of the card, that has the address and stays. Every style that knows the card is
rewritten: which of them the guest uses is not told by its files alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from drivers.changes import Change
from drivers.facts import GuestFacts, TextFile
from drivers.linux import address_ifcfg, address_ifupdown, address_netplan, address_networkd, address_networkmanager
from drivers.linux.address_parts import Card, Rewritten, bare, is_ipv4
from drivers.linux.contribution import Contribution
from drivers.linux.desired import written
from drivers.linux.nic_names import (
    KERNEL_NAME,
    cards_of,
    is_card,
    kernel_names_apply,
    known_macs,
    matched,
    namings_of,
    natural,
)
from drivers.linux.splice import lines_of
from drivers.plan import Addressing, Finding, PlanOptions

STYLES: tuple[Callable[[Mapping[str, TextFile], Card, Addressing], Rewritten], ...] = (
    address_ifupdown.rewrite,
    address_ifcfg.rewrite,
    address_networkmanager.rewrite,
    address_netplan.rewrite,
    address_networkd.rewrite,
)
"""Every style of configuration that is rewritten."""

HOSTS = "/etc/hosts"
_HINT = "Set the address in the converted guest, or at its console."


@dataclass(frozen=True, slots=True)
class Readdressed:
    """The guest as it is with the new addresses, for the planners that come after, and what makes it so."""

    facts: GuestFacts
    contribution: Contribution


def readdress(facts: GuestFacts, options: PlanOptions) -> Readdressed:
    """The edits for every card that is to have another address, and a warning for each file that stays as it is."""
    changes: list[Change] = []
    warnings: list[Finding] = []
    for index, wanted in enumerate(options.addressing):
        if wanted is None:
            continue
        card = _card(facts, cards_of(options.nic_macs), index)
        why = f"network card {index + 1}{f' ({card.name})' if card.name else ''} is to have " + (
            wanted.address or "an address by DHCP"
        )
        results = [style(facts.texts, card, wanted) for style in STYLES]
        if not any(result.knows_card for result in results):
            warnings.append(_unknown(facts, card, index))
        warnings += _hosts(facts, {path for result in results for path in result.texts}, wanted)
        for result in results:
            facts, made = _with_texts(facts, result.texts, why)
            changes += made
            warnings += [_kept(path, problem) for path, problem in result.problems.items()]
        warnings += _secret(facts, card)
    return Readdressed(facts, Contribution(tuple(changes), tuple(warnings)))


def _card(facts: GuestFacts, cards: Sequence[str | None], index: int) -> Card:
    mac, is_only = cards[index], len(cards) == 1
    namings = tuple(namings_of(facts))
    known = known_macs(facts, namings)
    configured = {interface.name.partition(".")[0] for interface in facts.network.interfaces}
    names = sorted(name for name in configured if is_card(name) or name in known)
    if mac is not None and (named := [name for name in names if known.get(name) == mac]):
        return Card(named[0], mac, is_only)
    free = [name for name in names if known.get(name) not in cards or known.get(name) is None]
    if kernel_names_apply(facts) and f"eth{index}" in free:
        return Card(f"eth{index}", mac, is_only)
    # beside a card named by its place, an eth0 is a leftover
    placed = [name for name in names if not KERNEL_NAME.fullmatch(name)]
    matches, _ = matched(sorted(placed or names, key=natural), known, cards)
    mine = [name for name, found in matches.items() if found == mac and (mac is not None or is_only)]
    return Card(mine[0] if mine else "", mac, is_only)


def _with_texts(facts: GuestFacts, texts: Mapping[str, str], why: str) -> tuple[GuestFacts, list[Change]]:
    changes: list[Change] = []
    after = dict(facts.texts)
    for path, text in texts.items():
        changes += written(facts, path, text, 0o644, why)
        after[path] = replace(after[path], text=text) if path in after else TextFile(path, path, text)
    return replace(facts, texts=dict(sorted(after.items()))), changes


def _unknown(facts: GuestFacts, card: Card, index: int) -> Finding:
    stacks = ", ".join(facts.network.stacks) or "nothing that is known"
    what = card.name or card.mac or "which has no name in it that can be told"
    message = f"no configuration ({stacks}) is for network card {index + 1} ({what}), so its address is not set"
    return Finding("linux.network.address-not-set", message, _HINT)


def _hosts(facts: GuestFacts, changed: Collection[str], wanted: Addressing) -> Iterator[Finding]:
    """Where hosts(5) has an address that goes: what else it is known by is the user's to say."""
    file = facts.texts.get(HOSTS)
    given = [each for interface in facts.network.interfaces if interface.source in changed for each in interface.addresses]
    old = {bare(address) for address in given if is_ipv4(address)} - {bare(wanted.address or "")}
    for number, _, line in lines_of(file.text) if file is not None else ():
        words = line.split()
        if words and words[0] in old:
            message = f"{HOSTS} line {number} has the old address {words[0]}"
            yield Finding("linux.network.address-in-hosts", message, "Change it in the converted guest.")


def _kept(path: str, problem: str) -> Finding:
    return Finding("linux.network.address-kept", f"{path} keeps what it says of addresses: {problem}", _HINT)


def _secret(facts: GuestFacts, card: Card) -> Iterator[Finding]:
    for interface in facts.network.interfaces:
        is_cards = interface.name == card.name if card.name else (card.mac is not None and interface.mac == card.mac)
        if is_cards and interface.source not in facts.texts:
            yield _kept(interface.source, "it holds passwords or is too large, so it is in no plan")
