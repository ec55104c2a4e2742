"""Guests in memory by how they are booted: files of boot loaders, kernels with their initramfs, and what is planned of them."""

from __future__ import annotations

from drivers.facts import BootLoader, GuestFacts
from drivers.linux import grubenv
from drivers.linux.bootloader import read_boot_loader
from drivers.linux.devices import DeviceNames
from drivers.linux.kernels import find_kernels
from drivers.plan import GuestPlan
from drivers.planning import PlanOptions, plan_guest
from tests.drivers.linux import images
from tests.drivers.linux.guest import ROOT, SWAP, applied, facts_of
from tests.drivers.memory_tree import InMemoryTree, Link, Node
from tests.fixtures.layout import ROOT_UUID, SWAP_UUID

PLAIN = PlanOptions()
NAMES = DeviceNames(1, (ROOT, SWAP), ROOT)
NEW, OLD, RESCUE = "5.14.0-503.el9.x86_64", "5.14.0-427.el9.x86_64", "0-rescue-abc"
MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "ahci")
BLS = "/boot/loader/entries"
ROOT_ARGUMENT, SWAP_ARGUMENT = f"root=UUID={ROOT_UUID}", f"resume=UUID={SWAP_UUID}"
FEDORA_CFG = """\
load_env -f ${config_directory}/grubenv
set default="${saved_entry}"
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=/dev/sda1 ro resume=/dev/sda2 "
fi
insmod blscfg
blscfg
menuentry 'UEFI Firmware Settings' --id 'uefi-firmware' {
\tfwsetup
}
"""


def loader(nodes: dict[str, Node]) -> BootLoader:
    """The boot loader read from these files."""
    return read_boot_loader(InMemoryTree(nodes))


def facts(nodes: dict[str, Node]) -> GuestFacts:
    """Facts of a guest with these files and the kernels that are in them."""
    nodes = {"/etc/fstab": f"UUID={ROOT_UUID} / ext4 defaults 0 1\n", **nodes}
    tree = InMemoryTree(nodes)
    return facts_of(nodes, find_kernels(tree, read_boot_loader(tree)))


def plan(nodes: dict[str, Node], options: PlanOptions = PLAIN) -> GuestPlan:
    """The plan of a guest with these files."""
    return plan_guest(facts(nodes), options)


def after(nodes: dict[str, Node]) -> dict[str, Node]:
    """The files once the plan was carried out; a second plan has nothing left to do."""
    first = plan(nodes)
    assert [finding.message for finding in first.blockers] == []
    found = applied(nodes, first.changes)
    assert plan(found).changes == ()
    return found


def kernel(version: str, folder: str = "/boot", modules: tuple[str, ...] = MODULES) -> dict[str, Node]:
    """A kernel's files as Red Hat names them."""
    return {
        f"{folder}/vmlinuz-{version}": b"kernel",
        f"{folder}/initramfs-{version}.img": images.initramfs(version, modules),
        f"/usr/lib/modules/{version}/modules.dep": "",
        "/lib": Link("usr/lib"),
    }


def snippet(version: str, options: str = "$kernelopts $tuned_params", title: str = "") -> str:
    """An entry as Red Hat's kernel-install plug-in writes it."""
    return (
        f"title {title or f'Red Hat Enterprise Linux ({version}) 9.5 (Plow)'}\nversion {version}\n"
        f"linux /vmlinuz-{version}\ninitrd /initramfs-{version}.img $tuned_initrd\noptions {options}\n"
        "grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class rhel\n"
    )


def block(*lines: str) -> str:
    """An environment block of 1024 bytes."""
    text = grubenv.SIGNATURE + "".join(f"{line}\n" for line in lines)
    return text + "#" * (1024 - len(text))


def red_hat(options: str = "$kernelopts $tuned_params", environment: str = "") -> dict[str, Node]:
    """A BIOS guest with three entries."""
    return {
        "/boot/grub2/grub.cfg": FEDORA_CFG,
        "/boot/grub2/grubenv": environment or block("saved_entry=abc-" + OLD, "kernelopts=root=/dev/sda1 ro quiet"),
        **kernel(NEW), **kernel(OLD), **kernel(RESCUE),
        f"{BLS}/abc-{NEW}.conf": snippet(NEW, options),
        f"{BLS}/abc-{OLD}.conf": snippet(OLD, options),
        f"{BLS}/abc-0-rescue.conf": snippet(RESCUE, options),
    }  # fmt: skip


IDE = "CONFIG_IDE=y\nCONFIG_BLK_DEV_IDEDISK=y\nCONFIG_BLK_DEV_PIIX=y\n"


def images_header(version: str) -> bytes:
    """The parts of the x86 boot header that tell the version."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x100).to_bytes(2, "little")
    head[0x300 : 0x300 + len(version) + 1] = f"{version} ".encode()
    return bytes(head)
