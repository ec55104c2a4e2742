"""What readers of descriptions share: numbers and addresses as people wrote them, findings, disks that are looked for."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypedDict, Unpack

from converters.source_file import shown, shown_names
from drivers.plan import Finding
from p2v.core.errors import BadDescription, ForbiddenReference
from p2v.core.text import plain_name, printable
from p2v.core.units import GIB, MIB
from p2v.machine import (
    Attachment,
    Clock,
    Firmware,
    Machine,
    MachineDisk,
    Nic,
    RemovableDrive,
    Smbios,
    Topology,
    UefiVariable,
)
from p2v.sources.description import Description
from p2v.sources.media import medium_path

CPUS_AT_MOST = 4096
MEMORY_AT_MOST_BYTES = 64 * 1024 * GIB
DEFAULT_CPUS, _DEFAULT_MEMORY_BYTES = 1, 512 * MIB
_DISKS_AT_MOST = _NICS_AT_MOST = 256
_FINDINGS_AT_MOST, _LONGEST_MESSAGE = 1000, 1000
# Those that p2v.targets has hardware for, and the names of 32-bit PCs.
_ARCHITECTURES = ("x86_64", "amd64", "i686", "i586", "i486", "i386", "aarch64", "ppc64le", "s390x")
_MAC = re.compile(r"[0-9a-f]{12}")
_NUMBER = re.compile(r"[+-]?\d{1,20}")
_NAME_AT_MOST = 63


class Said(TypedDict, total=False):
    """What not every kind of description says; as in ``Machine``."""

    firmware: Firmware | None
    secure_boot: bool
    tpm: bool
    uuid: str | None
    generation_id: str | None
    guest: str
    topology: Topology | None
    clock: Clock | None
    display: str
    removable: tuple[RemovableDrive, ...]
    chipset: str
    smbios: Smbios
    nvram: Path | None
    variables: tuple[UefiVariable, ...]


@dataclass
class Draft:
    """A machine in the making. Everything that is wrong with a description is collected, and told at once."""

    description: Description
    kind: str
    """What kind of description it is, for people: ``VMware virtual machine (.vmx)``."""
    warnings: list[Finding] = field(default_factory=list)
    blockers: list[Finding] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    disks: list[MachineDisk] = field(default_factory=list)
    nics: list[Nic] = field(default_factory=list)
    _missing: list[str] = field(default_factory=list)
    _elsewhere: list[str] = field(default_factory=list)
    _forbidden: ForbiddenReference | None = None

    def warn(self, finding: str, message: str, hint: str = "") -> None:
        """Something that does not travel, or was put right."""
        self.warnings.append(self._finding(finding, message, hint))

    def block(self, finding: str, message: str, hint: str = "") -> None:
        """Something for which the machine must not be converted as it stands."""
        self.blockers.append(self._finding(finding, message, hint))

    def number(self, text: str | None, what: str, low: int, high: int) -> int | None:
        """A decimal number within its bounds; None with a warning for anything else, None alone for nothing."""
        if text is None or not text.strip():
            return None
        stripped = text.strip()
        value = int(stripped) if _NUMBER.fullmatch(stripped) else None
        if value is None or not low <= value <= high:
            self.warn("number", f"{what} is {shown(stripped)}, which is no number from {low} to {high}; it is not used")
            return None
        return value

    def mac(self, text: str | None) -> str | None:
        """A MAC address in lower-case colon form, from any way of writing it; None with a warning for what is none."""
        if text is None or not text.strip():
            return None
        digits = re.sub(r"[-:. ]", "", text.strip()).lower()
        if not _MAC.fullmatch(digits) or int(digits[:2], 16) & 1 or digits == "0" * 12:
            self.warn("mac", f"{shown(text)} is not a MAC address a card can have; the card gets a new one")
            return None
        return ":".join(digits[i : i + 2] for i in range(0, 12, 2))

    def uuid(self, text: str | None, *, what: str = "the machine's UUID", swapped: bool = False) -> str | None:
        """A UUID in its usual form, from any way of writing it; None with a warning for what is none.

        ``swapped``: the guest reads the first three fields of these bytes as little-endian numbers. SMBIOS says so since 2.6
        (DSP0134, System UUID), which dmidecode and Linux follow; Windows reads all versions so. QEMU writes what it is given in
        that order, so what the guest saw is what it must be given.
        """
        if text is None or not text.strip():
            return None
        try:
            made = uuid.UUID(re.sub(r"[-{} ]", "", text.strip()))
        except ValueError:
            self.warn("uuid", f"{what} is {shown(text)}, which is no UUID; the machine gets a new one")
            return None
        if swapped:
            made = uuid.UUID(bytes_le=made.bytes)
        return str(made) if made.int else None

    def add_disk(
        self,
        name: str,
        attachment: Attachment | None = None,
        *,
        serial: str | None = None,
        stated_bytes: int | None = None,
        input_format: str | None = None,
    ) -> MachineDisk | None:
        """Take a disk in, by its name in the description; a missing one is told when the draft is finished."""
        if len(self.disks) + len(self._missing) >= _DISKS_AT_MOST:
            raise self.description.error(f"has more than {_DISKS_AT_MOST} disks")
        path = self._looked_up(name)
        if path is None:
            self._missing.append(name)
            return None
        if any(disk.path == path for disk in self.disks):
            self.block("disk-twice", f"the disk {shown(name)} is named twice", "Put the description right, then try again.")
            return None
        disk = MachineDisk(path, input_format, serial or None, self.description.lookup, attachment, stated_bytes)
        self.disks.append(disk)
        return disk

    def warn_of_place(self, name: str, disk: MachineDisk | None) -> None:
        """Name a disk that was found by its last name alone in a folder below the description's, which need not be the machine's.

        For descriptions that stand among other things, as people write them into their home folder.
        """
        if disk is None or disk.path.parts[-2:] == PurePosixPath(name.replace("\\", "/")).parts[-2:]:
            return
        folders = (self.description.path.parent, *self.description.lookup.folders)
        if disk.path.parent not in {folder.resolve() for folder in folders}:
            self.warn(
                "disk-found",
                f"{shown(name)} is not there; {shown(str(disk.path))} is taken for it",
                "If it is another disk: put the right one beside the description, or say where it is with --extent-dir DIR.",
            )

    def disk_elsewhere(self, what: str) -> None:
        """A disk that is no file and no device, in words for people (``rbd pool/image``); told when the draft is finished."""
        if len(self._elsewhere) >= _DISKS_AT_MOST:
            raise self.description.error(f"has more than {_DISKS_AT_MOST} disks")
        self._elsewhere.append(what)

    def disk_shared(self, name: str) -> None:
        """A disk that other machines write to as well."""
        self.warn(
            "disk-shared",
            f"the disk {shown(name)} is shared with other machines; the copy is this machine's own",
            "Shut the others down before it is copied, and decide which of them keeps the data.",
        )

    def drive_twice(self, place: str) -> None:
        """Two drives at one place of a controller: which of them is meant, nothing tells."""
        self.block("drive-twice", f"the drive {place} is described twice", "Put the description right, then try again.")

    def passed_through(self, device: str) -> None:
        """A device of the old host that the guest had for itself."""
        self.warn("passthrough", f"{device.strip()} is a device of the old host; it does not travel")

    def port_stays(self, what: str, target: str) -> None:
        """A serial or parallel port with something of the old host at its other end."""
        self.warn("port", f"a {what} leads to {shown(target)} on the old host, which stays there")

    def require_architecture(self, name: str) -> None:
        """Block a machine for which there is no hardware here; nothing said is a PC."""
        if name and name.lower() not in _ARCHITECTURES:
            self.block("architecture", f"the machine's CPU is a {shown(name)}", "PCs, aarch64, ppc64le and s390x are converted.")

    def kernel_stays(self, kernel: str) -> None:
        """A kernel of the old host that the machine was started with."""
        self.warn(
            "direct-kernel",
            f"the machine was started with the kernel {shown(kernel)} of the old host, which stays there",
            "It needs a kernel and a boot loader on its own disk.",
        )

    def paravirtual(self, kernel: str, bootloader: str) -> None:
        """One of Xen's paravirtual guests: no firmware, and no boot loader that a PC could start."""
        if kernel:
            self.kernel_stays(kernel)
        started = f" ({shown(bootloader)} read its menu)" if bootloader else ""
        self.warn(
            "paravirtual",
            f"the machine is one of Xen's paravirtual guests: Xen started its kernel{started}, no boot loader on its disk did",
            "It needs a boot loader in its first disk's boot sector, and a kernel that runs outside Xen too.",
        )

    def tpm_is_emptied(self) -> None:
        """Say what becomes of a TPM, which every kind of description has in the same way."""
        self.warn(
            "tpm",
            "what the machine's TPM holds does not travel: it gets an empty one",
            "Have recovery keys at hand for disks that are sealed to it (BitLocker, LUKS with TPM).",
        )

    def shared_folder(self, name: str) -> None:
        """A folder of the old host that the guest could see."""
        self.warn("shared-folder", f"the shared folder {shown(name)} is on the old host and stays there")

    def add_nic(self, nic: Nic) -> None:
        """Take a network card in."""
        if len(self.nics) >= _NICS_AT_MOST:
            raise self.description.error(f"has more than {_NICS_AT_MOST} network cards")
        if nic.mac and any(known.mac == nic.mac for known in self.nics):
            self.warn("mac-twice", f"two network cards have the MAC address {nic.mac}; the second one gets a new one")
            nic = Nic(None, nic.network, nic.model, nic.connected)
        self.nics.append(nic)

    def finish(self, name: str, cpus: int | None, memory_bytes: int | None, **said: Unpack[Said]) -> Machine:
        """The machine, with all that was found wrong until now: a draft is not used any more after this.

        Raises BadDescription for disks that are not there (all of them in one sentence) or when it has none at all,
        ForbiddenReference for one that leads out of the machine's folder.
        """
        self._require_disks()
        self.assumed += [key for key, value in (("cpus", cpus), ("memory", memory_bytes)) if value is None]
        if any(nic.mac is None for nic in self.nics):
            self.assumed.append("mac")
        if "removable" in said:
            drives = (replace(drive, path=medium_path(self.description, drive)) for drive in said["removable"])
            said["removable"] = tuple(drives)
        return Machine(
            name=usable_name(name, self.description.path),
            disks=tuple(self.disks),
            nics=tuple(self.nics),
            cpus=cpus or DEFAULT_CPUS,
            memory_bytes=memory_bytes or _DEFAULT_MEMORY_BYTES,
            assumed=tuple(dict.fromkeys(self.assumed)),
            described_by=self.kind,
            warnings=tuple(self.warnings),
            blockers=tuple(self.blockers),
            **said,
        )

    def _finding(self, finding: str, message: str, hint: str) -> Finding:
        if len(self.warnings) + len(self.blockers) >= _FINDINGS_AT_MOST:
            raise self.description.error(f"has more than {_FINDINGS_AT_MOST} things in it that cannot travel or are wrong")
        cut = message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "..."
        return Finding(f"source.{finding}", printable(cut, keep=""), hint)

    def _looked_up(self, name: str) -> Path | None:
        try:
            return self.description.disk(name)
        except ForbiddenReference as error:
            self._forbidden = self._forbidden or error
            return None

    def _require_disks(self) -> None:
        if self._forbidden is not None:
            raise self._forbidden
        if self._elsewhere:
            names = shown_names(self._elsewhere)
            advice = "Copy them into files where they are (qemu-img convert), and name the files in the description."
            raise BadDescription(self.description.path, f"has disks that are no files: {names}", advice)
        if self._missing:
            names = shown_names(self._missing)
            what = "disks that are" if len(self._missing) > 1 else "a disk that is"
            advice = "Copy the machine's whole folder, or say where its disks are with --extent-dir DIR."
            raise BadDescription(self.description.path, f"names {what} not there: {names}", advice)
        if not self.disks:
            reasons = "; ".join(finding.message for finding in self.blockers[:4])
            reasons = reasons or "Nothing of it could be converted."
            raise self.description.error("describes a machine without any fixed disk", reasons)


def usable_name(text: str, path: Path) -> str:
    """A machine's name as files and front ends take it: from the description, else from the file's name."""
    for candidate in (text, path.stem):
        name = plain_name(candidate, _NAME_AT_MOST)
        if name:
            return name
    return "machine"
