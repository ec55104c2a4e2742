"""The plan: what will be done to a guest and why, before anything is done.

``facts -> plan`` is pure. A plan is a document: it can be shown, stored, sent, and carried out later; it
names the facts it rests on by expectations in its changes, so a plan that no longer fits is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drivers.caps import GuestCaps
from drivers.changes import Change
from drivers.packages import PackageFile

PLAN_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """A warning or a blocker: a stable id, one sentence, what to do about it."""

    id: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What planning knows besides the guest.

    ``nic_macs``: the machine's network cards in order, each with the MAC address it keeps; None where that is
    not known. ``new_identity``: a copy that runs beside its source. ``install_agent``, ``purge_tools``: the guest
    itself installs the QEMU guest agent, and removes other hypervisors' tools, at its first boot. ``agent_packages``: it
    installs the agent from these files of the host, and not from its own repositories.
    """

    nic_macs: tuple[str | None, ...] = ()
    compatible: bool = False
    """Rather than not at all, the guest may run on hardware it has drivers for as it is (SATA or IDE, e1000e)."""
    new_identity: bool = False
    install_agent: bool = False
    purge_tools: bool = False
    agent_packages: tuple[PackageFile, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """Ordered changes, warnings, all blockers at once, and what the guest can use afterwards.

    ``labels``: the SELinux labels of names that the changes make and of folders above them, by path; what is not
    there gets the label of its folder.
    """

    changes: tuple[Change, ...]
    warnings: tuple[Finding, ...]
    blockers: tuple[Finding, ...]
    caps: GuestCaps
    labels: Mapping[str, str] = field(default_factory=dict)
