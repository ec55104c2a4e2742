"""Guests in memory that start, read by the real readers over a tree of files, and what an audit is given of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from converters.info import FileIdentity, ImageInfo, SourceIdentity
from drivers.facts import Disk, FileSystem, GuestFacts, Mount, Partition, ReadBy, Volume
from drivers.inspection import facts_from_tree
from drivers.layout import Layout
from drivers.partitions import ESP_GUID
from p2v.audit.catalogue_file import catalogue
from p2v.audit.chain import Link, LinkState
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.rules.start import CHECKS, chain
from p2v.core.units import GIB, MIB
from p2v.documents import Inspection, SourceDisk
from p2v.machine import Machine, MachineDisk
from p2v.planning import plan_found
from tests.drivers.linux import images
from tests.drivers.making import ELF_X86_64
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.drivers.memory_tree import Link as TreeLink
from tests.fixtures import etc
from tests.fixtures.layout import ROOT_UUID, SWAP_UUID

VERSION = "6.1.0-9-amd64"
KERNEL, INITRD = f"/boot/vmlinuz-{VERSION}", f"/boot/initrd.img-{VERSION}"
MODULES = ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ext4")
VMWARE_MODULES = ("ahci", "sd_mod", "ata_piix", "vmw_pvscsi", "ext4")
EXECUTABLE: Mapping[str, int] = dict.fromkeys(
    (
        "/usr/lib/systemd/systemd",
        "/usr/bin/false",
        "/usr/bin/dash",
        "/usr/sbin/hang",
        "/usr/sbin/wrapper",
        "/usr/sbin/odd",
    ),
    0o755,
)

ROOT = Partition(
    0, 1, 1 * MIB, 2 * GIB, "83", True, "c0ffee12-01",
    filesystem=FileSystem("ext4", ROOT_UUID, "root", free_bytes=500 * MIB, free_inodes=10000),
)  # fmt: skip
SWAP = Partition(0, 2, 3 * GIB, 64 * MIB, "82", False, "c0ffee12-02", filesystem=FileSystem("swap", SWAP_UUID))
AT_ROOT = Mount("/", 0, 1)
DISK = Disk(0, 4 * GIB, "mbr", "c0ffee12", "grub2", next_stage="there")
ESP = Partition(0, 15, 1 * MIB, 100 * MIB, ESP_GUID, partuuid="0e5b", filesystem=FileSystem("vfat", "ABCD-0123"))
GPT = replace(DISK, table="gpt", disk_id="11111111-1111-4111-8111-111111111111", boot_code="", next_stage="")


def initramfs(modules: Sequence[str] = MODULES) -> bytes:
    """What initramfs-tools would have made."""
    return images.initramfs(VERSION, modules, "conf/initramfs.conf")


def debian(modules: Sequence[str] = MODULES, arguments: str = "", root: str = f"UUID={ROOT_UUID}") -> dict[str, Node]:
    """A Debian that starts on virtio."""
    folder = f"/usr/lib/modules/{VERSION}"
    listed = ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net")
    return {
        "/etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n',
        "/etc/hostname": "vmguest\n",
        etc.FSTAB: etc.fstab(etc.Naming.UUID),
        etc.DEFAULT_GRUB: etc.default_grub(etc.Naming.UUID),
        etc.GRUB_CFG: etc.grub_cfg(root, [VERSION], arguments=arguments),
        "/bin": TreeLink("usr/bin"),
        "/sbin": TreeLink("usr/sbin"),
        "/lib": TreeLink("usr/lib"),
        "/usr/bin/sh": TreeLink("dash"),
        "/usr/bin/dash": ELF_X86_64,
        "/usr/bin/false": ELF_X86_64,
        "/usr/sbin/init": TreeLink("../lib/systemd/systemd"),
        "/usr/lib/systemd/systemd": ELF_X86_64,
        KERNEL: b"kernel",
        INITRD: initramfs(modules),
        f"{folder}/modules.dep": "".join(f"kernel/{name}.ko:\n" for name in listed),
        f"{folder}/modules.builtin": "kernel/fs/fuse/fuse.ko\n",
        **{f"{folder}/kernel/{name}.ko": b"ELF" for name in listed},
    }


def facts_of(
    files: Mapping[str, Node],
    partitions: Sequence[Partition] = (ROOT, SWAP),
    disks: Sequence[Disk] = (DISK,),
    volumes: Sequence[Volume] = (),
    mounts: Sequence[Mount] = (),
    root: Mount = AT_ROOT,
) -> GuestFacts:
    """Facts as they are read from a tree with these files."""
    layout = Layout(tuple(disks), tuple(partitions), volumes=tuple(volumes))
    tree = InMemoryTree(files, dict(EXECUTABLE))
    return facts_from_tree(layout, tree, ReadBy.HOST, root=root, mounts=(root, *mounts))


def examined(facts: GuestFacts, **machine: Any) -> Examined:
    """What an audit is given of a machine with these facts."""
    paths = [Path(f"/vms/disk{disk.index}.raw") for disk in facts.disks]
    made = Machine("vm", tuple(MachineDisk(path) for path in paths), **machine)
    document = plan_found(made, Inspection(tuple(map(_source, paths, facts.disks)), facts))
    return Examined(document, catalogue(), date(2026, 1, 1))


def _source(path: Path, disk: Disk) -> SourceDisk:
    size = disk.size_bytes
    image = ImageInfo("raw", "", size, size, size, (str(path),), 512, 512, "", "", (), (), ())
    return SourceDisk(
        path, None, image, SourceIdentity((FileIdentity(str(path), size, 0),), "raw", "", size, "00" * 32, "11" * 32)
    )


def findings(seen: Examined) -> list[AuditFinding]:
    """What the rules of the start find."""
    return [each for check in CHECKS for each in check(seen)]


def fired(seen: Examined) -> dict[str, Severity]:
    """The rules that fire, with how much each matters."""
    return {each.rule: each.severity for each in findings(seen)}


def state(seen: Examined, name: str) -> LinkState:
    """The state of a link."""
    return link(seen, name).state


def link(seen: Examined, name: str) -> Link:
    """A link of the chain."""
    return next(each for each in chain(seen) if each.name == name)


def bad(seen: Examined) -> list[str]:
    """What keeps an audit from calling a machine ready: rules that do, and blockers of the plan's."""
    worst = (Severity.BLOCKER, Severity.UNKNOWN)
    rules = [
        f"{each.rule}: {each.message}"
        for each in findings(seen)
        if each.severity in worst and not each.fixed_by_conversion
    ]
    return rules + [f"{each.id}: {each.message}" for each in seen.document.plan.blockers]
