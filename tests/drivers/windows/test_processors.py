"""Processor drivers of NT 5 and its HAL: what is disabled, and what the guest gets and is told."""

from __future__ import annotations

import pytest

from drivers.caps import GuestCaps
from drivers.windows.facts import WindowsFacts
from drivers.windows.processors import contribute, with_processors
from tests.drivers.windows.guest_facts import facts, service, told
from tests.fixtures.hives import Tree, sz

SERVICES = "ControlSet001\\Services"
HAL = "ControlSet001\\Control\\Class\\{4d36e966-e325-11ce-bfc1-08002be10318}\\0000"
CURRENT = "Microsoft\\Windows NT\\CurrentVersion"
CAPS = GuestCaps(("ide",), ("rtl8139",), "bios", "i386")


def of_hal(hal: str, version: tuple[int, int] = (5, 2)) -> WindowsFacts:
    return facts({HAL: {"MatchingDeviceId": sz(hal)}}, version=version)


@pytest.mark.parametrize("name", ["intelppm", "Processor", "AmdK8", "AmdPPM"])
@pytest.mark.parametrize("version", [(5, 0), (5, 1), (5, 2)])
def test_drivers_of_power_states_do_not_start_on_nt_5(name: str, version: tuple[int, int]) -> None:
    tree: Tree = {f"{SERVICES}\\{name}": service(1), f"{SERVICES}\\ACPI": service(0)}
    assert told(contribute(facts(tree, version=version))) == {f"{SERVICES}\\{name}\\Start": 4}
    assert told(contribute(facts({f"{SERVICES}\\{name}": service(4)}, version=version))) == {}


def test_later_versions_choose_the_driver_by_the_processor_themselves() -> None:
    windows = facts({f"{SERVICES}\\intelppm": service(3), HAL: {"MatchingDeviceId": sz("acpiapic_up")}}, version=(6, 0))
    planned = contribute(windows)
    assert (told(planned), planned.warnings) == ({}, ())
    assert with_processors(CAPS, windows) == CAPS


@pytest.mark.parametrize(
    "hal, ids, cpus",
    [
        ("acpiapic_mp", [], None),
        ("ACPIAPIC_MP", [], None),
        ("acpiapic_up", ["windows.hal-one-processor"], 1),
        ("acpipic_up", ["windows.hal-one-processor"], 1),
        ("mps_mp", ["windows.hal-no-acpi"], None),
        ("mps_up", ["windows.hal-one-processor", "windows.hal-no-acpi"], 1),
        ("e_isa_up", ["windows.hal-one-processor", "windows.hal-no-acpi"], 1),
        ("syspro_mp", ["windows.hal-unknown"], None),
        ("", [], None),
    ],
)
def test_what_a_hal_means(hal: str, ids: list[str], cpus: int | None) -> None:
    windows = of_hal(hal)
    assert [finding.id for finding in contribute(windows).warnings] == ids
    assert with_processors(CAPS, windows).cpus_at_most == cpus


@pytest.mark.parametrize(
    ("hal", "other"),
    [("acpiapic_up", "ACPI Multiprocessor PC"), ("mps_up", "MPS Multiprocessor PC"), ("e_isa_up", None)],
)
def test_only_a_hal_that_can_be_changed_is_advised_to_be(hal: str, other: str | None) -> None:
    hint = next(each.hint for each in contribute(of_hal(hal)).warnings if each.id == "windows.hal-one-processor")
    assert (f'"{other}"' in hint) == (other is not None)
    assert ("set-up" in hint) == (other is None)


def test_a_hal_that_nobody_knows_is_shown_as_text() -> None:
    (finding,) = contribute(of_hal("\x1b[31m" + "x" * 500)).warnings
    assert "\x1b" not in finding.message
    assert len(finding.message) < 200


def test_nt_4_says_by_its_kernel_how_many_processors_it_uses() -> None:
    for kind, cpus in (("Uniprocessor Free", 1), ("Multiprocessor Free", None)):
        windows = facts({}, {CURRENT: {"CurrentType": sz(kind)}}, version=(4, 0))
        assert with_processors(CAPS, windows).cpus_at_most == cpus
        assert len(contribute(windows).warnings) == (1 if cpus else 0)
