"""Network configuration: what is read of it, and that cards keep the names it knows."""

from __future__ import annotations

import dataclasses

import pytest

from drivers.changes import EditFile, WriteFile
from drivers.facts import GuestFacts, InterfaceConfig
from drivers.linux import cloud_init, keyfile, nic_names, plain_yaml, udev_rules
from drivers.linux.macs import normal_mac
from drivers.linux.network import read_network
from tests.drivers.linux.guest import VERSION, facts_of, files, text_file
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node
from tests.fixtures import etc

MAC = "00:0c:29:aa:bb:01"
MAC2 = "00:0c:29:aa:bb:02"
LINK = "/etc/systemd/network/70-p2v-ens33.link"


def interfaces(nodes: dict[str, Node]) -> tuple[InterfaceConfig, ...]:
    """What is read from these files."""
    return read_network(InMemoryTree(nodes)).interfaces


def configured(text: str, more: dict[str, Node] | None = None) -> GuestFacts:
    """The guest with this in /etc/network/interfaces."""
    return facts_of({**files(), "/etc/network/interfaces": text, **(more or {})})


def links(facts: GuestFacts, *macs: str | None) -> dict[str, str]:
    """The files that are planned, by name of the card: what they match."""
    found = nic_names.contribute(facts, macs)
    planned = {}
    for change in found.changes:
        assert isinstance(change, WriteFile)
        settings = keyfile.parse(change.content)
        name = keyfile.first(settings, "Link", "Name")
        assert change.path == f"/etc/systemd/network/70-p2v-{name}.link"
        planned[name] = keyfile.first(settings, "Match", "MACAddress", "Path")
    return planned


def ids(facts: GuestFacts, *macs: str | None) -> list[str]:
    """Ids of the warnings."""
    return [finding.id for finding in nic_names.contribute(facts, macs).warnings]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_debians_interfaces_file_names_its_card() -> None:
    found = read_network(InMemoryTree(files()))
    assert found.stacks == ("ifupdown",)
    assert found.interfaces == (InterfaceConfig("ens33", "/etc/network/interfaces", "dhcp"),)


def test_sourced_files_addresses_and_cards_below_bridges_are_read() -> None:
    nodes: dict[str, Node] = {
        "/etc/network/interfaces": "source interfaces.d/*\nauto br0\niface br0 inet static\n  address 10.0.0.2\n"
        "  netmask 255.255.255.0\n  bridge_ports ens34 none\n",
        "/etc/network/interfaces.d/a": "source-directory /etc/network/more\niface ens33:1 inet static\n address 10.0.0.3/8\n",
        "/etc/network/more/b": "source /etc/network/interfaces\niface ens35 inet6 auto\n",
    }
    found = {interface.name: (interface.method, interface.addresses) for interface in interfaces(nodes)}
    assert found == {
        "br0": ("static", ("10.0.0.2/255.255.255.0",)),
        "ens34": ("manual", ()),
        "ens33": ("static", ("10.0.0.3/8",)),
        "ens35": ("auto", ()),
    }


def test_networkd_networkmanager_and_ifcfg_are_read() -> None:
    nodes: dict[str, Node] = {
        "/etc/systemd/network/10.network": "[Match]\nName=ens33 ens34\n[Network]\nDHCP=ipv4\n",
        "/etc/systemd/network/20.network": f"[Match]\nMACAddress={MAC.upper()}\n[Network]\nAddress=10.0.0.2/24\n",
        "/etc/NetworkManager/system-connections/a.nmconnection": "[connection]\ntype=ethernet\ninterface-name=ens35\n"
        "[ipv4]\nmethod=manual\naddress1=10.0.0.9/24,10.0.0.1\n",
        "/etc/NetworkManager/system-connections/wifi": "[connection]\ntype=wifi\ninterface-name=wlan0\n",
        "/etc/sysconfig/network-scripts/ifcfg-eth0": f'DEVICE="eth0"\nBOOTPROTO=none\nIPADDR=10.1.1.1\nHWADDR={MAC2}\n',
        "/etc/netplan/01.yaml": "network: {}\n",
    }
    found = read_network(InMemoryTree(nodes))
    assert found.stacks == ("networkd", "networkmanager", "ifcfg", "netplan")
    assert [(i.name, i.method, i.addresses, i.mac) for i in found.interfaces] == [
        ("ens33", "dhcp", (), None), ("ens34", "dhcp", (), None), ("", "static", ("10.0.0.2/24",), MAC),
        ("ens35", "static", ("10.0.0.9/24",), None), ("eth0", "static", ("10.1.1.1",), MAC2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "mac"),
    [(MAC.upper(), MAC), (MAC.replace(":", "-"), MAC), (f'"{MAC}"', MAC), ("x", None), ("", None)],
)
def test_macs_have_one_spelling(text: str, mac: str | None) -> None:
    assert normal_mac(text) == mac


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_only_card_is_named_by_its_mac_where_that_is_known() -> None:
    assert links(facts_of(files()), MAC.upper()) == {"ens33": MAC}


@pytest.mark.parametrize("macs", [(), (None,)])
def test_the_only_card_is_named_as_the_only_one_where_its_mac_is_not_known(macs: tuple[None, ...]) -> None:
    facts = facts_of(files())
    assert links(facts, *macs) == {"ens33": "pci-*"}
    assert ids(facts, *macs) == []


def test_a_link_file_that_is_there_is_not_planned_again_and_another_one_is_replaced() -> None:
    change = nic_names.contribute(facts_of(files()), (None,)).changes[0]
    assert isinstance(change, WriteFile)
    there = facts_of({**files(), LINK: change.content})
    assert nic_names.contribute(there, (None,)).changes == ()
    again = nic_names.contribute(there, (MAC,)).changes[0]
    assert isinstance(again, EditFile)
    assert f"MACAddress={MAC}" in again.after


def test_several_cards_without_macs_are_left_to_the_user() -> None:
    facts = configured("iface ens33 inet dhcp\niface ens34 inet dhcp\n")
    assert links(facts, None, None) == {}
    assert ids(facts, None, None) == ["linux.network.names-ambiguous"]
    assert "--mac" in nic_names.contribute(facts, (None, None)).warnings[0].hint


def test_several_cards_with_macs_are_taken_in_their_order_and_that_is_said() -> None:
    facts = configured("iface ens192 inet dhcp\niface ens33 inet dhcp\n")
    assert links(facts, MAC, MAC2) == {"ens33": MAC, "ens192": MAC2}
    assert ids(facts, MAC, MAC2) == ["linux.network.order-guessed"]


def test_a_mac_in_the_configuration_says_which_card_is_which() -> None:
    ifcfg: dict[str, Node] = {
        "/etc/sysconfig/network-scripts/ifcfg-ens33": f"HWADDR={MAC2}\n",
        "/etc/sysconfig/network-scripts/ifcfg-ens34": f"HWADDR={MAC}\n",
    }
    facts = configured("", ifcfg)
    assert links(facts, MAC, MAC2) == {"ens33": MAC2, "ens34": MAC}
    assert ids(facts, MAC, MAC2) == []


def test_two_cards_and_one_name_are_never_matched_by_place() -> None:
    assert links(facts_of(files()), None, None) == {}
    assert links(facts_of(files()), None, MAC) == {}


def test_a_card_whose_mac_is_not_known_is_not_matched_by_place_beside_one_that_is() -> None:
    ifcfg: dict[str, Node] = {"/etc/sysconfig/network-scripts/ifcfg-ens33": f"HWADDR={MAC}\n"}
    facts = configured("iface ens34 inet dhcp\n", ifcfg)
    assert links(facts, MAC, None) == {"ens33": MAC}
    assert ids(facts, MAC, None) == ["linux.network.names-ambiguous"]


@pytest.mark.parametrize("name", ["../../root/x", "a/b", "\x1b[1m", "²"])
def test_a_name_that_is_no_file_name_never_becomes_one(name: str) -> None:
    own: dict[str, Node] = {"/etc/systemd/network/80-x.link": f"[Match]\nDriver=e1000\n[Link]\nName={name}\n"}
    assert links(configured(f"iface {name} inet dhcp\n", own), MAC) == {}


@pytest.mark.parametrize("name", ["br0", "bond0", "wg0", "docker0", "en*", "e?0", "../../x", "engine", "lo"])
def test_names_that_are_no_cards_need_nothing(name: str) -> None:
    facts = configured(f"iface {name} inet dhcp\n")
    assert (links(facts, MAC), ids(facts, MAC)) == ({}, [])


def test_the_card_below_a_vlan_keeps_its_name() -> None:
    assert links(configured("iface ens33.100 inet dhcp\n"), MAC) == {"ens33": MAC}


def test_kernel_names_are_left_to_the_kernel_where_the_guest_asks_for_them() -> None:
    menu = etc.grub_cfg("/dev/sda1", [VERSION], arguments="net.ifnames=0")
    facts = configured("iface eth0 inet dhcp\niface eth1 inet dhcp\n", {"/boot/grub/grub.cfg": menu})
    assert (links(facts, None, None), ids(facts, None, None)) == ({}, [])


@pytest.mark.parametrize("path", ["/etc/systemd/network/99-default.link", "/etc/udev/rules.d/80-net-setup-link.rules"])
def test_kernel_names_are_left_where_a_link_to_dev_null_turns_naming_off(path: str) -> None:
    assert links(configured("iface eth0 inet dhcp\n", {path: Link("/dev/null")}), MAC) == {}


def test_an_eth0_of_a_card_that_has_no_place_is_kept() -> None:
    # as Hyper-V's and Xen's cards are called
    assert links(configured("iface eth0 inet dhcp\n"), MAC) == {"eth0": MAC}


def test_a_leftover_eth0_beside_a_card_named_by_place_is_ignored() -> None:
    facts = configured("iface ens33 inet dhcp\niface eth0 inet dhcp\n")
    assert links(facts, None) == {"ens33": "pci-*"}


def test_a_name_that_the_guest_gives_by_a_mac_that_is_kept_needs_nothing() -> None:
    own: dict[str, Node] = {"/etc/systemd/network/10-lan.link": f"[Match]\nMACAddress={MAC}\n[Link]\nName=lan0\n"}
    facts = configured("iface lan0 inet dhcp\n", own)
    assert (links(facts, MAC), ids(facts, MAC)) == ({}, [])
    assert links(facts, None) == {"lan0": "pci-*"}


def test_persistent_rules_of_old_count_as_names_by_mac() -> None:
    rules = f'SUBSYSTEM=="net", ACTION=="add", ATTR{{address}}=="{MAC}", NAME="eth0"\n'
    facts = configured("iface eth0 inet dhcp\n", {"/etc/udev/rules.d/70-persistent-net.rules": rules})
    assert links(facts, MAC) == {}
    assert links(facts, MAC2) == {"eth0": MAC2}


def test_a_name_by_the_old_cards_driver_is_kept_by_ours() -> None:
    own: dict[str, Node] = {"/etc/systemd/network/80-lan.link": "[Match]\nDriver=vmxnet3\n[Link]\nName=lan0\n"}
    assert links(configured("iface lan0 inet dhcp\n", own), MAC) == {"lan0": MAC}


def test_a_file_that_matches_every_card_before_ours_is_warned_of() -> None:
    own: dict[str, Node] = {"/etc/systemd/network/10-all.link": "[Match]\nOriginalName=*\n[Link]\nNamePolicy=path\n"}
    assert ids(configured("iface ens33 inet dhcp\n", own), MAC) == ["linux.network.link-shadowed"]


def test_configuration_by_a_mac_that_is_not_kept_is_warned_of() -> None:
    own: dict[str, Node] = {"/etc/systemd/network/20.network": f"[Match]\nMACAddress={MAC}\n[Network]\nDHCP=yes\n"}
    facts = configured("", own)
    assert ids(facts, None) == ["linux.network.by-mac"]
    assert ids(facts, MAC) == []


def test_a_guest_without_systemd_gets_no_link_file() -> None:
    facts = facts_of(files())
    assert facts.os is not None
    old = dataclasses.replace(facts, os=dataclasses.replace(facts.os, init="sysv"))
    assert links(old, MAC) == {}


def test_a_guest_without_the_folder_gets_it_with_the_file() -> None:
    nodes = files()
    del nodes["/etc/systemd/network"]
    assert links(facts_of(nodes), MAC) == {"ens33": MAC}


@pytest.mark.parametrize("name", ["em1", "p1p1", "p3p2_1", "eno1", "ens192", "enx000c29aabb01", "enP4p1s0"])
def test_every_scheme_of_names_is_kept(name: str) -> None:
    assert links(configured(f"iface {name} inet dhcp\n"), MAC) == {name: MAC}


# -- netplan -----------------------------------------------------------------------------------------------------------

NETPLAN = """# installer
network:
  version: 2
  ethernets:
    ens160:
      addresses: [10.0.0.2/24, {10.0.0.3/24: {label: a}}]
    lan:
      match: {macaddress: 00-0C-29-AA-BB-02}
      set-name: eth7
      dhcp4: yes
  vlans:
    ens160.5: {id: 5, link: ens160}
"""


def test_netplans_cards_are_read_and_keep_their_names() -> None:
    nodes: dict[str, Node] = {"/etc/netplan/01.yaml": NETPLAN}
    found = interfaces(nodes)
    assert [(i.name, i.source, i.method, i.addresses, i.mac) for i in found] == [
        ("ens160", "/etc/netplan/01.yaml", "static", ("10.0.0.2/24", "10.0.0.3/24"), None),
        ("eth7", "/etc/netplan/01.yaml", "dhcp", (), MAC2),
    ]
    assert links(configured("", nodes), MAC, MAC2)["ens160"] == MAC
    assert ids(configured("", nodes), MAC, MAC2) == []


def test_netplans_files_hide_and_add_to_each_other_by_name() -> None:
    nodes: dict[str, Node] = {
        "/lib/netplan/10.yaml": "network: {ethernets: {ens1: {}}}",
        "/etc/netplan/10.yaml": "network: {ethernets: {ens2: {dhcp4: false, addresses: [10.0.0.2/8]}}}",
        "/etc/netplan/20.yaml": "network: {ethernets: {ens2: {dhcp4: true}}}",
    }
    assert [(i.name, i.method, i.addresses) for i in interfaces(nodes)] == [("ens2", "dhcp", ("10.0.0.2/8",))]


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n", "[" * 100, "{" * 40 + "}" * 40, "a: [", "\udcff", "? [a]\n: b", "x: '\\UFFFFFFFF'\n: :",
        '"\\UFFFFFFFF"', "- x\n" * 30_000, "#" * 300_000, "%YAML 9999999999.1\n---\na",
    ],
    ids=range(11),
)  # fmt: skip
def test_yaml_that_is_none_or_too_much_is_a_warning(text: str) -> None:
    facts = configured("", {"/etc/netplan/1.yaml": text})
    assert ids(facts, MAC) == ["linux.network.unread"]


def test_tags_make_nothing_but_strings() -> None:
    assert plain_yaml.load("a: !!python/name:os.system\nb: !!int 7\nc: 2020-01-01\n") == {"a": "", "b": "7", "c": "2020-01-01"}


@pytest.mark.parametrize("text", ["", "network: {}", "x", "[a]", "network: [ethernets]", "network: {ethernets: {lo: }}"])
def test_yaml_without_cards_is_no_card(text: str) -> None:
    assert [i.name for i in interfaces({"/etc/netplan/1.yaml": text})] in ([], ["lo"])
    assert ids(configured("", {"/etc/netplan/1.yaml": text}), MAC) == []


@pytest.mark.parametrize(
    ("path", "text", "warned"),
    [
        ("/etc/netplan/1.yaml", "network: {ethernets: {a: {match: {driver: [vmxnet3]}, set-name: ens1}}}", True),
        ("/etc/netplan/1.yaml", "network: {ethernets: {a: {match: {driver: virtio*}}}}", False),
        ("/etc/systemd/network/1.network", "[Match]\nPath=pci-0000:0b:00.0\n[Network]\nDHCP=yes\n", True),
        ("/etc/systemd/network/1.network", "[Match]\nPath=pci-*\n[Network]\nDHCP=yes\n", False),
        ("/etc/NetworkManager/system-connections/a", "[connection]\ntype=ethernet\n[match]\ndriver=hv_netvsc;\n", True),
        ("/etc/sysconfig/network/ifcfg-eth-bus-pci-0000:00:10.0", "BOOTPROTO=dhcp\n", True),
    ],
)
def test_configuration_for_the_old_machines_hardware_is_warned_of(path: str, text: str, warned: bool) -> None:
    found = ids(configured("", {path: text}), MAC)
    assert found == (["linux.network.by-hardware"] if warned else [])


def test_leftovers_of_ifcfg_files_are_not_read_and_suses_names_are() -> None:
    nodes: dict[str, Node] = {
        "/etc/sysconfig/network-scripts/ifcfg-eth1.bak": "DEVICE=eth1\n",
        "/etc/sysconfig/network/ifcfg-eth-id-00:0c:29:aa:bb:01": "BOOTPROTO=static\nIPADDR=10.0.0.2/24\nLLADDR=00:00:00:00:00:01\n",
    }
    assert [(i.name, i.mac, i.method) for i in interfaces(nodes)] == [("", MAC, "static")]


# -- udev rules --------------------------------------------------------------------------------------------------------

RULES = "/etc/udev/rules.d/70-persistent-net.rules"


def ruled(text: str, *macs: str | None) -> tuple[str, list[str]]:
    """The rules after planning, and the ids of the warnings; asserts that planning again changes nothing."""
    found = udev_rules.contribute(configured("", {RULES: text}), macs)
    after = text
    for change in found.changes:
        assert isinstance(change, EditFile)
        after = change.after
    assert udev_rules.contribute(configured("", {RULES: after}), macs).changes == ()
    return after, [finding.id for finding in found.warnings]


BY_MAC = f'SUBSYSTEM=="net", DRIVERS=="?*", ATTR{{address}}=="{MAC}", ATTR{{dev_id}}=="0x0", KERNEL=="eth*", NAME="eth0"\n'


@pytest.mark.parametrize(
    "text", [BY_MAC, f"# KERNELS==\"0000:0b:00.0\" NAME=\"eth0\"\n{BY_MAC}", "", 'DRIVERS=="virtio_net", NAME="eth0"\n']
)
def test_rules_by_address_stay(text: str) -> None:
    assert ruled(text, MAC) == (text, [])


@pytest.mark.parametrize(
    "condition",
    [
        'KERNELS=="0000:0b:00.0"', 'DRIVERS=="vmxnet3"', 'BUS=="pci", ID=="0000:00:11.0"', 'ENV{ID_PATH}=="pci-0000:0b:00.0"',
        'ATTRS{vendor}=="0x15ad", ATTRS{device}=="0x07b0"',
    ],
)  # fmt: skip
def test_a_rule_with_place_or_driver_and_address_goes_by_the_address_alone(condition: str) -> None:
    text = "\r\n" + BY_MAC.replace('ATTR{dev_id}=="0x0"', condition)
    assert ruled(text, None, MAC) == (text.replace(f"{condition}, ", ""), [])


def test_the_only_rule_without_address_gets_that_of_the_only_card_left() -> None:
    text = BY_MAC + 'SUBSYSTEM=="net", KERNELS=="0000:0b:00.0", DRIVERS=="e1000", NAME="eth1"\n'
    assert ruled(text, MAC, MAC2) == (BY_MAC + f'SUBSYSTEM=="net", ATTR{{address}}=="{MAC2}", NAME="eth1"\n', [])


@pytest.mark.parametrize("macs", [(None,), (MAC, MAC2), ()])
def test_a_rule_whose_card_cannot_be_told_stays_and_is_warned_of(macs: tuple[str | None, ...]) -> None:
    text = 'KERNELS=="0000:0b:00.0", NAME="eth0"\n'
    assert ruled(text, *macs) == (text, ["linux.network.rule-by-hardware"])


def without_systemd(text: str, family: str = "redhat") -> GuestFacts:
    """A guest of an old init with this configuration."""
    facts = configured(text)
    assert facts.os is not None
    return dataclasses.replace(facts, os=dataclasses.replace(facts.os, init="upstart", family=family))


def test_biosdevnames_names_are_kept_by_rules_where_there_are_no_link_files() -> None:
    facts = without_systemd("iface em1 inet dhcp\niface eth5 inet dhcp\n")
    change = udev_rules.contribute(facts, (MAC,)).changes[0]
    assert isinstance(change, WriteFile)
    assert (change.path, f'=="{MAC}"' in change.content, 'NAME="em1"' in change.content) == (RULES, True, True)
    assert "eth5" not in change.content


def test_a_name_that_a_rule_gives_already_gets_no_second_one_though_no_address_is_known() -> None:
    facts = without_systemd("iface em1 inet dhcp\n")
    change = udev_rules.contribute(facts, (None,)).changes[0]
    assert isinstance(change, WriteFile)
    after = dataclasses.replace(facts, texts={**facts.texts, RULES: text_file(change.content, RULES)})
    assert udev_rules.contribute(after, (None,)).changes == ()


def test_a_guest_of_mdev_gets_no_rules() -> None:
    assert udev_rules.contribute(without_systemd("iface em1 inet dhcp\n", "alpine"), (MAC,)).changes == ()


# -- cloud-init --------------------------------------------------------------------------------------------------------


def cloud(source: str, more: dict[str, Node] | None = None) -> GuestFacts:
    """A guest that cloud-init configured from this source."""
    nodes: dict[str, Node] = {
        **files(), "/etc/cloud/cloud.cfg.d": Folder(), "/var/lib/cloud/instance": Link("instances/i-1"),
        "/var/lib/cloud/instances/i-1/datasource": f"{source}: {source} [seed=x]\n",
    }  # fmt: skip
    return facts_of({**nodes, **(more or {})})


@pytest.mark.parametrize(
    "source", ["DataSourceEc2Local", "DataSourceAzure", "DataSourceGCELocal", "DataSourceVMware", "DataSourceOVF"]
)
def test_a_cloud_that_is_gone_is_not_looked_for(source: str) -> None:
    found = cloud_init.contribute(cloud(source))
    change = found.changes[0]
    assert isinstance(change, WriteFile)
    settings = plain_yaml.load(change.content)
    assert settings == {
        "datasource_list": ["NoCloud", "ConfigDrive", "None"], "network": {"config": "disabled"},
        "preserve_hostname": "true", "ssh_deletekeys": "false",
    }  # fmt: skip
    assert cloud_init.contribute(cloud(source, {change.path: change.content})).changes == ()


@pytest.mark.parametrize(
    ("source", "more"),
    [
        ("DataSourceNoCloud", {}), ("DataSourceNone", {}), ("", {}), ("DataSourceEc2", {"/etc/cloud/cloud-init.disabled": ""}),
        ("DataSourceEc2", {"/boot/grub/grub.cfg": etc.grub_cfg("/dev/sda1", [VERSION], arguments="cloud-init=disabled")}),
    ],
)  # fmt: skip
def test_cloud_init_that_needs_no_cloud_or_is_off_stays(source: str, more: dict[str, Node]) -> None:
    found = cloud_init.contribute(cloud(source, more))
    assert (found.changes, found.warnings) == ((), ())


def test_a_guest_without_cloud_init_is_left() -> None:
    assert cloud_init.contribute(facts_of({**files(), "/var/lib/cloud/instance/datasource": "DataSourceEc2: x"})).changes == ()
