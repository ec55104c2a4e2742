"""The plan: what will be done to a guest and why, before anything is done.

``facts -> plan`` is pure. A plan is a document: it can be shown, stored, sent, and carried out later; it
names the facts it rests on by expectations in its changes, so a plan that no longer fits is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.caps import GuestCaps
from drivers.changes import Change
from drivers.packages import PackageFile

if TYPE_CHECKING:
    # it holds findings itself
    from drivers.windows.offer import DriverOffer

PLAN_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """A warning or a blocker: a stable id, one sentence, what to do about it."""

    id: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Addressing:
    """How a network card is to get its IPv4 address.

    ``address``: with its prefix (``10.0.2.40/24``), None for DHCP. ``gateway``: None for no default route by this card.
    ``dns``: servers; empty leaves those that are configured.
    """

    address: str | None
    gateway: str | None = None
    dns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What planning knows besides the guest.

    ``nic_macs``: the machine's network cards in order, each with the MAC address it has on KVM; None where that is
    not known. ``new_identity``: a copy that runs beside its source. ``install_agent``, ``purge_tools``: the guest
    itself installs the QEMU guest agent, and removes other hypervisors' tools, at its first boot. ``agent_packages``: it
    installs the agent from these files of the host, and not from its own repositories.
    """

    nic_macs: tuple[str | None, ...] = ()
    compatible: bool = False
    """Rather than not at all, the guest may run on hardware it has drivers for as it is (SATA or IDE, e1000e)."""
    discard_hibernation: bool = False
    """A hibernated Windows loses its session, and starts anew."""
    new_identity: bool = False
    install_agent: bool = False
    purge_tools: bool = False
    agent_packages: tuple[PackageFile, ...] = ()
    rebuild_initramfs: bool = False
    """The guest's own program builds its initramfs anew in the appliance."""
    mac_changes: tuple[tuple[str, str], ...] = ()
    """MAC addresses of the source and those that the same cards have on KVM, in the spelling of ``normal_mac``."""
    virtio_win: Path | None = None
    """A medium of drivers for Windows guests; None: where such media are installed."""
    drivers: DriverOffer | None = None
    """What that medium offers the guest, once the guest is known."""
    addressing: tuple[Addressing | None, ...] = ()
    """For each of ``nic_macs``; None (or nothing) leaves a card's address as the guest has it."""


@dataclass(frozen=True, slots=True)
class GuestProgram:
    """A program of the guest's own that is run in the appliance once all changes are made, as the user asked for.

    ``argv``: the program's path in the guest and its arguments. ``writes``: the file that it makes anew, resolved.
    """

    argv: tuple[str, ...]
    writes: str
    why: str


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """Ordered changes, warnings, all blockers at once, and what the guest can use afterwards.

    ``labels``: the SELinux labels of names that the changes make and of folders above them, by path; what is not
    there gets the label of its folder. ``programs``: empty unless the user asked for what only they can do; they are run
    each time the plan is carried out.
    """

    changes: tuple[Change, ...]
    warnings: tuple[Finding, ...]
    blockers: tuple[Finding, ...]
    caps: GuestCaps
    labels: Mapping[str, str] = field(default_factory=dict)
    programs: tuple[GuestProgram, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether the guest stays as it is, so that nothing is started to carry this out."""
        return not self.changes and not self.programs
