"""What a boot check found: the verdict, and the evidence it rests on."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2v.core.acceleration import Accelerator


class Reason(enum.Enum):
    """Why the check passed or failed; the values are stable and appear in records."""

    BOOTED = "booted"
    NO_BOOT_LOADER = "no-boot-loader"
    """The firmware found nothing to start."""
    BOOT_LOADER_FAILED = "boot-loader-failed"
    """A boot loader started and does not find its files or the kernel."""
    NO_ROOT_DRIVER = "no-root-driver"
    """The initramfs saw no disk: it has no driver for the bus."""
    ROOT_MISSING = "root-missing"
    """The initramfs saw the disk, but not the root file system that it was told to mount."""
    ROOT_UNUSABLE = "root-unusable"
    """The root file system is there and cannot be mounted or needs repair."""
    KERNEL_PANIC = "kernel-panic"
    EMERGENCY_MODE = "emergency-mode"
    """systemd gave up on the way and opened its emergency shell."""
    NOT_FINISHED = "not-finished"
    """The system came up, and its start-up jobs did not end in time."""
    HANG = "hang"
    """Nothing happened any more."""
    TIMED_OUT = "timed-out"
    """Something still happened when the time was over."""
    NO_EVIDENCE = "no-evidence"
    """Nothing could be put into the guest and nothing was seen: it may run or not."""
    REBOOT_LOOP = "reboot-loop"
    POWERED_OFF = "powered-off"
    QEMU_FAILED = "qemu-failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reason, one sentence for people, and the lines it was read from."""

    reason: Reason
    sentence: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InterfaceAddresses:
    """A network interface of the running guest and its addresses with prefix length."""

    name: str
    mac: str | None
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GuestReport:
    """What the reporter inside the guest saw when the boot was over.

    ``state``: systemd's word (``running``, ``degraded``, ``starting``, ``maintenance``). ``active``: which of the usual
    targets were reached. ``kernel_messages``: of level error and worse. Seconds count from the kernel's start.
    ``tpms``: device and major version of each TPM (``/dev/tpm0 2``). ``secure_boot``: what the firmware says, None without UEFI.
    ``serial_number``: the machine's, as SMBIOS tells it.
    """

    state: str
    active: tuple[str, ...] = ()
    root_device: str | None = None
    root_source: str | None = None
    interfaces: tuple[InterfaceAddresses, ...] = ()
    failed_units: tuple[str, ...] = ()
    pending_jobs: tuple[str, ...] = ()
    kernel_messages: tuple[str, ...] = ()
    kernel: str = ""
    uptime_seconds: float | None = None
    tpms: tuple[str, ...] = ()
    secure_boot: bool | None = None
    serial_number: str = ""


@dataclass(frozen=True, slots=True)
class BootEvidence:
    """The result of one boot check.

    ``seconds``: from QEMU's start to the verdict. ``report`` is None when nothing could be put into the guest
    (``not_instrumented`` says why) or it did not get that far. ``screenshot`` and ``log`` are file names as given.
    """

    verdict: Verdict
    accelerator: Accelerator
    seconds: float
    report: GuestReport | None = None
    not_instrumented: str = ""
    serial_tail: tuple[str, ...] = ()
    screenshot: str | None = None
    log: str | None = None

    @property
    def booted(self) -> bool:
        """Whether the system came up to multi-user or a login prompt."""
        return self.verdict.reason is Reason.BOOTED

    @property
    def degraded(self) -> tuple[str, ...]:
        """Units that failed in a system that came up otherwise."""
        return self.report.failed_units if self.report else ()
