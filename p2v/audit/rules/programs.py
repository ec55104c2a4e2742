"""What the programs in a guest mean for its move: clusters, storage, directories, licences, agents, hardware. Pure.

Programs of one kind are one finding, with the evidence for each. What a plan tells of already is in no catalogue of
``drivers.program_catalogue``: failover clusters and domain controllers of Windows, hypervisors' tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from drivers.program_catalogue import PROGRAMS
from drivers.programs import FoundProgram, ProgramKind, devices_of_windows, programs_of_windows
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, Evidence, EvidenceKind, Severity
from p2v.core.text import listed

NAMED_AT_MOST = 6

_K = ProgramKind
TELLINGS: Mapping[ProgramKind, tuple[str, str]] = {
    _K.CLUSTER: ("role.cluster-member",
        "it is a member of a cluster ({names}), whose fencing, quorum and shared disks do not move with it"),
    _K.FLOATING_ADDRESS: ("role.floating-address",
        "it shares an address with other machines ({names}), which KVM's network has to let it announce"),
    _K.SHARED_STORAGE: ("role.shared-storage",
        "it has storage that other machines use or mirror as well ({names}), of which its disks are one part"),
    _K.MULTIPATH: ("software.multipath", "it expects several paths to its disks ({names}); on KVM a disk has one"),
    _K.BACKUP: ("software.backup-agent", "it is backed up by an agent inside it ({names})"),
    _K.ANTIVIRUS: ("software.antivirus", "it is watched by protection software ({names})"),
    _K.MANAGEMENT: ("software.management-agent", "a management server knows it by an agent ({names})"),
    _K.DATABASE: ("software.database", "it keeps data in {names}"),
    _K.DIRECTORY: ("role.directory",
        "it keeps accounts for other machines ({names}), and an older state of it harms those it replicates with"),
    _K.NAME_SERVER: ("role.name-server", "it answers name queries ({names}), for other machines where they ask it"),
    _K.ADDRESS_SERVER: ("role.address-server", "it gives out addresses on its network ({names})"),
    _K.CERTIFICATE_AUTHORITY: ("role.certificate-authority", "it is a certificate authority ({names})"),
    _K.LICENCE_SERVER: ("software.licence-server", "it hands out licences ({names}), which may be issued for this hardware"),
    _K.LICENCE_BOUND: ("software.licence-bound", "it has licences that are issued for this hardware ({names})"),
    _K.DONGLE: ("software.dongle", "it has licences on a dongle, or software for one ({names})"),
    _K.GRAPHICS: ("software.graphics", "it has the driver of a graphics card ({names}), which it will not have on KVM"),
    _K.HARDWARE: ("software.needs-hardware", "it works with hardware that KVM does not have by itself ({names})"),
    _K.HYPERVISOR: ("software.hypervisor", "it has what runs virtual machines itself ({names})"),
    _K.CONTAINERS: ("software.containers", "it has what runs containers ({names})"),
    _K.REAL_TIME: ("software.real-time",
        "it promises latencies ({names}), which a virtual machine keeps only on a host set up for it"),
}  # fmt: skip
"""The rule of each kind, and what is said of it; what is not here is told elsewhere, or only missed."""


def seen_programs(examined: Examined) -> tuple[FoundProgram, ...]:
    """The programs and devices that tell something of the machine."""
    windows = examined.document.facts.windows
    if windows is not None:
        return (*programs_of_windows(windows, PROGRAMS), *devices_of_windows(windows))
    return examined.inside.programs if examined.inside is not None else ()


def check_programs(examined: Examined) -> Iterator[AuditFinding]:
    """One finding for each kind of programs."""
    programs = seen_programs(examined)
    for kind, (rule, sentence) in TELLINGS.items():
        own = [program for program in programs if program.kind is kind]
        if own:
            evidence = [evidence_of(program) for program in own]
            if kind is ProgramKind.MULTIPATH:
                evidence += _in_initramfs(examined)
            message = sentence.format(names=names_of(own))
            yield found(examined.rules[rule], message, *evidence, severity=_severity(examined, kind))


def evidence_of(program: FoundProgram) -> Evidence:
    """Where a program was seen."""
    return Evidence(
        EvidenceKind.REGISTRY if program.in_registry else EvidenceKind.FILE, program.where, text=program.text
    )


def names_of(programs: Sequence[FoundProgram]) -> str:
    """Their names, and how many more there are."""
    return listed(dict.fromkeys(program.name for program in programs), NAMED_AT_MOST)


def _severity(examined: Examined, kind: ProgramKind) -> Severity | None:
    """A database that is copied while it runs is more than something to know."""
    return Severity.WARNING if kind is ProgramKind.DATABASE and examined.document.live else None


def _in_initramfs(examined: Examined) -> list[Evidence]:
    kernels = examined.document.facts.kernels
    images = [kernel.initramfs for kernel in kernels if kernel.initramfs and "dm_multipath" in kernel.initramfs.modules]
    return [Evidence(EvidenceKind.FILE, image.path, text="dm_multipath") for image in images[:NAMED_AT_MOST]]


CHECKS = (check_programs,)
