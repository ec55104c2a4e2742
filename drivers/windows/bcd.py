"""Boot configuration data decoded from the keys of its hive, and device elements made. Pure; see ``c_bcd`` for the sources.

The hive is a guest's: every length is held against the data before it is used, and what cannot be told is told as unknown.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Iterator

from drivers.facts import Disk, Partition
from drivers.windows import c_bcd as c
from drivers.windows.boot_facts import BootDevice, BootObject, BootStore, DeviceKind
from drivers.windows.facts import HiveFile
from drivers.windows.regf import Value

OBJECTS_AT_MOST = 256
_TEXT_AT_MOST = 200
_VIRTUAL_DISK = re.compile(r"\\[^\x00-\x1f]{1,260}?\.vhdx?", re.IGNORECASE)
_ID = re.compile(r"\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}", re.IGNORECASE)


def read_store(hive: HiveFile) -> BootStore:
    """The objects of a store, its default and its order."""
    ids = [key.rpartition("\\")[2] for key in hive.below(c.OBJECTS)]
    ids = [each for each in ids if _ID.fullmatch(each)][:OBJECTS_AT_MOST]
    objects = tuple(_object(hive, each) for each in ids)
    known = {each.lower() for each in ids}
    order = tuple(each for each in _texts(hive, c.BOOT_MANAGER, c.DISPLAY_ORDER) if each.lower() in known)
    once = tuple(each for each in _texts(hive, c.BOOT_MANAGER, c.BOOT_SEQUENCE) if each.lower() in known)
    named = _text(hive, c.BOOT_MANAGER, c.DEFAULT)
    # without a default the boot manager takes the first of its list
    default = named if named.lower() in known else next(iter(order), "")
    return BootStore(objects, default, order, once)


def element_key(id_: str, element: int) -> str:
    """The key of an element, whose value is ``c_bcd.ELEMENT``."""
    return f"{c.OBJECTS}\\{id_}\\{c.ELEMENTS}\\{element:08x}"


def element_value(hive: HiveFile, id_: str, element: int) -> Value | None:
    """What an element holds; None when it is not there."""
    return hive.value(element_key(id_, element), c.ELEMENT)


def device_elements(hive: HiveFile, id_: str) -> Iterator[tuple[int, Value]]:
    """The elements of an object that name devices, with what they hold."""
    for key in hive.below(f"{c.OBJECTS}\\{id_}\\{c.ELEMENTS}"):
        name = key.rpartition("\\")[2]
        value = hive.value(key, c.ELEMENT)
        number = int(name, 16) if re.fullmatch("[0-9a-fA-F]{8}", name) else 0
        if value is not None and c.format_of(number) == c.DEVICE_FORMAT:
            yield number, value


def is_on(hive: HiveFile, id_: str, element: int) -> bool:
    """Whether a yes-or-no element says yes."""
    value = element_value(hive, id_, element)
    return value is not None and any(value.data)


def number_of(hive: HiveFile, id_: str, element: int) -> int | None:
    """The number in an element; None when it is not there, or has more than eight bytes."""
    value = element_value(hive, id_, element)
    return int.from_bytes(value.data, "little") if value is not None and 0 < len(value.data) <= 8 else None


def read_device(data: bytes) -> BootDevice:
    """What a device element says."""
    if len(data) < c.DESCRIPTOR.size:
        return BootDevice(DeviceKind.OTHER, detail=f"{len(data)} bytes")
    kind = c.DESCRIPTOR.unpack_from(data)[1]
    if kind == c.BOOT:
        return BootDevice(DeviceKind.BOOT)
    file = _virtual_disk(data)
    if file:
        return BootDevice(DeviceKind.VIRTUAL_DISK, detail=file)
    if kind == c.PARTITION and len(data) >= c.DESCRIPTOR.size + c.PLACE.size:
        return _partition(data)
    if kind == c.LOCATE and len(data) >= c.DESCRIPTOR.size + c.LOCATED.size:
        _, element = c.LOCATED.unpack_from(data, c.DESCRIPTOR.size)
        return BootDevice(DeviceKind.LOCATE, detail=f"{element:08x}")
    if kind == c.LOCAL and len(data) >= c.DESCRIPTOR.size + c.LOCAL_TYPE.size:
        (local,) = c.LOCAL_TYPE.unpack_from(data, c.DESCRIPTOR.size)
        if local in (c.RAMDISK, c.FILE):
            return BootDevice(DeviceKind.FILE)
        if local == c.VIRTUAL_DISK:
            return BootDevice(DeviceKind.VIRTUAL_DISK)
        return BootDevice(DeviceKind.OTHER, detail=f"local device of type {local}")
    return BootDevice(DeviceKind.OTHER, detail=f"type {kind}, {len(data)} bytes")


def device_of(disk: Disk, partition: Partition, before: bytes = b"") -> bytes | None:
    """A device element for a partition; what ``before`` says of further options stays.

    None where the partition cannot be told: its disk has no table, or no signature.
    """
    options = before[:16].ljust(16, b"\0")
    head = c.DESCRIPTOR.pack(options, c.PARTITION, 0, c.DEVICE_BYTES - 16, 0)
    try:
        if disk.table == "gpt" and disk.disk_id and partition.partuuid:
            whole, part = uuid.UUID(disk.disk_id).bytes_le, uuid.UUID(partition.partuuid).bytes_le
            return head + c.PLACE.pack(part, 0, c.STYLE_GPT, whole)
        if disk.table == "mbr" and disk.disk_id and int(disk.disk_id, 16):
            signature = struct.pack("<I12x", int(disk.disk_id, 16))
            return head + c.PLACE.pack(struct.pack("<QQ", partition.offset, 0), 0, c.STYLE_MBR, signature)
    except (ValueError, struct.error):
        return None
    return None


def _object(hive: HiveFile, id_: str) -> BootObject:
    device, os_device = element_value(hive, id_, c.DEVICE), element_value(hive, id_, c.OS_DEVICE)
    return BootObject(
        id_,
        hive.number(f"{c.OBJECTS}\\{id_}\\{c.DESCRIPTION}", c.TYPE) or 0,
        _text(hive, id_, c.TITLE),
        _text(hive, id_, c.PATH),
        _text(hive, id_, c.SYSTEM_ROOT),
        read_device(device.data) if device is not None else None,
        read_device(os_device.data) if os_device is not None else None,
    )


def _partition(data: bytes) -> BootDevice:
    partition, on, style, disk = c.PLACE.unpack_from(data, c.DESCRIPTOR.size)
    if on == c.VIRTUAL_DISK:
        return BootDevice(DeviceKind.VIRTUAL_DISK)
    if on == 0 and style == c.STYLE_MBR:
        (offset,), (signature,) = struct.unpack_from("<Q", partition), struct.unpack_from("<I", disk)
        return BootDevice(DeviceKind.PARTITION, f"{signature:08x}", offset)
    if on == 0 and style == c.STYLE_GPT:
        return BootDevice(DeviceKind.PARTITION, str(uuid.UUID(bytes_le=disk)), None, str(uuid.UUID(bytes_le=partition)))
    return BootDevice(DeviceKind.OTHER, detail=f"a partition on a device of type {on}, table of style {style}")


def _virtual_disk(data: bytes) -> str:
    """The path of a VHD that a device stands in: nested descriptors have it as UTF-16, at an even place or not."""
    for start in (0, 1):
        tail = data[c.DESCRIPTOR.size + start :]
        found = _VIRTUAL_DISK.search(tail[: len(tail) & ~1].decode("utf-16-le", "replace"))
        if found:
            return found[0][:_TEXT_AT_MOST]
    return ""


def _text(hive: HiveFile, id_: str, element: int) -> str:
    value = element_value(hive, id_, element)
    return ((value.text() or "") if value is not None else "")[:_TEXT_AT_MOST]


def _texts(hive: HiveFile, id_: str, element: int) -> tuple[str, ...]:
    value = element_value(hive, id_, element)
    return ((value.texts() or ()) if value is not None else ())[:OBJECTS_AT_MOST]
