"""The domain definition, checked by libvirt's own schemas."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import Usage
from p2v.core.run import SystemRunner, find_program
from p2v.machine import Connection, DiskBus, Firmware
from p2v.targets.libvirt import domain_xml
from tests.targets.samples import HOSTILE, hardware

TCG = Acceleration(Accelerator.TCG, "in a test")
VALIDATOR = pytest.mark.skipif(find_program("virt-xml-validate") is None, reason="virt-xml-validate is not installed")
CASES = [
    *itertools.product(DiskBus, [Firmware.BIOS], [False]),
    (DiskBus.VIRTIO_BLK, Firmware.UEFI, False),
    (DiskBus.VIRTIO_BLK, Firmware.UEFI, True),
]


def valid(tmp_path: Path, xml: str) -> bool:
    file = tmp_path / "domain.xml"
    file.write_text(xml, "utf-8")
    ended = SystemRunner().run(["virt-xml-validate", str(file), "domain"], timeout=60, accept=(0, 1, 2, 3, 4, 5))
    return ended.exit_status == 0


@VALIDATOR
@pytest.mark.parametrize(("bus", "firmware", "secure_boot"), CASES)
def test_every_kind_of_hardware_makes_a_valid_domain(
    tmp_path: Path, bus: DiskBus, firmware: Firmware, secure_boot: bool
) -> None:
    machine = "pc" if bus is DiskBus.IDE else "q35"
    made = hardware(bus=bus, firmware=firmware, disks=3, machine=machine, secure_boot=secure_boot, tpm=secure_boot)
    assert valid(tmp_path, domain_xml(made, tmp_path, TCG))


@VALIDATOR
def test_the_machines_own_variables_are_where_they_were_written(tmp_path: Path) -> None:
    made = dataclasses.replace(hardware(firmware=Firmware.UEFI), variables=Path("web1_VARS.fd"))
    xml = domain_xml(made, tmp_path)
    assert valid(tmp_path, xml)
    assert ET.fromstring(xml).findtext("os/nvram") == str(tmp_path / "web1_VARS.fd")
    elsewhere = domain_xml(made, tmp_path, variables=Path("/pool/web1_VARS.fd"))
    assert ET.fromstring(elsewhere).findtext("os/nvram") == "/pool/web1_VARS.fd"


@VALIDATOR
def test_the_validator_notices_what_is_wrong(tmp_path: Path) -> None:
    assert not valid(tmp_path, domain_xml(hardware(), tmp_path).replace("<vcpu>2<", "<vcpu>two<"))


@VALIDATOR
def test_a_hostile_name_is_text_and_nothing_else(tmp_path: Path) -> None:
    xml = domain_xml(hardware(HOSTILE), tmp_path)
    assert valid(tmp_path, xml)
    domain = ET.fromstring(xml)
    assert domain.findtext("name") == HOSTILE
    source = domain.find("devices/disk/source")
    assert source is not None
    assert source.get("file") == str(tmp_path / f"{HOSTILE}-0.qcow2")


@pytest.mark.parametrize("name", ["a\0b", "a\x1bb", "a\udcffb"])
def test_a_name_that_xml_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Usage):
        domain_xml(hardware(name), tmp_path)


def test_the_domain_type_follows_what_the_host_can_do(tmp_path: Path) -> None:
    assert ET.fromstring(domain_xml(hardware(), tmp_path, TCG)).get("type") == "qemu"
    assert ET.fromstring(domain_xml(hardware(), tmp_path)).get("type") == "kvm"


def test_disks_and_cards_keep_their_order(tmp_path: Path) -> None:
    domain = ET.fromstring(domain_xml(hardware(disks=3), tmp_path))
    assert [t.get("dev") for t in domain.findall("devices/disk/target")] == ["vda", "vdb", "vdc"]
    assert [m.get("address") for m in domain.findall("devices/interface/mac")] == [
        "52:54:00:aa:bb:01",
        "52:54:00:aa:bb:02",
    ]
    assert [s.get("network") for s in domain.findall("devices/interface/source")] == ["default", "dmz"]


def test_a_card_hangs_on_a_bridge_or_on_qemus_own_network(tmp_path: Path) -> None:
    made = hardware()
    bridged, own = dataclasses.replace(made.nics[0], connection=Connection.BRIDGE, network="br<0>"), made.nics[1]
    nics = (bridged, dataclasses.replace(own, connection=Connection.USER, network=""))
    first, second = ET.fromstring(domain_xml(dataclasses.replace(made, nics=nics), tmp_path)).findall("devices/interface")
    assert (first.get("type"), [source.attrib for source in first.findall("source")]) == ("bridge", [{"bridge": "br<0>"}])
    assert (second.get("type"), second.findall("source")) == ("user", [])
