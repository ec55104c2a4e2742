"""What the first start has to set on a Windows guest's new network cards, from what its old adapters had. Pure.

To Windows another card is another adapter, with settings of its own; those of the old one stay below the old one's GUID, and an
address that a hidden adapter still has is refused on the new one. So the first start gives each card what its predecessor had, by
the card's MAC address, and removes the adapters that are gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from drivers.plan import Addressing, Finding, PlanOptions
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import WindowsFacts
from drivers.windows.firstboot.tools import tools_of
from drivers.windows.network_facts import INSTANCE, MAC, Gateway, NetworkAdapter

_BY_HAND = "Set them on its cards once it runs."
_LOOK = "Look at it then, or say with --ip what a card is to have."


@dataclass(frozen=True, slots=True)
class CardSettings:
    """What one card is to have. ``mac``: in lower-case colon form; None for the only card there is, whose address is not known.

    ``addresses`` with their prefix (``192.168.40.21/24``), empty with ``dhcp``. ``suffix``: of DNS names, for this connection.
    ``metric``: of the interface; None leaves it to Windows. ``replaces``: the old connection's name, for people. ``asked``: whether
    the user said so.
    """

    mac: str | None
    dhcp: bool
    addresses: tuple[str, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    dns: tuple[str, ...] = ()
    suffix: str = ""
    metric: int | None = None
    replaces: str = ""
    asked: bool = False


@dataclass(frozen=True, slots=True)
class NetworkSetup:
    """All that the first start sets. ``ghosts``: instances of devices (below Enum) to be removed where they are not present: of
    adapters whose settings a card gets, or that have none; others keep theirs for a person to look at.

    No text of these can end a string of a script: they are addresses, names of DNS and ids of devices; but for ``replaces``.
    """

    cards: tuple[CardSettings, ...] = ()
    ghosts: tuple[str, ...] = ()
    warnings: tuple[Finding, ...] = ()


@dataclass
class _Matching:
    """Cards (by their number) and the adapters whose places they take."""

    adapters: list[NetworkAdapter]
    pairs: dict[int, NetworkAdapter] = field(default_factory=dict)

    def take(self, card: int, adapter: NetworkAdapter) -> None:
        self.pairs[card] = adapter
        self.adapters.remove(adapter)


def network_setup(
    adapters: Sequence[NetworkAdapter],
    macs: Sequence[str | None],
    mac_changes: Sequence[tuple[str, str]] = (),
    addressing: Sequence[Addressing | None] = (),
) -> NetworkSetup:
    """What the machine's cards are to have. ``macs``: theirs on KVM in order, None where one is not known.

    A card takes the place of the adapter that had its MAC address (or the one it was changed from), or of the only one where
    there is one of each. ``addressing``: what the user wants instead, for each card.
    """
    wanted = [adapter for adapter in adapters if adapter.is_hardware and adapter.is_configured]
    matching = _Matching(list(wanted))
    earlier = {new: old for old, new in mac_changes}
    for card, mac in enumerate(macs):
        known = {each for each in (mac, earlier.get(mac or "")) if each is not None}
        found = next((adapter for adapter in matching.adapters if known & set(adapter.macs)), None)
        if found is not None:
            matching.take(card, found)
    left = [card for card in range(len(macs)) if card not in matching.pairs]
    if len(left) == 1 and len(matching.adapters) == 1 and (len(macs) == 1 or not matching.adapters[0].macs):
        matching.take(left[0], matching.adapters[0])
    cards = tuple(_settings(macs, matching, addressing))
    unclear = tuple(_unclear(macs, matching, addressing))
    nameless = [card for card, mac in enumerate(macs if len(macs) > 1 else ()) if mac is None]
    kept = (*unclear, *(matching.pairs[card] for card in nameless if card in matching.pairs))
    return NetworkSetup(
        cards,
        tuple(dict.fromkeys(_ghosts(adapters, cards, kept))),
        (*_warnings(adapters, unclear), *_without_settings(nameless, matching, addressing)),
    )


def setup_of(windows: WindowsFacts, options: PlanOptions) -> NetworkSetup:
    """The same for a guest and what planning knows of its machine; what is no MAC address of a card is taken for not known."""
    macs = [mac.lower() if mac is not None and MAC.fullmatch(mac.lower()) else None for mac in options.nic_macs]
    return network_setup(windows.network, macs, options.mac_changes, options.addressing)


def contribute(windows: WindowsFacts, options: PlanOptions) -> WindowsContribution:
    """What is to be known of the guest's addresses: who gets which at the first start, or that there is none to do it.

    What the user asked for and gets is nobody's surprise.
    """
    setup = setup_of(windows, options)
    is_done = tools_of(windows) is not None
    cards = (card for card in setup.cards if not (card.asked and is_done))
    told = tuple(_finding(card, is_done=is_done) for card in cards)
    return WindowsContribution(warnings=(*told, *setup.warnings))


def _settings(
    macs: Sequence[str | None], matching: _Matching, addressing: Sequence[Addressing | None]
) -> Iterator[CardSettings]:
    for card, mac in enumerate(macs):
        old, new = matching.pairs.get(card), addressing[card] if card < len(addressing) else None
        if (old is None and new is None) or (mac is None and len(macs) > 1):
            continue
        had = old or NetworkAdapter("", "", "")
        if new is None:
            gateways = had.gateways if had.addresses else ()
            yield CardSettings(mac, had.dhcp, had.addresses, gateways, had.dns, had.suffix, had.metric, had.name)
            continue
        yield CardSettings(
            mac,
            new.address is None,
            (new.address,) if new.address is not None else (),
            (Gateway(new.gateway),) if new.gateway is not None else (),
            new.dns or had.dns,
            had.suffix,
            had.metric,
            had.name,
            asked=True,
        )


def _unclear(
    macs: Sequence[str | None], matching: _Matching, addressing: Sequence[Addressing | None]
) -> Iterator[NetworkAdapter]:
    """The adapters whose place no card takes, unless the user said what every card is to have."""
    if not (len(addressing) >= len(macs) > 0 and all(each is not None for each in addressing[: len(macs)])):
        yield from matching.adapters


def _ghosts(
    adapters: Sequence[NetworkAdapter], cards: Sequence[CardSettings], kept: Sequence[NetworkAdapter]
) -> Iterator[str]:
    """Those that may go; what nobody else has yet (``kept``) only where its address would be in the way."""
    given = {address.partition("/")[0] for card in cards for address in card.addresses}
    for adapter in adapters:
        is_in_the_way = any(address.partition("/")[0] in given for address in adapter.addresses)
        if adapter.is_hardware and INSTANCE.fullmatch(adapter.instance) and (adapter not in kept or is_in_the_way):
            yield adapter.instance


def _warnings(adapters: Sequence[NetworkAdapter], unclear: Sequence[NetworkAdapter]) -> Iterator[Finding]:
    for adapter in unclear:
        message = f"which card is to have what {_titled(adapter)} had is not clear: {_listed(adapter)}"
        yield Finding("windows.addresses-unclear", message, "Say it with --ip, or set them on its cards once it runs.")
    for adapter in adapters:
        if adapter.is_configured and not adapter.is_hardware:
            what = f"{_titled(adapter)} is made of other adapters (a team, a tunnel)"
            message = f"{what}, with settings of its own: {_listed(adapter)}"
            yield Finding("windows.virtual-adapter", message, "Make it again of the new cards once it runs.")


def _without_settings(
    nameless: Sequence[int], matching: _Matching, addressing: Sequence[Addressing | None]
) -> Iterator[Finding]:
    """Cards that get nothing, as the first start could not tell them from each other."""
    for card in nameless:
        asked, had = addressing[card] if card < len(addressing) else None, matching.pairs.get(card)
        if asked is None and had is None:
            continue
        what = _listed(had) if asked is None and had is not None else "what --ip says"
        message = f"card {card + 1} has no MAC address yet, by which the first start could find it, and does not get {what}"
        yield Finding("windows.addresses-unclear", message, "Give it one with --mac.")


def _titled(adapter: NetworkAdapter) -> str:
    return f"{adapter.name or adapter.id} ({adapter.description or 'an adapter'})"


def _listed(adapter: NetworkAdapter) -> str:
    return _values(adapter.dhcp, adapter.addresses, adapter.gateways, adapter.dns)


def _told(card: CardSettings, *, is_done: bool) -> str:
    which = f"its card {card.mac}" if card.mac is not None else "its only card"
    values = _values(card.dhcp, card.addresses, card.gateways, card.dns)
    if is_done:
        return f"at its first start {which} gets {values}"
    return f"to Windows its card on KVM is a new one: {which} is to have {values}"


def _finding(card: CardSettings, *, is_done: bool) -> Finding:
    message, hint = _told(card, is_done=is_done), _hint(card, is_done=is_done)
    if is_done:
        return Finding("windows.addresses", message, hint)
    return Finding("windows.addresses-by-hand", message, hint)


def _hint(card: CardSettings, *, is_done: bool) -> str:
    of = f"It takes the place of {card.replaces}. " if card.replaces else ""
    return of + (_LOOK if is_done else _BY_HAND)


def _values(dhcp: bool, addresses: Sequence[str], gateways: Sequence[Gateway], dns: Sequence[str]) -> str:
    parts = ["an address by DHCP" if dhcp else ", ".join(addresses) or "no address of its own"]
    parts += [f"gateway {gateway.address}" for gateway in gateways]
    parts += [f"DNS {', '.join(dns)}"] if dns else []
    return "; ".join(parts)
