"""From the boot manager to the system root: NTLDR with boot.ini, bootmgr with BCD and winload."""

from __future__ import annotations

import re
import struct
import uuid
from dataclasses import dataclass

from tests.windows_startup import hive, programs
from tests.windows_startup.hive import Key
from tests.windows_startup.machine import Machine, Partition, Volume
from tests.windows_startup.verdict import Reason, Stopped, Trace

BOOT_MANAGER = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
# Elements of the BCD: Microsoft, "BcdBootMgrElementTypes", "BcdLibraryElementTypes", "BcdOSLoaderElementTypes"
_DEFAULT, _DISPLAY_ORDER, _BOOT_SEQUENCE = "23000003", "24000001", "24000002"
_DEVICE, _PATH, _OS_DEVICE, _SYSTEM_ROOT = "11000001", "12000002", "21000001", "22000002"
_OS_LOADER_TYPE = 0x10200003
_DEVICE_BOOT, _DEVICE_PARTITION = 5, 6
_STYLE_GPT, _STYLE_MBR = 0, 1
_SAVED_SESSION = (b"hibr", b"HIBR", b"rstr", b"RSTR")

_ARC = re.compile(
    r"(?P<bus>multi|scsi|signature)\((?P<bus_number>[0-9a-f]+)\)disk\((?P<disk>\d+)\)rdisk\((?P<rdisk>\d+)\)"
    r"partition\((?P<partition>\d+)\)(?P<root>\\.*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class System:
    """A Windows that is started: its volume, its root (``Windows``), and the processor its kernel is for."""

    volume: Volume
    root: str
    machine: int

    def read(self, path: str) -> bytes | None:
        """A file by its path below the root."""
        return self.volume.read(f"{self.root}/{path}")


def by_ntldr(machine: Machine, boot: Volume, trace: Trace) -> System:
    """NTLDR: boot.ini's default, the hardware detection beside it, the kernel.

    Microsoft Q102873 ("BOOT.INI and ARC Path Naming Conventions"): without boot.ini NTLDR looks in the first partition's
    \\WINNT (\\WINDOWS from XP on); ``multi()`` counts BIOS disks, ``scsi()`` and ``signature()`` go through NTBOOTDD.SYS.
    """
    if boot.read("NTDETECT.COM") is None:
        raise Stopped(Reason.FILE_MISSING, f"NTDETECT.COM on {boot.partition}")
    text = boot.read("boot.ini")
    default = _default_path((text or b"").decode("cp437")) or "multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS"
    found = _ARC.fullmatch(default)
    if not found:
        raise Stopped(Reason.NO_BOOT_INI_PATH, default)
    if found["bus"].lower() != "multi":
        # a driver for the old controller, which the new machine has not
        raise Stopped(Reason.NEEDS_NTBOOTDD, default)
    disk, number = int(found["rdisk"]), int(found["partition"])
    partition = next((part for part in machine.partitions if (part.disk, part.number) == (disk, number)), None)
    if partition is None:
        raise Stopped(Reason.NO_BOOT_INI_PATH, default)
    trace.step(f"NTLDR: {default}")
    return _system(machine, partition, found["root"], trace, loader="")


def _default_path(text: str) -> str:
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line.lower()
        elif section == "[boot loader]" and line.lower().startswith("default="):
            return line.partition("=")[2].strip().rstrip("\\")
    return ""


def by_bootmgr(machine: Machine, boot: Volume, store_path: str, trace: Trace, chosen: str) -> System:
    """The boot manager: the store beside it, its default entry (or the ``chosen`` one), that entry's loader.

    Microsoft, "Boot Configuration Data": a boot sequence is started once before the default; no default means the first of
    the display order.
    """
    data = boot.read(store_path)
    if data is None:
        raise Stopped(Reason.NO_STORE, f"{store_path} on {boot.partition}")
    objects = hive.opened(data, store_path).at("Objects")
    entry = entry_of(objects, chosen)
    device = _place(machine, boot, entry, _DEVICE)
    path = _element_text(entry, _PATH)
    volume = machine.volume(device)
    _check_readable(volume)
    loader = volume.read(path)
    if loader is None:
        raise Stopped(Reason.FILE_MISSING, f"{path} on {device}")
    trace.step(f"boot manager: entry {entry.name}, {path} on {device}")
    return _system(machine, _place(machine, boot, entry, _OS_DEVICE), _element_text(entry, _SYSTEM_ROOT), trace, loader=path)


def entry_of(objects: Key | None, chosen: str = "") -> Key:
    """The loader's entry that is started; ``Stopped`` when there is none."""
    manager = objects.at(f"{BOOT_MANAGER}\\Elements") if objects else None
    if objects is None or manager is None:
        raise Stopped(Reason.NO_ENTRY, "the store has no boot manager object")
    names = [chosen] if chosen else []
    for element in () if chosen else (_BOOT_SEQUENCE, _DEFAULT, _DISPLAY_ORDER):
        key = manager.at(element)
        names += key.texts("Element") if key else ()
    for name in names:
        entry = objects.at(name)
        description = entry.at("Description") if entry else None
        if entry and description and description.number("Type") == _OS_LOADER_TYPE:
            return entry
    raise Stopped(Reason.NO_ENTRY, f"of {', '.join(names) or 'no names'} none is an OS loader in the store")


def _element_text(entry: Key, element: str) -> str:
    key = entry.at(f"Elements\\{element}")
    text = key.text("Element") if key else None
    if not text:
        raise Stopped(Reason.NO_ENTRY, f"{entry.name} has no element {element}")
    return text


def _place(machine: Machine, boot: Volume, entry: Key, element: str) -> Partition:
    """The partition that a device element tells.

    Microsoft documents it as BcdDeviceQualifiedPartitionData (partition style, disk signature, partition identifier) without
    its bytes; those are published findings (mistyprojects.co.uk, "Devices Partition"; G. Chappell, "BCD Elements"): 16 bytes
    of GUID, then type at 16, partition GUID or offset in bytes at 32, style at 52 (0 GPT, 1 MBR), disk GUID or signature at
    56.
    """
    key = entry.at(f"Elements\\{element}")
    data = key.values.get("element", b"") if key else b""
    if len(data) < 20:
        raise Stopped(Reason.NO_ENTRY, f"{entry.name} has no device in element {element}")
    kind = struct.unpack_from("<I", data, 16)[0]
    if kind == _DEVICE_BOOT:
        return boot.partition
    if kind != _DEVICE_PARTITION or len(data) < 72:
        raise Stopped(Reason.ENTRY_DEVICE, f"element {element} of {entry.name} has a device of type {kind}")
    style = struct.unpack_from("<I", data, 52)[0]
    if style == _STYLE_MBR:
        offset, signature = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<I", data, 56)[0]
        for disk in machine.disks:
            for partition in disk.partitions:
                if disk.guid is None and disk.signature == signature and partition.offset == offset:
                    return partition
        raise Stopped(Reason.ENTRY_DEVICE, f"element {element}: disk signature {signature:08x}, partition at byte {offset}")
    wanted, disk_guid = uuid.UUID(bytes_le=data[32:48]), uuid.UUID(bytes_le=data[56:72])
    for disk in machine.disks:
        for partition in disk.partitions:
            if style == _STYLE_GPT and disk.guid == disk_guid and partition.guid == wanted:
                return partition
    raise Stopped(Reason.ENTRY_DEVICE, f"element {element}: disk {disk_guid}, partition {wanted}")


def _check_readable(volume: Volume) -> None:
    """A BitLocker volume needs its key, which a TPM of the old machine had (Microsoft, "BitLocker overview")."""
    if volume.kind == "bitlocker":
        raise Stopped(Reason.VOLUME_ENCRYPTED, str(volume.partition))
    if volume.kind not in ("ntfs", "fat"):
        raise Stopped(Reason.VOLUME_UNREADABLE, str(volume.partition))


def _system(machine: Machine, partition: Partition, root: str, trace: Trace, *, loader: str) -> System:
    """The system root with a kernel and a HAL for one processor, the loader's own too; no session that waits to be resumed."""
    volume = machine.volume(partition)
    _check_readable(volume)
    _check_no_session(volume)
    root = root.strip("\\")
    kernel = volume.read(f"{root}/system32/ntoskrnl.exe")
    if kernel is None:
        raise Stopped(Reason.FILE_MISSING, f"{root}\\system32\\ntoskrnl.exe on {partition}")
    found = programs.machine_of(kernel)
    if found is None:
        raise Stopped(Reason.WRONG_MACHINE, f"{root}\\system32\\ntoskrnl.exe is no program")
    # ntoskrnl is linked against these, so the loader brings them in with it
    for name in ("hal.dll", "kdcom.dll", "bootvid.dll"):
        content = volume.read(f"{root}/system32/{name}")
        if content is None:
            raise Stopped(Reason.FILE_MISSING, f"{root}\\system32\\{name} on {partition}")
        programs.check(content, name, found)
    if loader:
        programs.check(volume.read(loader) or b"", loader, found)
    trace.step(f"kernel: {root} on {partition}, {programs.NAMES[found]}")
    return System(volume, root, found)


def _check_no_session(volume: Volume) -> None:
    """A hiberfil.sys whose header says so holds a session; Windows, and whoever else mounts the volume, must take it first.

    ntfs-3g's manual and libguestfs know it by these four letters; "wake" or zeroes are a session that is over.
    """
    head = volume.read("hiberfil.sys")
    if head and head[:4] in _SAVED_SESSION:
        raise Stopped(Reason.HIBERNATED, f"hiberfil.sys on {volume.partition} begins with {head[:4].decode()}")
