"""edk2's variable store: reading it, and writing one into a firmware's own template.

A store is written anew and not copied: another build of the firmware may lay it out otherwise, and most of what an old one holds
(console device paths, sizes of memory, error records) is about the machine as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from p2v.core.units import round_up
from p2v.machine import UefiVariable
from p2v.nvram.c_edk2 import (
    AUTHENTICATED_STORE,
    AUTHENTICATED_VARIABLE_HEADER,
    ERASED,
    FIRMWARE_VOLUME_HEADER,
    FVH_SIGNATURE,
    HEADER_ALIGNMENT,
    PLAIN_STORE,
    SYSTEM_NV_DATA_FV,
    VAR_ADDED,
    VAR_IN_DELETED_TRANSITION,
    VARIABLE_DATA,
    VARIABLE_HEADER,
    VARIABLE_STORE_FORMATTED,
    VARIABLE_STORE_HEADER,
    VARIABLE_STORE_HEALTHY,
)
from p2v.nvram.variables import LARGEST_NAME_BYTES, LARGEST_VALUE_BYTES, VARIABLES_AT_MOST, BadVariables, variable

# Its store is at most this far into the file; AAVMF's file is filled up to 64 MiB behind it.
LARGEST_VOLUME_BYTES = 4 * 1024 * 1024
# What the firmware needs to add variables of its own and to rewrite the largest.
_FREE_BYTES = 12 * 1024


@dataclass(frozen=True, slots=True)
class _Store:
    """Where variables stand in a file: the first byte behind the store's header, and behind the store."""

    start: int
    end: int
    authenticated: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """One variable that counts, and its state."""

    state: int
    value: UefiVariable


def is_store(data: bytes) -> bool:
    """Whether a file begins with a firmware volume of variables."""
    return len(data) >= FIRMWARE_VOLUME_HEADER.size and data[16:32] == SYSTEM_NV_DATA_FV and data[40:44] == FVH_SIGNATURE


def read_store(data: bytes) -> tuple[UefiVariable, ...]:
    """The variables that count, in their order. Raises BadVariables."""
    store = _store(data)
    found: dict[tuple[str, str], _Found] = {}
    for each in _walk(data, store):
        key = (each.value.name, each.value.vendor)
        # one that was about to be replaced counts where the new one was not finished
        if key not in found or each.state == VAR_ADDED:
            found[key] = each
    return tuple(each.value for each in found.values())


def write_store(template: bytes, variables: Sequence[UefiVariable]) -> bytes:
    """The template with these variables added to its own; those of the same name replace its.

    Raises BadVariables for a template that is none or not authenticated, and for variables that do not fit.
    """
    store = _store(template)
    if not store.authenticated:
        raise BadVariables("is a store of the kind without authentication, which is not written here")
    merged = {(each.name, each.vendor): each for each in (*read_store(template), *variables)}
    body = b"".join(_written(each) for each in merged.values())
    room = store.end - store.start - _FREE_BYTES
    if len(body) > room:
        raise BadVariables(f"has room for {room} bytes of variables, and {len(body)} are to go into it")
    erased = bytes([ERASED]) * (store.end - store.start - len(body))
    return template[: store.start] + body + erased + template[store.end :]


def _store(data: bytes) -> _Store:
    if not is_store(data):
        raise BadVariables("does not begin with a volume of UEFI variables")
    header = FIRMWARE_VOLUME_HEADER.unpack_from(data)
    volume_bytes, header_bytes = header[2], header[5]
    if volume_bytes > min(len(data), LARGEST_VOLUME_BYTES):
        raise BadVariables(f"says that its volume has {volume_bytes} bytes, and is shorter or no volume of variables")
    if header_bytes % 2 or not FIRMWARE_VOLUME_HEADER.size <= header_bytes <= volume_bytes - VARIABLE_STORE_HEADER.size:
        raise BadVariables(f"says that its volume's header has {header_bytes} bytes")
    words = memoryview(data[:header_bytes]).cast("H")
    if sum(words) & 0xFFFF:
        raise BadVariables("has a volume's header whose checksum is wrong")
    signature, store_bytes, layout, state, _, _ = VARIABLE_STORE_HEADER.unpack_from(data, header_bytes)
    if signature not in (AUTHENTICATED_STORE, PLAIN_STORE):
        raise BadVariables("has a store of an unknown kind in it")
    if (layout, state) != (VARIABLE_STORE_FORMATTED, VARIABLE_STORE_HEALTHY):
        raise BadVariables("has a store in it that is not formatted")
    if not VARIABLE_STORE_HEADER.size <= store_bytes <= volume_bytes - header_bytes:
        raise BadVariables(f"says that its store has {store_bytes} bytes, which its volume has not")
    start = header_bytes + VARIABLE_STORE_HEADER.size
    return _Store(start, header_bytes + store_bytes, signature == AUTHENTICATED_STORE)


def _walk(data: bytes, store: _Store) -> Iterator[_Found]:
    header = AUTHENTICATED_VARIABLE_HEADER if store.authenticated else VARIABLE_HEADER
    at = store.start
    for _ in range(VARIABLES_AT_MOST):
        if at + header.size > store.end:
            return
        fields = header.unpack_from(data, at)
        if fields[0] != VARIABLE_DATA:
            return
        state, attributes = fields[1], fields[3]
        time = fields[5] if store.authenticated else bytes(16)
        name_bytes, value_bytes, vendor = fields[-3:]
        name_at = at + header.size
        if name_bytes + value_bytes > store.end - name_at:
            raise BadVariables(f"has a variable at byte {at} that reaches past the end of the store")
        if name_bytes <= LARGEST_NAME_BYTES and value_bytes <= LARGEST_VALUE_BYTES and _counts(state):
            name, value = data[name_at : name_at + name_bytes], data[name_at + name_bytes : name_at + name_bytes + value_bytes]
            if (made := variable(name, vendor, attributes, value, time.hex())) is not None:
                yield _Found(state, made)
        at = store.start + round_up(name_at + name_bytes + value_bytes - store.start, HEADER_ALIGNMENT)
    raise BadVariables(f"has more than {VARIABLES_AT_MOST} variables")


def _counts(state: int) -> bool:
    return state in (VAR_ADDED, VAR_ADDED & VAR_IN_DELETED_TRANSITION)


def _written(each: UefiVariable) -> bytes:
    name, value = (each.name + "\0").encode("utf-16-le"), bytes.fromhex(each.value)
    header = AUTHENTICATED_VARIABLE_HEADER.pack(
        VARIABLE_DATA, VAR_ADDED, 0, each.attributes, 0, bytes.fromhex(each.time), 0, len(name), len(value), each.vendor_bytes
    )
    whole = header + name + value
    return whole.ljust(round_up(len(whole), HEADER_ALIGNMENT), bytes([ERASED]))
