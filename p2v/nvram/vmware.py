"""VMware's .nvram: the file's records, and the UEFI variables in one of them.

VMware publishes no description. The structure is that on which two independent readers of such files agree (pyuefivars and its
descendant in virt-firmware; vm-config): ``MRVN`` and a number, then records of two names of four bytes, a length and the
contents; the record ``EFI_`` ``NV`` begins with ``VMWNVRAM``, a zero and the length of what is used, behind which variables stand:
vendor, attributes, length of name and value, length of the name, the name in UTF-16, the value. A time-authenticated value has 40
bytes before it that are not understood. No file of the product was at hand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from p2v.machine import UefiVariable
from p2v.nvram.c_edk2 import TIME_BASED_AUTHENTICATED_WRITE_ACCESS
from p2v.nvram.variables import LARGEST_NAME_BYTES, LARGEST_VALUE_BYTES, VARIABLES_AT_MOST, BadVariables, variable

FILE_MAGIC = b"MRVN"
_FILE_HEADER_BYTES = 8
_RECORD = struct.Struct("<4s4sI")
_EFI_NAME, _EFI_SUBNAME = b"EFI_", b"NV"
_STORE = struct.Struct("<8sII")
_STORE_MAGIC = b"VMWNVRAM"
_VARIABLE = struct.Struct("<16sIII")
_BEFORE_AUTHENTICATED_BYTES = 40
_RECORDS_AT_MOST = 256


def is_nvram(data: bytes) -> bool:
    """Whether a file begins as VMware's do, of BIOS machines too."""
    return data.startswith(FILE_MAGIC)


def read_nvram(data: bytes) -> tuple[UefiVariable, ...]:
    """The UEFI variables, in their order; none for a file of a machine with a BIOS. Raises BadVariables."""
    at = _FILE_HEADER_BYTES
    for _ in range(_RECORDS_AT_MOST):
        if at + _RECORD.size > len(data):
            return ()
        name, subname, length = _RECORD.unpack_from(data, at)
        start = at + _RECORD.size
        if length > len(data) - start:
            raise BadVariables(f"has a record at byte {at} that reaches past its end")
        if name == _EFI_NAME and subname.startswith(_EFI_SUBNAME):
            return tuple(_variables(data[start : start + length]))
        at = start + length
    raise BadVariables(f"has more than {_RECORDS_AT_MOST} records")


def _variables(record: bytes) -> Iterator[UefiVariable]:
    if len(record) < _STORE.size:
        raise BadVariables("has a record of UEFI variables that is too short")
    magic, zero, used = _STORE.unpack_from(record)
    if magic != _STORE_MAGIC or zero or not _STORE.size <= used <= len(record):
        raise BadVariables("has a record of UEFI variables of an unknown kind")
    at = _STORE.size
    for _ in range(VARIABLES_AT_MOST):
        if at + _VARIABLE.size > used:
            return
        vendor, attributes, both, name_bytes = _VARIABLE.unpack_from(record, at)
        start = at + _VARIABLE.size
        if name_bytes > both or both > used - start:
            raise BadVariables(f"has a UEFI variable at byte {at} of their record that reaches past its end")
        name, value = record[start : start + name_bytes], record[start + name_bytes : start + both]
        if attributes & TIME_BASED_AUTHENTICATED_WRITE_ACCESS:
            value = value[_BEFORE_AUTHENTICATED_BYTES:]
        fits = len(name) <= LARGEST_NAME_BYTES and len(value) <= LARGEST_VALUE_BYTES
        if fits and (made := variable(name, vendor, attributes, value)) is not None:
            yield made
        at = start + both
    raise BadVariables(f"has more than {VARIABLES_AT_MOST} UEFI variables")
