"""The sample disks of the boot check's tests: those that fail there are blocked here, those that start are not."""

from __future__ import annotations

import functools

import pytest

from drivers.facts import GuestFacts
from drivers.inspection import inspect_confined
from p2v.audit.chain import LinkState
from p2v.audit.findings import Severity
from p2v.audit.rules.start import chain
from tests.audit.start_guests import bad, examined, findings
from tests.drivers.raw_reader import RawReader
from tests.fixtures import guest


@functools.cache
def facts_of(name: str) -> GuestFacts:
    """The facts of a sample guest."""
    reader = RawReader(guest(name))
    try:
        return inspect_confined([reader])
    finally:
        reader.close()


@pytest.mark.parametrize("name", ["good-virtio", "failed-unit", "vmware"])
def test_samples_that_start_have_every_link_proven(name: str) -> None:
    seen = examined(facts_of(name))
    assert bad(seen) == []
    assert {each.name: each.message for each in chain(seen) if each.state is not LinkState.PROVEN} == {}


@pytest.mark.parametrize(
    ("name", "rule", "link"),
    [
        ("no-bootloader", "start.linux.no-boot-code", "firmware and boot loader"),
        ("no-root", "start.linux.root-missing", "root"),
        ("panic", "start.linux.no-init", "first program"),
        ("hang", "start.linux.no-init", "first program"),
    ],
)
def test_samples_that_fail_to_start_are_blocked_for_the_reason_they_fail_for(name: str, rule: str, link: str) -> None:
    seen = examined(facts_of(name))
    assert [each.rule for each in findings(seen) if each.severity is Severity.BLOCKER] == [rule]
    assert [each.name for each in chain(seen) if each.state is not LinkState.PROVEN] == [link]


def test_sample_without_virtio_is_blocked_unless_it_is_converted() -> None:
    told = [each for each in findings(examined(facts_of("no-virtio"))) if each.severity is Severity.BLOCKER]
    assert [(each.rule, each.fixed_by_conversion) for each in told] == [("start.linux.initramfs-no-virtio", True)]
