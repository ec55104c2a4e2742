"""Exports that are broken, or made to do harm: an error that says so, never a crash, a hang or a full memory."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from drivers.confinement import Limits
from p2v.audit.inventory import child, csv_folder
from p2v.audit.inventory.audit import audit_inventory
from p2v.audit.inventory.reading import read_inventory, recognises
from p2v.audit.inventory.workbook import Bounds, read_workbook
from p2v.core.errors import BadDescription, ReadFailed
from p2v.core.units import MIB
from tests.audit.inventory.exports import AS_OF, Export, clean, known_rules, write_folder, write_workbook

_SHEET = "xl/worksheets/sheet1.xml"
_SMALL = Bounds(reading=Limits(memory_bytes=256 * MIB, seconds=300.0, cpu_seconds=20))


def _edited(path: Path, part: str, edit: Callable[[bytes], bytes], *, level: int = 1) -> Path:
    """The workbook with another part."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = edit(parts.get(part, b""))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A sound workbook."""
    return write_workbook(tmp_path / "all.xlsx", clean())


@pytest.mark.parametrize(
    "contents",
    [b"", b"PK", b"PK\x05\x06" + bytes(18), b"no workbook at all", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)],
)
def test_a_file_that_is_no_workbook_is_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "all.xlsx"
    path.write_bytes(contents)
    assert not recognises(path)
    with pytest.raises(BadDescription):
        read_inventory(path)


def test_a_workbook_that_was_cut_off_is_refused(good: Path) -> None:
    data = good.read_bytes()
    for length in (len(data) // 3, len(data) - 30):
        good.write_bytes(data[:length])
        with pytest.raises(BadDescription):
            read_inventory(good)


def test_damage_in_a_sheet_is_an_error(good: Path) -> None:
    _edited(good, _SHEET, lambda sheet: sheet[: len(sheet) // 2])
    with pytest.raises(BadDescription):
        read_inventory(good)


@pytest.mark.parametrize("bounds", [Bounds(part_bytes=8 * MIB), Bounds(unpacked_bytes=8 * MIB), Bounds(parts=3)])
def test_what_says_that_it_unpacks_to_too_much_is_not_unpacked(
    good: Path, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    _edited(good, _SHEET, lambda sheet: sheet + b" " * 9 * MIB)
    monkeypatch.setattr(child, "confined", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(BadDescription):
        read_workbook(good, bounds)


def test_a_directory_of_very_many_parts_is_not_read(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(good.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", 200 * MIB)
    good.write_bytes(data)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was read"))
    assert not recognises(good)
    with pytest.raises(BadDescription, match="directory"):
        read_inventory(good)


def test_an_archive_for_very_large_files_is_refused(good: Path) -> None:
    data = bytearray(good.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end:end] = b"PK\x06\x07" + bytes(16)
    good.write_bytes(data)
    assert not recognises(good)
    with pytest.raises(BadDescription, match="Zip64"):
        read_inventory(good)


def test_a_file_that_is_too_large_is_not_looked_into(good: Path) -> None:
    with pytest.raises(BadDescription, match="larger"):
        read_workbook(good, Bounds(file_bytes=100))


def _with_long_string(path: Path) -> tuple[Path, int]:
    strings = (
        b"<sst xmlns='http://schemas.openxmlformats.org/spreadsheetml/2006/main'><si><t>"
        + b"x" * (40 * MIB)
        + b"</t></si></sst>"
    )
    return _edited(path, "xl/sharedStrings.xml", lambda _: strings), len(strings)


def _elsewhere(read: str, path: Path) -> str:
    """What a program says that reads a path. This process may have memory that it gave back, which a child has for nothing."""
    code = f"""
import sys
from pathlib import Path
from drivers.confinement import Limits
from p2v.audit.inventory.csv_folder import read_folder
from p2v.audit.inventory.workbook import Bounds, read_workbook
from p2v.core.errors import BadDescription
limits = Limits(memory_bytes=int(sys.argv[2]), seconds=300.0, cpu_seconds=20)
try:
    {read}
except BadDescription as error:
    print(error)
"""
    words = [sys.executable, "-c", code, str(path), str(32 * MIB)]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=600).stdout


def test_a_workbook_that_needs_too_much_memory_ends_the_reader_alone(good: Path) -> None:
    path, _ = _with_long_string(good)
    assert "memory" in _elsewhere("read_workbook(Path(sys.argv[1]), Bounds(reading=limits))", path)


def test_a_workbook_that_unpacks_to_more_than_it_says_is_an_error(good: Path) -> None:
    path, length = _with_long_string(good)
    data = path.read_bytes()
    assert data.count(struct.pack("<I", length)) == 2
    path.write_bytes(data.replace(struct.pack("<I", length), struct.pack("<I", 100)))
    with pytest.raises(BadDescription):
        read_workbook(path, _SMALL)


def test_two_cells_at_the_ends_of_a_sheet_fill_no_memory(good: Path) -> None:
    far = b'<row r="1048576"><c r="XFD1048576" t="n"><v>1</v></c></row></sheetData>'
    _edited(good, _SHEET, lambda sheet: sheet.replace(b"</sheetData>", far))
    with pytest.raises(BadDescription, match="memory"):
        read_workbook(good, _SMALL)


def test_a_dimension_that_lies_changes_nothing(good: Path) -> None:
    def lie(sheet: bytes) -> bytes:
        assert b"<sheetData>" in sheet
        return sheet.replace(b"<sheetData>", b'<dimension ref="A1:XFD1048576"/><sheetData>')

    _edited(good, _SHEET, lie)
    assert [machine.info.vm for machine in read_inventory(good).machines] == ["web-1"]


def test_entities_are_not_expanded(good: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("TOP-SECRET")
    doctype = (
        f'<!DOCTYPE x [<!ENTITY a "{"ha" * 50}"><!ENTITY b "{"&a;" * 50}"><!ENTITY c "{"&b;" * 50}"><!ENTITY d "{"&c;" * 50}">'
        f'<!ENTITY e "{"&d;" * 50}"><!ENTITY f SYSTEM "file://{secret}">]>'
    ).encode()

    def bomb(sheet: bytes) -> bytes:
        head, mark, rest = sheet.partition(b"<worksheet")
        row = b'<row r="9"><c r="A9" t="inlineStr"><is><t>&e;&f;</t></is></c></row></sheetData>'
        return head + doctype + mark + rest.replace(b"</sheetData>", row)

    _edited(good, _SHEET, bomb)
    try:
        names = [machine.info.vm for machine in read_inventory(good).machines]
    except BadDescription:
        return
    assert all("SECRET" not in name and len(name) < 1000 for name in names)


def test_formulas_are_not_values(tmp_path: Path) -> None:
    export = clean()
    export["vInfo"][0] |= {
        "CPUs": "=1+1",
        "DNS Name": '=HYPERLINK("http://example.org")',
        "Annotation": "=cmd|' /C calc'!A0",
    }
    machine = read_inventory(write_workbook(tmp_path / "all.xlsx", export)).machines[0]
    assert machine.info.vm == "web-1"
    assert machine.info.cpus is None


def _of_wrong_types() -> Export:
    export = clean()
    for sheet, rows in export.items():
        for number, row in enumerate(rows):
            for at, column in enumerate(row):
                if column not in ("VM", "Host", "Name", "Port"):
                    row[column] = (
                        True,
                        "text",
                        -1e308,
                        datetime(2026, 1, 1),
                        "\u202e\u0007\u00a0",
                        1e18,
                        "#REF!",
                        None,
                    )[(at + number) % 8]
        assert rows or sheet
    export["vInfo"][0]["VM"] = 4711
    return export


def test_cells_of_wrong_types_are_no_crash(tmp_path: Path) -> None:
    export = _of_wrong_types()
    path = write_workbook(
        tmp_path / "all.xlsx", {sheet: [_allowed(row) for row in rows] for sheet, rows in export.items()}
    )
    machines = audit_inventory(path, known_rules(), AS_OF)
    assert [machine.name for machine in machines] == ["4711"]
    for finding in machines[0].findings:
        assert finding.message.isprintable()


def _allowed(row: dict[str, object]) -> dict[str, object]:
    """The row without what openpyxl refuses to write."""
    return {key: value.replace("\a", "") if isinstance(value, str) else value for key, value in row.items()}


def test_a_csv_of_wrong_types_is_no_crash(tmp_path: Path) -> None:
    machines = audit_inventory(write_folder(tmp_path / "csv", _of_wrong_types()), known_rules(), AS_OF)
    assert [machine.name for machine in machines] == ["4711"]


def test_control_characters_and_megabytes_reach_nobody(tmp_path: Path) -> None:
    export = clean()
    export["vInfo"][0]["VM"] = "web\x1b]0;owned\x07" + "x" * 1_000_000
    folder = write_folder(tmp_path / "csv", {"vInfo": export["vInfo"]})
    # the csv module has a limit of its own for one field
    try:
        name = audit_inventory(folder, known_rules(), AS_OF)[0].name
    except BadDescription:
        return
    assert name.isprintable()
    assert len(name) < 1000


@pytest.mark.parametrize(
    "contents", [b"\xff\xfe", b"\0", os.urandom(5000), b'VM,Powerstate\n"unclosed,1\n', b"VM;Powerstate\n;;;;;;;;\n"]
)
def test_a_broken_csv_is_an_error_or_nothing(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "RVTools_tabvInfo.csv").write_bytes(contents)
    try:
        machines = read_inventory(tmp_path).machines
    except BadDescription:
        return
    assert len(machines) <= 1


def test_a_row_of_very_many_cells_ends_the_reader_alone(tmp_path: Path) -> None:
    (tmp_path / "RVTools_tabvInfo.csv").write_bytes(b"VM,Powerstate\nweb-1,poweredOn\n" + b"," * (16 * MIB))
    assert "memory" in _elsewhere("read_folder(Path(sys.argv[1]), limits)", tmp_path)


def test_a_csv_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "csv", clean())
    monkeypatch.setattr(csv_folder, "BYTES_AT_MOST", 100)
    with pytest.raises(BadDescription, match="more than"):
        read_inventory(folder)


def test_what_the_reader_answers_is_not_believed(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: tuple[object, ...] = (
        None,
        {},
        [{}],
        [{"sheet": "vinfo", "where": "x", "fields": ["vm", "system('rm')"], "units": [1, 1], "lines": []}],
        [{"sheet": "vInfo", "where": "x", "fields": ["vm"], "units": [1], "lines": [[2, []]]}],
        [{"sheet": "vInfo", "where": "x", "fields": ["vm"], "units": [1], "lines": [[2, [{}]]]}],
        [{"sheet": "nothing", "where": "x", "fields": [], "units": [], "lines": []}],
    )
    for answer in answers:
        monkeypatch.setattr(child, "confined", lambda *_, answer=answer, **__: answer)
        with pytest.raises(BadDescription):
            read_workbook(good)


def test_a_device_and_a_pipe_are_no_exports(tmp_path: Path) -> None:
    (tmp_path / "device.xlsx").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.xlsx")
    for name in ("device.xlsx", "pipe.xlsx"):
        assert not recognises(tmp_path / name)
        with pytest.raises(BadDescription):
            read_inventory(tmp_path / name)


def test_a_file_that_is_not_there_is_an_error_of_the_suite(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed):
        read_inventory(tmp_path / "gone.xlsx")
