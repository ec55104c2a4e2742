"""Utilisation files: what spreadsheets do to them is taken, what could be read in two ways is an error with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.audit.sizing.inputs import Use
from p2v.audit.sizing.utilisation import read_utilisation
from p2v.core.errors import ReadFailed, Usage
from p2v.core.units import GIB, MIB


def read(folder: Path, text: str | bytes) -> tuple[Use, ...]:
    file = folder / "use.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_utilisation(file)


EXPECTED = (
    Use("web 1", 2, cpu_mhz=1250.5, memory_bytes=2048 * MIB),
    Use("db", 3, cpu_mhz=300.0, memory_bytes=512 * MIB),
)


@pytest.mark.parametrize(
    "text",
    [
        "name,cpu p95 mhz,memory p95 mib\nweb 1,1250.5,2048\ndb,300,512\n",
        "Name;CPU p95 (MHz);Memory p95 (MiB)\r\nweb 1;1250,5;2048\r\ndb;300;512\r\n",
        "VM\tcpu_p95_mhz\tmem_p95_mb\nweb 1\t1250.500\t2048\ndb\t300\t512",
        "VM\tcpu_p95_mhz\tmem_p95_mb\nweb 1\t1250,5\t2048\ndb\t300\t512",
        "\ufeffmachine | p95 CPU | p95 RAM\n web 1 | 1250.5 MHz | 2 GiB\n db | 0.3 GHz | 0.5gb\n",
        'notes,"name","memory p95, MB","cpu p95, MHz"\n,"web 1","2048","1250.5"\nx,db,512,300\n',
    ],
)
def test_separators_headings_units_and_decimal_commas_are_taken_as_they_come(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == EXPECTED


def test_what_excel_calls_unicode_text_is_taken(tmp_path: Path) -> None:
    text = "name\tcpu p95 mhz\tmemory p95 mib\r\nweb 1\t1250.5\t2048\r\ndb\t300\t512\r\n"
    assert read(tmp_path, text.encode("utf-16")) == EXPECTED


def test_percent_and_empty_cells(tmp_path: Path) -> None:
    found = read(tmp_path, "name,cpu p95 %,memory p95\na,12.5,50 %\nb,,\n\nc,0,1048576 bytes\n")
    assert found == (
        Use("a", 2, cpu_percent=12.5, memory_percent=50.0),
        Use("b", 3),
        Use("c", 5, cpu_percent=0.0, memory_bytes=MIB),
    )


def test_one_of_the_two_columns_is_enough(tmp_path: Path) -> None:
    assert read(tmp_path, "name,memory p95 gib\na,2\n") == (Use("a", 2, memory_bytes=2 * GIB),)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name,cpu p95 mhz\na,12\nb,much\n", 3, "no number"),
        ("name,cpu p95 mhz\na,-5\n", 2, "no number"),
        ("name,cpu p95 mhz\na,nan\n", 2, "no number"),
        ("name,cpu p95 mhz\na,1e3\n", 2, "no number"),
        ('name,cpu p95 mhz\na,"1,234"\n', 2, "two ways"),
        ("name;cpu p95 mhz\na;1.234\n", 2, "two ways"),
        ("name;cpu p95 mhz\na;1,234\n", 2, "two ways"),
        ("name,cpu p95\na,12\n", 2, "no unit"),
        ("name,cpu p95 %\na,250\n", 2, "100 at most"),
        ("name,cpu p95 mhz\na,12 gib\n", 2, "no unit of it"),
        ("name,cpu p95 mhz\n,12\n", 2, "no name"),
        ("name,cpu p95 mhz\nA,12\nb,1\n a ,13\n", 4, "stands in line 2"),
        ("name,memory p95 tib\na,999999999999999\n", 2, "larger than any machine"),
        ("\n\nwho,cpu p95 mhz\na,12\n", 3, "0 columns for name"),
        ("name,cpu p95 mhz,cpu p95 %\na,12,3\n", 1, "2 columns for cpu"),
        ("name,cpu mhz\na,12\n", 1, "neither"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(Usage) as raised:
        read(tmp_path, text)
    assert f"line {line}: " in raised.value.sentence()
    assert words in raised.value.sentence()
    assert "use.csv" in raised.value.sentence()


def test_all_wrong_lines_are_told_at_once_up_to_twenty(tmp_path: Path) -> None:
    with pytest.raises(Usage) as raised:
        read(tmp_path, "name,cpu p95 mhz\n" + "a,x\n" * 500)
    assert raised.value.sentence().count("line ") == 20


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"\xff\xfe\x00", b"name,cpu p95 mhz\na\xff,1\n", b"\x00" * 1000])
def test_what_is_no_such_file_is_an_error_of_the_users(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(Usage):
        read(tmp_path, raw)


def test_a_cell_as_long_as_a_file_does_no_harm(tmp_path: Path) -> None:
    with pytest.raises(Usage) as raised:
        read(tmp_path, "name,cpu p95 mhz\n" + "a" * 100_000 + ",1\n")
    assert len(raised.value.sentence()) < 1000


def test_letters_that_a_terminal_obeys_are_shown(tmp_path: Path) -> None:
    with pytest.raises(Usage) as raised:
        read(tmp_path, "name,cpu p95 mhz\na,\x1b[2J\n")
    assert "\x1b" not in raised.value.sentence()


def test_a_missing_file_is_no_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed):
        read_utilisation(tmp_path / "none.csv")
