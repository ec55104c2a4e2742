"""Numbers and layouts of boot configuration data: the hive that the boot manager of Windows Vista and later reads.

Sources: Microsoft, "Boot Configuration Data" (BcdElementType, BcdBootMgrElementTypes, BcdLibraryElementTypes,
BcdOSLoaderElementTypes, BcdDeviceLocateData, BcdDeviceQualifiedPartitionData). What Microsoft says of device elements is their
members, not their bytes; those are published findings that agree: mistyprojects.co.uk, "BCDEdit, Devices Partition"; G. Chappell,
"BCD Elements"; the declarations of ReactOS' boot library (the numbers of device types).
"""

from __future__ import annotations

import struct

BOOT_MANAGER = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
OS_LOADER, RESUME_LOADER, OLD_LOADER = 0x10200003, 0x10200004, 0x10300006

OBJECTS, ELEMENTS, DESCRIPTION, ELEMENT, TYPE = "Objects", "Elements", "Description", "Element", "Type"

DEVICE, PATH, TITLE = 0x11000001, 0x12000002, 0x12000004
OS_DEVICE, SYSTEM_ROOT = 0x21000001, 0x22000002
DEFAULT, DISPLAY_ORDER, BOOT_SEQUENCE = 0x23000003, 0x24000001, 0x24000002
RECOVERY_ENABLED = 0x16000009
GRAPHICS_MODE_DISABLED = 0x16000046
SAFE_BOOT, BOOT_STATUS_POLICY = 0x25000080, 0x250000E0

IGNORE_ALL_FAILURES = 1
"""BcdLibrary_BootStatusPolicy: a start that failed, or ended without shutdown, is followed by an ordinary one."""

DEVICE_FORMAT = 1
"""The format of elements that name a device, in bits 24 to 27 of their numbers."""

# a device element: the GUID of an object with further options, then a descriptor: type, flags, size, reserved
DESCRIPTOR = struct.Struct("<16sIIII")
LOCAL, BOOT, PARTITION, LOCATE = 0, 5, 6, 8
LOCAL_TYPE = struct.Struct("<I")
"""After the descriptor of a local device."""
RAMDISK, FILE, VIRTUAL_DISK = 3, 5, 6
PLACE = struct.Struct("<16sII16s16x")
"""After the descriptor of a partition: the partition, the type of what it is on (0: a disk), the table's style, the disk."""
LOCATED = struct.Struct("<II")
"""After the descriptor of a device that is looked for: how, and the number of the element with the path to look for."""
STYLE_GPT, STYLE_MBR = 0, 1
DEVICE_BYTES = 0x58


def format_of(element: int) -> int:
    """The format of an element's data, by its number."""
    return element >> 24 & 0xF
