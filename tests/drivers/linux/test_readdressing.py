"""``--ip`` and ``--mac OLD=NEW``: the guest's configuration in every style, to the byte; applied twice nothing changes."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.changes import EditFile, WriteFile
from drivers.linux import plain_yaml
from drivers.linux.address_parts import Card
from drivers.linux.network import read_network
from drivers.linux.readdressing import STYLES
from drivers.plan import Addressing, GuestPlan, PlanOptions
from drivers.planning import plan_guest
from tests.drivers.linux.guest import applied, facts_of, files, kernel, text_file
from tests.drivers.memory_tree import Folder, InMemoryTree, Node

OLD, NEW, OTHER = "00:0c:29:aa:bb:01", "52:54:00:1a:2b:3c", "00:0c:29:aa:bb:02"
STATIC = Addressing("10.0.2.40/24", "10.0.2.2")
WITH_DNS = Addressing("10.0.2.40/24", "10.0.2.2", ("10.0.2.3", "9.9.9.9"))
DHCP = Addressing(None)
PLAIN = "/etc/network/interfaces"
RH, SUSE = "/etc/sysconfig/network-scripts", "/etc/sysconfig/network"
NM = "/etc/NetworkManager/system-connections"
NETWORKD, NETPLAN = "/etc/systemd/network", "/etc/netplan"


def guest(more: dict[str, Node], *, keep_interfaces: bool = False) -> dict[str, Node]:
    """The guest with this configuration alone, all else in order."""
    nodes = files()
    if not keep_interfaces:
        del nodes[PLAIN]
    return {**nodes, **more}


def options(wanted: Addressing | None = None, macs: tuple[str | None, ...] = (OLD,), index: int = 0) -> PlanOptions:
    return PlanOptions(macs, addressing=tuple(wanted if i == index else None for i in range(len(macs))))


def planned(nodes: dict[str, Node], wanted: PlanOptions) -> tuple[dict[str, Node], GuestPlan]:
    """The files once the plan was carried out, and the plan; asserts that planning again changes nothing."""
    plan = plan_guest(facts_of(nodes, [kernel(modules=("virtio_pci", "virtio_blk"))]), wanted)
    after = applied(nodes, plan.changes)
    again = plan_guest(facts_of(after, [kernel(modules=("virtio_pci", "virtio_blk"))]), wanted)
    assert again.changes == ()
    return after, plan


def rewritten(path: str, text: str, wanted: Addressing, macs: tuple[str | None, ...] = (OLD,), index: int = 0) -> str:
    after, plan = planned(guest({path: text}), options(wanted, macs, index))
    assert [f.message for f in plan.warnings if f.id.startswith("linux.network.address")] == []
    found = after[path]
    assert isinstance(found, str)
    return found


def warned(nodes: dict[str, Node], wanted: PlanOptions) -> dict[str, str]:
    """Warnings about addresses by the beginning of what they say (a file's path)."""
    _, plan = planned(nodes, wanted)
    return {f.message.partition(" ")[0]: f.id for f in plan.warnings if ".address-" in f.id or ".mac-" in f.id}


# -- ifupdown ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (
            "auto ens33\niface ens33 inet dhcp\n\niface lo inet loopback\n", STATIC,
            "auto ens33\niface ens33 inet static\n\taddress 10.0.2.40\n\tnetmask 255.255.255.0\n\tgateway 10.0.2.2\n\n"
            "iface lo inet loopback\n",
        ),
        (
            "iface ens33 inet static # as it was\n    address 192.168.1.5/16\n    # note\n    gateway 192.168.0.1\n    mtu 9000\n"
            "iface ens33 inet6 auto\n", STATIC,
            "iface ens33 inet static # as it was\n    address 10.0.2.40/24\n    gateway 10.0.2.2\n    # note\n    mtu 9000\n"
            "iface ens33 inet6 auto\n",
        ),
        (
            "iface ens33 inet static\n\taddress 1.2.3.4\n\tnetmask 255.0.0.0\n\tdns-nameservers 8.8.8.8\n\tdns-search x\n",
            WITH_DNS,
            "iface ens33 inet static\n\taddress 10.0.2.40\n\tnetmask 255.255.255.0\n\tgateway 10.0.2.2\n"
            "\tdns-nameservers 10.0.2.3 9.9.9.9\n\tdns-search x\n",
        ),
        (
            "iface ens33 inet static\n\taddress 1.2.3.4\n\tnetmask 255.0.0.0\n\tgateway 1.2.3.1\n\tup true \\\n\t && false\n", DHCP,
            "iface ens33 inet dhcp\n\tup true \\\n\t && false\n",
        ),
        ("iface ens33 inet dhcp", STATIC,
         "iface ens33 inet static\n\taddress 10.0.2.40\n\tnetmask 255.255.255.0\n\tgateway 10.0.2.2\n"),
        (
            "iface ens33 inet manual\nauto br0\niface br0 inet dhcp\n  bridge_ports ens33\n", STATIC,
            "iface ens33 inet manual\nauto br0\niface br0 inet static\n  address 10.0.2.40\n  netmask 255.255.255.0\n"
            "  gateway 10.0.2.2\n  bridge_ports ens33\n",
        ),
    ],
)  # fmt: skip
def test_ifupdowns_stanza_has_the_address_and_keeps_all_else(before: str, wanted: Addressing, after: str) -> None:
    assert rewritten(PLAIN, before, wanted) == after


def test_a_sourced_stanza_is_found_and_the_resolver_follows() -> None:
    nodes = guest({
        PLAIN: "source /etc/network/interfaces.d/*\n", "/etc/network/interfaces.d/lan": "iface ens33 inet dhcp\n",
        "/etc/network/interfaces.d/old/lan": "iface ens33 inet dhcp\n", "/etc/resolv.conf": "search a\nnameserver 1.1.1.1\n# x\n",
    })  # fmt: skip
    after, _ = planned(nodes, options(WITH_DNS))
    assert "10.0.2.40" in str(after["/etc/network/interfaces.d/lan"])
    assert after["/etc/network/interfaces.d/old/lan"] == "iface ens33 inet dhcp\n"
    assert after["/etc/resolv.conf"] == "search a\nnameserver 10.0.2.3\nnameserver 9.9.9.9\n# x\n"


def test_a_line_of_hosts_with_the_old_address_is_warned_of() -> None:
    hosts = "127.0.0.1 localhost\n1.2.3.4 vm vm.example\n"
    nodes = guest({PLAIN: "iface ens33 inet static\n address 1.2.3.4/8\n", "/etc/hosts": hosts})
    plan = plan_guest(facts_of(nodes), options(STATIC))
    (finding,) = [each for each in plan.warnings if each.id == "linux.network.address-in-hosts"]
    assert "/etc/hosts line 2 has the old address 1.2.3.4" in finding.message
    assert planned(nodes, options(STATIC))[0]["/etc/hosts"] == hosts


def test_alpines_eth0_is_the_first_card() -> None:
    nodes = guest({PLAIN: "auto eth0\niface eth0 inet dhcp\n\thostname alp\nauto eth1\niface eth1 inet dhcp\n"})
    facts = facts_of(nodes)
    assert facts.os is not None
    facts = dataclasses.replace(facts, os=dataclasses.replace(facts.os, family="alpine", init="openrc"))
    plan = plan_guest(facts, options(STATIC, (None, None), 1))
    (edit,) = [c for c in plan.changes if isinstance(c, EditFile) and c.path == PLAIN]
    assert edit.after.endswith("iface eth1 inet static\n\taddress 10.0.2.40\n\tnetmask 255.255.255.0\n\tgateway 10.0.2.2\n")
    assert edit.after.startswith("auto eth0\niface eth0 inet dhcp\n\thostname alp\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("iface ens33 inet manual\niface ens33.5 inet dhcp\niface ens33.6 inet dhcp\n", {PLAIN: "linux.network.address-kept"}),
        ("iface ens33 inet ppp\n", {PLAIN: "linux.network.address-kept"}),
        ("iface ens33 inet6 auto\n", {PLAIN: "linux.network.address-kept"}),
        ("iface ens33 inet static\n address 1.2.3.4/8\niface ens33 inet static\n address 1.2.3.5/8\n",
         {PLAIN: "linux.network.address-kept"}),
        ("iface wg0 inet dhcp\n", {"no": "linux.network.address-not-set"}),
        ("iface ens33 inet dhcp\n wpa-psk geheim\n", {PLAIN: "linux.network.address-kept", "no": "linux.network.address-not-set"}),
    ],
)  # fmt: skip
def test_what_cannot_be_rewritten_is_a_warning_that_names_the_file(text: str, expected: dict[str, str]) -> None:
    assert warned(guest({PLAIN: text}), options(STATIC)) == expected


# -- ifcfg -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (
            "DEVICE=ens33\nBOOTPROTO=dhcp\nONBOOT=yes\n", STATIC,
            "DEVICE=ens33\nBOOTPROTO=none\nONBOOT=yes\nIPADDR=10.0.2.40\nNETMASK=255.255.255.0\nGATEWAY=10.0.2.2\n",
        ),
        (
            'BOOTPROTO="static"\n# x\nIPADDR="1.2.3.4"\nPREFIX=8\nGATEWAY=1.2.3.1\nDNS1=8.8.8.8\nDNS2=8.8.4.4\nIPV6INIT=no',
            WITH_DNS,
            'BOOTPROTO="static"\n# x\nIPADDR="10.0.2.40"\nPREFIX=24\nGATEWAY=10.0.2.2\nDNS1=10.0.2.3\nDNS2=9.9.9.9\nIPV6INIT=no',
        ),
        (
            "BOOTPROTO=none\nIPADDR0=1.2.3.4\nPREFIX0=8\nGATEWAY0=1.2.3.1\nDNS1=8.8.8.8\nONBOOT=yes\n", DHCP,
            "BOOTPROTO=dhcp\nONBOOT=yes\n",
        ),
    ],
)  # fmt: skip
def test_red_hats_file_has_the_address_and_keeps_all_else(before: str, wanted: Addressing, after: str) -> None:
    assert rewritten(f"{RH}/ifcfg-ens33", before, wanted) == after


def test_red_hats_bridge_over_the_card_has_the_address_and_a_gateway_of_all_cards_follows() -> None:
    port = f"HWADDR={OLD}\nDEVICE=eth0\nBRIDGE=br0\n"
    nodes = guest({
        f"{RH}/ifcfg-eth0": port, f"{RH}/ifcfg-br0": "DEVICE=br0\nTYPE=Bridge\nBOOTPROTO=dhcp\n",
        "/etc/sysconfig/network": "NETWORKING=yes\nGATEWAY=1.2.3.1\n", f"{RH}/ifcfg-eth0.bak": "DEVICE=eth0\nBOOTPROTO=dhcp\n",
    })  # fmt: skip
    after, _ = planned(nodes, options(STATIC))
    assert after[f"{RH}/ifcfg-eth0"] == port
    assert "IPADDR=10.0.2.40\n" in str(after[f"{RH}/ifcfg-br0"])
    assert after["/etc/sysconfig/network"] == "NETWORKING=yes\nGATEWAY=10.0.2.2\n"
    assert after[f"{RH}/ifcfg-eth0.bak"] == "DEVICE=eth0\nBOOTPROTO=dhcp\n"


def test_routes_of_the_old_network_are_warned_of() -> None:
    nodes = guest({f"{RH}/ifcfg-ens33": "BOOTPROTO=dhcp\n", f"{RH}/route-ens33": "10.0.0.0/8 via 1.2.3.1\n"})
    assert warned(nodes, options(STATIC)) == {f"{RH}/route-ens33": "linux.network.address-kept"}


def test_suses_file_its_default_route_and_its_servers_follow() -> None:
    nodes = guest({
        f"{SUSE}/ifcfg-eth0": "BOOTPROTO='static'\nIPADDR='1.2.3.4/8'\nNETMASK=''\nSTARTMODE='auto'\n",
        f"{SUSE}/routes": "default 1.2.3.1 - -\n10.0.0.0/8 1.2.3.9 - -\n",
        f"{SUSE}/config": 'NETCONFIG_DNS_POLICY="auto"\nNETCONFIG_DNS_STATIC_SERVERS="8.8.8.8"\n',
    })  # fmt: skip
    after, _ = planned(nodes, options(WITH_DNS))
    assert after[f"{SUSE}/ifcfg-eth0"] == "BOOTPROTO='static'\nIPADDR='10.0.2.40/24'\nSTARTMODE='auto'\n"
    assert after[f"{SUSE}/routes"] == "default 10.0.2.2 - -\n10.0.0.0/8 1.2.3.9 - -\n"
    assert after[f"{SUSE}/config"] == 'NETCONFIG_DNS_POLICY="auto"\nNETCONFIG_DNS_STATIC_SERVERS="10.0.2.3 9.9.9.9"\n'


def test_a_wicked_guest_that_had_dhcp_gets_a_route_and_one_that_gets_dhcp_loses_it() -> None:
    after, _ = planned(guest({f"{SUSE}/ifcfg-eth0": "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n"}), options(STATIC))
    assert after[f"{SUSE}/ifcfg-eth0"] == "BOOTPROTO='static'\nSTARTMODE='auto'\nIPADDR='10.0.2.40/24'\n"
    assert after[f"{SUSE}/routes"] == "default 10.0.2.2 - eth0\n"
    back, _ = planned(after, options(DHCP))
    assert back[f"{SUSE}/ifcfg-eth0"] == "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n"
    assert back[f"{SUSE}/routes"] == ""


def test_suses_bond_over_the_card_has_the_address() -> None:
    bond = "BOOTPROTO='dhcp'\nBONDING_MASTER='yes'\nBONDING_SLAVE0='eth0'\n"
    after, _ = planned(guest({f"{SUSE}/ifcfg-eth0": "BOOTPROTO='none'\n", f"{SUSE}/ifcfg-bond0": bond}), options(STATIC))
    assert after[f"{SUSE}/ifcfg-eth0"] == "BOOTPROTO='none'\n"
    assert "IPADDR='10.0.2.40/24'\n" in str(after[f"{SUSE}/ifcfg-bond0"])


# -- NetworkManager ----------------------------------------------------------------------------------------------------

KEYFILE = "[connection]\nid=lan\nuuid=1-2\ntype=ethernet\ninterface-name=ens33\n\n[ethernet]\n\n"


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n", STATIC,
         "[ipv4]\nmethod=manual\naddress1=10.0.2.40/24,10.0.2.2\n\n[ipv6]\nmethod=auto\n"),
        ("[ipv4]\naddress1=1.2.3.4/8\naddress2=1.2.3.5/8\ndns=8.8.8.8;\ngateway=1.2.3.1\nmethod=manual\n", WITH_DNS,
         "[ipv4]\naddress1=10.0.2.40/24\ndns=10.0.2.3;9.9.9.9;\nmethod=manual\ngateway=10.0.2.2\n"),
        ("[ipv4]\naddress1=1.2.3.4/8,1.2.3.1\ndns=8.8.8.8;\nmethod=manual\nmay-fail=no\n", DHCP,
         "[ipv4]\nmethod=auto\nmay-fail=no\n"),
        ("[ipv6]\nmethod=auto\n", STATIC,
         "[ipv6]\nmethod=auto\n\n[ipv4]\naddress1=10.0.2.40/24,10.0.2.2\nmethod=manual\n"),
    ],
)  # fmt: skip
def test_networkmanagers_connection_has_the_address_and_keeps_all_else(before: str, wanted: Addressing, after: str) -> None:
    assert rewritten(f"{NM}/lan.nmconnection", KEYFILE + before, wanted) == KEYFILE + after


def test_the_only_connection_for_any_card_is_that_of_the_only_card() -> None:
    text = "[connection]\nid=Wired\ntype=ethernet\n\n[ipv4]\nmethod=auto\n"
    assert "address1=10.0.2.40/24" in rewritten(f"{NM}/w.nmconnection", text, STATIC)
    two = guest({f"{NM}/w.nmconnection": text})
    assert warned(two, options(STATIC, (OLD, OTHER))) == {"no": "linux.network.address-not-set"}


def test_networkmanagers_bridge_over_the_card_has_the_address() -> None:
    port = "[connection]\ntype=ethernet\ninterface-name=ens33\nmaster=b-uuid\nslave-type=bridge\n"
    bridge = "[connection]\ntype=bridge\nuuid=b-uuid\ninterface-name=br0\n[ipv4]\nmethod=auto\n"
    after, _ = planned(guest({f"{NM}/p.nmconnection": port, f"{NM}/b.nmconnection": bridge}), options(STATIC))
    assert after[f"{NM}/p.nmconnection"] == port
    assert "address1=10.0.2.40/24,10.0.2.2\n" in str(after[f"{NM}/b.nmconnection"])


def test_a_connection_with_a_password_is_in_no_plan_and_a_warning_says_so() -> None:
    text = f"{KEYFILE}[802-1x]\npassword=geheim\n[ipv4]\nmethod=auto\n"
    nodes = guest({f"{NM}/lan.nmconnection": text})
    assert "geheim" not in repr(facts_of(nodes))
    assert warned(nodes, options(STATIC))[f"{NM}/lan.nmconnection"] == "linux.network.address-kept"


# -- systemd-networkd --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("[Match]\nName=ens33\n\n[Network]\nDHCP=ipv4\nLLDP=yes\n\n[Link]\nMTUBytes=1400\n", STATIC,
         "[Match]\nName=ens33\n\n[Network]\nDHCP=no\nLLDP=yes\nAddress=10.0.2.40/24\nGateway=10.0.2.2\n\n[Link]\nMTUBytes=1400\n"),
        ("[Match]\nName=ens33\n[Network]\nDHCP=yes\n", STATIC,
         "[Match]\nName=ens33\n[Network]\nDHCP=ipv6\nAddress=10.0.2.40/24\nGateway=10.0.2.2\n"),
        (f"[Match]\nMACAddress={OLD}\n[Network]\nAddress=1.2.3.4/8\nAddress=fd00::5/64\nDNS=8.8.8.8 fd00::1\n"
         "[Address]\nAddress=1.2.3.5/8\n[Route]\nGateway=1.2.3.1\n[Route]\nGateway=1.2.3.9\nDestination=10.9.0.0/16\n", WITH_DNS,
         f"[Match]\nMACAddress={OLD}\n[Network]\nAddress=10.0.2.40/24\nAddress=fd00::5/64\nDNS=10.0.2.3\nDNS=9.9.9.9\nDNS=fd00::1\n"
         "Gateway=10.0.2.2\n[Route]\nGateway=1.2.3.9\nDestination=10.9.0.0/16\n"),
        ("[Match]\nName=ens33\n[Network]\nAddress=1.2.3.4/8\nGateway=1.2.3.1\nDNS=8.8.8.8\n", DHCP,
         "[Match]\nName=ens33\n[Network]\nDHCP=ipv4\n"),
    ],
)  # fmt: skip
def test_networkds_file_has_the_address_and_keeps_all_else(before: str, wanted: Addressing, after: str) -> None:
    assert rewritten(f"{NETWORKD}/10.network", before, wanted) == after


def test_networkds_pattern_for_any_card_is_that_of_the_only_card_and_the_first_file_counts() -> None:
    first, second = "[Match]\nName=en*\n[Network]\nDHCP=yes\n", "[Match]\nName=ens33\n[Network]\nDHCP=yes\n"
    nodes = guest({f"{NETWORKD}/10-all.network": first, f"{NETWORKD}/20-lan.network": second})
    after, _ = planned(nodes, options(STATIC))
    assert "Address=10.0.2.40/24\n" in str(after[f"{NETWORKD}/10-all.network"])
    assert after[f"{NETWORKD}/20-lan.network"] == second


def test_networkds_vlan_over_the_card_has_the_address_where_it_is_the_only_one_and_two_are_left() -> None:
    lower = "[Match]\nName=ens33\n[Network]\nVLAN=lan5\n"
    nodes = guest({
        f"{NETWORKD}/1.network": lower,
        **{f"{NETWORKD}/{n}.network": f"[Match]\nName=lan{n}\n[Network]\nDHCP=ipv4\n" for n in (5, 6)},
    })  # fmt: skip
    after, _ = planned(nodes, options(STATIC))
    assert (after[f"{NETWORKD}/1.network"], "Address=" in str(after[f"{NETWORKD}/5.network"])) == (lower, True)
    nodes[f"{NETWORKD}/1.network"] = lower + "VLAN=lan6\n"
    assert warned(nodes, options(STATIC)) == {f"{NETWORKD}/1.network": "linux.network.address-kept"}


# -- netplan -----------------------------------------------------------------------------------------------------------

HEAD = "# installer\nnetwork:\n  version: 2\n  ethernets:\n    ens33:\n"
TAIL = "  vlans: {}\n"


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("      dhcp4: yes # why not\n      optional: true\n", STATIC,
         "      addresses: [10.0.2.40/24]\n      routes: [{to: 0.0.0.0/0, via: 10.0.2.2}]\n      dhcp4: false # why not\n"
         "      optional: true\n"),
        ("      addresses:\n        - 1.2.3.4/8\n        - 'fd00::5/64'\n      gateway4: 1.2.3.1\n      mtu: 1400\n", STATIC,
         "      addresses: [10.0.2.40/24, 'fd00::5/64']\n      gateway4: 10.0.2.2\n      mtu: 1400\n"),
        ("      addresses: [1.2.3.4/8, {1.2.3.5/8: {label: a}}]\n      routes:\n"
         "        - to: default\n          via: 1.2.3.1\n        - to: 10.9.0.0/16\n          via: 1.2.3.9\n"
         "      nameservers:\n        search: [x]\n        addresses: [8.8.8.8]\n",
         WITH_DNS,
         "      addresses: [10.0.2.40/24]\n      routes: [{to: default, via: 10.0.2.2}, {to: 10.9.0.0/16, via: 1.2.3.9}]\n"
         "      nameservers:\n        search: [x]\n        addresses: [10.0.2.3, 9.9.9.9]\n"),
        ("      addresses: [1.2.3.4/8]\n      routes: [{to: 0.0.0.0/0, via: 1.2.3.1}]\n"
         "      nameservers: {addresses: [8.8.8.8]}\n", DHCP,
         "      dhcp4: true\n"),
        ("      {dhcp4: true, optional: true}\n", STATIC,
         "      {dhcp4: false, optional: true, addresses: [10.0.2.40/24], routes: [{to: 0.0.0.0/0, via: 10.0.2.2}]}\n"),
    ],
)  # fmt: skip
def test_netplans_definition_has_the_address_and_keeps_all_else(before: str, wanted: Addressing, after: str) -> None:
    found = rewritten(f"{NETPLAN}/01.yaml", HEAD + before + TAIL, wanted)
    assert found == HEAD + after + TAIL
    plain_yaml.load(found)


@pytest.mark.parametrize("text", ["network:\n  ethernets:\n    ens33:\n", "network: {ethernets: {ens33: {}}}", HEAD + "      {}\n"])
def test_an_empty_definition_of_netplans_gets_one(text: str) -> None:
    found = plain_yaml.mapping(plain_yaml.load(rewritten(f"{NETPLAN}/01.yaml", text, STATIC)), "network", "ethernets", "ens33")
    assert found == {"addresses": ["10.0.2.40/24"], "routes": [{"to": "0.0.0.0/0", "via": "10.0.2.2"}]}


def test_of_netplans_files_the_last_has_the_address_and_earlier_ones_say_nothing_of_it() -> None:
    nodes = guest({
        f"{NETPLAN}/10.yaml": "network:\n  ethernets:\n    ens33:\n      addresses: [1.2.3.4/8]\n      gateway4: 1.2.3.1\n",
        f"{NETPLAN}/20.yaml": "network: {ethernets: {ens33: {mtu: 1400}}}",
    })  # fmt: skip
    after, _ = planned(nodes, options(STATIC))
    assert read_network(InMemoryTree(after)).interfaces[0].addresses == ("10.0.2.40/24",)
    assert after[f"{NETPLAN}/10.yaml"] == "network:\n  ethernets:\n    ens33:\n      {}\n"


def test_netplans_bridge_over_a_card_known_by_its_mac_has_the_address() -> None:
    text = (
        f"network:\n  ethernets:\n    lan:\n      match: {{macaddress: '{OLD}'}}\n      set-name: lan0\n"
        "  bridges:\n    br0:\n      interfaces: [lan]\n      dhcp4: true\n"
    )
    expected = text.replace("      dhcp4: true", "      addresses: [10.0.2.40/24]\n      dhcp4: false", 1).replace(
        "      interfaces: [lan]\n      addresses: [10.0.2.40/24]\n", "      addresses: [10.0.2.40/24]\n"
        "      routes: [{to: 0.0.0.0/0, via: 10.0.2.2}]\n      interfaces: [lan]\n"
    )  # fmt: skip
    assert rewritten(f"{NETPLAN}/01.yaml", text, STATIC) == expected


# -- which card, and what follows --------------------------------------------------------------------------------------


def test_of_two_cards_the_one_that_is_named_is_changed() -> None:
    text = "iface ens33 inet dhcp\niface ens34 inet dhcp\n"
    links: dict[str, Node] = {
        f"{NETWORKD}/10-a.link": f"[Match]\nMACAddress={OLD}\n[Link]\nName=ens34\n",
        f"{NETWORKD}/10-b.link": f"[Match]\nMACAddress={OTHER}\n[Link]\nName=ens33\n",
    }
    after, _ = planned(guest({PLAIN: text, **links}), options(STATIC, (OLD, OTHER)))
    assert str(after[PLAIN]).startswith("iface ens33 inet dhcp\niface ens34 inet static\n")
    after, _ = planned(guest({PLAIN: text}), options(STATIC, (OLD, OTHER), 1))
    assert str(after[PLAIN]).startswith("iface ens33 inet dhcp\niface ens34 inet static\n")


@pytest.mark.parametrize("more", [PlanOptions((OLD,), addressing=(STATIC,)), PlanOptions((NEW,), mac_changes=((OLD, NEW),))])
def test_cloud_init_keeps_its_hands_off_a_network_that_was_changed(more: PlanOptions) -> None:
    cloud: dict[str, Node] = {"/etc/cloud/cloud.cfg.d": Folder(), PLAIN: "iface ens33 inet dhcp\n"}
    after, _ = planned(guest(cloud), more)
    text = after["/etc/cloud/cloud.cfg.d/99_p2v-network.cfg"]
    assert isinstance(text, str)
    assert plain_yaml.load(text) == {"network": {"config": "disabled"}}
    untouched, _ = planned(guest(cloud), PlanOptions((OLD,)))
    assert "/etc/cloud/cloud.cfg.d/99_p2v-network.cfg" not in untouched


# -- another MAC address -----------------------------------------------------------------------------------------------

RULE = 'SUBSYSTEM=="net", ATTR{{address}}=="{}", NAME="eth0"\n'


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/udev/rules.d/70-persistent-net.rules", RULE.format(OLD)),
        (f"{NETWORKD}/10-lan.link", f"[Match]\nMACAddress={OLD.upper()}\n[Link]\nName=lan0\n"),
        (f"{NETWORKD}/10-lan.network", f"[Match]\nMACAddress={OTHER} {OLD}\n[Network]\nDHCP=yes\n"),
        (f"{RH}/ifcfg-eth0", f"DEVICE=eth0\nHWADDR={OLD}\nBOOTPROTO=dhcp\n"),
        (f"{NM}/lan.nmconnection", f"[connection]\ntype=ethernet\n[ethernet]\nmac-address={OLD.upper()}\n"),
        (f"{NETPLAN}/01.yaml", f"network: {{ethernets: {{a: {{match: {{macaddress: {OLD.replace(':', '-')}}}}}}}}}"),
        ("/etc/default/grub", f'GRUB_CMDLINE_LINUX="ifname=ens33:{OLD} BOOTIF=01-{OLD.replace(":", "-")} x"\n'),
    ],
)  # fmt: skip
def test_what_names_the_old_mac_names_the_new_one_in_its_own_spelling(path: str, text: str) -> None:
    wanted = PlanOptions((NEW, OTHER), mac_changes=((OLD, NEW),))
    after, _ = planned(guest({path: text}), wanted)
    new = text
    for old, mac in ((OLD, NEW), (OLD.upper(), NEW.upper()), (OLD.replace(":", "-"), NEW.replace(":", "-"))):
        new = new.replace(old, mac)
    assert (after[path], new != text) == (new, True)


@pytest.mark.parametrize("name", ["ens33", "enx000c29aabb01"])
def test_a_card_with_another_mac_keeps_its_name(name: str) -> None:
    nodes = guest({PLAIN: f"iface {name} inet dhcp\niface ens99 inet dhcp\n", f"{RH}/ifcfg-ens99": f"HWADDR={OTHER}\n"})
    after, plan = planned(nodes, PlanOptions((OTHER, NEW), mac_changes=((OLD, NEW),)))
    assert f"MACAddress={NEW}" in str(after[f"{NETWORKD}/70-p2v-{name}.link"])
    assert "linux.network.order-guessed" not in [finding.id for finding in plan.warnings]


def test_suses_file_that_has_the_mac_in_its_name_gets_another_name() -> None:
    text = "BOOTPROTO='dhcp'\nUNIQUE='x'\n"
    after, plan = planned(guest({f"{SUSE}/ifcfg-eth-id-{OLD}": text}), PlanOptions((NEW,), mac_changes=((OLD, NEW),)))
    assert f"{SUSE}/ifcfg-eth-id-{OLD}" not in after
    assert after[f"{SUSE}/ifcfg-eth-id-{NEW}"] == text
    assert any(isinstance(change, WriteFile) for change in plan.changes)
    assert not any(finding.id == "linux.network.by-mac" for finding in plan.warnings)


def test_of_suses_files_with_macs_for_names_the_cards_own_is_changed() -> None:
    text = "BOOTPROTO='dhcp'\n"
    paths = [f"{SUSE}/ifcfg-eth-id-{mac}" for mac in (OLD, OTHER)]
    after, _ = planned(guest(dict.fromkeys(paths, text)), options(STATIC, (OLD, OTHER), 1))
    assert after[paths[0]] == text
    assert "IPADDR='10.0.2.40/24'" in str(after[paths[1]])


@pytest.mark.parametrize("text", ["key" * 20_000, "key" + " " * 60_000, "psk_" * 15_000 + "\n", "source /*\n" * 6_000])
def test_a_hostile_text_takes_no_longer_than_any_other(text: str) -> None:
    started = time.process_time()
    facts = facts_of(guest({PLAIN: text, f"{NM}/a": text, f"{NETWORKD}/a.network": text, f"{RH}/ifcfg-a": text}))
    plan_guest(facts, options(WITH_DNS))
    assert time.process_time() - started < 5


@pytest.mark.parametrize("around", ["80:00:{}", "{}:ff:ff", "a{}", "{}0"])
def test_bytes_that_are_part_of_something_longer_are_no_mac(around: str) -> None:
    text = f'GRUB_CMDLINE_LINUX="x={around.format(OLD)}"\n'
    after, _ = planned(guest({"/etc/default/grub": text}), PlanOptions((NEW,), mac_changes=((OLD, NEW),)))
    assert after["/etc/default/grub"] == text


def test_a_file_with_a_password_that_names_the_old_mac_is_warned_of() -> None:
    text = f"[connection]\ntype=ethernet\n[ethernet]\nmac-address={OLD}\n[802-1x]\npassword=geheim\n"
    nodes = guest({f"{NM}/lan.nmconnection": text})
    assert warned(nodes, PlanOptions((NEW,), mac_changes=((OLD, NEW),))) == {f"{NM}/lan.nmconnection": "linux.network.mac-left"}


def test_both_at_once_give_one_card_a_new_mac_and_a_new_address() -> None:
    text = f"DEVICE=eth0\nHWADDR={OLD}\nBOOTPROTO=dhcp\n"
    wanted = PlanOptions((NEW,), mac_changes=((OLD, NEW),), addressing=(STATIC,))
    after, plan = planned(guest({f"{RH}/ifcfg-eth0": text}), wanted)
    assert f"HWADDR={NEW}\n" in str(after[f"{RH}/ifcfg-eth0"])
    assert "IPADDR=10.0.2.40\n" in str(after[f"{RH}/ifcfg-eth0"])
    assert len([c for c in plan.changes if c.path == f"{RH}/ifcfg-eth0"]) == 2


# -- any text at all ---------------------------------------------------------------------------------------------------

PATHS = (
    PLAIN, f"{RH}/ifcfg-ens33", f"{RH}/ifcfg-br0", f"{SUSE}/ifcfg-ens33", f"{SUSE}/routes", f"{NM}/a", f"{NM}/b",
    f"{NETWORKD}/1.network", f"{NETWORKD}/2.network", f"{NETPLAN}/1.yaml", f"{NETPLAN}/2.yaml", "/etc/resolv.conf",
)  # fmt: skip
WORDS = (
    "iface ens33 inet static", "iface ens33", "iface br0 inet dhcp", "  bridge_ports ens33", " address 1.2.3.4/8", "\\",
    "address", "source /etc/network/interfaces", "DEVICE=ens33", "IPADDR='1.2.3.4", "IPADDR_1=x", "BRIDGE=br0",
    "BOOTPROTO=", "DNS1=", "default 1.2.3.1 - ens33", "default 1.2.3.1", "[connection]", "type=ethernet",
    "interface-name=ens33", "master=ens33", "[ipv4]", "address1=1.2.3.4", "method=", "[Match]", "Name=ens33", "Name=*",
    "[Network]", "[Address]", "[Route]", "Address=1.2.3.4/8", "Bridge=ens33", "DHCP=yes", "Gateway=1.2.3.1", "network:",
    "  ethernets:", "    ens33:", "      dhcp4: true", "      addresses:", "      - 1.2.3.4/8",
    "      addresses: [1.2.3.4/8,", "      ]", "      routes: [{to: default}]", "    ens33: {dhcp4: yes}", "    ens33: x",
    "      nameservers: {}", "      nameservers: [a]", "  bridges: {br0: {interfaces: [ens33]}}", "\r", "\udcff", "\x00",
    "\t", "# x", "=", "nameserver",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map("\n".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.dictionaries(st.sampled_from(PATHS), TEXTS), wanted=st.sampled_from([STATIC, WITH_DNS, DHCP]), only=st.booleans())
def test_no_text_is_too_odd_and_doing_it_twice_changes_nothing(texts: dict[str, str], wanted: Addressing, only: bool) -> None:
    card = Card("ens33", OLD, only)
    for style in STYLES:
        before = {path: text_file(text, path) for path, text in texts.items()}
        found = style(before, card, wanted)
        after = before | {path: text_file(text, path) for path, text in found.texts.items()}
        again = style(after, card, wanted)
        assert {path: text for path, text in again.texts.items() if text != after[path].text} == {}
