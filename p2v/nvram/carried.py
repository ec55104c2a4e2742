"""Which variables mean something on another machine; pure.

Boot entries of files on partitions; the keys of secure boot as a whole (PK, KEK, db, dbx) with whether it is switched on; and
shim's list of the owner's keys. All else is the old firmware's own business, or is made anew by the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from p2v.core.text import listed, printable
from p2v.machine import UefiVariable
from p2v.nvram.c_edk2 import (
    BOOTSERVICE_ACCESS,
    GLOBAL_VARIABLE,
    IMAGE_SECURITY_DATABASE,
    NON_VOLATILE,
    RUNTIME_ACCESS,
    SECURE_BOOT_ENABLE,
    SHIM_LOCK,
    TIME_BASED_AUTHENTICATED_WRITE_ACCESS,
)
from p2v.nvram.variables import BOOT_ENTRY, are_signature_lists, boot_entry_title, short_boot_entry

_BOOT_ENTRIES_AT_MOST = 64
_TITLES_SHOWN, _LONGEST_TITLE = 6, 60
_BOOT_ATTRIBUTES = NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS
_KEY_ATTRIBUTES = _BOOT_ATTRIBUTES | TIME_BASED_AUTHENTICATED_WRITE_ACCESS
# shim believes only what the running system could not have written
_PRIVATE_ATTRIBUTES = NON_VOLATILE | BOOTSERVICE_ACCESS
# Without one of the first three the firmware takes secure boot for not set up.
_KEYS = (("PK", GLOBAL_VARIABLE), ("KEK", GLOBAL_VARIABLE), ("db", IMAGE_SECURITY_DATABASE), ("dbx", IMAGE_SECURITY_DATABASE))
_NEEDED_KEYS = 3
_OWNERS_LISTS = ("MokList", "MokListX")
_OWNERS_SWITCHES = ("MokSBState", "MokListTrusted")
_BOOT_ORDER = "BootOrder"


def worth_carrying(variables: Sequence[UefiVariable]) -> tuple[UefiVariable, ...]:
    """Those of a store's variables that mean something elsewhere, as they are to be there."""
    known = {(each.name, each.vendor): each for each in variables}
    return (*_boot_entries(known), *_keys(known), *_switch(known), *_owners(known))


def for_machine(variables: Sequence[UefiVariable], *, secure_boot: bool) -> tuple[UefiVariable, ...]:
    """Those that a machine is given: keys have no meaning for a firmware without secure boot."""
    return tuple(each for each in variables if secure_boot or _is_of_boot(each))


def described(variables: Sequence[UefiVariable], *, secure_boot: bool) -> str:
    """What comes along, for people; empty for nothing."""
    given = for_machine(variables, secure_boot=secure_boot)
    titles = [_title(each) for each in given if BOOT_ENTRY.fullmatch(each.name)]
    words = []
    if titles:
        words.append(f"boot {'entry' if len(titles) == 1 else 'entries'} {listed(titles, _TITLES_SHOWN)}")
    if any(each.name == "PK" for each in given):
        words.append("keys of secure boot")
    if any(each.vendor == SHIM_LOCK for each in given):
        words.append("the owner's keys (MOK)")
    if is_switched_off(given):
        words.append("secure boot is switched off in them")
    return ", ".join(words)


def is_switched_off(variables: Sequence[UefiVariable]) -> bool:
    """Whether the variables say that secure boot was not in force."""
    return any(each.vendor == SECURE_BOOT_ENABLE and each.value == "00" for each in variables)


Known = dict[tuple[str, str], UefiVariable]


def _is_of_boot(each: UefiVariable) -> bool:
    is_boot = each.name == _BOOT_ORDER or BOOT_ENTRY.fullmatch(each.name) is not None
    return each.vendor == GLOBAL_VARIABLE and is_boot


def _title(each: UefiVariable) -> str:
    return printable(boot_entry_title(bytes.fromhex(each.value)), keep="")[:_LONGEST_TITLE] or each.name


def _boot_entries(known: Known) -> Iterator[UefiVariable]:
    kept: dict[int, UefiVariable] = {}
    for (name, vendor), each in sorted(known.items()):
        match = BOOT_ENTRY.fullmatch(name)
        if vendor != GLOBAL_VARIABLE or match is None or len(kept) >= _BOOT_ENTRIES_AT_MOST:
            continue
        if (short := short_boot_entry(bytes.fromhex(each.value))) is not None:
            kept[int(match[1], 16)] = replace(each, attributes=_BOOT_ATTRIBUTES, value=short.hex(), time="00" * 16)
    yield from kept.values()
    stated = known.get((_BOOT_ORDER, GLOBAL_VARIABLE))
    numbers = _numbers(stated.value) if stated is not None else ()
    order = [number for number in dict.fromkeys(numbers) if number in kept]
    if stated is not None and order:
        value = b"".join(number.to_bytes(2, "little") for number in order)
        yield replace(stated, attributes=_BOOT_ATTRIBUTES, value=value.hex(), time="00" * 16)


def _numbers(value: str) -> tuple[int, ...]:
    data = bytes.fromhex(value)
    return tuple(int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data) - 1, 2))


def _keys(known: Known) -> Iterator[UefiVariable]:
    found = [each for key in _KEYS if (each := known.get(key)) is not None and are_signature_lists(bytes.fromhex(each.value))]
    if [(each.name, each.vendor) for each in found][:_NEEDED_KEYS] == list(_KEYS[:_NEEDED_KEYS]):
        yield from (replace(each, attributes=_KEY_ATTRIBUTES) for each in found)


def _switch(known: Known) -> Iterator[UefiVariable]:
    each = known.get(("SecureBootEnable", SECURE_BOOT_ENABLE))
    if each is not None and each.value in ("00", "01"):
        yield replace(each, attributes=_PRIVATE_ATTRIBUTES, time="00" * 16)


def _owners(known: Known) -> Iterator[UefiVariable]:
    for name in (*_OWNERS_LISTS, *_OWNERS_SWITCHES):
        each = known.get((name, SHIM_LOCK))
        if each is None or each.attributes & RUNTIME_ACCESS:
            continue
        if are_signature_lists(bytes.fromhex(each.value)) if name in _OWNERS_LISTS else len(each.value) == 2:
            yield replace(each, attributes=_PRIVATE_ATTRIBUTES, time="00" * 16)
