"""What a machine's cards hang on here, by the networks they hung on at the source; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from drivers.plan import Finding
from p2v.core.errors import Usage
from p2v.core.text import printable
from p2v.machine import Connection, Machine, Nic

DEFAULT = "default"


def mapped(machine: Machine, mapping: Mapping[str, tuple[Connection, str]]) -> Machine:
    """The machine with its cards on this side's networks; ``mapping`` is by the source's names, whatever their case.

    A card whose network nobody mapped is put on ``default`` and marked so. Raises Usage for a name that no card has.
    """
    known = {nic.network.lower() for nic in machine.nics}
    for name in mapping:
        if name.lower() not in known:
            there = ", ".join(sorted(repr(nic.network) for nic in machine.nics)) or "none"
            raise Usage(f"--map {name}: no network card of the machine is on it (they are on: {there})")
    folded = {name.lower(): target for name, target in mapping.items()}
    return replace(machine, nics=tuple(_placed(nic, folded) for nic in machine.nics))


def unmapped(machine: Machine) -> Iterator[Finding]:
    """A word on every card of which nobody said what it hangs on here."""
    for number, nic in enumerate(machine.nics, 1):
        if nic.source_network and not nic.is_mapped:
            was = printable(nic.source_network, keep="")[:80]
            message = f"network card {number} was on {was!r}; here it is on {DEFAULT!r}, since nothing says otherwise"
            yield Finding("source.network", message, f"Say --map {was!r}=NETWORK (or bridge:NAME, or user).")


def require_mapped(nics: Sequence[Nic], front_end: str) -> None:
    """For front ends with networks of their own: a card left to chance would speak on the wrong one. Raises Usage."""
    lost = [nic.source_network for nic in nics if nic.source_network and not nic.is_mapped]
    if lost:
        names = ", ".join(dict.fromkeys(repr(printable(name, keep="")) for name in lost))
        hint = "Say --map SOURCE=NETWORK for each, or --network for all cards."
        raise Usage(f"nothing says what these networks of the source are in {front_end}: {names}", hint)


def parse_mapping(texts: Sequence[str]) -> dict[str, str]:
    """``SOURCE=NETWORK`` as from ``--map`` and the lines of a mapping file. Raises Usage."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, target = text.rpartition("=")
        name, target = name.strip(), target.strip()
        if not equals or not name or not target:
            raise Usage(f"--map {text}: not a network of the source and one of this side", "As in --map 'VM Network=bridge:br0'.")
        if found.setdefault(name, target) != target:
            raise Usage(f"--map {text}: {name!r} is mapped to {found[name]} already")
    return found


def _placed(nic: Nic, mapping: Mapping[str, tuple[Connection, str]]) -> Nic:
    connection, name = mapping.get(nic.network.lower(), (Connection.NETWORK, DEFAULT))
    return replace(
        nic,
        network=name,
        connection=connection,
        source_network=nic.network,
        is_mapped=nic.network.lower() in mapping or nic.network == DEFAULT,
    )
