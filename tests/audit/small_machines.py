"""Machines that are small enough to audit by the dozen."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from drivers.keys import Key
from p2v.audit.auditing import Running, audit
from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import AuditDocument, MachineAudit
from p2v.audit.examine import Wish
from p2v.audit.gather import gather, together
from p2v.audit.side_by_side import Bounds
from p2v.audit.suppressing import Suppression
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.events import silent
from tests.drivers.making import MIB, ROOT_UUID, SYSTEM, lay_files, make_disk, make_ext

VMX = """config.version = "8"
virtualHW.version = "10"
displayName = "{name}"
memSize = "2048"
numvcpus = "2"
guestOS = "debian10-64"
scsi0.present = "TRUE"
scsi0.virtualDev = "lsilogic"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "{disk}"
ethernet0.present = "TRUE"
ethernet0.address = "{mac}"
ethernet0.addressType = "static"
"""
AS_OF = date(2026, 11, 26)


def linux_disk(path: Path, hostname: str = "tiny", fstab: str = "") -> Path:
    """A raw disk with one ext4 partition and a Debian in it, as far as /etc goes; nothing would boot it.

    ``fstab``: lines of it besides that of the root.
    """
    folder = path.with_name(path.name + ".tree")
    whole = f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n{fstab}"
    lay_files(folder, {**SYSTEM, "/etc/hostname": f"{hostname}\n", "/etc/fstab": whole})
    part = make_ext(path.with_name(path.name + ".part"), 15 * MIB, folder)
    make_disk(
        path, 16 * MIB, "label: dos\nlabel-id: 0x12345678\nstart=2048, size=30720, type=83, bootable\n", [(MIB, part)]
    )
    part.unlink()
    return path


def described(path: Path, name: str, disk: str, mac: str = "00:50:56:00:00:01") -> Path:
    """A VMware description of a machine with one disk."""
    path.write_text(VMX.format(name=name, disk=disk, mac=mac), "utf-8")
    return path


def audited(
    *paths: Path,
    suppressions: tuple[Suppression, ...] = (),
    seconds: float = 120.0,
    one_machine: bool = False,
    keys: tuple[Key, ...] = (),
) -> AuditDocument:
    """The audit of paths, as the command line makes it; ``one_machine``: they are its disks."""
    wish = Wish(catalogue(), AS_OF, keys=keys)
    chosen = Acceleration(Accelerator.TCG, "these tests start none")
    gathered = together(paths) if one_machine else gather(paths)
    return audit(gathered, wish, Running(2, Bounds(seconds=seconds)), lambda: chosen, silent, suppressions)


def rules_of(machine: MachineAudit) -> set[str]:
    """The ids of the rules that fired for a machine."""
    return {each.rule for each in machine.findings}
