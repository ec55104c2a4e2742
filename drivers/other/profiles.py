"""Hardware that systems without a rewriter know, by the id that ``signs`` gives them; what their device names are bound to.

Nothing of it was run by this project: the support table says so. Sources: the systems' hardware notes and driver manual
pages (FreeBSD: ada(4), da(4), vtblk(4), em(4); OpenBSD: sd(4), wd(4); NetBSD: wd(4), ld(4), vioscsi(4); illumos: e1000g,
vioblk, vioif), ArcaOS's hardware list, Microsoft's knowledge base (Windows 95 and 98 with more than 512 MB: 253912; MS-DOS has
no use for a second CPU).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2v.core.units import GIB, MIB


@dataclass(frozen=True, slots=True)
class Profile:
    """A system's name for people, and hardware it knows, best first (values of ``DiskBus`` and ``NicModel``).

    ``disk_names`` and ``nic_names``: the bus or model that gives a device the name which the system's files use; None: a name
    that no hardware of KVM's makes. ``cpus_at_most`` and ``memory_at_most_bytes``: more than that stops it.
    """

    name: str
    disk_buses: tuple[str, ...] = ("ide",)
    nic_models: tuple[str, ...] = ("rtl8139",)
    machine: str = "pc"
    arch: str = "i386"
    local_time: bool = False
    cpus_at_most: int | None = None
    memory_at_most_bytes: int | None = None
    disk_names: Mapping[str, str | None] = field(default_factory=dict)
    nic_names: Mapping[str, str | None] = field(default_factory=dict)


_FREEBSD_DISKS = {
    "ada": "sata", "ad": "ide", "da": "virtio-scsi", "vtbd": "virtio-blk", "nvd": None, "nda": None, "mfid": None, "xbd": None,
}  # fmt: skip
_BSD_NICS = {
    "em": "e1000", "igb": None, "vtnet": "virtio", "vio": "virtio", "vioif": "virtio", "vmx": "vmxnet3", "re": "rtl8139",
    "rl": "rtl8139", "rtk": "rtl8139", "le": "pcnet", "pcn": "pcnet", "wm": "e1000", "de": "tulip", "dc": "tulip", "ed": "ne2k_pci",
    "ne": "ne2k_pci", "hn": None, "hvn": None, "xn": None, "xnf": None, "bge": None, "ix": None,
}  # fmt: skip

PROFILES: Mapping[str, Profile] = {
    "freebsd": Profile(
        "FreeBSD", ("sata", "ide"), ("e1000", "virtio"), "q35", "x86_64", disk_names=_FREEBSD_DISKS, nic_names=_BSD_NICS
    ),
    "openbsd": Profile(
        "OpenBSD",
        ("sata", "virtio-blk", "ide"),
        ("e1000", "virtio"),
        "q35",
        "x86_64",
        disk_names={"sd": "sata", "wd": "ide"},
        nic_names=_BSD_NICS,
    ),
    "netbsd": Profile(
        "NetBSD",
        ("sata", "ide"),
        ("e1000", "virtio"),
        "q35",
        "x86_64",
        disk_names={"wd": "sata", "ld": "virtio-blk", "sd": "virtio-scsi", "xbd": None},
        nic_names=_BSD_NICS,
    ),
    "solaris": Profile(
        "Solaris or illumos",
        ("sata", "ide"),
        ("e1000",),
        "pc",
        "x86_64",
        # controller numbers depend on the machine; disks with targets (c1t0d0) are SATA or SCSI ones
        nic_names={"e1000g": "e1000", "vioif": "virtio", "pcn": "pcnet", "vmxnet3s": "vmxnet3", "rge": None, "nge": None},
    ),
    "haiku": Profile("Haiku or BeOS", ("sata", "ide"), ("e1000",), "q35", "x86_64"),
    "os2": Profile("OS/2, eComStation or ArcaOS", cpus_at_most=1, memory_at_most_bytes=2 * GIB, local_time=True),
    "dos": Profile("DOS", nic_models=("pcnet", "ne2k_pci"), cpus_at_most=1, memory_at_most_bytes=512 * MIB, local_time=True),
    "win9x": Profile(
        "Windows 95, 98 or Me", nic_models=("pcnet", "rtl8139"), cpus_at_most=1, memory_at_most_bytes=512 * MIB, local_time=True
    ),
    "nt3": Profile("Windows NT 3.x", nic_models=("pcnet",), cpus_at_most=1, memory_at_most_bytes=512 * MIB, local_time=True),
    "netware": Profile("NetWare", nic_models=("pcnet", "e1000"), cpus_at_most=1, memory_at_most_bytes=2 * GIB, local_time=True),
    "unix": Profile("Unix System V (UnixWare, SCO OpenServer)", nic_models=("pcnet",), cpus_at_most=1, memory_at_most_bytes=GIB),
    "minix": Profile("MINIX", nic_models=("e1000", "rtl8139"), cpus_at_most=1, memory_at_most_bytes=2 * GIB),
    "macos": Profile("macOS", ("sata",), ("vmxnet3", "e1000"), "q35", "x86_64"),
    "esxi": Profile("VMware ESXi", ("sata", "ide"), ("vmxnet3", "e1000"), "q35", "x86_64"),
}
