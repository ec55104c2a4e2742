"""udev's persistent names of network cards, where they go by the card's place or driver instead of its MAC address.

udev(7): all conditions of a rule must hold. A rule that wants ``KERNELS=="0000:0b:00.0"`` or ``DRIVERS=="vmxnet3"`` is for a
card that is not there on KVM; the address is the same. Guests without systemd know no .link files, so a name that is not
the kernel's (biosdevname's em1: biosdevname does nothing in virtual machines) is kept by such a rule too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from drivers.changes import Change, EditFile, WriteFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.macs import normal_mac
from drivers.linux.nic_names import (
    HINT,
    KERNEL_NAME,
    PERSISTENT_RULES,
    SAFE_NAME,
    cards_of,
    is_card,
    known_macs,
    matched,
    namings_of,
    without_systemd,
)
from drivers.linux.splice import Splice, lines_of, spliced, with_lines
from drivers.plan import Finding

WHY = "the rule names a card by its place or driver, which it does not have on KVM; its MAC address stays"
WHY_NAME = "the network configuration knows the card by a name that nothing would give it on KVM"

_CONDITION = re.compile(r"([A-Z]+(?:\{[A-Za-z0-9_/]+\})?)==\"([^\"]*)\"")
_PLACES = frozenset({"KERNELS", "ID", "DEVPATH", "ENV{PHYSDEVPATH}", "ENV{ID_PATH}", "BUS", "SUBSYSTEMS"})
_DRIVERS = frozenset({"DRIVERS", "DRIVER", "ENV{PHYSDEVDRIVER}"})
_IDS = ("{vendor}", "{device}", "{subsystem_vendor}", "{subsystem_device}")
_ADDRESS = re.compile(r"(?:ATTRS?|SYSFS)\{address\}")
_NAME = re.compile(r"(?:\bNAME=\"|rename_netiface[ \t]+%k[ \t]+)([^\"%\s]+)\"")
_ANYTHING = ("?*", "*", "")
# busybox's mdev reads no rules
_WITHOUT_UDEV = frozenset({"alpine"})


def contribute(facts: GuestFacts, nic_macs: Sequence[str | None]) -> Contribution:
    """The rules' edits, rules for names that need them, and a warning for each rule that stays bound to the old machine."""
    cards = cards_of(nic_macs)
    changes: list[Change] = []
    warnings: list[Finding] = []
    added = _added(facts, cards)
    for path in PERSISTENT_RULES:
        file = facts.texts.get(path)
        text = file.text if file else ""
        after = spliced(text, _splices(text, cards)) if file else ""
        if path == PERSISTENT_RULES[0] and added:
            after = with_lines(after, added)
        if file is not None and after != text:
            changes.append(EditFile(file.resolved, text, after, WHY))
        elif file is None and after:
            changes.append(WriteFile(path, after, 0o644, WHY_NAME))
        warnings += _findings(file, cards) if file else ()
    return Contribution(tuple(changes), tuple(warnings))


def _splices(text: str, cards: Sequence[str | None]) -> Iterator[Splice]:
    only = _only_card(text, cards)
    for _, begin, line, conditions in _by_hardware(text):
        mac = _own_mac(line) or only
        if mac is None or mac not in cards:
            continue
        replaced = _own_mac(line) is not None
        for condition in conditions:
            if replaced:
                yield _removal(line, condition, begin)
            else:
                yield Splice(begin + condition.start(), begin + condition.end(), f'ATTR{{address}}=="{mac}"')
                replaced = True


def _findings(file: TextFile, cards: Sequence[str | None]) -> Iterator[Finding]:
    only = _only_card(file.text, cards)
    for number, _, line, conditions in _by_hardware(file.text):
        if only is None and _own_mac(line) is None:
            message = f"{file.path} line {number} names a card by {conditions[0][0]}, which no card has on KVM"
            yield Finding("linux.network.rule-by-hardware", message, HINT)


def _by_hardware(text: str) -> Iterator[tuple[int, int, str, list[re.Match[str]]]]:
    """The rules that name a card by what the move changes: line number, where it begins, the line, these conditions."""
    for number, begin, line in lines_of(text):
        if not line.lstrip().startswith("#") and _NAME.search(line):
            conditions = [match for match in _CONDITION.finditer(line) if _is_hardware(match[1], match[2])]
            # BUS== alone says nothing about the machine: it only goes with the place
            if any(match[1] not in ("BUS", "SUBSYSTEMS") for match in conditions):
                yield number, begin, line, conditions


def _is_hardware(key: str, value: str) -> bool:
    if key in _DRIVERS:
        return value not in _ANYTHING and not value.startswith("virtio")
    return (key in _PLACES and value not in _ANYTHING) or (key.startswith(("ATTR", "SYSFS")) and key.endswith(_IDS))


def _own_mac(line: str) -> str | None:
    found = (normal_mac(match[2]) for match in _CONDITION.finditer(line) if _ADDRESS.fullmatch(match[1]))
    return next((mac for mac in found if mac), None)


def _only_card(text: str, cards: Sequence[str | None]) -> str | None:
    """The card of a rule without address: where one such rule and one card are left, they belong together."""
    taken = {mac for line in text.split("\n") if not line.lstrip().startswith("#") and (mac := _own_mac(line))}
    rules = [line for _, _, line, _ in _by_hardware(text) if _own_mac(line) is None]
    free = [card for card in cards if card not in taken]
    return free[0] if len(rules) == 1 and len(free) == 1 else None


def _removal(line: str, condition: re.Match[str], begin: int) -> Splice:
    start, end = condition.span()
    after = len(line[end:]) - len(line[end:].lstrip(", \t"))
    return Splice(begin + start, begin + end + after, "")


def _added(facts: GuestFacts, cards: Sequence[str | None]) -> str:
    system = facts.os
    if not without_systemd(facts) or system is None or system.family in _WITHOUT_UDEV:
        return ""
    namings = tuple(namings_of(facts))
    given = {naming.name for naming in namings} | _ruled(facts)
    names = {interface.name.partition(".")[0] for interface in facts.network.interfaces} - given
    wanted = sorted(n for n in names if is_card(n) and SAFE_NAME.fullmatch(n) and not KERNEL_NAME.fullmatch(n))
    matches, _ = matched(wanted, known_macs(facts, namings), cards) if wanted else ({}, None)
    return "".join(_rule(name, mac) for name, mac in matches.items())


def _ruled(facts: GuestFacts) -> set[str]:
    """Names that rules give already, by whatever conditions (ours need not name an address)."""
    texts = (facts.texts[path].text for path in PERSISTENT_RULES if path in facts.texts)
    lines = (line for text in texts for line in text.split("\n") if not line.lstrip().startswith("#"))
    return {match[1] for line in lines for match in _NAME.finditer(line)}


def _rule(name: str, mac: str | None) -> str:
    address = f'ATTR{{address}}=="{mac}", ' if mac else ""
    return (
        f"# Added by p2v when this machine was moved to KVM: its network configuration names {name}.\n"
        f'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", {address}ATTR{{type}}=="1", KERNEL=="eth*", NAME="{name}"\n'
    )
