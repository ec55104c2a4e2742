"""The table of Windows guests: one row for each, which says how it was proven, and never that it boots."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from drivers.caps import GuestCaps
from drivers.changes import BootGeometry as Geometry
from drivers.changes import CarryFile, Change, EditBootSector, EditHive, Member, WriteFile
from drivers.facts import GuestFacts, OperatingSystem, ReadBy
from drivers.plan import GuestPlan
from p2v.machine import DiskBus
from tests import support_matrix
from tests.fixtures.windows import GUESTS, named
from tests.record.making import filled_record
from tests.support_matrix_windows import Pieces, Proof, WindowsRow, note, note_converted, note_pieces, table
from tests.windows_startup import devices

_GUEST = named("2019")
_STEPS = "p2v-firstboot-1 10 1 words\r\n# why\r\ndrivers 60 3 a\r\n# why\r\nnetwork 60 3 b\r\n"
_PACKAGES = "/Windows/Drivers/VirtIO"
_CHANGES: tuple[Change, ...] = (
    EditHive("/Windows/System32/config/SYSTEM", 1, "", (), "t"),
    EditHive("/Boot/BCD", 1, "", (), "t"),
    EditBootSector("/$Boot", Geometry(255, 63), Geometry(64, 63), "t"),
    *(
        CarryFile(
            "/virtio-win.iso", 1, "", f"{_PACKAGES}/{name}/{name}.inf", 0o644, "t", Member(f"/{name}/2k19/amd64/{name}.inf", 0)
        )
        for name in ("viostor", "vioscsi", "netkvm", "balloon")
    ),
    CarryFile("/cd/viorng/2k16/amd64/viorng.inf", 1, "", f"{_PACKAGES}/viorng/viorng.inf", 0o644, "t"),
    WriteFile("/Windows/p2v/firstboot-1/steps.txt", _STEPS, 0o644, "t"),
)  # fmt: skip


_FACTS = GuestFacts(
    ReadBy.HOST, (), (), os=OperatingSystem("windows", "win2k19", "10.0.17763", "Windows Server 2019", "x86_64", "windows")
)
_PLAN = GuestPlan(
    _CHANGES, (), (), GuestCaps(("virtio-blk", "virtio-scsi", "sata"), ("virtio", "e1000e"), "bios", "x86_64", machine="q35")
)


def row(proof: Proof = Proof.IN_MEMORY, problems: tuple[str, ...] = ()) -> WindowsRow:
    return WindowsRow.of(_GUEST, _FACTS, _PLAN, proof, problems)


def line(*rows: WindowsRow, pieces: tuple[Pieces, ...] = ()) -> str:
    """The guest's line in a table of these."""
    data = [asdict(each) for each in rows] + [asdict(each) for each in pieces]
    text = table(json.loads(json.dumps(data)))
    return next(each for each in text.splitlines() if each.startswith(f"| {_GUEST.name} |"))


def test_row_says_what_was_done() -> None:
    told = line(row(), pieces=(Pieces(_GUEST.name, 200),))
    for part in (
        "| Windows Server 2019 (10.0.17763), x86_64 | BIOS, MBR, 2 disks | host |",
        "| viostor, vioscsi, netkvm and 2 more (2k16, 2k19) | boot entries, boot sector's geometry | drivers, network |",
        "| virtio-blk, virtio-scsi, sata (q35, virtio) |",
        "| rewritten and checked by simulation, each of 200 things missed when left out |",
        "planned and applied in memory, start simulated",
    ):
        assert part in told


def test_whole_conversion_is_told_beside_what_was_done_in_memory_and_what_failed_before_both() -> None:
    whole, failed = replace(row(Proof.CONVERTED), buses=("sata",), options="--x"), row(problems=("virtio-blk: 0x7B",))
    for told in (line(whole, row()), line(row(), whole)):
        assert "| virtio-blk, virtio-scsi, sata (q35, virtio) | rewritten and checked by simulation | planned and" in told
        assert "; whole conversion to sata with --x (drivers: viostor, vioscsi, netkvm and 2 more (2k16, 2k19))," in told
        assert "proven by `p2v prove`, start simulated" in told
    assert "| sata (q35, virtio) | rewritten and checked by simulation | whole conversion to sata" in line(whole)
    for told in (line(whole, failed), line(row(), replace(whole, problems=("virtio-blk: 0x7B",)))):
        assert "NOT as expected: virtio-blk: 0x7B" in told
        assert "rewritten and checked" not in told
    refused = WindowsRow.of_refused(_GUEST, ["windows.hibernated"])
    assert "not converted: windows.hibernated" in line(whole, refused)
    assert whole.how in line(whole, refused)


def test_thing_that_nothing_missed_is_told() -> None:
    assert "NOT missed: a: b" in line(row(), pieces=(Pieces(_GUEST.name, 3, ("a: b",)),))


def test_guest_that_is_not_converted_has_its_blockers_and_one_that_stops_as_before_says_so() -> None:
    assert "| not converted: windows.hibernated |" in line(WindowsRow.of_refused(_GUEST, ["windows.hibernated"]))
    assert "rewritten; stops where it did before: a file is gone" in line(replace(row(), before="a file is gone"))


def test_every_guest_has_a_row_that_has_all_columns() -> None:
    lines = table(()).splitlines()
    assert len(lines) == 2 + len(GUESTS)
    assert all("| not run |" in each for each in lines[2:])
    assert {each.count("|") for each in (*lines, line(row()), line(WindowsRow.of_refused(_GUEST, ["x"])))} == {11}


def test_rows_are_kept_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2V_MATRIX_ROWS", raising=False)
    note(row())
    monkeypatch.setenv("P2V_MATRIX_ROWS", str(tmp_path / "rows"))
    note(row())
    note(row(Proof.CONVERTED))
    note_pieces(Pieces(_GUEST.name, 7))
    kept: list[Any] = [json.loads(path.read_text()) for path in (tmp_path / "rows").iterdir()]
    assert len(kept) == 3
    assert "each of 7 things" in next(each for each in table(kept).splitlines() if each.startswith(f"| {_GUEST.name} |"))


def test_whole_conversion_is_kept_with_the_buses_that_it_was_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2V_MATRIX_ROWS", str(tmp_path))
    record = filled_record()
    hardware = replace(record.hardware, disk_bus=DiskBus.SATA)
    record = replace(record, document=replace(record.document, facts=_FACTS, plan=_PLAN), hardware=hardware)
    note_converted(_GUEST, record, (devices.AHCI, devices.VIRTIO_BLK_MODERN), options="--discard-hibernation")
    (kept,) = (WindowsRow(**json.loads(path.read_text())) for path in tmp_path.iterdir())
    assert kept.is_whole
    assert tuple(kept.buses) == ("sata", "virtio-blk")
    assert kept.how.startswith("whole conversion to sata with --discard-hibernation (drivers: viostor, vioscsi")


def test_page_keeps_the_tables_of_which_no_row_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, rows = tmp_path / "page.md", tmp_path / "rows"
    before = support_matrix.PAGE.read_text("utf-8")
    page.write_text(before, "utf-8")
    monkeypatch.setattr(support_matrix, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["", str(rows)])
    monkeypatch.setenv("P2V_MATRIX_ROWS", str(rows))
    note(row())
    assert support_matrix.main() == 0
    after = page.read_text("utf-8")
    assert line(row()) in after
    outside = re.compile(f"{support_matrix.BEGIN_WINDOWS}.*{support_matrix.END_WINDOWS}", re.DOTALL)
    assert outside.sub("", after) == outside.sub("", before)


def test_page_says_of_no_windows_that_it_booted() -> None:
    text = support_matrix.PAGE.read_text("utf-8")
    told = text.split(support_matrix.BEGIN_WINDOWS)[1].split(support_matrix.END_WINDOWS)[0]
    assert not re.search(r"\bboots|\bbooted", told)
    assert all(f"\n| {guest.name} |" in told for guest in GUESTS)
