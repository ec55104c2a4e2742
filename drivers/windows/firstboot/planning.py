"""What a Windows guest does at its first start on KVM: the steps that its facts call for, and the service that runs
them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drivers.plan import Finding, PlanOptions
from drivers.windows import virtio_drivers
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.firstboot import ghosts, install_drivers, network, service, uninstall
from drivers.windows.firstboot.steps import Step
from drivers.windows.firstboot.tools import GuestTools, tools_of
from drivers.windows.network_setup import setup_of
from drivers.windows.uninstalling import Uninstall

_Part = tuple[tuple[Step, ...], tuple[Finding, ...]]


def contribute(windows: WindowsFacts, options: PlanOptions, programs: Sequence[Uninstall] = ()) -> WindowsContribution:
    """The service with its steps; nothing where there is nothing for the guest to do. ``programs``: those it uninstalls."""
    tools = tools_of(windows)
    if tools is None:
        return WindowsContribution()
    steps = list[Step]()
    findings = list[Finding]()
    for found, said in _parts(windows, options, programs, tools):
        steps += found
        findings += said
    if not steps:
        return WindowsContribution(warnings=tuple(findings))
    return WindowsContribution(
        {SYSTEM: service.entries(steps, windows)}, service.files(steps, windows, tools), warnings=tuple(findings)
    )


def _parts(windows: WindowsFacts, options: PlanOptions, programs: Sequence[Uninstall], tools: GuestTools) -> Iterator[_Part]:
    """In the order in which the guest does them: an address needs its card, a card its driver, and nobody else to have it."""
    yield _drivers(windows, options, tools)
    setup = setup_of(windows, options)
    yield _one(ghosts.remove_ghosts(setup.ghosts, tools)), () if ghosts.can_remove(tools) else tuple(_ghosts_stay(setup.ghosts))
    # what setup warns of is said by network_setup.contribute
    yield _one(network.set_addresses(setup.cards, tools)), ()
    yield uninstall.uninstall(programs, tools), ()


def _drivers(windows: WindowsFacts, options: PlanOptions, tools: GuestTools) -> _Part:
    if options.drivers is None:
        return (), ()
    inf_files = virtio_drivers.installable(windows, options.drivers)
    odd = install_drivers.unsuitable(inf_files)
    hint = "Install it by hand after the first start."
    said = [Finding("windows.driver-name", f"not installed at the first start, for its name: {path}", hint) for path in odd]
    return _one(install_drivers.install_drivers(inf_files, tools)), tuple(said)


def _ghosts_stay(instances: Sequence[str]) -> Iterator[Finding]:
    if instances:
        message = "adapters of its old cards stay among its hidden devices: only from Windows 10 2004 on it removes them on ARM64"
        hint = "Remove them in the device manager where an address is said to be assigned already."
        yield Finding("windows.ghosts-stay", message, hint)


def _one(step: Step | None) -> tuple[Step, ...]:
    return (step,) if step is not None else ()
