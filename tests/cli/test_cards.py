"""``--mac``, ``--network`` and ``--ip``: the cards they make, and what is refused with a sentence."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import pytest

from drivers.plan import Addressing
from p2v.cli import cards, convert, inspect, machine_options, plan, verify
from p2v.core.errors import Usage
from p2v.documents import Inspection
from p2v.machine import Connection, Machine, Nic
from p2v.planning import plan_found
from tests.drivers.linux.guest import facts_of, files

A, B, C = "00:0c:29:aa:bb:01", "00:0c:29:aa:bb:02", "52:54:00:11:22:33"


def made(*argv: str) -> tuple[Nic, ...]:
    parser = argparse.ArgumentParser()
    cards.configure(parser.add_argument_group("x"))
    cards.configure_addresses(parser.add_argument_group("y"))
    return cards.cards_of(parser.parse_args(argv))


def test_without_options_there_is_one_card_of_which_nothing_is_known() -> None:
    assert made() == (Nic(),)


@pytest.mark.parametrize("verb", [inspect, verify, plan, convert])
def test_every_verb_that_takes_disks_has_a_machine_for_them(verb: ModuleType) -> None:
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    arguments = parser.parse_args(["disk.raw", *(["-o", "x"] if verb is convert else [])])
    assert [disk.path for disk in machine_options.disks_of(arguments)] == [Path("disk.raw")]
    assert machine_options.described_by(arguments) is None
    if verb is not inspect:
        assert machine_options.machine_of(arguments).nics == (Nic(),)


def test_macs_are_cards_in_their_order_in_one_spelling() -> None:
    assert made("--mac", A.upper().replace(":", "-"), "--mac", f"{B}={C}") == (Nic(A), Nic(C, source_mac=B))


@pytest.mark.parametrize(
    ("text", "connection", "name"),
    [
        ("lan", Connection.NETWORK, "lan"), ("network:lan", Connection.NETWORK, "lan"),
        ("network:user", Connection.NETWORK, "user"), ("bridge:br0", Connection.BRIDGE, "br0"), ("user", Connection.USER, ""),
    ],
)  # fmt: skip
def test_a_network_is_for_all_cards_or_for_one(text: str, connection: Connection, name: str) -> None:
    everywhere = made("--mac", A, "--mac", B, "--network", text)
    assert [(card.connection, card.network) for card in everywhere] == [(connection, name)] * 2
    for card in (B, "2", B.replace(":", "-")):
        one = made("--mac", A, "--mac", B, "--network", f"{card}:{text}")
        assert [(card.connection, card.network) for card in one] == [(Connection.NETWORK, "default"), (connection, name)]


def test_a_network_of_one_card_goes_before_that_of_all() -> None:
    found = made("--mac", A, "--mac", B, "--network", "2:user", "--network", "bridge:br0")
    assert [card.connection for card in found] == [Connection.BRIDGE, Connection.USER]


@pytest.mark.parametrize("card", ["1", B, C, C.upper().replace(":", "-")])
def test_an_address_is_for_a_card_by_number_or_by_either_mac(card: str) -> None:
    (found,) = made("--mac", f"{B}={C}", "--ip", f"{card}:10.0.2.40/24,10.0.2.2,10.0.2.3,9.9.9.9")
    assert found.addressing == Addressing("10.0.2.40/24", "10.0.2.2", ("10.0.2.3", "9.9.9.9"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1:dhcp", Addressing(None)), ("1:10.0.2.40/24", Addressing("10.0.2.40/24")),
        ("1:10.0.2.40/255.255.0.0", Addressing("10.0.2.40/16")),
    ],
)  # fmt: skip
def test_an_address_may_have_no_gateway_and_be_dhcps(text: str, wanted: Addressing) -> None:
    assert made("--ip", text)[0].addressing == wanted


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--mac", "nonsense"], "'nonsense' is not a MAC address"),
        (["--mac", f"{A}=x"], "'x' is not a MAC address"),
        (["--mac", "01:00:5e:00:00:01"], "multicast"),
        (["--mac", f"{A}={A}"], "the same"),
        (["--mac", A, "--mac", A], "given twice"),
        (["--mac", f"{A}={B}", "--mac", f"{B}={A}"], "given twice"),
        (["--network", "2:user"], "no network card 2"),
        (["--network", f"{A}:user"], f"no network card {A}"),
        (["--network", "bridge:"], "no network"),
        (["--network", "wifi:x"], "no network"),
        (["--network", "a", "--network", "b"], "for all cards already"),
        (["--network", "1:a", "--network", "1:b"], "twice for card 1"),
        (["--ip", "0:dhcp"], "no network card 0"),
        (["--ip", "10.0.2.40/24"], "which card"),
        (["--ip", "fd00::5/64"], "which card"),
        (["--ip", "1:10.0.2.40"], "no prefix"),
        (["--ip", "1:10.0.2.40/33"], "10.0.2.40/33"),
        (["--ip", "1:10.0.2.400/24"], "not an IPv4 address"),
        (["--ip", "1:fd00::5/64"], "IPv6"),
        (["--ip", "1:10.0.2.40/24,fd00::1"], "IPv6"),
        (["--ip", "1:10.0.2.40/24,10.0.3.2"], "not in the network"),
        (["--ip", "1:10.0.2.40/24,"], "not an IPv4 address"),
        (["--ip", "1:dhcp", "--ip", "1:10.0.2.40/24"], "twice for card 1"),
        (["--mac", A, "--mac", B, "--ip", f"{A}:dhcp", "--ip", "1:dhcp"], "twice for card 1"),
        (["--mac", A, "--mac", B, "--ip", "1:10.0.2.40/24", "--ip", "2:10.0.2.40/24"], "same address"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error_that_says_what(argv: list[str], said: str) -> None:
    with pytest.raises(Usage) as caught:
        made(*argv)
    assert said in caught.value.sentence()
    assert argv[-2] in caught.value.sentence()
    assert caught.value.exit_code == 64


def test_cards_reach_the_plan_and_the_hardware() -> None:
    nics = made("--mac", f"{A}={C}", "--ip", "1:10.0.2.40/24", "--network", "bridge:br0")
    document = plan_found(Machine("vm", (), nics), Inspection((), facts_of(files())))
    changes = {change.path: change for change in document.plan.changes}
    assert "10.0.2.40" in repr(changes["/etc/network/interfaces"])
    assert f"MACAddress={C}" in repr(changes["/etc/systemd/network/70-p2v-ens33.link"])
    assert [(nic.mac, nic.connection, nic.network) for nic in document.hardware.nics] == [(C, Connection.BRIDGE, "br0")]
    assert any(f"({C}) on bridge br0" in row for row in plan.hardware_rows(document))
