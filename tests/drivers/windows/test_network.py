"""Network adapters of Windows guests: what is read of them, and what the first start has to give their successors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.plan import Addressing, PlanOptions
from drivers.windows import network_setup
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.network_facts import Gateway, NetworkAdapter
from drivers.windows.network_setup import CardSettings
from drivers.windows.network_setup import network_setup as set_up
from drivers.windows.reading import read_windows
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.drivers.windows.guest_disk import software_tree, system_tree, windows_files
from tests.fixtures.hives import Data, Tree, binary, dword, make_hive, multi_sz, sz
from tests.fixtures.windows import MACHINES, VERSIONS, WindowsGuest
from tests.fixtures.windows.rows import rows
from tests.windows_startup.guests import sample
from tests.windows_startup.planned import facts_of

_GUID = "{5EC0AE12-0000-4000-8000-00000000000A}"
_CLASS = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
_INSTANCE = "PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\4&3b1d9ab8&0&0088"
MAC, OTHER_MAC, NEW_MAC = "00:50:56:8e:c6:ea", "00:50:56:8e:c6:eb", "52:54:00:12:34:56"
STATIC: dict[str, Data] = {
    "EnableDHCP": dword(0), "IPAddress": multi_sz("10.0.0.5"), "SubnetMask": multi_sz("255.255.0.0"),
    "DefaultGateway": multi_sz("10.0.0.1"), "NameServer": sz("10.0.0.2,10.0.0.3"), "Domain": sz("lan.example"),
}  # fmt: skip


def adapter_keys(
    values: dict[str, Data], *, guid: str = _GUID, instance: str = _INSTANCE, number: str = "0007", name: str = "Ethernet",
    more: Tree | None = None, of_class: dict[str, Data] | None = None, base: str = "ControlSet001",
) -> Tree:  # fmt: skip
    """The keys of one adapter."""
    return {
        f"{base}\\Enum\\{instance}": {"Driver": sz(f"{_CLASS}\\{number}")},
        f"{base}\\Control\\Class\\{_CLASS}\\{number}": {
            "NetCfgInstanceId": sz(guid), "DriverDesc": sz("a card"), **(of_class or {}),
        },
        f"{base}\\Control\\Network\\{_CLASS}\\{guid}\\Connection": {"Name": sz(name), "PnpInstanceID": sz(instance)},
        f"{base}\\Services\\Tcpip\\Parameters\\Interfaces\\{guid}": values,
        **(more or {}),
    }  # fmt: skip


def facts_with(*trees: Tree) -> WindowsFacts:
    """A guest with these keys besides what every one has."""
    together = system_tree()
    for tree in trees:
        together = {**together, **tree}
    files = windows_files(system=make_hive(together), software=make_hive(software_tree(), name="SOFTWARE"))
    return read_windows(InMemoryTree(dict[str, Node](files)), "/Windows").facts


def read(*trees: Tree) -> tuple[NetworkAdapter, ...]:
    """The adapters of a guest with these keys."""
    return facts_with(*trees).network


def test_adapter_with_static_addresses() -> None:
    assert read(adapter_keys(STATIC)) == (
        NetworkAdapter(
            _GUID, "Ethernet", "a card", _INSTANCE, (), False, ("10.0.0.5/16",), (Gateway("10.0.0.1"),),
            ("10.0.0.2", "10.0.0.3"), "lan.example",
        ),
    )  # fmt: skip


def test_settings_of_dhcp_hide_what_is_left_of_a_static_address() -> None:
    (found,) = read(adapter_keys({**STATIC, "EnableDHCP": dword(1), "DhcpIPAddress": sz("10.0.0.77")}))
    assert (found.dhcp, found.addresses, found.gateways, found.dns) == (True, (), (), ("10.0.0.2", "10.0.0.3"))


@pytest.mark.parametrize("values, addresses, gateways, dns", [
    (
        {"IPAddress": multi_sz("10.0.0.5", "10.0.0.6"), "SubnetMask": multi_sz("255.255.255.0")},
        ("10.0.0.5/24",), (Gateway("10.0.0.1"),), ("10.0.0.2", "10.0.0.3"),
    ),
    ({"SubnetMask": multi_sz("255.0.255.0")}, (), (Gateway("10.0.0.1"),), ("10.0.0.2", "10.0.0.3")),
    ({"IPAddress": multi_sz("0.0.0.0"), "DefaultGateway": multi_sz("")}, (), (), ("10.0.0.2", "10.0.0.3")),
    ({"IPAddress": multi_sz("ten"), "NameServer": sz("one, 10.0.0.9 ;"), "DefaultGateway": multi_sz("::1")}, (), (), ("10.0.0.9",)),
    ({"SubnetMask": multi_sz("0.0.0.0")}, (), (Gateway("10.0.0.1"),), ("10.0.0.2", "10.0.0.3")),
    ({"IPAddress": sz("10.0.0.5"), "NameServer": dword(1), "DefaultGateway": dword(2)}, (), (), ()),
    (
        {"DefaultGateway": multi_sz("10.0.0.1", "10.0.0.254"), "DefaultGatewayMetric": multi_sz("0", "256")},
        ("10.0.0.5/16",), (Gateway("10.0.0.1"), Gateway("10.0.0.254", 256)), ("10.0.0.2", "10.0.0.3"),
    ),
])  # fmt: skip
def test_values_that_are_odd_are_left_out(
    values: dict[str, Data], addresses: tuple[str, ...], gateways: tuple[Gateway, ...], dns: tuple[str, ...]
) -> None:
    (found,) = read(adapter_keys({**STATIC, **values}))
    assert (found.addresses, found.gateways, found.dns) == (addresses, gateways, dns)


def test_addresses_of_cards_are_told_where_the_registry_has_them() -> None:
    kernel = f"ControlSet001\\Control\\NetworkSetup2\\Interfaces\\{_GUID}\\Kernel"
    permanent, current = bytes.fromhex("0050568ec6ea"), bytes.fromhex("020000000001")
    both = adapter_keys(STATIC, more={kernel: {"PermanentAddress": binary(permanent), "CurrentAddress": binary(current)}})
    assert read(both)[0].macs == (MAC, "02:00:00:00:00:01")
    express = "PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\005056FFFF8EC6EA00"
    assert read(adapter_keys(STATIC, instance=express))[0].macs == (MAC,)
    given = adapter_keys(STATIC, of_class={"NetworkAddress": sz("00-50-56-8E-C6-EB")})
    assert read(given)[0].macs == (OTHER_MAC,)
    for odd in (binary(b"\0" * 6), binary(b"\1\2"), sz("0050568EC6EA")):
        assert read(adapter_keys(STATIC, more={kernel: {"PermanentAddress": odd}}))[0].macs == ()


def test_instance_that_is_gone_from_enum_is_no_ghost() -> None:
    tree = dict(adapter_keys(STATIC))
    del tree[f"ControlSet001\\Enum\\{_INSTANCE}"]
    (found,) = read(tree)
    assert found.instance == ""
    assert set_up((found,), (NEW_MAC,)).ghosts == ()


def test_what_a_hostile_connection_names_is_looked_up_by_its_letters_and_not_as_a_pattern() -> None:
    connection = f"ControlSet001\\Control\\Network\\{_CLASS}\\{_GUID}\\Connection"
    windows = facts_with(adapter_keys(STATIC), {connection: {"PnpInstanceID": sz("PCI\\*\\*")}})
    assert [each.instance for each in windows.network] == [""]
    assert not any("\\Enum\\" in key for key in windows.registry[SYSTEM].keys)


@pytest.mark.parametrize("values, expected", [
    ({"Domain": sz("lan.example"), "InterfaceMetric": dword(25)}, ("lan.example", 25)),
    ({"Domain": sz("a'; Remove-Item C:"), "InterfaceMetric": dword(0)}, ("", None)),
    ({"Domain": sz("x" * 300), "InterfaceMetric": dword(10000)}, ("", None)),
    ({"Domain": dword(1), "InterfaceMetric": sz("7")}, ("", None)),
])  # fmt: skip
def test_suffix_and_metric_are_kept_where_they_are_such(values: dict[str, Data], expected: tuple[str, int | None]) -> None:
    (found,) = read(adapter_keys({**STATIC, **values}))
    assert (found.suffix, found.metric) == expected


def test_device_whose_id_could_end_a_string_is_not_to_be_removed() -> None:
    for odd in ("PCI\\A'\\1", 'PCI\\A\\"1', "PCI\\A\\1\n", "PCI\\A $x\\1", "PCI\\A"):
        assert set_up((replace(FIRST, instance=odd),), (MAC,)).ghosts == ()
    vmbus = "VMBUS\\{f8615163-df3e-46c5-913f-f2d2f965ed0e}\\5&2a&0&{x}"
    assert set_up((replace(FIRST, instance=vmbus),), (MAC,)).ghosts == (vmbus,)


def test_layers_of_the_stack_are_no_adapters_and_adapters_are_bounded() -> None:
    layer: Tree = {f"ControlSet001\\Control\\Class\\{_CLASS}\\0001": {"NetCfgInstanceId": sz("{LAYER}")}}
    assert [each.id for each in read(layer, adapter_keys(STATIC))] == [_GUID]
    many = [adapter_keys(STATIC, guid=f"{{{n:08x}}}", number=f"{n:04d}", instance=f"PCI\\X\\{n}") for n in range(80)]
    assert len(read(*many)) == 64


@pytest.mark.parametrize("guest", rows((*VERSIONS, *MACHINES)))
def test_addresses_of_every_sample_are_read_and_moved_to_its_one_card(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        windows = facts_of(found).windows
    assert windows is not None
    (adapter,) = windows.network
    is_old = guest.version.nt < (5, 0)
    addresses = ("192.168.40.21/24",) if is_old else ("192.168.40.21/24", "192.168.40.22/24")
    assert (adapter.addresses, adapter.dns) == (addresses, ("192.168.40.2", "192.168.40.3"))
    assert adapter.gateways == (Gateway("192.168.40.1", None if is_old else 1),)
    assert (adapter.metric, adapter.is_hardware) == (None if is_old else 10, True)
    setup = set_up(windows.network, (NEW_MAC,))
    assert [(card.mac, card.addresses, card.dns) for card in setup.cards] == [(NEW_MAC, addresses, adapter.dns)]
    assert setup.ghosts == ((adapter.instance,) if not is_old else ())
    assert setup.warnings == ()


# --- from adapters to cards ----------------------------------------------------------------------------------------------

FIRST = NetworkAdapter(
    "{1}", "Inside", "a card", "PCI\\A\\1", (MAC,), False, ("10.0.0.5/16",), (Gateway("10.0.0.1"),), ("10.0.0.2",)
)
SECOND = replace(FIRST, id="{2}", name="Outside", instance="PCI\\A\\2", macs=(OTHER_MAC,), addresses=("192.0.2.7/24",))
TEAM = replace(FIRST, id="{3}", name="Team", description="a team", instance="ROOT\\NET\\0000", macs=())
GONE = replace(FIRST, id="{4}", name="Old", instance="PCI\\B\\1", macs=("00:11:22:33:44:55",), addresses=("10.9.9.9/8",))
AUTOMATIC = NetworkAdapter("{5}", "Automatic", "a card", "PCI\\A\\5")


def test_each_card_takes_the_place_of_the_adapter_with_its_address() -> None:
    setup = set_up((SECOND, FIRST), (MAC, OTHER_MAC))
    assert [(card.mac, card.addresses, card.replaces) for card in setup.cards] == [
        (MAC, ("10.0.0.5/16",), "Inside"), (OTHER_MAC, ("192.0.2.7/24",), "Outside"),
    ]  # fmt: skip
    assert set(setup.ghosts) == {"PCI\\A\\1", "PCI\\A\\2"}
    assert setup.warnings == ()


def test_card_whose_address_is_changed_is_known_by_the_one_it_had() -> None:
    setup = set_up((FIRST, SECOND), (NEW_MAC, OTHER_MAC), mac_changes=((MAC, NEW_MAC),))
    assert [(card.mac, card.replaces) for card in setup.cards] == [(NEW_MAC, "Inside"), (OTHER_MAC, "Outside")]


def test_the_one_that_is_left_goes_to_the_one_that_is_left() -> None:
    nameless = replace(SECOND, macs=())
    assert [card.replaces for card in set_up((FIRST, nameless), (MAC, NEW_MAC)).cards] == ["Inside", "Outside"]
    # that adapter was another card: it is not among the machine's
    setup = set_up((FIRST, GONE), (MAC, NEW_MAC))
    assert [card.replaces for card in setup.cards] == ["Inside"]
    assert [finding.id for finding in setup.warnings] == ["windows.addresses-unclear"]
    assert "10.9.9.9/8" in setup.warnings[0].message


def test_only_card_needs_no_address_and_several_do() -> None:
    (card,) = set_up((FIRST,), (None,)).cards
    assert (card.mac, card.addresses) == (None, ("10.0.0.5/16",))
    two = set_up((replace(FIRST, macs=()),), (MAC, None))
    assert (two.cards, two.ghosts) == ((), ())
    assert [finding.id for finding in two.warnings] == ["windows.addresses-unclear"]
    left = set_up((FIRST, replace(SECOND, macs=())), (MAC, None))
    assert [card.mac for card in left.cards] == [MAC]
    assert left.ghosts == (FIRST.instance,)
    assert [finding.id for finding in left.warnings] == ["windows.addresses-unclear"]
    assert "192.0.2.7/24" in left.warnings[0].message


def test_what_is_asked_for_a_card_that_cannot_be_found_is_told() -> None:
    setup = set_up((FIRST,), (MAC, None), addressing=(None, Addressing("10.7.0.5/24")))
    assert [card.mac for card in setup.cards] == [MAC]
    assert [finding.id for finding in setup.warnings] == ["windows.addresses-unclear"]
    assert "card 2" in setup.warnings[0].message


def test_adapter_whose_settings_nobody_gets_keeps_them_unless_they_are_in_the_way() -> None:
    setup = set_up((FIRST, GONE, AUTOMATIC), (MAC, NEW_MAC))
    assert set(setup.ghosts) == {FIRST.instance, AUTOMATIC.instance}
    same = replace(GONE, addresses=("10.0.0.5/8",))
    assert set(set_up((FIRST, same), (MAC, NEW_MAC)).ghosts) == {FIRST.instance, GONE.instance}
    # where the user has said what every card gets, nothing of the old ones is wanted
    wanted = Addressing("10.7.0.5/24")
    assert set(set_up((FIRST, GONE), (MAC, NEW_MAC), addressing=(wanted, wanted)).ghosts) == {FIRST.instance, GONE.instance}


def test_what_cannot_be_told_apart_is_told_and_not_guessed() -> None:
    setup = set_up((replace(FIRST, macs=()), replace(SECOND, macs=())), (MAC, NEW_MAC))
    assert setup.cards == ()
    assert len(setup.warnings) == 2
    assert set_up((FIRST,), ()).cards == ()
    assert len(set_up((FIRST,), ()).warnings) == 1


def test_adapters_of_the_system_itself_are_neither_moved_nor_removed() -> None:
    setup = set_up((TEAM, FIRST), (MAC,))
    assert [card.replaces for card in setup.cards] == ["Inside"]
    assert setup.ghosts == ("PCI\\A\\1",)
    assert [finding.id for finding in setup.warnings] == ["windows.virtual-adapter"]


def test_adapter_without_settings_of_its_own_leaves_the_new_one_as_it_is() -> None:
    setup = set_up((AUTOMATIC,), (MAC,))
    assert (setup.cards, setup.warnings, setup.ghosts) == ((), (), ("PCI\\A\\5",))
    named = replace(AUTOMATIC, dns=("10.0.0.2",))
    assert set_up((named,), (MAC,)).cards == (CardSettings(MAC, True, dns=("10.0.0.2",), replaces="Automatic"),)


def test_what_the_user_wants_goes_before_what_the_adapter_had() -> None:
    wanted = Addressing("10.7.0.5/24", "10.7.0.1", ())
    (card,) = set_up((replace(FIRST, metric=7, suffix="lan"),), (MAC,), addressing=(wanted,)).cards
    assert card == CardSettings(MAC, False, ("10.7.0.5/24",), (Gateway("10.7.0.1"),), ("10.0.0.2",), "lan", 7, "Inside", asked=True)
    (automatic,) = set_up((FIRST,), (MAC,), addressing=(Addressing(None, None, ("9.9.9.9",)),)).cards
    assert (automatic.dhcp, automatic.addresses, automatic.gateways, automatic.dns) == (True, (), (), ("9.9.9.9",))
    # what is said for every card leaves nothing unclear
    unclear = (replace(FIRST, macs=()), replace(SECOND, macs=()))
    said = set_up(unclear, (MAC, NEW_MAC), addressing=(wanted, wanted))
    assert ([card.mac for card in said.cards], said.warnings) == ([MAC, NEW_MAC], ())


def test_plan_tells_what_each_card_gets_or_is_to_have() -> None:
    windows = facts_with(adapter_keys(STATIC))
    (finding,) = network_setup.contribute(windows, PlanOptions(nic_macs=(NEW_MAC,))).warnings
    assert finding.id == "windows.addresses"
    for told in (NEW_MAC, "10.0.0.5/16", "10.0.0.1", "10.0.0.2, 10.0.0.3", "at its first start"):
        assert told in finding.message
    for told in ("Ethernet", "--ip"):
        assert told in finding.hint
    old = replace(windows, version=replace(windows.version, major=4, minor=0))
    (by_hand,) = network_setup.contribute(old, PlanOptions(nic_macs=(NEW_MAC,))).warnings
    assert by_hand.id == "windows.addresses-by-hand"
    assert "first start" not in by_hand.message
    assert by_hand.hint.endswith("Set them on its cards once it runs.")
    asked = PlanOptions(nic_macs=(NEW_MAC,), addressing=(Addressing("10.7.0.5/24"),))
    assert network_setup.contribute(windows, asked).warnings == ()
    assert "10.7.0.5/24" in network_setup.contribute(old, asked).warnings[0].message


def test_mac_address_of_a_description_that_is_none_is_not_known_and_its_case_is_no_matter() -> None:
    windows = facts_with(adapter_keys(STATIC, of_class={"NetworkAddress": sz("00-50-56-8E-C6-EA")}))
    found = {mac: network_setup.setup_of(windows, PlanOptions(nic_macs=(mac, None))) for mac in (MAC.upper(), f"{MAC}'", "")}
    assert [card.mac for card in found[MAC.upper()].cards] == [MAC]
    assert [setup.cards for mac, setup in found.items() if mac != MAC.upper()] == [(), ()]
    (only,) = network_setup.setup_of(windows, PlanOptions(nic_macs=("52:54:00'; calc",))).cards
    assert only.mac is None


def test_gateways_without_an_address_to_reach_them_from_are_left_out() -> None:
    lost = replace(FIRST, addresses=())
    (card,) = set_up((lost,), (MAC,)).cards
    assert (card.dhcp, card.addresses, card.gateways, card.dns) == (False, (), (), ("10.0.0.2",))
