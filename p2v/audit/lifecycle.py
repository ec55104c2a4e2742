"""How a system stands with those who look after it, on a given day. Pure: from its name and the dated data alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from p2v.audit.document import SupportAudit, SystemAudit
from p2v.audit.lifecycle_data import Lifecycle, Product, Release, Virtio, lifecycle
from p2v.core.text import printable

SUPPORTED, EXTENDED, ENDED, UNKNOWN = "supported", "extended", "ended", "unknown"
_VERSION = re.compile(r"\s*v?(\d{1,9}(?:\.\d{1,9}){0,9})")
_LONG_TERM = re.compile(r"\bLTS[BC]\b", re.IGNORECASE)
_LONGEST = 200
_VIRTIO = {
    Virtio.KERNEL: "its kernel has virtio drivers",
    Virtio.LATE: "its kernel has virtio drivers",
    Virtio.MEDIUM: "virtio-win has current drivers for it",
    Virtio.UNSIGNED: "virtio-win has drivers for it, those after 0.1.215 with a test signature only",
    Virtio.FROZEN: "virtio-win builds no drivers for it any more; 0.1.173 was the last that did, later media carry old ones",
    Virtio.NONE: "there are no virtio drivers for it",
    Virtio.UNKNOWN: "",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a system's support on a day.

    ``product`` is None where the data has none for it. ``release``: the one it is, or of several that it may be and that
    stand alike, the one that tells most; None where none fits, or they stand differently. ``fitting``: all that it may be.
    """

    state: str
    product: Product | None = None
    release: Release | None = None
    fitting: tuple[Release, ...] = ()
    name: str = ""

    @property
    def virtio(self) -> Virtio:
        """Where its drivers for virtio come from; unknown where its possible releases differ."""
        if self.product is None:
            return Virtio.UNKNOWN
        kinds = {release.virtio or self.product.virtio for release in self.fitting}
        if not self.product.releases:
            kinds = {self.product.virtio}
        return kinds.pop() if len(kinds) == 1 else Virtio.UNKNOWN

    @property
    def source(self) -> str:
        """What was published of the dates that decide."""
        if self.product is None:
            return ""
        if self.state == EXTENDED and self.product.extended_source:
            return self.product.extended_source
        return (self.release.source if self.release is not None else "") or self.product.source


def support_of(system: SystemAudit, as_of: date) -> SupportAudit:
    """Who looks after a system on a day; ``unknown`` where the data does not tell, never guessed."""
    standing = standing_of(system, as_of)
    product, release = standing.product, standing.release
    return SupportAudit(
        state=standing.state,
        release=standing.name,
        standard_end=_iso(release.standard if release is not None else None),
        extended_end=_iso(release.extended if release is not None else None),
        source=standing.source,
        virtio=virtio_words(standing),
        certified=certified_by(standing),
        successor=product.successor if product is not None and standing.state != SUPPORTED else "",
    )


def standing_of(system: SystemAudit, as_of: date) -> Standing:
    """The same with the data that it rests on."""
    product = product_of(lifecycle(), system)
    if product is None:
        return Standing(UNKNOWN, name=_told(system))
    if product.rolling:
        return Standing(SUPPORTED, product, name=product.name)
    fitting = releases_of(product, system)
    states = {state_of(each, as_of) for each in fitting}
    if len(states) != 1:
        return Standing(UNKNOWN, product, None, fitting, _told(system))
    state = states.pop()
    release = _telling(fitting, state)
    sure = len(fitting) == 1 or len({each.version for each in fitting}) == 1
    return Standing(state, product, release, fitting, release_name(product, release) if sure else product.name)


def product_of(data: Lifecycle, system: SystemAudit) -> Product | None:
    """The product whose id a system has, and whose name where several share the id."""
    for product in data.by_id.get(system.id.strip().lower(), ()):
        if not product.named or re.search(product.named, system.name[:_LONGEST], re.IGNORECASE):
            return product
    return None


def releases_of(product: Product, system: SystemAudit) -> tuple[Release, ...]:
    """The releases that a system may be: one, where its version and edition tell."""
    edition = edition_class(system.edition)
    # an inventory has an edition's name without its channel, and the channel in the system's
    if edition == "enterprise" and _LONG_TERM.search(system.name[:_LONGEST]):
        edition = "ltsc"
    fitting = [each for each in product.releases if _is_of_edition(each, edition)]
    if not system.version.strip():
        return tuple(each for each in fitting if not each.aside)
    version = numbers(system.version)
    return tuple(each for each in fitting if _is(each, version, product.parts))


def _is_of_edition(release: Release, edition: str) -> bool:
    if not release.edition or not edition:
        return True
    # a server's edition matters for its channel alone, and an inventory calls it "Standard"
    return edition != "channel" if release.edition == "server" else release.edition == edition


def _is(release: Release, version: Sequence[int], parts: int) -> bool:
    own = numbers(release.version)
    if not version and own:
        return False
    # SLES "15" is the one without a service pack, and no "15.8"
    return tuple(version) == own if len(own) < parts else tuple(version[: len(own)]) == own


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (22, 4) for ``22.04``; none for ``trixie/sid``."""
    found = _VERSION.match(version[:_LONGEST])
    return tuple(int(each) for each in found[1].split(".")) if found is not None else ()


def edition_class(edition: str) -> str:
    """For whom Microsoft keeps an edition: ``home``, ``enterprise``, ``ltsc``, ``iot-ltsc``; ``server`` or ``channel`` (its
    semi-annual or annual one) for servers; empty where no edition is known.

    Editions as the registry's EditionID has them. Source: Microsoft's lifecycle pages of "Windows 10 Home and Pro" and of
    "Windows 10 Enterprise and Education".
    """
    name = edition.strip().lower()
    if not name:
        return ""
    if name.startswith("server") and not name.startswith("serverrdsh"):
        return "channel" if name.endswith("acor") else "server"
    if name.startswith("iotenterprises"):
        return "iot-ltsc"
    if name.startswith("enterprises"):
        return "ltsc"
    is_for_firms = name.startswith(("enterprise", "education", "iotenterprise", "serverrdsh"))
    return "enterprise" if is_for_firms else "home"


def state_of(release: Release, as_of: date) -> str:
    """The phase that a release is in on a day; the last day of a phase belongs to it."""
    if release.standard is not None and as_of <= release.standard:
        return SUPPORTED
    if release.extended is not None:
        if as_of > release.extended:
            return ENDED
        return EXTENDED if release.standard is not None else UNKNOWN
    return UNKNOWN if release.standard is None or release.extended_unknown else ENDED


def _telling(fitting: Sequence[Release], state: str) -> Release:
    """Of releases in one state: the one that leaves it first, or that came into it last."""
    if state == ENDED:
        return max(fitting, key=lambda each: each.last or date.min)
    return min(fitting, key=lambda each: (each.extended if state == EXTENDED else each.standard) or date.max)


def release_name(product: Product, release: Release) -> str:
    """What people call it: ``Debian 12``, ``Windows 10 22H2``; a product of one release by its own name."""
    own = release.name or (release.version if len(product.releases) > 1 else "")
    return f"{product.name} {own}".strip()


def virtio_words(standing: Standing) -> str:
    """Whether it has drivers for virtio, in words; empty where that is not known."""
    notes = {release.virtio_note for release in standing.fitting if release.virtio is Virtio.LATE}
    words = _VIRTIO[standing.virtio]
    return f"{words} {notes.pop()}" if standing.virtio is Virtio.LATE and len(notes) == 1 else words


def certified_by(standing: Standing) -> tuple[str, ...]:
    """The makers of KVM hosts who list it as a guest, by every release that it may be."""
    if standing.product is None or not standing.fitting:
        return ()
    names = [_listed(standing.product, release) for release in standing.fitting]
    return tuple(each.name for each in lifecycle().certifiers if all(own & set(each.guests) for own in names))


def _listed(product: Product, release: Release) -> set[str]:
    if release.aside:
        return set()  # the lists mean the releases of the long-term channel
    return {listed for id_ in product.ids for listed in (id_, f"{id_} {release.version}")}


def _told(system: SystemAudit) -> str:
    """A system by its own words, which come from a guest."""
    name = system.name.strip() or f"{system.id} {system.version}".strip()
    return printable(name[:_LONGEST], keep="")


def _iso(day: date | None) -> str:
    return day.isoformat() if day is not None else ""
