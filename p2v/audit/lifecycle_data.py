"""Who looks after which release, until when: the dated files ``data/lifecycle-*.toml`` as values.

A date that is not sure to the day stands in none of them; the release is there without it, and counts as unknown.
docs/audit-lifecycle.md says how the dates were chosen.
"""

from __future__ import annotations

import enum
import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from p2v.core import jsonio

if TYPE_CHECKING:
    import cattrs

_T = TypeVar("_T")
FOLDER = "p2v/audit/data"
CERTIFIED = "lifecycle-certified.toml"
"""The one file that is of hosts' makers, not of guests'."""


class Virtio(enum.Enum):
    """Where a system's drivers for virtio come from."""

    KERNEL = "kernel"
    """They are part of it."""
    LATE = "late"
    """They became part of it with a later update; ``virtio_note`` says which."""
    MEDIUM = "medium"
    """virtio-win has current ones."""
    UNSIGNED = "unsigned"
    """virtio-win has current ones, which since 2022 only have a test signature for it."""
    FROZEN = "frozen"
    """virtio-win builds none any more; its media carry old ones."""
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Release:
    """A release, and the last day of each phase of its support; None where that is not known, or the phase is not offered.

    ``version``: the numbers by which it is told. ``source``, ``virtio``: where they differ from the product's.
    """

    version: str
    name: str = ""
    """What it is called beside the product's name; the version where it is empty."""
    standard: date | None = None
    extended: date | None = None
    extended_unknown: bool = False
    """There is an extended phase, but its last day is not known."""
    further: date | None = None
    """The last day of what the maker sells beyond its own support."""
    source: str = ""
    edition: str = ""
    """The editions it is of (``lifecycle.edition_class``); empty for all."""
    aside: bool = False
    """It is not among what is meant where a system's version is not known."""
    virtio: Virtio | None = None
    virtio_note: str = ""
    virtio_source: str = ""

    @property
    def last(self) -> date | None:
        """The last day of all support by its maker."""
        return self.extended or self.standard


@dataclass(frozen=True, slots=True)
class Product:
    """A line of releases of one system. ``ids``: as facts name it (os-release's ID, libosinfo's name of a Windows, ...)."""

    ids: tuple[str, ...]
    name: str = ""
    """Empty where the ids are of several systems: each is called by its own name."""
    named: str = ""
    """An expression that the system's name has to fit, where the id is of several products; the first that fits counts."""
    parts: int = 1
    """How many numbers a release has at most; a version of fewer numbers is a release of its own."""
    source: str = ""
    standard_name: str = ""
    extended_name: str = ""
    extended_source: str = ""
    extended_paid: bool = False
    """The extended phase is bought apart."""
    further_name: str = ""
    further_source: str = ""
    rolling: bool = False
    """It has no releases: whoever updates it is supported."""
    why: str = ""
    """Why there are no dates for any of its releases."""
    virtio: Virtio = Virtio.UNKNOWN
    virtio_source: str = ""
    successor: str = ""
    releases: tuple[Release, ...] = ()
    file: str = ""
    """The file that it is from."""
    as_of: date = date.min
    """The day up to which what its maker published was looked at."""


@dataclass(frozen=True, slots=True)
class Certifier:
    """A maker of KVM hosts; ``guests``: ids, each alone or followed by a release (``rhel 9``)."""

    name: str
    source: str
    guests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """All of it. ``products`` in the order in which they are to be looked at."""

    products: tuple[Product, ...]
    certifiers: tuple[Certifier, ...]
    by_id: Mapping[str, tuple[Product, ...]]


@functools.cache
def lifecycle() -> Lifecycle:
    """The files' contents. Raises ValueError for a file that is none: a fault of the suite's own."""
    made = _converter()
    products = tuple(_products(made))
    _, tables = _tables(CERTIFIED)
    certifiers = tuple(_decoded(made, each, Certifier, CERTIFIED) for each in tables.get("certifier", ()))
    ids = dict.fromkeys(id_ for product in products for id_ in product.ids)
    by_id = {id_: tuple(product for product in products if id_ in product.ids) for id_ in ids}
    return Lifecycle(products, certifiers, by_id)


def _products(made: cattrs.Converter) -> Iterator[Product]:
    for name in files():
        as_of, tables = _tables(name)
        for each in tables.get("product", ()):
            yield replace(_decoded(made, each, Product, name), file=name, as_of=as_of)


def files() -> tuple[str, ...]:
    """The names of the files of guests."""
    names = (each.name for each in resources.files("p2v.audit").joinpath("data").iterdir())
    return tuple(sorted(n for n in names if n.startswith("lifecycle-") and n.endswith(".toml") and n != CERTIFIED))


def _tables(name: str) -> tuple[date, dict[str, Any]]:
    tables = tomllib.loads(resources.files("p2v.audit").joinpath("data", name).read_text("utf-8"))
    as_of = tables.pop("as_of", None)
    if not isinstance(as_of, date):
        raise ValueError(f"{name}: as_of is not a date")
    return as_of, tables


def _converter() -> cattrs.Converter:
    made = jsonio.new_converter()
    made.register_structure_hook(date, _date)
    return made


def _date(value: object, _: type) -> date:
    # TOML has dates of its own; a text in quotes was meant as one and is a slip
    if type(value) is not date:
        raise TypeError(f"expected a date, got {type(value).__name__}")
    return value


def _decoded(made: cattrs.Converter, data: Any, kind: type[_T], file: str) -> _T:
    try:
        return jsonio.decode(made, data, kind)
    except jsonio.BadDocument as error:
        raise ValueError(f"{file}: {data}: {error}") from error
