"""Where distributions keep UEFI firmware for virtual machines: pairs of code and a template of its variables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FirmwareFiles:
    """A firmware's code, and the variable store (or the template of one) that fits it."""

    code: Path
    variables: Path
    secure_boot: bool = False
    arch: str = "x86_64"


def _pair(folder: str, code: str, variables: str, *, secure_boot: bool = False, arch: str = "x86_64") -> FirmwareFiles:
    return FirmwareFiles(Path(folder, code), Path(folder, variables), secure_boot, arch)


FIRMWARE_PAIRS: tuple[FirmwareFiles, ...] = (
    _pair("/usr/share/OVMF", "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),  # Debian 11 and later, Ubuntu
    _pair("/usr/share/OVMF", "OVMF_CODE.fd", "OVMF_VARS.fd"),  # Debian 10
    _pair("/usr/share/edk2/ovmf", "OVMF_CODE.fd", "OVMF_VARS.fd"),  # Fedora, RHEL
    _pair("/usr/share/edk2/x64", "OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"),  # Arch
    _pair("/usr/share/qemu", "ovmf-x86_64-code.bin", "ovmf-x86_64-vars.bin"),  # SUSE
    _pair("/usr/share/OVMF", "OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd", secure_boot=True),
    _pair("/usr/share/edk2/ovmf", "OVMF_CODE.secboot.fd", "OVMF_VARS.secboot.fd", secure_boot=True),
    _pair("/usr/share/edk2/x64", "OVMF_CODE.secboot.4m.fd", "OVMF_VARS.4m.fd", secure_boot=True),
    _pair("/usr/share/qemu", "ovmf-x86_64-ms-code.bin", "ovmf-x86_64-ms-vars.bin", secure_boot=True),
    _pair("/usr/share/AAVMF", "AAVMF_CODE.fd", "AAVMF_VARS.fd", arch="aarch64"),  # Debian, Ubuntu
    _pair("/usr/share/edk2/aarch64", "QEMU_EFI-pflash.raw", "vars-template-pflash.raw", arch="aarch64"),  # Fedora, RHEL
    _pair("/usr/share/edk2/aarch64", "QEMU_CODE.fd", "QEMU_VARS.fd", arch="aarch64"),  # Arch
    _pair("/usr/share/qemu", "aavmf-aarch64-code.bin", "aavmf-aarch64-vars.bin", arch="aarch64"),  # SUSE
)
# what brings them
FIRMWARE_PACKAGES = {"x86_64": "ovmf (dnf: edk2-ovmf)", "aarch64": "qemu-efi-aarch64 (dnf: edk2-aarch64)"}


def firmware_pairs(*, secure_boot: bool = False, arch: str = "x86_64") -> tuple[FirmwareFiles, ...]:
    """Where a firmware may be, best first."""
    return tuple(p for p in FIRMWARE_PAIRS if p.secure_boot is secure_boot and p.arch == arch)


def installed_firmware(
    *, secure_boot: bool = False, arch: str = "x86_64", store_bytes: int | None = None
) -> FirmwareFiles | None:
    """The first pair that this host has, None when there is none.

    ``store_bytes``: the size of a store that there is already; a firmware takes only those as large as its template.
    """
    pairs = (p for p in firmware_pairs(secure_boot=secure_boot, arch=arch) if p.code.exists() and p.variables.exists())
    return next((p for p in pairs if store_bytes in (None, p.variables.stat().st_size)), None)
