"""What a report can show besides the document, by its shape: whoever has such values hands them in."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

from p2v.audit.document import MachineAudit
from p2v.audit.findings import Evidence


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
