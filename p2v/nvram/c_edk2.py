"""edk2's variable store as it stands in a flash file (OVMF_VARS.fd, AAVMF_VARS.fd, VirtualBox's .nvram): structures and GUIDs.

Sources: UEFI Platform Initialization specification, volume 3, "Firmware Volume Header"; edk2, MdeModulePkg/Include/Guid/
VariableFormat.h (names as there); UEFI specification, "Variable Services" (attributes), "Boot Manager" (EFI_LOAD_OPTION),
"Device Path Protocol" (nodes), "Signature Database" (EFI_SIGNATURE_LIST). All numbers are little-endian.
"""

from __future__ import annotations

import struct
import uuid

# EFI_FIRMWARE_VOLUME_HEADER without its block map: ZeroVector, FileSystemGuid, FvLength, Signature, Attributes, HeaderLength,
# Checksum, ExtHeaderOffset, Reserved, Revision
FIRMWARE_VOLUME_HEADER = struct.Struct("<16s16sQ4sIHHHBB")
FVH_SIGNATURE = b"_FVH"
# gEfiSystemNvDataFvGuid
SYSTEM_NV_DATA_FV = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le

# VARIABLE_STORE_HEADER: Signature, Size, Format, State, Reserved, Reserved1
VARIABLE_STORE_HEADER = struct.Struct("<16sIBBHI")
# gEfiAuthenticatedVariableGuid, gEfiVariableGuid
AUTHENTICATED_STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
PLAIN_STORE = uuid.UUID("ddcf3616-3275-4164-98b6-fe85707ffe7d").bytes_le
VARIABLE_STORE_FORMATTED, VARIABLE_STORE_HEALTHY = 0x5A, 0xFE

# AUTHENTICATED_VARIABLE_HEADER: StartId, State, Reserved, Attributes, MonotonicCount, TimeStamp, PubKeyIndex, NameSize, DataSize,
# VendorGuid
AUTHENTICATED_VARIABLE_HEADER = struct.Struct("<HBBIQ16sIII16s")
# VARIABLE_HEADER: StartId, State, Reserved, Attributes, NameSize, DataSize, VendorGuid
VARIABLE_HEADER = struct.Struct("<HBBIII16s")
VARIABLE_DATA = 0x55AA
HEADER_ALIGNMENT = 4
ERASED = 0xFF
# Each step of a variable's life clears bits of its state.
VAR_ADDED = 0x3F
VAR_IN_DELETED_TRANSITION = 0xFE

NON_VOLATILE = 0x01
BOOTSERVICE_ACCESS = 0x02
RUNTIME_ACCESS = 0x04
TIME_BASED_AUTHENTICATED_WRITE_ACCESS = 0x20

# gEfiGlobalVariableGuid, gEfiImageSecurityDatabaseGuid, gEfiSecureBootEnableDisableGuid, shim's SHIM_LOCK_GUID
GLOBAL_VARIABLE = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
IMAGE_SECURITY_DATABASE = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
SECURE_BOOT_ENABLE = "f0a30bc7-af08-4556-99c4-001009c93a44"
SHIM_LOCK = "605dab50-e046-4300-abb6-3dd810dd8b23"

# EFI_LOAD_OPTION before its description: Attributes, FilePathListLength
LOAD_OPTION = struct.Struct("<IH")
# EFI_DEVICE_PATH_PROTOCOL: Type, SubType, Length (of the whole node)
DEVICE_PATH_NODE = struct.Struct("<BBH")
MEDIA_HARD_DRIVE, MEDIA_FILE_PATH, END_ENTIRE = (0x04, 0x01), (0x04, 0x04), (0x7F, 0xFF)
HARD_DRIVE_NODE_BYTES = 42

# EFI_SIGNATURE_LIST: SignatureType, SignatureListSize, SignatureHeaderSize, SignatureSize
SIGNATURE_LIST = struct.Struct("<16sIII")
SIGNATURE_OWNER_BYTES = 16
