"""What a report can show besides the document, by its shape: whoever has such values hands them in."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

from p2v.audit.document import MachineAudit
from p2v.audit.findings import Evidence


class Assumed(Protocol):
    """Something a number rests on, and where that comes from."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def source(self) -> enum.Enum: ...


class HostsNow(Protocol):
    """The hosts that the fleet runs on."""

    @property
    def hosts(self) -> int: ...
    @property
    def assumptions(self) -> Sequence[Assumed]: ...


class HostsThen(Protocol):
    """The hosts that it needs on KVM; ``basis`` says in words by what machines were counted."""

    @property
    def basis(self) -> enum.Enum: ...
    @property
    def packed_hosts(self) -> int: ...
    @property
    def spare_hosts(self) -> int: ...
    @property
    def lower_bound(self) -> int: ...
    @property
    def assumptions(self) -> Sequence[Assumed]: ...


class SizingFigures(Protocol):
    """Hosts before (None: not known) and after, one entry for each basis."""

    @property
    def before(self) -> HostsNow | None: ...
    @property
    def hosts(self) -> Sequence[HostsThen]: ...


class ChainLink(Protocol):
    """One link of a machine's boot chain. ``state``: by its value ``proven``, ``broken``, or else not seen."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> enum.Enum: ...
    @property
    def message(self) -> str: ...
    @property
    def evidence(self) -> Sequence[Evidence]: ...


ChainOf = Callable[[MachineAudit], Sequence[ChainLink]]


def no_chain(_: MachineAudit) -> Sequence[ChainLink]:
    """Of a machine whose boot chain nobody looked at."""
    return ()
