"""What readers of descriptions share: numbers and addresses as people wrote them, findings, disks that are looked for."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from converters.source_file import shown
from drivers.plan import Finding
from p2v.core.errors import BadDescription, ForbiddenReference
from p2v.core.text import printable
from p2v.core.units import GIB, MIB
from p2v.machine import Attachment, Machine, MachineDisk, Nic
from p2v.sources.description import Description

CPUS_AT_MOST = 4096
MEMORY_AT_MOST_BYTES = 64 * 1024 * GIB
_DEFAULT_CPUS, _DEFAULT_MEMORY_BYTES = 1, 512 * MIB
_DISKS_AT_MOST = _NICS_AT_MOST = 256
_MAC = re.compile(r"[0-9a-f]{12}")
_NUMBER = re.compile(r"[+-]?\d{1,20}")
_NAME_AT_MOST = 63


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
    _forbidden: ForbiddenReference | None = None

    def warn(self, finding: str, message: str, hint: str = "") -> None:
        """Something that does not travel, or was put right."""
        self.warnings.append(Finding(f"source.{finding}", printable(message), hint))

    def block(self, finding: str, message: str, hint: str = "") -> None:
        """Something for which the machine must not be converted as it stands."""
        self.blockers.append(Finding(f"source.{finding}", printable(message), hint))

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

    def tpm_is_emptied(self) -> None:
        """Say what becomes of a TPM, which every kind of description has in the same way."""
        self.warn(
            "tpm",
            "what the machine's TPM holds does not travel: it gets an empty one",
            "Have recovery keys at hand for disks that are sealed to it (BitLocker, LUKS with TPM).",
        )

    def add_nic(self, nic: Nic) -> None:
        """Take a network card in."""
        if len(self.nics) >= _NICS_AT_MOST:
            raise self.description.error(f"has more than {_NICS_AT_MOST} network cards")
        if nic.mac and any(known.mac == nic.mac for known in self.nics):
            self.warn("mac-twice", f"two network cards have the MAC address {nic.mac}; the second one gets a new one")
            nic = Nic(None, nic.network, nic.model, nic.connected)
        self.nics.append(nic)

    def finish(self, name: str, cpus: int | None, memory_bytes: int | None) -> Machine:
        """The machine, with what every kind of description says; the reader puts in the rest.

        Raises BadDescription for disks that are not there (all of them in one sentence) or when it has none at all,
        ForbiddenReference for one that leads out of the machine's folder.
        """
        self._require_disks()
        self.assumed += [key for key, value in (("cpus", cpus), ("memory", memory_bytes)) if value is None]
        if any(nic.mac is None for nic in self.nics):
            self.assumed.append("mac")
        return Machine(
            name=usable_name(name, self.description.path),
            disks=tuple(self.disks),
            nics=tuple(self.nics),
            cpus=cpus or _DEFAULT_CPUS,
            memory_bytes=memory_bytes or _DEFAULT_MEMORY_BYTES,
            assumed=tuple(dict.fromkeys(self.assumed)),
            described_by=self.kind,
            warnings=tuple(self.warnings),
            blockers=tuple(self.blockers),
        )

    def _looked_up(self, name: str) -> Path | None:
        try:
            return self.description.disk(name)
        except ForbiddenReference as error:
            self._forbidden = self._forbidden or error
            return None

    def _require_disks(self) -> None:
        if self._forbidden is not None:
            raise self._forbidden
        if self._missing:
            names = ", ".join(shown(name) for name in self._missing[:8]) + (" ..." if len(self._missing) > 8 else "")
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
        name = re.sub(r"[^A-Za-z0-9._+-]+", "-", candidate.strip()).strip(".-_+")[:_NAME_AT_MOST].rstrip(".-_+")
        if name:
            return name
    return "machine"
