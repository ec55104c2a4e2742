"""What a variable's name and contents are, checked: nothing of it is believed before."""

from __future__ import annotations

import re
import uuid

from p2v.machine import UefiVariable
from p2v.nvram.c_edk2 import (
    DEVICE_PATH_NODE,
    END_ENTIRE,
    HARD_DRIVE_NODE_BYTES,
    LOAD_OPTION,
    MEDIA_FILE_PATH,
    MEDIA_HARD_DRIVE,
    SIGNATURE_LIST,
    SIGNATURE_OWNER_BYTES,
)

# The largest real ones are dbx (some 24 KiB by 2024) and a list of machine owner keys.
LARGEST_VALUE_BYTES = 128 * 1024
LARGEST_NAME_BYTES = 1024
VARIABLES_AT_MOST = 4096
_NODES_AT_MOST = 64
_NO_TIME = bytes(16).hex()
BOOT_ENTRY = re.compile(r"Boot([0-9A-F]{4})")


class BadVariables(ValueError):
    """A file of variables contradicts itself or is of no known kind; its text is a clause about "it"."""


def variable(name: bytes, vendor: bytes, attributes: int, value: bytes, time: str = _NO_TIME) -> UefiVariable | None:
    """A variable of its parts as they stand in a store; None for what no firmware would make of them."""
    try:
        text = name.decode("utf-16-le").partition("\0")[0]
    except UnicodeDecodeError:
        return None
    if not text or len(value) > LARGEST_VALUE_BYTES:
        return None
    return UefiVariable(text, str(uuid.UUID(bytes_le=vendor)), attributes, value.hex(), time)


def short_boot_entry(value: bytes) -> bytes | None:
    """A boot entry that starts a file of a partition, told by the partition alone; None for every other.

    The device path's beginning names the controllers of the machine as it was. Without it the firmware looks for the partition by
    its GUID or signature on all disks ("Boot Manager", short-form device paths). Entries for whole disks, networks and the
    firmware's own programs are made anew by the firmware of the new machine.
    """
    if len(value) < LOAD_OPTION.size:
        return None
    attributes, path_bytes = LOAD_OPTION.unpack_from(value)
    end = _end_of_text(value, LOAD_OPTION.size)
    if end is None or end + path_bytes > len(value):
        return None
    path = _from_partition(value[end : end + path_bytes])
    if path is None:
        return None
    description, rest = value[LOAD_OPTION.size : end], value[end + path_bytes :]
    return LOAD_OPTION.pack(attributes, len(path)) + description + path + rest


def boot_entry_title(value: bytes) -> str:
    """What a boot entry is called, as it stands in it."""
    end = _end_of_text(value, LOAD_OPTION.size)
    return value[LOAD_OPTION.size : end].decode("utf-16-le", "replace").rstrip("\0") if end is not None else ""


def are_signature_lists(value: bytes) -> bool:
    """Whether a value is nothing but whole lists of signatures, as a database of keys is."""
    at = 0
    while at < len(value):
        if len(value) - at < SIGNATURE_LIST.size:
            return False
        _, list_bytes, header_bytes, each_bytes = SIGNATURE_LIST.unpack_from(value, at)
        entries = list_bytes - SIGNATURE_LIST.size - header_bytes
        # an empty list has nothing in it, and still says how large one would be
        if each_bytes <= SIGNATURE_OWNER_BYTES or entries < 0 or entries % each_bytes or at + list_bytes > len(value):
            return False
        at += list_bytes
    return bool(value)


def _end_of_text(value: bytes, start: int) -> int | None:
    """Where the bytes behind a text's final zero begin."""
    for at in range(start, len(value) - 1, 2):
        if value[at : at + 2] == b"\0\0":
            return at + 2
    return None


def _from_partition(path: bytes) -> bytes | None:
    """A device path from its partition on, if a file and the end follow on that."""
    at, start, kinds = 0, None, []
    for _ in range(_NODES_AT_MOST):
        if len(path) - at < DEVICE_PATH_NODE.size:
            return None
        kind, sub_kind, node_bytes = DEVICE_PATH_NODE.unpack_from(path, at)
        if node_bytes < DEVICE_PATH_NODE.size or at + node_bytes > len(path):
            return None
        if (kind, sub_kind) == MEDIA_HARD_DRIVE and start is None:
            if node_bytes != HARD_DRIVE_NODE_BYTES:
                return None
            start = at
        if start is not None:
            kinds.append((kind, sub_kind))
        at += node_bytes
        if (kind, sub_kind) == END_ENTIRE:
            whole = kinds[:1] == [MEDIA_HARD_DRIVE] and len(kinds) > 2 and set(kinds[1:-1]) == {MEDIA_FILE_PATH}
            return path[start:at] if whole else None
    return None
