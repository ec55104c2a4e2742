"""What of a VMware machine forbids a copy, and what of it does not travel.

Sources: VMware's manuals of GSX Server, Workstation and vSphere on the files of a machine (.vmss, .vmsd, .vswp, .lck) and on the
keys named here; Broadcom's knowledge base on ``disk.EnableUUID`` and ``smbios.reflectHost``.
"""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath

from converters.source_file import shown_names
from p2v.sources.draft import Draft
from p2v.sources.vmx_settings import Settings, settings

_NAMED_AT_MOST = 8


def state(draft: Draft, vmx: Settings) -> None:
    """Machines that must not be copied as they stand: running, suspended, encrypted."""
    names = draft.description.beside()
    own = draft.description.path.name.lower()
    locks = [n for n in names if _is_lock(n.lower(), own)]
    # ESXi keeps a machine's swap file as long as it runs
    swap = [n for n in names if "/" not in n and n.lower().endswith(".vswp")]
    if locks or swap:
        problem = f"{(locks + swap)[0]} says that the machine is open in VMware"
        draft.block("running", problem, "Shut it down and close it there first.")
    elif vmx.is_off("cleanshutdown"):
        draft.warn(
            "not-shut-down",
            "the machine was running when its description was written, or its host failed",
            "If it runs, shut it down and copy it again; else its file systems are checked, and may have lost their last writes.",
        )
    suspended = vmx.text("checkpoint.vmstate").strip()
    kept = [n for n in names if "/" not in n and n.lower().endswith(".vmss")]
    if suspended:
        draft.block(
            "suspended",
            f"the machine is suspended ({suspended}): its memory is not on its disks",
            "Resume it, shut its system down, then try again.",
        )
    elif kept:
        draft.warn("suspended-once", f"{kept[0]} holds memory of a suspended machine, which this one is not as it describes itself")
    if vmx.text("encryption.keysafe") or vmx.text("encryption.data"):
        draft.block("encrypted", "the machine is encrypted", "Remove the encryption in VMware (VM settings, Access Control) first.")
    if vmx.twice:
        keys = ", ".join(vmx.twice[:_NAMED_AT_MOST])
        draft.warn("key-twice", f"the description has two values for {keys}; the last one counts", "VMware refuses such files.")
    _snapshots(draft)


def what_stays(draft: Draft, vmx: Settings) -> None:
    """Parts that have no counterpart, or that stand for things of the old host."""
    _ports(draft, vmx)
    _devices(draft, vmx)
    if vmx.is_on("vtpm.present") or vmx.word("managedvm.autoaddvtpm") == "software":
        draft.tpm_is_emptied()
    if vmx.is_on("disk.enableuuid"):
        draft.warn(
            "disk-serials",
            "the guest saw serial numbers of its disks that are too long for KVM's; names that are made of them change",
            "Programs of the guest that look for a disk by its serial number or WWN (wwn-0x6000c29...) must be told the new one.",
        )
    if vmx.is_on("mks.enable3d"):
        draft.warn("graphics-3d", "the graphics card drew in three dimensions for the guest, which KVM's does not")
    if vmx.is_on("smbios.reflecthost") or vmx.is_on("smbios.addhostvendor"):
        draft.warn(
            "smbios",
            "the guest saw its old host's maker and model (smbios.reflectHost), which stay behind",
            "A Windows that was activated by its maker's licence (OEM) asks to be activated again.",
        )
    if vmx.is_off("hypervisor.cpuid.v0"):
        draft.warn("hypervisor-hidden", "the guest was not told that it runs in a virtual machine; KVM tells it")


def _is_lock(name: str, own: str) -> bool:
    """Lock files, or folders of them, of the description and of disks in its own folder."""
    first, below, _ = name.partition("/")
    return first == f"{own}.lck" or (bool(below) and first.endswith((".vmdk.lck", ".vmem.lck")))


def _snapshots(draft: Draft) -> None:
    description = draft.description
    wanted = f"{description.path.stem.lower()}.vmsd"
    name = next((n for n in description.beside() if n.lower() == wanted), None)
    raw = description.around.read(posixpath.join(description.around.home, name)) if name else None
    if raw is None:
        return
    count = draft.number(settings(description, raw).text("snapshot.numsnapshots"), f"snapshot.numSnapshots of {name}", 0, 10_000)
    if count:
        what = "a snapshot" if count == 1 else f"{count} snapshots"
        draft.warn("snapshots", f"the machine has {what}; its current state is converted, snapshots do not travel")


def _ports(draft: Draft, vmx: Settings) -> None:
    for kind, what in (("serial", "serial port"), ("parallel", "parallel port")):
        for number in range(4):
            target = vmx.text(f"{kind}{number}.filename").strip()
            if vmx.is_on(f"{kind}{number}.present") and target and target.lower() != "auto detect":
                last = PurePosixPath(target.replace("\\", "/")).name if vmx.word(f"{kind}{number}.filetype") == "file" else target
                draft.warn("port", f"the {what} {kind}{number} leads to {last} on the old host, which stays there")


def _devices(draft: Draft, vmx: Settings) -> None:
    passed = sorted({key.split(".")[0] for key in vmx.values if key.startswith("pcipassthru")})
    for key in [key for key in passed if vmx.is_on(f"{key}.present")][:_NAMED_AT_MOST]:
        what = "a virtual GPU" if vmx.text(f"{key}.vgpu") else "a PCI device of the old host"
        draft.warn("passthrough", f"{key} is {what}; it does not travel")
    usb = sorted(key for key in vmx.values if key.startswith("usb.autoconnect.device") and vmx.text(key).strip())
    if usb:
        draft.warn("passthrough", f"USB devices of the old host are connected to the machine ({len(usb)}); they do not travel")
    folders = [
        vmx.text(f"{key.split('.')[0]}.guestname") for key in sorted(vmx.values)
        if key.startswith("sharedfolder") and key.endswith(".present") and vmx.is_on(key)
    ]  # fmt: skip
    if folders:
        names = shown_names(folders)
        draft.warn("shared-folder", f"folders of the old host are shared with the machine: {names}; they do not travel")
