"""MAC addresses that the machine's cards get in place of the source's: what names the old ones in the guest follows.

So the interfaces keep their names, and configuration by address still applies: udev's rules, systemd's .link and .network
files, ``HWADDR``, NetworkManager's ``mac-address``, netplan's ``match``, ``ifname=`` on a kernel's command line.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from drivers.changes import Change, EditFile, WriteFile
from drivers.facts import GuestFacts, InterfaceConfig, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.desired import deletion
from drivers.linux.macs import normal_mac
from drivers.plan import Finding

WHY = "the network card has another MAC address on KVM, and keeps its name and its configuration"

# not inside a longer row of bytes (InfiniBand's address, a fingerprint)
_WHOLE = r"(?<![0-9a-z])(?<![:-][0-9a-f]{{2}}[:-])(?:{})(?![0-9a-z]|[:-][0-9a-f]{{2}}(?![0-9a-z]))"
# SLES 9 and 10 put the address into the file's name (ifcfg(5))
_IN_NAME = "ifcfg-eth-id-"
_FROM_MAC = re.compile(r"enx([0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Changed:
    """The guest as it is with the new addresses, for the planners that come after, and what makes it so."""

    facts: GuestFacts
    contribution: Contribution


def change_macs(facts: GuestFacts, changes: Sequence[tuple[str, str]]) -> Changed:
    """Every text with the new addresses in it; a warning for a file that names an old one and is not in the facts."""
    if not changes:
        return Changed(facts, Contribution())
    new = dict(changes)
    texts: dict[str, TextFile] = {}
    made: dict[str, tuple[Change, ...]] = {}
    for path, file in facts.texts.items():
        after = replace(file, text=_with_new(file.text, new))
        base = posixpath.basename(path)
        name = _with_new(base, new) if base.startswith(_IN_NAME) else base
        if name != base and file.resolved == path:
            target = posixpath.join(posixpath.dirname(path), name)
            made[path] = (WriteFile(target, after.text, file.mode, WHY), deletion(file, WHY))
            texts[target] = replace(after, path=target, resolved=target)
            continue
        texts[path] = after
        if after.text != file.text:
            made[file.resolved] = (EditFile(file.resolved, file.text, after.text, WHY),)
    interfaces = tuple(_interface(interface, new, texts) for interface in facts.network.interfaces)
    moved = replace(facts, texts=dict(sorted(texts.items())), network=replace(facts.network, interfaces=interfaces))
    found = Contribution(tuple(change for each in made.values() for change in each), tuple(_left(facts, new)))
    return Changed(moved, found)


def _with_new(text: str, new: Mapping[str, str]) -> str:
    """The text with all old addresses replaced at once, each in the spelling (case, separators) it had."""
    pattern = _WHOLE.format("|".join(re.escape(mac).replace(":", "[:-]") for mac in new))
    found = re.compile(pattern, re.IGNORECASE)

    def spelled(match: re.Match[str]) -> str:
        old = match[0]
        mac = new[normal_mac(old) or ""]
        mac = mac.upper() if old.upper() == old and old.lower() != old else mac
        return mac.replace(":", old[2])

    return found.sub(spelled, text)


def _interface(known: InterfaceConfig, new: Mapping[str, str], texts: Mapping[str, TextFile]) -> InterfaceConfig:
    from_name = _FROM_MAC.fullmatch(known.name)
    mac = known.mac or (":".join(re.findall("..", from_name[1])) if from_name else None)
    source = known.source
    if known.mac in new and source not in texts:
        source = source.replace(known.mac or "", new[known.mac or ""])
    return replace(known, mac=new.get(mac or "", known.mac), source=source)


def _left(facts: GuestFacts, new: Mapping[str, str]) -> Iterator[Finding]:
    for interface in facts.network.interfaces:
        if interface.mac in new and interface.source not in facts.texts:
            message = f"{interface.source} names the old MAC address {interface.mac}, and stays: it holds passwords or is too large"
            yield Finding("linux.network.mac-left", message, f"Write {new[interface.mac or '']} there in the converted guest.")
