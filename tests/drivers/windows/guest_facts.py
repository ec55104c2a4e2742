"""Facts of a Windows in memory: keys as planners find them, without hives or files."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.windows.contribution import WindowsContribution
from drivers.windows.edits import AddKey, DeleteValue, HiveEdit, SetValue
from drivers.windows.facts import SOFTWARE, SYSTEM, ControlSets, HiveFile, RegistryValue, WindowsFacts, WindowsVersion
from drivers.windows.regf import Value
from tests.fixtures.hives import Data, Tree, dword, expand_sz

ONE_SET = ControlSets(1, 1, 0, 1, (1,))
FILES = ("ataport.sys", "atapi.sys", "intelide.sys", "msahci.sys", "pciide.sys", "pciidex.sys", "storahci.sys", "storport.sys")


def facts(
    system: Tree,
    software: Tree | None = None,
    *,
    version: tuple[int, int] = (6, 1),
    sets: ControlSets = ONE_SET,
    files: tuple[str, ...] = FILES,
    arch: str = "x86_64",
) -> WindowsFacts:
    """A Windows whose hives have these keys; ``files``: its drivers' folder."""
    return WindowsFacts(
        system_root="/Windows",
        version=WindowsVersion(*version, 0),
        arch=arch,
        control_sets=sets,
        registry={SYSTEM: _hive(SYSTEM, system), SOFTWARE: _hive(SOFTWARE, software or {})},
        driver_files=files,
    )


def _hive(name: str, tree: Tree) -> HiveFile:
    keys = {key: tuple(RegistryValue(n, d.type, d.data.hex()) for n, d in values.items()) for key, values in tree.items()}
    return HiveFile(f"/Windows/System32/config/{name}", 0, "", "clean", keys=keys)


def service(start: int, image: str = "") -> Mapping[str, Data]:
    """The values of a service's key."""
    return {"Type": dword(1), "Start": dword(start), **({"ImagePath": expand_sz(image)} if image else {})}


def told(planned: WindowsContribution, hive: str = SYSTEM) -> dict[str, object]:
    """What is done to each value (``KEY\\NAME``): its new number, text or texts; None where it is removed; ``new`` for a key."""
    return {_place(edit): _data(edit) for edit in planned.edits.get(hive, ())}


def _place(edit: HiveEdit) -> str:
    return edit.key if isinstance(edit, AddKey) else f"{edit.key}\\{getattr(edit, 'name', '')}"


def _data(edit: HiveEdit) -> object:
    match edit:
        case SetValue():
            value = Value(edit.name, edit.kind, bytes.fromhex(edit.data))
            return next((found for found in (value.number(), value.text(), value.texts()) if found is not None), edit.data)
        case DeleteValue():
            return None
        case _:
            return "new"
