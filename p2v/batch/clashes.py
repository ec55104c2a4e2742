"""What the machines of a batch do to each other: files, devices and names that two of them would have, one disk in two machines.

What would damage a result, or lose one, is in the way of all machines but the first; what clashes on a network is to be known of.
By what machines should be told apart is the audit's knowledge (``p2v.audit.fleet``).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from p2v.audit.catalogue_file import Rule, catalogue
from p2v.audit.fleet import twice
from p2v.audit.same_file import file_key
from p2v.batch.planned import MachinePlan
from p2v.core.block_devices import ground_of
from p2v.core.text import listed, printable
from p2v.preflight import Trouble

# machines that were made to have a thousand addresses in common do not fill a plan with them
_PER_MACHINE_AT_MOST = 20
_OPTIONS = (
    ("p2v convert --mac OLD=NEW", "`mac: OLD=NEW`"),
    ("--new-identity", "`new-identity: true`"),
    ("--ip", "`ip`"),
    ("--name", "`name`"),
)
"""What the audit's remedies say for a command line is a key in a manifest."""


def against_each_other(plans: Sequence[MachinePlan]) -> Iterator[MachinePlan]:
    """The plans, with what would stand in another's place, come from another's source, or be taken for another."""
    files, devices, claims = _Files.of(plans), _Devices(plans), _first_of(plans, lambda plan: plan.claims)
    alike = _alike(plans)
    for plan in plans:
        blockers = [*files.blockers(plan), *devices.blockers(plan), *_claimed(plan, claims)]
        warnings = [*files.warnings(plan), *alike.get(plan.name, ())]
        yield replace(plan, blockers=(*plan.blockers, *blockers), warnings=(*plan.warnings, *warnings))


class _Files:
    """Files that machines make, and disks that they are."""

    def __init__(self, makers: Mapping[str, MachinePlan], sources: Mapping[str, MachinePlan]) -> None:
        self.makers, self.sources = makers, sources

    @classmethod
    def of(cls, plans: Sequence[MachinePlan]) -> _Files:
        return cls(_first_of(plans, _made), _first_of(plans, lambda plan: map(file_key, plan.sources)))

    def blockers(self, plan: MachinePlan) -> Iterator[Trouble]:
        for name, made in zip(plan.outputs, _made(plan), strict=True):
            maker = self.makers[made]
            if maker is not plan:
                what = f"{name} would be made by {maker.called} too"
                yield Trouble("same-output", what, "Give one of them another name or target.")
            if (source := self.sources.get(file_key(made))) is not None:
                what = f"{name} in its target is a disk of {source.called}"
                yield Trouble("output-is-source", what, "Name another target.")

    def warnings(self, plan: MachinePlan) -> Iterator[Trouble]:
        shared = {self.sources[disk].name: self.sources[disk] for disk in map(file_key, plan.sources)}
        for other in shared.values():
            if other is not plan:
                what = f"it has a disk that {other.called} has too"
                yield Trouble("same-source", what, "Two copies of one machine must not speak on one network.")


class _Devices:
    """Block devices that are written to: whole disks, partitions of them, and what stands on either are one ground."""

    def __init__(self, plans: Sequence[MachinePlan]) -> None:
        self.writers = [(device, plan) for plan in plans for device in plan.devices]
        # of what is no device nobody asks the kernel
        self.sources = [(disk, plan) for plan in plans for disk in plan.sources] if self.writers else []
        # the kernel is asked once about each, and each is held against all others
        paths = {path for path, _ in (*self.writers, *self.sources)}
        self.known = {path: (file_key(path), ground_of(Path(path))) for path in paths}

    def blockers(self, plan: MachinePlan) -> Iterator[Trouble]:
        for place, (device, owner) in enumerate(self.writers):
            if owner is not plan:
                continue
            before = next((other for name, other in self.writers[:place] if self._touch(device, name)), None)
            if before is not None:
                what = f"{device} would be written by {before.called} too"
                yield Trouble("same-device", what, "A device takes one disk; a partition is part of its disk.")
            source = next((other for name, other in self.sources if self._touch(device, name)), None)
            if source is not None:
                what = f"{device} would be written, and a disk of {source.called} is on it"
                yield Trouble("output-is-source", what, "Name another device.")

    def _touch(self, one: str, other: str) -> bool:
        (key, ground), (other_key, other_ground) = self.known[one], self.known[other]
        return key == other_key or ground.touches(other_ground)


def _made(plan: MachinePlan) -> list[str]:
    folder = os.path.realpath(plan.folder)
    return [os.path.join(folder, name) for name in plan.outputs]


def _claimed(plan: MachinePlan, claims: Mapping[str, MachinePlan]) -> Iterator[Trouble]:
    for claim in plan.claims:
        if claims[claim] is not plan:
            what = f"{claims[claim].called} has {claim} too, and it would be refused, or written over"
            yield Trouble(
                "same-claim",
                what,
                "Give one of them another name, or `new-identity: true` where one is a copy of the other.",
            )


def _alike(plans: Sequence[MachinePlan]) -> Mapping[str, Sequence[Trouble]]:
    """By machines' names, what each has that others have too, as the audit's rules about fleets tell it."""
    known = [plan for plan in plans if not plan.left_alone]
    rules, found = catalogue(), defaultdict[str, list[Trouble]](list)
    for each in twice([(plan.name, plan.signs) for plan in known]):
        sharing = [known[place] for place in each.machines]
        what = printable(f"{len(sharing)} machines have {each.what}: {listed([plan.called for plan in sharing])}", keep="")
        for plan in sharing:
            if len(found[plan.name]) < _PER_MACHINE_AT_MOST:
                found[plan.name].append(Trouble(each.rule, what, _hint(rules[each.rule])))
    return found


def _hint(rule: Rule) -> str:
    remedy = rule.remedy
    for option, key in _OPTIONS:
        remedy = remedy.replace(option, key)
    return f"{rule.meaning} {remedy}"


def _first_of(plans: Sequence[MachinePlan], things: Callable[[MachinePlan], Iterable[str]]) -> dict[str, MachinePlan]:
    """By each thing of a machine, the first machine that has it."""
    found: dict[str, MachinePlan] = {}
    for plan in plans:
        for each in things(plan):
            found.setdefault(each, plan)
    return found
