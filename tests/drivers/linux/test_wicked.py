"""wicked's own XML: which cards it names, and that odd documents name none."""

from __future__ import annotations

import time

from drivers.facts import InterfaceConfig
from drivers.linux.network import read_network
from tests.drivers.memory_tree import InMemoryTree

PATH = "/etc/wicked/ifconfig/all.xml"
TEXT = """\
<!-- <interface><name>eth9</name></interface> -->
<interface>
  <name>eth0</name>
  <ipv4:static xmlns:ipv4="x"><address><local>192.168.1.5/24</local></address></ipv4:static>
</interface>
<interface origin="static">
  <name>eth1</name>
  <ipv4:dhcp><enabled>true</enabled></ipv4:dhcp>
</interface>
<interface>
  <name namespace="ethernet"><permanent-address>02:11:22:33:44:55</permanent-address></name>
  <ipv4:dhcp><enabled>false</enabled></ipv4:dhcp>
</interface>
<interface>
  <name>br0</name>
  <bridge><ports><port><device>eth2</device></port></ports></bridge>
</interface>
"""


def read(text: str) -> tuple[InterfaceConfig, ...]:
    return read_network(InMemoryTree({PATH: text})).interfaces


def test_cards_are_named_with_how_they_get_their_addresses() -> None:
    assert read(TEXT) == (
        InterfaceConfig("eth0", PATH, "static", ("192.168.1.5/24",)),
        InterfaceConfig("eth1", PATH, "dhcp"),
        InterfaceConfig("", PATH, "manual", (), "02:11:22:33:44:55"),
        InterfaceConfig("br0", PATH, "manual"),
        InterfaceConfig("eth2", PATH, "manual"),
    )


def test_the_stack_is_told_also_where_no_interface_could_be_read() -> None:
    assert read_network(InMemoryTree({PATH: "<interface><name>"})).stacks == ("wicked",)


def test_what_is_no_document_names_nothing_and_takes_no_time() -> None:
    started = time.process_time()
    for text in ("", "\udcff", "<interface>" * 50_000, "<!--" * 50_000, "<interface><name>" + "<device>" * 50_000):
        assert read(text) == ()
    assert time.process_time() - started < 10
