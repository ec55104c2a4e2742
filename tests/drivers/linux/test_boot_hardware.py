"""The hardware that a guest is given by what its kernel and initramfs can drive."""

from __future__ import annotations

import dataclasses

from drivers.planning import PlanOptions, plan_guest
from tests.drivers.linux import images
from tests.drivers.linux.boot_guests import (
    IDE,
    PLAIN,
    ROOT_ARGUMENT,
    after,
    facts,
    plan,
    red_hat,
)
from tests.drivers.memory_tree import Node

# -- hardware that the guest has drivers for ---------------------------------------------------------------------------

OLD_RED_HAT = "2.6.18-398.el5"


def mkinitrd(modules: tuple[str, ...], config: str = "", on_disk: tuple[str, ...] = ()) -> dict[str, Node]:
    """A Red Hat 5 guest, whose archive loads modules by a script."""
    archive = images.initramfs(OLD_RED_HAT, modules, marker="bin/nash")
    folder = f"/lib/modules/{OLD_RED_HAT}"
    return {
        "/boot/grub/grub.conf": f"title R\nroot (hd0,0)\nkernel /vmlinuz-{OLD_RED_HAT} ro root=LABEL=/\n"
        f"initrd /initrd-{OLD_RED_HAT}.img\n",
        f"/boot/vmlinuz-{OLD_RED_HAT}": b"kernel",
        f"/boot/initrd-{OLD_RED_HAT}.img": archive,
        f"/boot/config-{OLD_RED_HAT}": config,
        f"{folder}/modules.dep": "".join(f"{folder}/kernel/{name}.ko:\n" for name in on_disk),
        **{f"{folder}/kernel/{name}.ko": b"ELF" for name in on_disk},
    }


def test_an_archive_that_loads_its_modules_by_a_script_gets_ide_and_says_so() -> None:
    found = plan(mkinitrd(("ata_piix", "mptspi"), on_disk=("virtio_pci", "virtio_blk", "e1000")))
    assert found.blockers == ()
    assert (found.caps.disk_buses, found.caps.nic_models) == (("ide",), ("e1000",))
    assert [f.id for f in found.warnings][:2] == ["linux.kernel.no-virtio", "linux.disks.not-virtio"]
    before_libata = plan(mkinitrd(("mptscsih",), IDE, on_disk=("8139cp",)))
    assert (before_libata.blockers, before_libata.caps.disk_buses) == ((), ("ide",))
    assert before_libata.caps.nic_models == ("rtl8139",)


def test_such_an_archive_without_a_driver_for_any_bus_blocks() -> None:
    assert [f.id for f in plan(mkinitrd(("mptspi",))).blockers] == ["linux.boot.no-disk-driver"]
    on_disk = ("virtio_pci", "virtio_blk")
    assert [f.id for f in plan(mkinitrd(("mptspi",), on_disk=on_disk)).blockers] == ["linux.initramfs.fixed"]
    virtio = plan(mkinitrd(("virtio_pci", "virtio_blk")))
    assert (virtio.blockers, virtio.caps.disk_buses) == ((), ("virtio-blk",))


def test_a_squashed_image_blocks_unless_compatible_hardware_is_asked_for() -> None:
    found = facts(red_hat(f"{ROOT_ARGUMENT} ro"))
    squashed = tuple(
        dataclasses.replace(
            kernel,
            modules={"virtio_pci": "a", "virtio_blk": "b", "e1000e": "c"},
            initramfs=kernel.initramfs and dataclasses.replace(kernel.initramfs, modules=(), squashed=True),
        )
        for kernel in found.kernels
    )
    hidden = dataclasses.replace(found, kernels=squashed)
    (blocker,) = plan_guest(hidden, PLAIN).blockers
    assert blocker.id == "linux.initramfs.fixed"
    assert "--compatible" in blocker.hint
    compatible = plan_guest(hidden, PlanOptions(compatible=True))
    assert compatible.blockers == ()
    assert (compatible.caps.disk_buses, compatible.caps.nic_models[0]) == (("sata", "ide"), "e1000e")
    assert "linux.disks.unknown" in [finding.id for finding in compatible.warnings]


def test_compatible_takes_nothing_from_a_guest_that_has_virtio() -> None:
    nodes = red_hat(f"{ROOT_ARGUMENT} ro")
    assert plan(nodes, PlanOptions(compatible=True)).caps == plan(nodes).caps


def test_an_old_kernel_that_looks_for_its_root_itself_keeps_its_name() -> None:
    nodes: dict[str, Node] = {
        "/boot/grub/menu.lst": "title A\nkernel /boot/vmlinuz-2.6.32 root=/dev/sda1 ro\n",
        "/boot/vmlinuz-2.6.32": b"kernel",
        "/boot/config-2.6.32": "CONFIG_ATA_PIIX=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\n",
    }
    found = plan(nodes)
    assert (found.changes, found.blockers, found.caps.disk_buses) == ((), (), ("ide",))
    newer = {path.replace("2.6.32", "4.19.0"): node for path, node in nodes.items()}
    newer["/boot/grub/menu.lst"] = str(newer["/boot/grub/menu.lst"]).replace("2.6.32", "4.19.0")
    assert "root=PARTUUID=c0ffee12-01 ro" in str(after(newer)["/boot/grub/menu.lst"])
    assert plan(newer).caps.disk_buses[0] == "virtio-blk"
