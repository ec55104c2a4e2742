"""Small disks with volumes on them, made by LVM, mdadm, cryptsetup and btrfs themselves: in an appliance, once, and cached.

Each holds a tree that looks like a system's root and boots nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drivers.appliance import Appliance
from drivers.appliance_launch import open_appliance
from drivers.appliance_values import ApplianceDisk
from p2v.acceleration import acceleration
from p2v.core.run import SystemRunner
from tests.fixtures.cache import Artifact, built

MIB = 1024 * 1024
PASSPHRASE = "correct horse"
LUKS_UUID = "0a1b2c3d-1111-4222-8333-444455556666"
RELEASE = "ID=debian\nVERSION_ID=12\nPRETTY_NAME=Volumes\n"
BIG = bytes(range(256)) * (20 * MIB // 256)

# One machine a name; each disk's megabytes.
MACHINES: dict[str, tuple[int, ...]] = {
    "lvm": (200, 80), "mirror": (96, 96), "luks": (200,), "btrfs": (200,), "striped": (100, 100),
}  # fmt: skip
_VERSION = "3"


def disks(machine: str) -> tuple[Path, ...]:
    """The raw disks of a machine, in its order; never to be written."""
    folder = built(Artifact("volume-disks", _VERSION), _make)
    return tuple(folder / f"{machine}{number}.raw" for number in range(len(MACHINES[machine])))


def _make(partial: Path) -> None:
    partial.mkdir()
    paths: list[Path] = []
    names: dict[str, list[str]] = {}
    for machine, sizes in MACHINES.items():
        for number, megabytes in enumerate(sizes):
            path = partial / f"{machine}{number}.raw"
            with path.open("wb") as disk:
                disk.truncate(megabytes * MIB)
            names.setdefault(machine, []).append(f"/dev/sd{chr(ord('a') + len(paths))}")
            paths.append(path)
    opened = [ApplianceDisk(path, "raw", read_only=False) for path in paths]
    with open_appliance(opened, acceleration(SystemRunner()), memory_mib=768) as appliance:
        for machine, devices in names.items():
            _MAKERS[machine](appliance, devices)


def _partitions(appliance: Appliance, device: str, *ends: int) -> None:
    appliance.call("part_init", device, "mbr")
    start = 1
    for end in ends:
        appliance.call("part_add", device, "p", start * 2048, end * 2048 - 1)
        start = end


def _root(appliance: Appliance, device: str, fstab: str, options: str = "") -> None:
    appliance.call("mount_options", options, device, "/")
    for folder in ("/etc", "/bin", "/boot", "/home", "/var"):
        appliance.call("mkdir_p", folder)
    appliance.call("write", "/etc/os-release", RELEASE.encode())
    appliance.call("write", "/etc/fstab", fstab.encode())


def _file(appliance: Appliance, device: str, path: str, data: bytes, options: str = "") -> None:
    appliance.call("umount_all")
    appliance.call("mount_options", options, device, "/")
    for start in range(0, len(data), 2 * MIB):
        appliance.call("write_append", path, data[start : start + 2 * MIB])
    appliance.call("umount_all")


def _lvm(appliance: Appliance, devices: Sequence[str]) -> None:
    """Two disks, two groups; one volume in two pieces on both disks; a name with a hyphen."""
    first, second = devices
    _partitions(appliance, first, 40, 199)
    _partitions(appliance, second, 79)
    appliance.call("mkfs", "ext4", f"{first}1", label="BOOT")
    appliance.call("pvcreate", f"{first}2")
    appliance.call("pvcreate", f"{second}1")
    appliance.call("vgcreate", "sys", [f"{first}2", f"{second}1"])
    appliance.call("lvcreate", "root", "sys", 60)
    appliance.call("lvcreate", "gap", "sys", 40)
    # what is left on the first disk is less than this: the rest is on the second
    appliance.call("lvcreate", "big-data", "sys", 100)
    appliance.call("mkfs", "ext4", "/dev/sys/root")
    appliance.call("mkfs", "ext4", "/dev/sys/big-data")
    _root(
        appliance, "/dev/sys/root",
        "/dev/mapper/sys-root / ext4 defaults 0 1\nLABEL=BOOT /boot ext4 defaults 0 2\n"
        "/dev/sys/big-data /var ext4 defaults 0 2\n",
    )  # fmt: skip
    _file(appliance, f"{first}1", "/vmlinuz", b"kernel")
    _file(appliance, "/dev/sys/big-data", "/big", BIG)


def _mirror(appliance: Appliance, devices: Sequence[str]) -> None:
    """Two mirrors over two disks: metadata at the end for /boot, at the begin (and LVM inside) for the rest."""
    for device in devices:
        _partitions(appliance, device, 32, 95)
    # libguestfs' md_create knows only the default version, and the appliance's shell is the same mdadm
    for name, version, number in (("boot", "1.0", 1), ("rest", "1.2", 2)):
        members = " ".join(f"$(readlink -f /dev/disk/by-path/*-scsi-0:0:{_target(d)}:0-part{number})" for d in devices)
        command = f"mdadm --create /dev/md/{name} --run --metadata={version} --level=1 --raid-devices=2 {members}"
        appliance.call("debug", "sh", [f"{command} 2>&1; udevadm settle"])
    boot, rest = (f"/dev/md/{name}" for name in ("boot", "rest"))
    appliance.call("mkfs", "ext4", boot, label="MDBOOT")
    appliance.call("pvcreate", rest)
    appliance.call("vgcreate", "vg", [rest])
    appliance.call("lvcreate", "root", "vg", 44)
    appliance.call("mkfs", "ext4", "/dev/vg/root")
    _root(appliance, "/dev/vg/root", "/dev/mapper/vg-root / ext4 defaults 0 1\n/dev/md/boot /boot ext4 defaults 0 2\n")
    _file(appliance, boot, "/vmlinuz", b"mirrored kernel")


def _target(device: str) -> int:
    return ord(device[-1]) - ord("a")


def _luks(appliance: Appliance, devices: Sequence[str]) -> None:
    """LVM in LUKS, as installers make it; the guest's crypttab has a name of its own for it."""
    device = devices[0]
    _partitions(appliance, device, 40, 199)
    appliance.call("mkfs", "ext4", f"{device}1", label="LBOOT")
    path = f"$(readlink -f /dev/disk/by-path/*-scsi-0:0:{_target(device)}:0-part2)"
    options = f"--type luks2 --uuid {LUKS_UUID} --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --batch-mode"
    appliance.call("debug", "sh", [f"printf '%s' '{PASSPHRASE}' | cryptsetup luksFormat {options} {path} - 2>&1"])
    appliance.call("cryptsetup_open", f"{device}2", PASSPHRASE, "making")
    appliance.call("pvcreate", "/dev/mapper/making")
    appliance.call("vgcreate", "crypt", ["/dev/mapper/making"])
    appliance.call("lvcreate", "root", "crypt", 80)
    appliance.call("mkfs", "ext4", "/dev/crypt/root")
    _root(appliance, "/dev/crypt/root", "/dev/mapper/crypt-root / ext4 defaults 0 1\nLABEL=LBOOT /boot ext4 defaults 0 2\n")
    appliance.call("write", "/etc/crypttab", f"sda2_crypt UUID={LUKS_UUID} none luks\n".encode())
    _file(appliance, f"{device}1", "/vmlinuz", b"plain kernel")
    appliance.call("vg_activate", False, ["crypt"])
    appliance.call("cryptsetup_close", "/dev/mapper/making")


def _btrfs(appliance: Appliance, devices: Sequence[str]) -> None:
    """Root and /home in subvolumes, and a snapshot of the root that is no second system."""
    device = f"{devices[0]}1"
    _partitions(appliance, devices[0], 199)
    appliance.call("mkfs_btrfs", [device])
    appliance.call("mount", device, "/")
    appliance.call("btrfs_subvolume_create", "/@")
    appliance.call("btrfs_subvolume_create", "/@home")
    appliance.call("umount_all")
    _root(appliance, device, "/dev/sda1 / btrfs subvol=@ 0 0\n/dev/sda1 /home btrfs subvol=@home 0 0\n", "subvol=@")
    appliance.call("umount_all")
    appliance.call("mount", device, "/")
    appliance.call("mkdir", "/snapshots")
    appliance.call("btrfs_subvolume_snapshot", "/@", "/snapshots/1")
    _file(appliance, device, "/who", b"home\n", "subvol=@home")


def _striped(appliance: Appliance, devices: Sequence[str]) -> None:
    """A root that only the kernel can put together."""
    for device in devices:
        _partitions(appliance, device, 99)
        appliance.call("pvcreate", f"{device}1")
    appliance.call("vgcreate", "str", [f"{device}1" for device in devices])
    appliance.call("debug", "sh", ["lvm lvcreate -y -i 2 -I 64 -L 80M -n root str 2>&1; udevadm settle"])
    appliance.call("mkfs", "ext4", "/dev/str/root")
    _root(appliance, "/dev/str/root", "/dev/mapper/str-root / ext4 defaults 0 1\n")
    appliance.call("umount_all")


_MAKERS = {"lvm": _lvm, "mirror": _mirror, "luks": _luks, "btrfs": _btrfs, "striped": _striped}
