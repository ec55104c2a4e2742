"""What other hypervisors and machines' makers left in a Windows guest: nothing of it starts on KVM, or stands in the way. Pure.

In every control set that can be started: services are disabled, filters and network providers of theirs leave their lists;
what they start at log-on is taken out. Everything by itself, with its reason. Programs stay installed; what the guest
can uninstall at its first start is a list of its own, which is given to it where that is asked for.

Sources: Microsoft, "HKLM\\SYSTEM\\CurrentControlSet\\Services Registry Tree", "Network Provider Order", "Run and RunOnce Registry
Keys".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drivers.windows import c_regf as c
from drivers.windows.contribution import WindowsContribution
from drivers.windows.edits import DeleteValue, HiveEdit, SetValue, ValueData, one_each
from drivers.windows.facts import SOFTWARE, SYSTEM, HiveFile, WindowsFacts
from drivers.windows.filter_lists import filter_edits
from drivers.windows.firstboot.tools import tools_of
from drivers.windows.inf_registry import terminated
from drivers.windows.leftover_catalogue import PRODUCTS, Product
from drivers.windows.services import Service, never_started, services_of
from drivers.windows.uninstalling import findings, installed, uninstalls

_PROVIDERS = ("Order", "HwOrder")
_RUN = ("Microsoft\\Windows\\CurrentVersion\\Run", "Wow6432Node\\Microsoft\\Windows\\CurrentVersion\\Run")


def contribute(windows: WindowsFacts, *, purge: bool = False) -> WindowsContribution:
    """All that the catalogue's products left, and filters whose driver is gone, whoever's they were.

    ``purge``: the guest is to uninstall their programs itself, as far as it can.
    """
    system = windows.registry[SYSTEM]
    products = tuple(product for product in PRODUCTS if windows.version.number < product.before)
    edits: list[HiveEdit] = []
    for number in windows.control_sets.bootable:
        services = services_of(system, number)
        disabled = {name: product.name for product in products for name in _of(product, services)}
        edits += _disabled(system, services, disabled)
        edits += filter_edits(windows, system, number, services, disabled)
        edits += _providers(system, number, disabled)
    programs = tuple(installed(windows, products))
    software = windows.registry.get(SOFTWARE)
    has_first_start = tools_of(windows) is not None
    given = uninstalls(programs) if purge and has_first_start else ()
    return WindowsContribution(
        {
            SYSTEM: tuple(one_each(edits)),
            SOFTWARE: tuple(one_each(_run_values(software, products))) if software is not None else (),
        },
        warnings=tuple(findings(programs, given, is_offered=has_first_start and not purge)),
        first_boot=given,
    )


def _of(product: Product, services: Mapping[str, Service]) -> Iterator[str]:
    """The product's services that are there, in upper case, without those that are another product's."""
    shared = {c.upper(name) for mark, names in product.own_of.items() if c.upper(mark) in services for name in names}
    for name in map(c.upper, product.services):
        if name in services and name not in shared:
            yield name


def _disabled(system: HiveFile, services: Mapping[str, Service], disabled: Mapping[str, str]) -> Iterator[SetValue]:
    for name, product in disabled.items():
        edit = never_started(system, services[name], f"{services[name].name} is of {product}: of no use on KVM")
        if edit is not None:
            yield edit


def _providers(system: HiveFile, number: int, disabled: Mapping[str, str]) -> Iterator[SetValue]:
    """A provider that does not answer holds up every log-on."""
    for order in _PROVIDERS:
        key = system.key(f"ControlSet{number:03d}\\Control\\NetworkProvider\\{order}")
        old = system.value(key, "ProviderOrder") if key is not None else None
        text = old.text() if old is not None else None
        if key is None or old is None or text is None:
            continue
        names = text.split(",")
        gone = [name for name in names if c.upper(name.strip()) in disabled]
        if gone:
            data = terminated(",".join(name for name in names if name not in gone)).hex()
            why = "; ".join(f"the network provider {name.strip()} is of {disabled[c.upper(name.strip())]}" for name in gone)
            yield SetValue(key, "ProviderOrder", old.type, data, ValueData(old.type, old.data.hex()), why)


def _run_values(software: HiveFile, products: tuple[Product, ...]) -> Iterator[DeleteValue]:
    owners = {c.upper(name): product.name for product in products for name in product.run}
    for path in _RUN:
        key = software.key(path)
        for value in software.keys[key] if key is not None else ():
            owner = owners.get(c.upper(value.name))
            if owner is not None and not value.cut:
                why = f"it starts a program of {owner} at every log-on"
                yield DeleteValue(path, value.name, ValueData(value.type, value.data), why)
