"""What the machines of an inventory run on and stand in, as values; sizing starts from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostRow:
    """One hypervisor host of an inventory. A number is None where the export does not tell it.

    ``cores``: of all sockets together, without hyper-threading. ``utilisation``: the share of its processors that was busy
    when the export was made, 0 to 1: one moment's, no average.
    """

    name: str
    cores: int | None = None
    sockets: int | None = None
    memory_bytes: int | None = None
    cpu_model: str = ""
    cluster: str = ""
    utilisation: float | None = None
