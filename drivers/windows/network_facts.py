"""A Windows guest's network adapters, as frozen values that survive JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
INSTANCE = re.compile(r"[A-Za-z0-9_&.{}#+-]+(?:\\[A-Za-z0-9_&.{}#+-]+){2}")
"""What instances of devices are made of; one with anything else would be a danger in a script."""
SUFFIX = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""Of DNS names."""
ENUMERATORS_OF_SOFTWARE = frozenset({"ROOT", "SWD", "SW", "MS_NDISWANIP", "HTREE", "BTH", "COMPOSITEBUS"})
"""Enumerators of what is no hardware: teams, tunnels, adapters of other programs."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A default route. ``metric``: of the route; None where the system finds one itself."""

    address: str
    metric: int | None = None


@dataclass(frozen=True, slots=True)
class NetworkAdapter:
    """An adapter as the registry knows it, in use or gone.

    ``id``: the GUID that its settings stand under (on NT 4.0 a service). ``instance``: of its device, below Enum
    (``PCI\\VEN_15AD&DEV_07B0&...\\...``); empty where that is not told. ``macs``: those that the registry tells, what it was
    made with first. ``addresses``: static ones with their prefix (``192.168.40.21/24``). ``suffix``: of DNS names, for this
    connection. ``metric``: of the interface; None where the system finds one itself.
    """

    id: str
    name: str
    description: str
    instance: str = ""
    macs: tuple[str, ...] = ()
    dhcp: bool = True
    addresses: tuple[str, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    dns: tuple[str, ...] = ()
    suffix: str = ""
    metric: int | None = None

    @property
    def is_hardware(self) -> bool:
        """Whether its device is one that a machine has, and not one of the system's own."""
        enumerator = self.instance.partition("\\")[0].upper()
        # a driver for layers above cards is enumerated by its own class, {GUID}
        return enumerator not in ENUMERATORS_OF_SOFTWARE and not enumerator.startswith("{") if enumerator else True

    @property
    def is_configured(self) -> bool:
        """Whether it has settings that a new adapter would not have by itself."""
        return bool(self.addresses or self.dns or self.suffix or self.metric or self.gateways)
