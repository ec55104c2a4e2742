"""Money: the user's own prices, checked; no price, no figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2v.audit.document import MachineAudit, Origin
from p2v.audit.sizing.inputs import HostNow, Policy, Prices, SidePrices, SizingInput
from p2v.audit.sizing.prices import read_prices
from p2v.audit.sizing.size import size
from p2v.audit.sizing.values import AssumptionSource, Interval, MoneyLine, Savings
from p2v.core.errors import Usage
from p2v.core.units import GIB
from tests.audit.sizing.fleets import HOST, disk, machine

ALL = SidePrices(host_per_year=1000.0, licence_core_per_year=10.0, tb_month=50.0, host_watts=500.0, kwh=0.4)
NONE = SidePrices()
BEFORE = tuple(HostNow(f"h{n}", 20, 64 * GIB) for n in range(4))
FLEET = (machine("a", disks=(disk(1000, 1000, 500),)), machine("b", disks=(disk(1000, 1000, None),)))


def saved(
    before: SidePrices = ALL,
    after: SidePrices = ALL,
    hosts: tuple[HostNow, ...] = BEFORE,
    fleet: tuple[MachineAudit, ...] = FLEET,
) -> Savings:
    given = SizingInput(fleet, HOST, Policy(spare_hosts=1), hosts, prices=Prices("EUR", before, after))
    return size(given).savings[0]


def line(of: Savings, what: str) -> MoneyLine:
    return next(each for each in of.lines if each.what == what)


def exactly(amount: float) -> Interval:
    return Interval(pytest.approx(amount), pytest.approx(amount))  # type: ignore[arg-type]


def test_hosts_licences_and_electricity_are_counts_times_prices() -> None:
    # four hosts of 20 cores become two of 16, one of them spare
    found = saved()
    assert line(found, "hosts").saved == exactly(4000 - 2000)
    assert line(found, "licences").saved == exactly(80 * 10 - 32 * 10)
    assert line(found, "electricity").saved == exactly(2 * 0.5 * 8760 * 0.4)


def test_storage_of_unknown_use_is_an_interval_of_money_too() -> None:
    found = line(saved(), "storage")
    gib = GIB / 1e12 * 50 * 12
    assert found.before == exactly(2000 * gib)
    assert found.after == Interval(pytest.approx(500 * gib), pytest.approx(1500 * gib))  # type: ignore[arg-type]
    assert found.saved == Interval(pytest.approx(500 * gib), pytest.approx(1500 * gib))  # type: ignore[arg-type]


def test_what_is_not_known_of_storage_before_bounds_nothing_from_above() -> None:
    row = (machine("a", disks=(disk(100, 0, None),), origin=Origin.INVENTORY),)
    found = line(saved(fleet=row), "storage")
    assert found.before == Interval(0.0, None)
    assert found.saved is not None
    assert found.saved.high is None


def test_the_sum_is_of_the_lines_that_have_both_sides() -> None:
    only_hosts = SidePrices(host_per_year=1000.0)
    found = saved(before=ALL, after=only_hosts)
    assert found.saved == exactly(2000)
    assert [each.what for each in found.lines if each.saved is not None] == ["hosts"]
    assert "no price (tb_month) after" in line(found, "storage").why
    assert line(found, "licences").before == exactly(800)
    assert line(found, "licences").after is None


def test_no_price_no_figure() -> None:
    found = saved(NONE, NONE)
    assert found.saved is None
    assert all(each.before is each.after is each.saved is None for each in found.lines)
    assert all(each.why for each in found.lines)
    assert size(SizingInput(FLEET, HOST)).savings == ()


def test_a_zero_price_is_a_price() -> None:
    assert line(saved(after=replace(ALL, licence_core_per_year=0.0)), "licences").saved == exactly(800)


def test_without_hosts_before_nothing_is_saved_but_the_costs_afterwards_are_told() -> None:
    found = line(saved(hosts=()), "hosts")
    assert (found.before, found.saved) == (None, None)
    assert found.after == exactly(2000)
    assert "before is not known" in found.why


def test_hosts_for_machines_that_fit_nowhere_are_not_sold_as_savings() -> None:
    found = line(saved(fleet=(*FLEET, machine("huge", 99))), "hosts")
    assert found.saved is None
    assert "in no host" in found.why


def test_every_price_stands_beside_its_figure() -> None:
    told = {each.name: each for each in line(saved(), "electricity").assumptions}
    assert told["host_watts before"].value == "500 W a host, all year"
    assert told["kwh after"].value == "0.4 EUR a kWh"
    assert told["kwh after"].source is AssumptionSource.GIVEN
    assert told["hosts before"].value == "4"
    assert told["hosts before"].source is AssumptionSource.INVENTORY
    assert told["hosts after"].value.startswith("2,")


def test_prices_of_both_sides_and_of_one(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('currency = "EUR"\nkwh = 0.31\nhost_per_year = 4000\n[before]\nhost_per_year = 5_000.5\n')
    found = read_prices(file)
    assert found == Prices(
        "EUR", SidePrices(kwh=0.31, host_per_year=5000.5), SidePrices(kwh=0.31, host_per_year=4000.0), str(file)
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kwh = 1", "currency"),
        ('currency = ""', "currency"),
        ('currency = "EUR"\nkwhs = 1', "kwhs is no price"),
        ('currency = "EUR"\nkwh = -1', "between 0"),
        ('currency = "EUR"\nkwh = nan', "between 0"),
        ('currency = "EUR"\nkwh = inf', "between 0"),
        ('currency = "EUR"\nkwh = true', "must be a number"),
        ('currency = "EUR"\nkwh = "0.3"', "must be a number"),
        ('currency = "EUR"\nbefore = 3', "must be a table"),
        ('currency = "EUR"\n[after]\ncurrency = "USD"', "[after] currency"),
        ("currency = ", "no TOML"),
        ('"\\u001b" = 1', "currency"),
        ("a = " + "[" * 20_000, "no TOML"),
    ],
)
def test_wrong_prices_are_refused_with_their_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(Usage) as raised:
        read_prices(file)
    assert words in raised.value.sentence()
    assert raised.value.sentence().isprintable()
