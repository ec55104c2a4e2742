"""Filters of device classes whose driver does not start: a device of such a class would not start either. Pure.

Sources: Microsoft, "Registry Entries for Device Setup Classes" (UpperFilters, LowerFilters), CM_PROB_DISABLED_SERVICE (32) and
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


def filter_edits(
    windows: WindowsFacts, system: HiveFile, number: int, services: Mapping[str, Service], disabled: Mapping[str, str]
) -> Iterator[HiveEdit]:
    """A control set's lists of filters without those that do not start.

    ``services``: as the guest has them; ``disabled``: whose each of those is that the plan disables. Names are in upper case.
    """
    for key in system.below(f"ControlSet{number:03d}\\Control\\Class"):
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
