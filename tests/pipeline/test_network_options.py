"""``--mac`` and ``--ip`` end to end: the booted guest has the card's new MAC address, its old name and its new address."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.record import load_record
from tests.fixtures import packed
from tests.pipeline.running import p2v, proven

OLD, NEW = "00:0c:29:aa:bb:01", "52:54:00:0a:0b:0c"


@pytest.mark.matrix
@pytest.mark.boots
def test_a_guest_boots_with_the_mac_and_the_address_that_were_asked_for(tmp_path: Path) -> None:
    cards = ["--mac", f"{OLD}={NEW}", "--ip", f"{OLD}:10.0.2.77/24,10.0.2.2", "--network", "bridge:br0"]
    ran = p2v("convert", packed("vmware", "vmdk-sparse"), "-o", tmp_path, "--name", "vm", "--verify", *cards)
    assert ran.status == 0, ran.err
    proven(tmp_path / "vm.json")
    record = load_record(tmp_path / "vm.json")
    assert record.boot is not None
    assert record.boot.report is not None
    assert record.boot.report.failed_units == ()
    (card,) = [each for each in record.boot.report.interfaces if each.name == "ens33"]
    assert card.mac == NEW
    assert [address for address in card.addresses if ":" not in address] == ["10.0.2.77/24"]
    assert '<source bridge="br0"' in (tmp_path / "vm.xml").read_text()
    again = p2v("plan", tmp_path / "vm.qcow2", *cards)
    assert "nothing needs to be changed" in again.out
