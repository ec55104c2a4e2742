"""Software of other hypervisors in a guest: recognised, and kept from starting by masking its units.

No package manager is run: the packages stay, and can be removed in the guest when it runs on KVM.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.changes import Change, MakeSymlink
from drivers.facts import GuestFacts, Tool
from drivers.linux import paths
from drivers.linux.contribution import Contribution
from drivers.plan import Finding
from drivers.tree import FileType, GuestTree

SYSTEM_UNITS = "/etc/systemd/system"
UNIT_FOLDERS = (SYSTEM_UNITS, "/usr/lib/systemd/system", "/lib/systemd/system")
MASK = "/dev/null"
DPKG_STATUS = "/var/lib/dpkg/status"
KEPT_VENDORS = frozenset({"qemu"})
"""What belongs on KVM."""

_STATUS_BYTES_AT_MOST = 32 * 1024 * 1024
_PACKAGE = re.compile(r"^Package: (\S+)$", re.MULTILINE)
_INSTALLED = re.compile(r"^Status: \S+ \S+ installed$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Known:
    """How a tool is recognised (Debian packages, files that only it has), and the units it may bring."""

    name: str
    vendor: str
    packages: tuple[str, ...]
    files: tuple[str, ...]
    units: tuple[str, ...]


KNOWN: tuple[Known, ...] = (
    Known(
        "open-vm-tools", "vmware",
        ("open-vm-tools", "open-vm-tools-desktop"), ("/usr/bin/vmtoolsd",),
        ("open-vm-tools.service", "vmtoolsd.service", "vgauth.service", "vgauthd.service", "run-vmblock-fuse.mount",
         "run-vmblock\\x2dfuse.mount", "vmware-vmblock-fuse.service"),
    ),
    Known(
        "vmware-tools", "vmware", (), ("/etc/vmware-tools/locations",),
        ("vmware-tools.service", "vmware-tools-thinprint.service"),
    ),
    Known(
        "virtualbox-guest-additions", "virtualbox",
        ("virtualbox-guest-utils", "virtualbox-guest-x11"),
        ("/var/lib/VBoxGuestAdditions/config", "/usr/sbin/VBoxService"),
        ("virtualbox-guest-utils.service", "vboxadd.service", "vboxadd-service.service", "vboxadd-x11.service",
         "vboxservice.service"),
    ),
    Known(
        "hyperv-daemons", "hyperv",
        ("hyperv-daemons", "linux-cloud-tools-common"), ("/usr/sbin/hv_kvp_daemon", "/usr/sbin/hypervkvpd"),
        ("hyperv-daemons.hv-kvp-daemon.service", "hyperv-daemons.hv-vss-daemon.service",
         "hyperv-daemons.hv-fcopy-daemon.service", "hv-kvp-daemon.service", "hv-vss-daemon.service",
         "hv-fcopy-daemon.service", "hypervkvpd.service", "hypervvssd.service", "hypervfcopyd.service",
         "hv_kvp_daemon.service", "hv_vss_daemon.service", "hv_fcopy_daemon.service"),
    ),
    Known(
        "xe-guest-utilities", "xen", ("xe-guest-utilities",), ("/usr/sbin/xe-daemon",),
        ("xe-daemon.service", "xe-linux-distribution.service"),
    ),
    Known("parallels-tools", "parallels", (), ("/usr/lib/parallels-tools/install",), ("prltoolsd.service",)),
    Known(
        "qemu-guest-agent", "qemu", ("qemu-guest-agent",), ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"),
        ("qemu-guest-agent.service", "qemu-ga.service"),
    ),
)  # fmt: skip


def find_tools(tree: GuestTree) -> tuple[Tool, ...]:
    """The tools that are installed, in the order of ``KNOWN``; a unit's other names (aliases) are units too."""
    installed = _installed_packages(tree)
    tools = []
    for known in KNOWN:
        evidence = next((f"package {name}" for name in known.packages if name in installed), "")
        evidence = evidence or next((f"file {path}" for path in known.files if tree.exists(path)), "")
        if evidence:
            units = tuple(unit for unit in known.units if _may_start(tree, unit))
            tools.append(Tool(known.name, known.vendor, evidence, units))
    return tuple(tools)


def unit_paths() -> tuple[str, ...]:
    """Where masks of the known units go."""
    return tuple(f"{SYSTEM_UNITS}/{unit}" for known in KNOWN for unit in known.units)


def contribute(facts: GuestFacts) -> Contribution:
    """A mask for every unit of a foreign tool. Links in ``*.wants`` stay: what is masked is not started by them."""
    changes: list[Change] = []
    warnings: list[Finding] = []
    for tool in facts.tools:
        if tool.vendor in KEPT_VENDORS:
            continue
        if facts.os is not None and facts.os.init not in ("", "systemd"):
            warnings.append(_left(tool, "the guest does not use systemd, so its services are not turned off"))
            continue
        for unit in tool.units:
            path = f"{SYSTEM_UNITS}/{unit}"
            if path in facts.texts:
                warnings.append(_left(tool, f"{path} is the guest's own file, so {unit} is not turned off"))
            elif facts.links.get(path) != MASK:
                why = f"{tool.name} serves a {tool.vendor} machine and has nothing to talk to on KVM"
                changes.append(MakeSymlink(path, MASK, facts.links.get(path), why))
    return Contribution(tuple(changes), tuple(warnings))


def _left(tool: Tool, why: str) -> Finding:
    return Finding("linux.tools.left", f"{tool.name} stays active: {why}", "Remove it in the converted guest.")


def _installed_packages(tree: GuestTree) -> frozenset[str]:
    try:
        status = tree.read(DPKG_STATUS, _STATUS_BYTES_AT_MOST).decode("utf-8", "replace")
    except (FileNotFoundError, ValueError):
        return frozenset()
    return frozenset(
        name[1] for stanza in status.split("\n\n") if _INSTALLED.search(stanza) and (name := _PACKAGE.search(stanza))
    )


def _may_start(tree: GuestTree, unit: str) -> bool:
    """Whether a unit is there and not masked already (a link to /dev/null, or an empty file)."""
    return next((not masked for folder in UNIT_FOLDERS for masked in _masks(tree, posixpath.join(folder, unit))), False)


def _masks(tree: GuestTree, path: str) -> Iterator[bool]:
    """Whether the unit file at a path is a mask; nothing when there is none."""
    try:
        stat = tree.lstat(path)
    except FileNotFoundError:
        return
    if stat.type is FileType.SYMLINK:
        target = tree.readlink(path)
        if target == MASK or paths.resolve(tree, path) is not None:
            yield target == MASK
    elif stat.type is FileType.FILE:
        yield stat.size == 0
