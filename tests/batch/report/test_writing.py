"""The page as a file."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.report import write_report
from p2v.core.errors import P2vError, TargetExists
from tests.batch.report.samples import NOW, Sample, fleet, sample


def write(path: Path, given: Sample) -> None:
    write_report(path, given.batch, given.jobs, given.events, NOW, 10)


def test_a_page_is_written_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(path, fleet(3))
    before = path.read_text("utf-8")
    write(path, sample())
    assert path.read_text("utf-8") == replace(sample(), boots={}).html(10) != before
    assert os.listdir(tmp_path) == ["report.html"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_is_no_page_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("my own notes")
    with pytest.raises(TargetExists):
        write(path, sample())
    assert path.read_text() == "my own notes"
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(TargetExists):
        write(tmp_path / "folder.html", sample())


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path / "report.html", fleet(3))
    before = (tmp_path / "report.html").read_bytes()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(P2vError):
        write(tmp_path / "report.html", sample())
    assert os.listdir(tmp_path) == ["report.html"]
    assert (tmp_path / "report.html").read_bytes() == before
    with pytest.raises(P2vError):
        write(tmp_path / "no such folder" / "report.html", sample())


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(path, fleet(3))
    ended = threading.Event()

    def writing() -> None:
        try:
            for _ in range(10):
                write(path, fleet(3))
                write(path, sample())
        finally:
            ended.set()

    writer = threading.Thread(target=writing)
    writer.start()
    looked = 0
    while not ended.is_set() or not looked:
        assert path.read_text("utf-8").endswith("</html>\n")
        looked += 1
    writer.join()
