"""No program of the guest is run: every one that others would run is poisoned here, and nobody dies of it."""

from __future__ import annotations

import ast
import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drivers.appliance import Appliance
from drivers.appliance_values import ApplianceDisk
from drivers.facts import GuestFacts
from drivers.guest_programs import GuestProgramFailed
from drivers.inspection import inspect_confined
from drivers.plan import GuestProgram
from drivers.planning import PlanOptions, plan_guest
from drivers.rewrite import rewrite
from p2v.core.acceleration import Acceleration, Accelerator
from tests.drivers import small_disk
from tests.drivers.linux.guest import VERSION, files
from tests.drivers.making import SYSTEM, lay_files
from tests.drivers.memory_tree import Folder, Link
from tests.drivers.raw_reader import RawReader

REPOSITORY = Path(__file__).parents[2]
MARKER = "p2v-was-run"
# Linux on x86-64: open("/p2v-was-run", O_WRONLY | O_CREAT, 0644), then exit(99)
_CODE = (
    bytes.fromhex("488d3d1d000000be41000000baa4010000b8020000000f05bf63000000b83c0000000f05") + f"/{MARKER}\0".encode()
)
_START = 0x400000
POISON = (
    b"\x7fELF\x02\x01\x01" + bytes(9) + bytes.fromhex("02003e0001000000")
    + (_START + 120).to_bytes(8, "little") + (64).to_bytes(8, "little") + bytes(12)
    + bytes.fromhex("4000380001000000") + bytes(4)
    + bytes.fromhex("0100000005000000") + bytes(8) + 2 * _START.to_bytes(8, "little")
    + 2 * (120 + len(_CODE)).to_bytes(8, "little") + (0x1000).to_bytes(8, "little")
    + _CODE
)  # fmt: skip
PROGRAMS = (
    "/usr/bin/sh", "/usr/bin/dash", "/usr/bin/bash", "/usr/bin/env", "/usr/bin/dracut", "/usr/sbin/dracut",
    "/usr/sbin/update-initramfs", "/usr/sbin/mkinitramfs", "/usr/sbin/mkinitrd", "/usr/bin/mkinitcpio",
    "/usr/sbin/grub-mkconfig", "/usr/sbin/grub2-mkconfig", "/usr/sbin/update-grub", "/usr/sbin/grubby",
    "/usr/sbin/grub-install", "/usr/sbin/ldconfig", "/usr/sbin/depmod", "/usr/bin/kmod", "/usr/bin/rpm",
    "/usr/bin/dpkg", "/usr/bin/dpkg-query", "/usr/bin/apt-get", "/usr/bin/systemctl", "/usr/sbin/setfiles",
    "/usr/sbin/restorecon", "/usr/sbin/chroot", "/usr/bin/file", "/usr/lib/systemd/systemd", "/usr/sbin/init",
)  # fmt: skip

# What may be asked of libguestfs: looking, mounting, and changing single files. Nothing in this list runs a program that
# is the guest's. "debug" is a shell of the appliance's own, for checkers of file systems, before and after mounting.
ALLOWED = frozenset({
    "launch", "shutdown", "sync", "mount_options", "umount_all", "mountpoints", "list_filesystems", "blockdev_getsize64",
    "vfs_uuid", "vfs_label", "vfs_type", "debug", "statns", "lstatns", "statvfs", "ls0", "readlink", "pread", "write",
    "write_append", "chown", "chmod", "mkdir", "ln_s", "rm", "lgetxattr", "lsetxattr", "lvm_scan", "vg_activate_all",
    "list_partitions", "lvs", "pwrite", "pread_device", "pwrite_device", "drop_caches",
    "list_md_devices", "md_detail", "cryptsetup_open", "btrfs_subvolume_list", "version", "utsname",
})  # fmt: skip
CALLS = frozenset({"call", "_call_at", "_put"})


def test_the_poison_works(tmp_path: Path) -> None:
    if os.geteuid() != 0 or os.uname().machine != "x86_64":
        pytest.skip("only root on x86-64 can take the poison, in a folder of its own")
    (tmp_path / "poison").write_bytes(POISON)
    (tmp_path / "poison").chmod(0o755)
    done = subprocess.run(["chroot", str(tmp_path), "/poison"], check=False)
    assert done.returncode == 99
    assert (tmp_path / MARKER).exists()


def test_libguestfs_is_asked_for_nothing_that_runs_programs_of_the_guest() -> None:
    asked: set[str] = set()
    for path in sorted((REPOSITORY / "drivers").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
                found = {a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)}
                # what the user asks for by name is done in one place
                asked |= found - ({"command"} if path.name == "guest_programs.py" else set())
    assert {"mount_options", "write", "pread"} <= asked
    assert {name for name in asked if not name.startswith("/")} - ALLOWED <= {"sh"}


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian guest with GRUB and a kernel that has virtio built in, all of whose programs are poison."""
    folder = tmp_path_factory.mktemp("poisoned")
    nodes = {**SYSTEM, **files(), "/etc/selinux/config": "SELINUX=permissive\nSELINUXTYPE=demo\n"}
    folders = [path for path, node in nodes.items() if isinstance(node, Folder)]
    plain: dict[str, bytes | str | Link] = {p: n for p, n in nodes.items() if not isinstance(n, Folder)}
    plain[f"/usr/lib/modules/{VERSION}/modules.builtin"] = "".join(
        f"kernel/{name}.ko\n" for name in ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_net")
    )
    plain["/etc/fstab"] = f"UUID={small_disk.UUID} / ext4 defaults 0 1\n/dev/sda1 /mnt ext4 noauto 0 0\n"
    plain["/etc/selinux/demo/contexts/files/file_contexts"] = "/etc/systemd/system(/.*)? -l u:r:unit_t:s0\n"
    plain |= dict.fromkeys(PROGRAMS, POISON)
    root = lay_files(folder / "root", plain)
    for path in folders:
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        (root / program.lstrip("/")).chmod(0o4755)
    image = folder / "disk.raw"
    small_disk.make_disk(image, root)
    small_disk.set_label(image, "/etc/systemd/system", b"u:r:etc_t:s0\0", folder)
    image.chmod(0o444)
    return image


def overlay(poisoned: Path, folder: Path) -> Path:
    over = folder / "overlay.qcow2"
    small_disk.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", poisoned, over)
    return over


def facts_of(poisoned: Path) -> GuestFacts:
    reader = RawReader(poisoned)
    try:
        return inspect_confined([reader])
    finally:
        reader.close()


@pytest.mark.appliance
def test_a_program_that_was_asked_for_is_run_and_its_failure_is_the_conversions(poisoned: Path, tmp_path: Path) -> None:
    # the poison is the guest's update-initramfs here
    plan = plan_guest(facts_of(poisoned), PlanOptions((None,)))
    program = GuestProgram(("/usr/sbin/update-initramfs", "-u"), f"/boot/initrd.img-{VERSION}", "asked for")
    plan = dataclasses.replace(plan, programs=(program,))
    disk = ApplianceDisk(overlay(poisoned, tmp_path), "qcow2", read_only=False)
    with pytest.raises(GuestProgramFailed) as caught:
        rewrite([disk], facts_of(poisoned), plan, lambda change, tree: b"", Acceleration(Accelerator.TCG, "in a test"))
    assert "/usr/sbin/update-initramfs -u" in caught.value.sentence()


@pytest.mark.appliance
def test_a_guest_full_of_poison_is_rewritten_in_good_health(
    poisoned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small_disk.digest(poisoned)
    asked: set[str] = set()
    real = Appliance.call

    def call(self: Appliance, operation: str, *arguments: Any, **options: Any) -> Any:
        asked.add(operation)
        return real(self, operation, *arguments, **options)

    monkeypatch.setattr(Appliance, "call", call)
    facts = facts_of(poisoned)
    plan = plan_guest(facts, PlanOptions((None,), new_identity=True, install_agent=True, purge_tools=True))
    assert (plan.blockers, plan.programs) == ((), ())
    over = overlay(poisoned, tmp_path)
    disk = ApplianceDisk(over, "qcow2", read_only=False)
    result = rewrite([disk], facts, plan, lambda change, tree: b"", Acceleration(Accelerator.TCG, "in a test"))
    assert not any(applied.skipped for applied in result.applied)
    assert asked <= ALLOWED
    image = tmp_path / "after.raw"
    small_disk.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", over, image)
    assert MARKER not in small_disk.names_in(image, "/")
    assert small_disk.digest(poisoned) == before
    # and what the plan says of labels is so
    mask = next(path for path in plan.labels if path.endswith("open-vm-tools.service"))
    assert small_disk.label_of(image, mask, tmp_path) == b"u:r:unit_t:s0\0"
    for program in PROGRAMS:
        assert small_disk.read_file(image, program, tmp_path) == POISON
