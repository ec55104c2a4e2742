"""A Debian guest as VMware left it, in memory: its tree, its facts, and the facts once a plan was carried out."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Mapping, Sequence

from drivers.changes import (
    CarryFile,
    Change,
    CopyFile,
    DeleteFile,
    DeleteSymlink,
    EditFile,
    ExtendInitramfs,
    MakeSymlink,
    WriteFile,
)
from drivers.facts import (
    Disk,
    FileSystem,
    GuestFacts,
    Initramfs,
    Kernel,
    Mount,
    OperatingSystem,
    Partition,
    ReadBy,
    TextFile,
)
from drivers.linux.bootloader import read_boot_loader
from drivers.linux.efi_programs import read_efi_programs
from drivers.linux.network import read_network
from drivers.linux.reading import collect_texts
from drivers.linux.rebuild import find_builders
from drivers.linux.tools import find_tools
from p2v.core.units import GIB, MIB
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node
from tests.fixtures import etc
from tests.fixtures.layout import ROOT_UUID, SWAP_UUID

VERSION = "6.1.0-9-amd64"
OLDER = "6.1.0-8-amd64"

DPKG_STATUS = """\
Package: open-vm-tools
Status: install ok installed
Version: 2:12.2.0-1+deb12u2

Package: qemu-guest-agent
Status: deinstall ok config-files
Version: 1:7.2+dfsg-7
"""

ROOT = Partition(
    0, 1, 1 * MIB, 2 * GIB, "83", True, "c0ffee12-01",
    filesystem=FileSystem("ext4", ROOT_UUID, free_bytes=500 * MIB, free_inodes=10000),
)  # fmt: skip
SWAP = Partition(0, 2, 3 * GIB, 64 * MIB, "82", False, "c0ffee12-02", filesystem=FileSystem("swap", SWAP_UUID))
DISK = Disk(0, 4 * GIB, "mbr", "c0ffee12", "grub2")


def files(kernels: Sequence[str] = (VERSION,)) -> dict[str, Node]:
    """The guest's files, as far as planning looks."""
    found: dict[str, Node] = {
        **etc.device_naming_files(etc.Naming.DEVICE, kernels),
        **{path: text for path, text in etc.identity_files().items() if path != "/etc/machine-id"},
        "/lib": Link("usr/lib"),
        "/etc/initramfs-tools/initramfs.conf": "#\nMODULES=list\nBUSYBOX=auto\n",
        "/etc/systemd/network": Folder(),
        "/etc/systemd/system/vmtoolsd.service": Link("/lib/systemd/system/open-vm-tools.service"),
        "/etc/systemd/system/multi-user.target.wants/open-vm-tools.service": Link(
            "/lib/systemd/system/open-vm-tools.service"
        ),
        "/usr/lib/systemd/system/open-vm-tools.service": "[Service]\nExecStart=/usr/bin/vmtoolsd\n",
        "/usr/lib/systemd/system/vgauth.service": "[Service]\nExecStart=/usr/bin/VGAuthService\n",
        "/usr/bin/vmtoolsd": b"\x7fELF",
        "/var/lib/dpkg/status": DPKG_STATUS,
        "/boot/grub/grubenv": "# GRUB Environment Block\n" + "#" * 999,
    }
    for version in kernels:
        found[f"/boot/vmlinuz-{version}"] = b"kernel"
        found[f"/boot/initrd.img-{version}"] = b"initramfs"
    return found


def kernel(version: str = VERSION, modules: Sequence[str] = ("ahci", "sd_mod", "ata_piix", "vmw_pvscsi")) -> Kernel:
    """A Debian kernel whose initramfs holds the given modules."""
    names = ("virtio_net", "virtio_rng", "virtio_balloon", "virtio_scsi", "virtio_blk", "virtio_pci")
    return Kernel(
        version=version,
        image=f"/boot/vmlinuz-{version}",
        modules_folder=f"/usr/lib/modules/{version}",
        initramfs=Initramfs(
            f"/boot/initrd.img-{version}", 7 * MIB, "ab" * 32, ("zstd",), "initramfs-tools", tuple(modules),
            f"usr/lib/modules/{version}",
        ),
        modules={name: f"kernel/drivers/virtio/{name}.ko" for name in names},
    )  # fmt: skip


def facts_of(
    nodes: Mapping[str, Node],
    kernels: Sequence[Kernel] | None = None,
    partitions: Sequence[Partition] = (ROOT, SWAP),
    disks: Sequence[Disk] = (DISK,),
) -> GuestFacts:
    """What is read from the tree, with the parts that other readers find given."""
    tree = InMemoryTree(nodes)
    texts, links, folders = collect_texts(tree)
    root = Mount("/", 0, 1)
    return GuestFacts(
        read_by=ReadBy.HOST,
        disks=tuple(disks),
        partitions=tuple(partitions),
        os=OperatingSystem("linux", "debian", "12", "Debian GNU/Linux 12", "x86_64", "debian", "vmguest", "systemd"),
        root=root,
        mounts=(root,),
        boot_loader=read_boot_loader(tree),
        efi_programs=read_efi_programs(tree),
        kernels=tuple(kernels) if kernels is not None else (kernel(),),
        network=read_network(tree),
        tools=find_tools(tree, links),
        texts=texts,
        links=links,
        folders=folders,
        programs=find_builders(tree),
    )


def applied(nodes: Mapping[str, Node], changes: Sequence[Change]) -> dict[str, Node]:
    """The files once a plan was carried out; asserts what each change expects to find."""
    after = dict(nodes)
    for change in changes:
        match change:
            case WriteFile():
                assert change.path not in after
                after[change.path] = change.content
            case CopyFile():
                assert change.target not in after
                after[change.target] = after[change.source]
            case CarryFile():
                assert change.path not in after
                after[change.path] = change.sha256
            case EditFile():
                assert after[change.path] == change.before
                after[change.path] = change.after
            case MakeSymlink():
                there = after.get(change.path)
                assert there == (None if change.replaces is None else Link(change.replaces))
                after[change.path] = Link(change.target)
            case DeleteFile() | DeleteSymlink():
                del after[change.path]
            case ExtendInitramfs():
                pass
    return after


def extended(kernels: Sequence[Kernel], changes: Sequence[Change]) -> tuple[Kernel, ...]:
    """The kernels once their initramfs were extended."""
    found = []
    for known in kernels:
        for change in changes:
            image = known.initramfs
            if isinstance(change, ExtendInitramfs) and image is not None and change.path == image.path:
                added = tuple(posixpath.basename(path).partition(".ko")[0] for path in change.modules)
                texts = {**image.texts, **{file.path: file.after for file in change.files}}
                image = dataclasses.replace(image, modules=image.modules + added, texts=texts)
                known = dataclasses.replace(known, initramfs=image)
        found.append(known)
    return tuple(found)


def text_file(text: str, path: str = "/etc/fstab") -> TextFile:
    """A text as it would be read."""
    return TextFile(path, path, text)
