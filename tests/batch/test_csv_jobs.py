"""The simple case: a table as a spreadsheet writes it is a manifest too."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.batch.jobs import Verify
from p2v.batch.manifest import read_batch
from p2v.core.errors import BadManifest
from tests.batch.manifests import mistakes, read


def test_a_line_is_a_machine(tmp_path: Path) -> None:
    text = "name,source,target,verify,wave,cpus\nweb,web.vmx,out,boot,,\ndb,a.img|b.img,/srv/kvm,,2,4\n"
    web, db = read(tmp_path, text, "jobs.csv").machines
    assert (web.name, web.sources, web.folder, web.verify) == (
        "web",
        (tmp_path / "web.vmx",),
        tmp_path / "out",
        Verify.BOOT,
    )
    assert (web.wave, web.options, web.line) == (0, (), 2)
    assert db.sources == (tmp_path / "a.img", tmp_path / "b.img")
    assert (db.folder, db.wave, db.options, db.line) == (Path("/srv/kvm"), 2, ("--cpus=4",), 3)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_as_spreadsheets_write_it(tmp_path: Path, separator: str) -> None:
    rows = [["Name", "Source", "Target"], ["a", '"x, y; z.img"', "out"], ["", "", ""], ["# b", "b.img", "out"]]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows) + "\r\n"
    (found,) = read(tmp_path, text, "jobs.csv").machines
    assert found.sources == (tmp_path / "x, y; z.img",)


def test_mistakes_have_their_lines_also_below_a_cell_of_several_lines(tmp_path: Path) -> None:
    text = 'name,source,target,network\na,a.img,out,"x\ny"\nb b,b.img,out,\nc,,out,\n'
    assert [(each.line, each.where) for each in mistakes(tmp_path, text, "jobs.csv")] == [
        (2, "machine a.network"),
        (4, "machine b b.name"),
        (5, "machine c.source"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name,source,source\na,b,c\n", 1),
        ("name,source,map\na,b,c\n", 1),
        ("name,source,target\na,b,c,d\n", 2),
        ('name,source,target\na,b,"c\n', 2),
        ("name,source,target,colour\na,b,c,red\n", 2),
        ("name,source,target\n", 1),
        ("", 1),
    ],
)
def test_a_table_that_makes_no_sense(tmp_path: Path, text: str, line: int) -> None:
    found = mistakes(tmp_path, text, "jobs.csv")
    assert found
    assert found[0].line == line


def test_a_table_is_known_without_its_name(tmp_path: Path) -> None:
    assert read(tmp_path, "name,source,target\na,b,c\n", "jobs").machines[0].name == "a"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_letters_are_those_that_the_spreadsheet_wrote(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "jobs.csv").write_bytes("name;source;target\r\na;Büro €.vmx;out\r\n".encode(encoding))
    assert read_batch(tmp_path / "jobs.csv").machines[0].sources == (tmp_path / "Büro €.vmx",)


def test_bytes_that_no_spreadsheet_writes_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_bytes(b"name;source;target\r\na;B\x81.vmx;out\r\n")
    with pytest.raises(BadManifest) as raised:
        read_batch(tmp_path / "jobs.csv")
    assert [mistake.line for mistake in raised.value.mistakes] == [2]


@pytest.mark.parametrize("name", ["jobs.csv", "jobs"])
def test_a_line_above_the_columns_says_what_separates_them(tmp_path: Path, name: str) -> None:
    text = "sep=;\r\nname;source;target\r\na;x,y,z.img;out\r\nb b;b.img;out\r\n"
    assert [(each.line, each.where) for each in mistakes(tmp_path, text, name)] == [(4, "machine b b.name")]
    (found,) = read(tmp_path, text.partition("b b")[0], name).machines
    assert (found.sources, found.line) == ((tmp_path / "x,y,z.img",), 3)


def test_cells_that_were_emptied_are_no_columns(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "name;source;target;;\r\na;a.img;out;;\r\n;;;;\r\n", "jobs.csv").machines
    assert found.sources == (tmp_path / "a.img",)
    # something stands there, and nobody knows what it is
    assert mistakes(tmp_path, "name;source;target;;\r\na;a.img;out;;x\r\n", "jobs.csv")[0].line == 2
