"""Sources that describe a machine, on the command line: what options change of it, and what makes no sense."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from p2v.cli import machine_options, options
from p2v.core.errors import Usage
from p2v.core.units import GIB
from p2v.machine import Connection, Firmware, Machine, Topology

VMX = """\
config.version = "8"
displayName = "Web 1"
memsize = "1024"
numvcpus = "4"
cpuid.coresPerSocket = "2"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "web.vmdk"
ethernet0.present = "TRUE"
ethernet0.addressType = "static"
ethernet0.address = "00:50:56:00:00:01"
ethernet0.networkName = "VM Network"
ethernet1.present = "TRUE"
ethernet1.addressType = "static"
ethernet1.address = "00:50:56:00:00:02"
ethernet1.networkName = "dmz"
"""


@pytest.fixture
def vmx(tmp_path: Path) -> Path:
    (tmp_path / "web.vmdk").write_bytes(b"KDMV" + bytes(508))
    file = tmp_path / "web.vmx"
    file.write_text(VMX)
    return file


def machine(*argv: str | Path) -> Machine:
    parser = argparse.ArgumentParser()
    options.add_disks(parser)
    machine_options.add_machine(parser)
    return machine_options.machine_of(parser.parse_args([str(word) for word in argv]))


def test_a_description_needs_no_option(vmx: Path) -> None:
    made = machine(vmx)
    assert (made.name, made.cpus, made.memory_bytes, made.topology) == ("Web-1", 4, GIB, Topology(2, 2))
    assert [nic.mac for nic in made.nics] == ["00:50:56:00:00:01", "00:50:56:00:00:02"]
    assert [nic.source_network for nic in made.nics] == ["VM Network", "dmz"]
    assert {finding.id for finding in made.warnings} == {"source.network"}


def test_options_go_before_the_description(vmx: Path) -> None:
    made = machine(vmx, "--name", "db", "--cpus", "2", "--memory", "3G", "--firmware", "uefi")
    assert (made.name, made.cpus, made.topology, made.memory_bytes) == ("db", 2, None, 3 * GIB)
    assert made.firmware is Firmware.UEFI


def test_networks_are_mapped_by_name_and_by_card(vmx: Path) -> None:
    made = machine(vmx, "--map", "VM Network=bridge:br0", "--network", "2:lan")
    assert [(nic.connection, nic.network) for nic in made.nics] == [(Connection.BRIDGE, "br0"), (Connection.NETWORK, "lan")]
    assert made.warnings == ()


def test_a_mapping_file_has_a_line_each(vmx: Path, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("# comment\n\nVM Network = bridge:br0\ndmz=user\n")
    made = machine(vmx, "--map-file", tmp_path / "map")
    assert [nic.connection for nic in made.nics] == [Connection.BRIDGE, Connection.USER]


def test_a_card_gets_another_address_by_its_old_one_or_its_number(vmx: Path) -> None:
    made = machine(vmx, "--mac", "00:50:56:00:00:02=52:54:00:00:00:02", "--mac", "1=52:54:00:00:00:01")
    assert [(nic.source_mac, nic.mac) for nic in made.nics] == [
        ("00:50:56:00:00:01", "52:54:00:00:00:01"),
        ("00:50:56:00:00:02", "52:54:00:00:00:02"),
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["--mac", "52:54:00:00:00:01"],
        ["--mac", "3=52:54:00:00:00:01"],
        ["--map", "nowhere=lan"],
        ["--map", "lan"],
        ["--network", "3:lan"],
        ["--name", "a b"],
    ],
)
def test_what_does_not_fit_the_description_is_told(vmx: Path, argv: list[str]) -> None:
    with pytest.raises(Usage):
        machine(vmx, *argv)


def test_a_description_is_named_alone(vmx: Path) -> None:
    with pytest.raises(Usage):
        machine(vmx, vmx.with_name("web.vmdk"))


def test_disks_alone_have_no_networks_to_map(vmx: Path) -> None:
    with pytest.raises(Usage):
        machine(vmx.with_name("web.vmdk"), "--map", "a=b")


def test_who_names_a_format_means_a_disk(vmx: Path) -> None:
    assert machine(vmx, "--input-format", "raw").disks[0].path == vmx


def test_a_card_that_is_not_there_is_told_with_those_that_are(vmx: Path) -> None:
    with pytest.raises(Usage) as caught:
        machine(vmx, "--network", "3:lan")
    assert "card 2 (00:50:56:00:00:02)" in caught.value.hint()
    # its description names them, no option has to
    assert "--mac" not in caught.value.hint()
    with pytest.raises(Usage) as caught:
        machine(vmx.with_name("web.vmdk"), "--network", "3:lan")
    assert "--mac" in caught.value.hint()


def test_a_mapping_for_a_fleet_passes_over_what_a_machine_has_not(vmx: Path) -> None:
    made = machine(vmx, "--map-if", "vm network=bridge:br0", "--map-if", "Nobody's=lan", "--map", "dmz=user")
    assert [nic.connection for nic in made.nics] == [Connection.BRIDGE, Connection.USER]
    with pytest.raises(Usage):
        machine(vmx, "--map", "Nobody's=lan")


def test_what_is_mapped_for_one_machine_goes_before_what_is_for_a_fleet(vmx: Path) -> None:
    made = machine(vmx, "--map-if", "VM Network=bridge:br0", "--map", "vm network=user")
    assert made.nics[0].connection is Connection.USER
    disks_alone = machine(vmx.with_name("web.vmdk"), "--map-if", "VM Network=user")
    assert not disks_alone.nics[0].is_mapped
