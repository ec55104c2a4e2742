"""Where in a machine's description a finding can be seen: the line that says it, looked for again in its text. Pure.

Keys and elements are those that the readers in ``p2v.sources`` look at: VMware's .vmx, libvirt's and VirtualBox' XML, OVF,
Proxmox VE's and Xen's configurations, Virtual PC's .vmc, Hyper-V's XML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from drivers.plan import Finding
from p2v.audit.evidence_files import Seeker
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence, EvidenceKind
from p2v.audit.pointing import short
from p2v.core.text import printable

_PATH_AT_MOST = 1000
_LINE_AT_MOST = 4000
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(00(?:0[0-9a-f]|10)[0-9a-f]{4})|(?P<letter>[\\']))")
_NAMED: Mapping[str, tuple[re.Pattern[str], ...]] = {
    # as source_file.shown writes a value
    "value": (re.compile(r"(?<!\w)'((?:[^'\\]|\\.){3,800})'"),),
    "place": (
        re.compile(r"(?<![\w.-])((?:scsi|ide|sata|nvme|virtio|serial|parallel|pcipassthru)[0-9]+(?::[0-9]+)?)\b"),
        re.compile(r"the (?:disk|drive) ([\w:.-]{1,40}) "),
    ),
    "device": (re.compile(r"^(?:PCI|USB|the (?:PCI |USB )?device) (\S{1,200}) is a device of the old host"),),
    "hostdev": (re.compile(r" device \((hostdev)\) is a device of the old host"),),
    "interface": (re.compile(r" \(interface (hostdev)\) is a device of the old host"),),
    "graphics": (re.compile(r"\((gfx_passthru)\)"),),
    "medium": (re.compile(r" in a drive \(([^)]{1,200})\)"),),
    "file": (re.compile(r"^(\S{1,200}) has "),),
    "mac": (re.compile(r"\b([0-9a-f]{2}(?::[0-9a-f]{2}){5})\b"),),
}
"""What a finding's message names, by how the readers write it."""


def described(*patterns: str, or_whole: bool = True, with_text: bool = True) -> Seeker:
    """The first line that one of the patterns finds, in their order.

    Words in braces are of ``_NAMED``: they stand for what the finding's message names, and a pattern with one that it does not
    name is left out. ``or_whole``: where there is no such line the description is pointed at as a whole. ``with_text``: no,
    where the line may hold a secret.
    """

    def seek(examined: Examined, finding: Finding) -> Iterator[Evidence]:
        path = examined.document.machine.description
        if path is None:
            return
        where = printable(str(path)[:_PATH_AT_MOST], keep="")
        for pattern in _filled(patterns, finding.message):
            found = _line(examined.description, pattern)
            if found is not None:
                yield Evidence(EvidenceKind.DESCRIPTION, where, found[0], text=short(found[1]) if with_text else "")
                return
        if or_whole:
            yield Evidence(EvidenceKind.DESCRIPTION, where)

    return seek


def _filled(patterns: tuple[str, ...], message: str) -> Iterator[re.Pattern[str]]:
    for pattern in patterns:
        wanted = [name for name in _NAMED if "{" + name + "}" in pattern]
        found = {name: _name(name, message) for name in wanted}
        if all(found.values()):
            for name, regex in found.items():
                pattern = pattern.replace("{" + name + "}", regex)
            yield re.compile(pattern, re.IGNORECASE)


def _name(name: str, message: str) -> str:
    """An expression for what a message names; empty where it names none such."""
    found = next((match[1] for regex in _NAMED[name] if (match := regex.search(message)) is not None), "")
    if name == "value":
        found = _unquoted(found)
    if name == "mac":
        # written with colons, dashes or nothing between
        return "[:-]?".join(found.split(":"))
    return rf"(?<!\w){re.escape(found)}(?!\w)" if found and name == "value" else re.escape(found)


def _unquoted(text: str) -> str:
    """What stood before its odd letters were escaped, as ``ascii`` does it; what is no such escape stays."""

    def letter(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        return chr(int(code, 16)) if code else match["letter"]

    return _ESCAPED.sub(letter, text)


def _line(text: str, pattern: re.Pattern[str]) -> tuple[int, str] | None:
    lines = ((number, line[:_LINE_AT_MOST]) for number, line in enumerate(text.split("\n"), start=1))
    return next(((number, line) for number, line in lines if pattern.search(line)), None)


def _unplugged(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """The line that says so; nothing where several cards are unplugged, as it might be another one's."""
    if sum(not nic.connected for nic in examined.document.machine.nics) == 1:
        yield from described(*_UNPLUGGED, or_whole=False)(examined, finding)


def _described_hardware(examined: Examined, finding: Finding) -> Iterator[Evidence]:
    """Hardware that a description says the machine had; nothing where its numbers are assumed."""
    assumed = {"hardware.cpus": "cpus", "hardware.sockets": "cpus", "hardware.memory": "memory"}.get(finding.id, "")
    if assumed not in examined.document.machine.assumed:
        yield from described(*_HARDWARE[finding.id])(examined, finding)


_CPUS = (r"^\s*numvcpus\b", r"<vcpu\b", r"^\s*(?:cores|sockets|vcpus)\s*[:=]", r"<CPU\s+count=", r"<processors\b")
_VALUE = (r"{value}",)
_UNPLUGGED = (r"startconnected\s*=\s*\"?false", r"<link\s+state=.down", r"link_down=1", r"\bcable=.false")
_DRIVE = (
    r"^\s*{place}\.filename\b", r"^\s*{place}\s*:", r"<target\b[^>]*\bdev=[\"']{place}[\"']", r"[,\s\"']{place}\b", r"{value}",
)  # fmt: skip

_HARDWARE: Mapping[str, tuple[str, ...]] = {
    "hardware.cpus": _CPUS,
    "hardware.sockets": (r"^\s*cpuid\.corespersocket\b", r"<topology\b", r"^\s*sockets\s*:", *_CPUS),
    "hardware.memory": (r"^\s*memsize\b", r"<memory\b", r"^\s*memory\s*[:=]"),
    "hardware.secure-boot": (
        r"uefi\.secureboot\.enabled", r"secure-boot", r"secure=", r"pre-enrolled-keys", r"secure_boot_enabled", r"SecureBoot",
    ),
    "hardware.tpm": (r"vtpm\.present", r"<tpm\b", r"^\s*tpmstate0", r"TrustedPlatformModule", r"^\s*vtpm\b"),
    "hardware.smbios": (r"^\s*(?:serialnumber|smbios)\b", r"<sysinfo\b", r"^\s*smbios1\s*:", r"DmiSystem|DmiBoard|DmiChassis"),
}  # fmt: skip

SEEKERS: Mapping[str, Seeker] = {
    **dict.fromkeys(_HARDWARE, _described_hardware),
    "hardware.medium": described(r"{medium}"),
    "hardware.link": _unplugged,
    "machine.mac-kept": described(r"{mac}"),
    "source.number": described(*_VALUE),
    "source.uuid": described(*_VALUE),
    "source.mac": described(*_VALUE),
    "source.mac-twice": described(r"{mac}"),
    "source.network": described(*_VALUE),
    "source.architecture": described(*_VALUE),
    "source.firmware": described(r"^\s*firmware\b"),
    "source.firmware-32": described(r"EFI32"),
    "source.disk-twice": described(*_VALUE),
    "source.disk-found": described(*_VALUE),
    "source.disk-unknown": described(*_VALUE),
    "source.disk-unused": described(*_VALUE),
    "source.disk-format": described(*_DRIVE),
    "source.disk-size": described(r"{file}"),
    "source.drive-twice": described(*_DRIVE),
    "source.drive": described(r"drive_type"),
    "source.drive-empty": described(r"^\s*{place}\.present\b", *_DRIVE),
    "source.disk-shared": described(
        r"^\s*{place}\.sharing\b", r"^\s*(?:scsi|sata|nvme)[0-9]+\.sharedbus\b", r"SharedDisk", *_DRIVE
    ),
    "source.disk-raw": described(r"^\s*{place}\.devicetype\b", *_DRIVE),
    "source.disk-mode": described(r"^\s*{place}\.mode\b", *_DRIVE),
    "source.disk-job": described(r"<mirror\b"),
    "source.disk-parent": described(r"parentRef"),
    "source.disk-blank": described(r"<(?:\w+:)?Disk\b"),
    "source.disk-partition": described(*_DRIVE),
    "source.disk-serials": described(r"^\s*disk\.enableuuid\b"),
    "source.compression": described(*_VALUE),
    "source.undo-disk": described(r"undo_pathname"),
    "source.undo-disk-missing": described(r"undo_pathname"),
    "source.redo-log": described(r"^\s*{place}\.redo\b"),
    "source.medium": described(*_VALUE),
    "source.running": described(r"<domain\b[^>]*\sid=", r"^\s*lock\s*:", r"<was_running", or_whole=False),
    "source.suspended": described(
        r"^\s*checkpoint\.vmstate\b", r"\bstateFile=", r"^\s*(?:vmstate|lock)\s*:", r"<saved_state", r"vsvlocation|memlocation",
        or_whole=False,
    ),
    "source.not-shut-down": described(r"^\s*cleanshutdown\b"),
    "source.aborted": described(r"\baborted="),
    "source.snapshots": described(r"<Snapshot\b", r"Snapshots", r"^\s*parent\s*:", or_whole=False),
    "source.encrypted": described(
        r"^\s*encryption\.(?:keysafe|data)\b", r"<encryption\b", r"EncryptedData|EncryptionSection", r"CRYPT/", with_text=False
    ),
    "source.key-twice": described(),
    "source.vmcx": described(),
    "source.log": described(),
    "source.checkpoint": described(),
    "source.configuration": described(r"<(?:\w+:)?Configuration\b", r"DeploymentOptionSection"),
    "source.hardware-alternatives": described(r"VirtualHardwareSection"),
    "source.section": described(),
    "source.section-required": described(r"required=[\"'](?:true|1)"),
    "source.properties": described(r"<(?:\w+:)?Property\b", with_text=False),
    "source.device": described(),
    "source.vlan": described(r"vlan"),
    "source.passthrough": described(
        r"^\s*{place}\.present\b", r"{device}", r"<{hostdev}\b", r"<interface\b[^>]*\btype=[\"']{interface}[\"']",
        r"^\s*usb\.autoconnect\.device", r"^\s*{graphics}\s*=",
    ),
    "source.port": described(r"^\s*{place}\.filename\b", *_VALUE),
    "source.shared-folder": described(*_VALUE),
    "source.shared-memory": described(r"<shmem\b"),
    "source.tpm": described(*_HARDWARE["hardware.tpm"], r"autoaddvtpm"),
    "source.direct-kernel": described(*_VALUE),
    "source.paravirtual": described(r"<bootloader\b", r"^\s*bootloader\s*=", r"pv_bootloader", r"^\s*type\s*=\s*[\"']pv"),
    "source.cloud-init": described(r"cloudinit", with_text=False),
    "source.dynamic-memory": described(r"dynamic_?memory_?enabled"),
    "source.memory-balloon": described(r"<currentMemory\b", r"^\s*maxmem\b"),
    "source.smbios": described(
        *_VALUE, r"^\s*smbios\.(?:reflecthost|addhostvendor)\b", r"^\s*serialnumber\.reflecthost", r"^\s*smbios\.use",
        r"<smbios\b", r"^\s*smbios1\s*:",
    ),
    "source.arguments": described(r"commandline\b", r"^\s*args\s*:", r"device_model_args", with_text=False),
    "source.launch-security": described(r"<launchSecurity\b"),
    "source.graphics-3d": described(r"^\s*mks\.enable3d\b"),
    "source.hypervisor-hidden": described(r"^\s*hypervisor\.cpuid\.v0\b"),
    "source.additions": described(r"additions_number"),
    "source.variables": described(*_VALUE, r"<nvram\b", r"^\s*nvram\s*=", or_whole=False),
}  # fmt: skip
