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


def _pair(folder: str, code: str, variables: str, *, secure_boot: bool = False) -> FirmwareFiles:
    return FirmwareFiles(Path(folder, code), Path(folder, variables), secure_boot)


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
)


def installed_firmware(*, secure_boot: bool = False) -> FirmwareFiles | None:
    """The first pair that this host has, None when there is none."""
    pairs = (p for p in FIRMWARE_PAIRS if p.secure_boot is secure_boot)
    return next((p for p in pairs if p.code.exists() and p.variables.exists()), None)
