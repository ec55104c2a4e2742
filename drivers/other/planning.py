"""The plan for a guest that is never written to: no change at all, and hardware such a system knows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from drivers.caps import GuestCaps
from drivers.facts import GuestFacts
from drivers.notes import of_notes
from drivers.other.profiles import PROFILES, Profile
from drivers.plan import Finding, GuestPlan, PlanOptions

# /dev/ada0p2, /dev/da1s1a, /dev/sd0a, /dev/wd1e
_DISK_NAME = re.compile(r"^/dev/(?:r?dsk/)?([a-z]+)[0-9]")
_RC_CONF_NIC = re.compile(r"^\s*ifconfig_([a-z0-9]*[a-z])[0-9]+(?:_\w+)?=", re.MULTILINE)
_NIC_FILE = re.compile(r"^/etc/(?:hostname|ifconfig)\.([a-z0-9]*[a-z])[0-9]+$")
_TABLES = ("/etc/fstab", "/etc/vfstab")


def plan_other(facts: GuestFacts, options: PlanOptions) -> GuestPlan:
    """Nothing is changed; device names in the guest's own files decide its buses and cards where they can."""
    system = facts.os
    if system is None:
        raise ValueError("no system to plan for")
    profile = PROFILES.get(system.id, Profile(system.name))
    buses, disk_warnings = _chosen(dict.fromkeys(_disk_names(facts)), profile.disk_names, profile.disk_buses, "disk")
    nics, nic_warnings = _chosen(dict.fromkeys(_nic_names(facts)), profile.nic_names, profile.nic_models, "network card")
    caps = GuestCaps(
        buses,
        nics,
        facts.firmware,
        system.arch or profile.arch,
        local_time=profile.local_time,
        # q35 has no IDE controller, and the other buses are as good on either
        machine="pc" if buses[0] == "ide" else profile.machine,
        cpus_at_most=profile.cpus_at_most,
        memory_at_most_bytes=profile.memory_at_most_bytes,
        keeps_cards=not set(_nic_names(facts)) & set(profile.nic_names),
    )
    told = Finding(
        "other.not-rewritten",
        f"{system.name} is not rewritten: nothing in it changes, and it gets hardware that such a system has drivers for",
        "This combination was never run by this project. Try it with the copy before you rely on it.",
    )
    notes = of_notes(facts.notes)
    asked = (Finding("other.option", f"{name} has no meaning for it and is left out") for name in _asked(options))
    return GuestPlan((), (told, *disk_warnings, *nic_warnings, *asked, *_new_macs(options), *notes), (), caps)


def _asked(options: PlanOptions) -> Iterator[str]:
    """What would change something in the guest, by the names of the command line."""
    asked = {
        "--new-identity": options.new_identity,
        "--install-agent": options.install_agent,
        "--agent-package": options.agent_packages,
        "--purge-tools": options.purge_tools,
        "--rebuild-initramfs": options.rebuild_initramfs,
        "--compatible": options.compatible,
        "--ip": any(options.addressing),
    }
    yield from (name for name, wanted in asked.items() if wanted)


def _new_macs(options: PlanOptions) -> Iterator[Finding]:
    for old, new in options.mac_changes:
        message = f"the card {old} gets the address {new}, and what names the old one in the guest stays as it is"
        yield Finding("other.mac-change", message, "Change it there while the guest still runs, where anything does.")


def _disk_names(facts: GuestFacts) -> Iterator[str]:
    for path in _TABLES:
        file = facts.texts.get(path)
        for line in file.text.splitlines() if file else ():
            if (match := _DISK_NAME.match(line.strip())) is not None:
                yield match[1]


def _nic_names(facts: GuestFacts) -> Iterator[str]:
    settings = facts.texts.get("/etc/rc.conf")
    if settings is not None:
        yield from (match[1] for match in _RC_CONF_NIC.finditer(settings.text))
    yield from (match[1] for path in facts.texts if (match := _NIC_FILE.match(path)) is not None)


def _chosen(
    names: Mapping[str, None], known: Mapping[str, str | None], default: tuple[str, ...], what: str
) -> tuple[tuple[str, ...], list[Finding]]:
    """The buses or models that keep the names in use, best first, and what is to be said of the others."""
    hardware = list(dict.fromkeys(made for name in names if (made := known.get(name)) is not None))
    lost = [name for name in names if name in known and known[name] is None]
    warnings = []
    if lost:
        gets = (hardware or list(default))[0]
        message = f"its files name a {what} {', '.join(f'{name}0' for name in lost)}, which KVM has not; it gets {gets}"
        warnings.append(Finding(f"other.{what.split()[-1]}-name", message, "Change the name in its files while it still runs."))
    if len(hardware) > 1:
        message = f"its files name {what}s of several kinds ({', '.join(names)}); all of them become {hardware[0]}"
        warnings.append(Finding(f"other.{what.split()[-1]}-names", message))
    return (*hardware[:1], *(each for each in default if each not in hardware[:1])), warnings
