"""Filters of devices whose driver does not start: such a device would not start either. Pure.

They stand in lists of a device class, and of single devices: of those only keyboards, mice and the PCI bus, which the machine on
KVM has under the same names.

Sources: Microsoft, "Device Filter Driver Ordering" (UpperFilters, LowerFilters), CM_PROB_DISABLED_SERVICE (32) and
CM_PROB_DRIVER_FAILED_LOAD (39), support article 982116 (filters that are left over are taken out of these lists). For the class of
the system disk's controller, of disks or of volumes it is the stop 0x7B.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drivers.windows import c_regf as c
from drivers.windows.edits import DeleteValue, HiveEdit, SetValue, ValueData
from drivers.windows.facts import HiveFile, WindowsFacts
from drivers.windows.inf_registry import multi_text
from drivers.windows.services import NEVER, Service
from p2v.core.text import printable

_LISTS = ("UpperFilters", "LowerFilters")
# ControlSet001\\Enum\\ACPI\\PNP0F13\\4&22f5829e&0
_INSTANCE_DEPTH = 4


def filter_edits(
    windows: WindowsFacts, system: HiveFile, number: int, services: Mapping[str, Service], disabled: Mapping[str, str]
) -> Iterator[HiveEdit]:
    """A control set's lists of filters without those that do not start.

    ``services``: as the guest has them; ``disabled``: whose each of those is that the plan disables. Names are in upper case.
    """
    for key in (*system.below(f"ControlSet{number:03d}\\Control\\Class"), *_devices(system, number)):
        for name in _LISTS:
            old = system.value(key, name)
            filters = old.texts() if old is not None else None
            if old is None or not filters:
                continue
            gone = {each: why for each in filters if (why := _why_gone(windows, each, services, disabled))}
            kept = [each for each in filters if each not in gone]
            if not gone:
                continue
            before, why = ValueData(old.type, old.data.hex()), "; ".join(gone.values())
            if kept:
                yield SetValue(key, name, c.REG_MULTI_SZ, multi_text(kept).hex(), before, why)
            else:
                yield DeleteValue(key, name, before, why)


def _devices(system: HiveFile, number: int) -> Iterator[str]:
    top = c.upper(f"ControlSet{number:03d}\\Enum\\ACPI\\")
    yield from (key for key in system.keys if c.upper(key).startswith(top) and key.count("\\") == _INSTANCE_DEPTH)


def _why_gone(windows: WindowsFacts, name: str, services: Mapping[str, Service], disabled: Mapping[str, str]) -> str:
    """Why a filter would keep its devices from starting; empty where it does not."""
    service, shown = services.get(c.upper(name)), printable(name)
    if c.upper(name) in disabled:
        return f"the filter {shown} is of {disabled[c.upper(name)]}, which is disabled"
    if service is None:
        return f"the filter {shown} has no service"
    if service.start == NEVER:
        return f"the service of the filter {shown} is disabled"
    if windows.driver_files and service.file is not None and service.file not in windows.driver_files:
        return f"the filter {shown} has no driver ({service.file})"
    return ""
