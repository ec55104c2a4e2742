"""What a Windows guest does at its first start on KVM: the steps that its facts call for, and the service that runs
them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.facts import GuestFacts
from drivers.plan import Finding, PlanOptions
from drivers.windows import virtio_drivers
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.firstboot import install_drivers, leftovers, network, online_disks, service
from drivers.windows.firstboot.addresses import plan_cards
from drivers.windows.firstboot.steps import Step
from drivers.windows.firstboot.tools import GuestTools, tools_of

_Part = tuple[tuple[Step, ...], tuple[Finding, ...]]


def contribute(facts: GuestFacts, windows: WindowsFacts, options: PlanOptions) -> WindowsContribution:
    """The service with its steps; nothing where there is nothing for the guest to do."""
    tools = tools_of(windows)
    if tools is None:
        return WindowsContribution()
    steps = list[Step]()
    findings = list[Finding]()
    for found, said in _parts(facts, windows, options, tools):
        steps += found
        findings += said
    if not steps:
        return WindowsContribution(warnings=tuple(findings))
    return WindowsContribution(
        {SYSTEM: service.entries(steps, windows)}, service.files(steps, windows, tools), warnings=tuple(findings)
    )


def _parts(facts: GuestFacts, windows: WindowsFacts, options: PlanOptions, tools: GuestTools) -> Iterator[_Part]:
    """In the order in which the guest does them: an address needs its card, and a card its driver."""
    yield _drivers(windows, options, tools)
    cards = plan_cards(windows, options.nic_macs, options.addressing)
    yield _one(network.set_addresses(cards.cards, tools)), cards.warnings
    disks, said = online_disks.bring_online(len(facts.disks), windows, tools)
    yield _one(disks), said
    if options.purge_tools:
        yield leftovers.uninstall(windows, tools), tuple(leftovers.staying(windows))


def _drivers(windows: WindowsFacts, options: PlanOptions, tools: GuestTools) -> _Part:
    if options.drivers is None:
        return (), ()
    inf_files = virtio_drivers.installable(windows, options.drivers)
    odd = install_drivers.unsuitable(inf_files)
    hint = "Install it by hand after the first start."
    said = [Finding("windows.driver-name", f"not installed at the first start, for its name: {path}", hint) for path in odd]
    return _one(install_drivers.install_drivers(inf_files, tools)), tuple(said)


def _one(step: Step | None) -> tuple[Step, ...]:
    return (step,) if step is not None else ()
