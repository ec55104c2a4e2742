"""Networks of the source and of this side."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.core.errors import Usage
from p2v.machine import Connection, Machine, MachineDisk, Nic
from p2v.sources.networks import mapped, parse_mapping, require_mapped, unmapped

MACHINE = Machine(
    "web",
    (MachineDisk(Path("web.vmdk")),),
    nics=(Nic("00:0c:29:00:00:01", "VM Network"), Nic("00:0c:29:00:00:02", "dmz"), Nic("00:0c:29:00:00:03", "default")),
)
BRIDGE = (Connection.BRIDGE, "br0")


def test_cards_hang_on_what_their_network_is_here() -> None:
    made = mapped(MACHINE, {"vm network": BRIDGE})
    assert [(nic.connection, nic.network, nic.source_network) for nic in made.nics] == [
        (Connection.BRIDGE, "br0", "VM Network"),
        (Connection.NETWORK, "default", "dmz"),
        (Connection.NETWORK, "default", "default"),
    ]


def test_a_card_nobody_spoke_of_is_told() -> None:
    (found,) = unmapped(mapped(MACHINE, {"VM Network": BRIDGE}))
    assert "dmz" in found.message
    assert "card 2" in found.message


def test_front_ends_with_networks_of_their_own_want_every_card_mapped() -> None:
    with pytest.raises(Usage) as caught:
        require_mapped(mapped(MACHINE, {}).nics, "libvirt")
    assert "VM Network" in str(caught.value)
    assert "dmz" in str(caught.value)
    require_mapped(mapped(MACHINE, {"VM Network": BRIDGE, "DMZ": BRIDGE}).nics, "libvirt")
    require_mapped((Nic(), Nic("00:0c:29:00:00:01", "lan")), "libvirt")


def test_a_network_that_no_card_is_on_cannot_be_mapped() -> None:
    with pytest.raises(Usage):
        mapped(MACHINE, {"lan": BRIDGE})


def test_a_mapping_is_a_name_and_what_it_is_here() -> None:
    assert parse_mapping(["VM Network=bridge:br0", "a=b = lan", "dmz=user"]) == {
        "VM Network": "bridge:br0", "a=b": "lan", "dmz": "user",
    }  # fmt: skip


@pytest.mark.parametrize("texts", [["lan"], ["=lan"], ["lan="], ["a=b", "a=c"]])
def test_what_is_no_mapping_is_told(texts: list[str]) -> None:
    with pytest.raises(Usage):
        parse_mapping(texts)
