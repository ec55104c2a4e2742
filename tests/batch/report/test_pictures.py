"""Boot screens that are found beside records, and what is not taken for one."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.jobs import Failure, Job, State
from p2v.batch.report import pictures
from p2v.batch.report.limits import PICTURE_BYTES
from p2v.batch.report.pictures import Boot, Shelf
from tests.batch.report.samples import machine, png


def record(folder: Path, name: str, screenshot: Any = ..., **more: Any) -> Path:
    """A record of which only the boot check is there."""
    evidence = {
        "verdict": {"reason": "booted", "sentence": "it came up", "evidence": []},
        "accelerator": "kvm",
        "seconds": 31.5,
        "screenshot": f"{name}.png" if screenshot is ... else screenshot,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"schema": 2, "boot": {"evidence": evidence}} | more))
    return path


def job(folder: Path, name: str, state: State = State.DONE, ended: float = 0.0, **more: Any) -> Job:
    there = replace(machine(name), folder=folder)
    return replace(Job(there, state, record=folder / f"{name}.json", ended=ended, verified=True), **more)


def test_a_screen_beside_its_record(tmp_path: Path) -> None:
    record(tmp_path, "web")
    (tmp_path / "web.png").write_bytes(png(320, 200))
    boot = Shelf().boots([job(tmp_path, "web")])["web"]
    assert (boot.reason, boot.sentence, boot.seconds, boot.accelerator) == ("booted", "it came up", 31.5, "kvm")
    assert boot.picture is not None
    assert (boot.picture.width, boot.picture.height, boot.picture.png) == (320, 200, png(320, 200))


def test_records_of_version_0_1_have_no_parts(tmp_path: Path) -> None:
    path = record(tmp_path, "web")
    evidence = json.loads(path.read_text())["boot"]["evidence"]
    path.write_text(json.dumps({"schema": 1, "boot": evidence}))
    assert Shelf().boots([job(tmp_path, "web")])["web"].reason == "booted"


def test_a_machine_parked_for_its_boot_check_shows_its_screen(tmp_path: Path) -> None:
    record(tmp_path, "web")
    (tmp_path / "web.png").write_bytes(png())
    parked = job(tmp_path, "web", State.PARKED, record=None, failure=Failure("not-booted", 3, "it hangs"))
    assert Shelf().boots([parked])["web"].picture is not None
    assert Shelf().boots([replace(parked, failure=Failure("no-space", 73, "it is full"))]) == {}


@pytest.mark.parametrize("data", [b"", b"GIF89a" + b"x" * 100, png()[:20], png(1 << 14, 1)[:60], b"x" * 100])
def test_what_is_no_picture_is_none(tmp_path: Path, data: bytes) -> None:
    record(tmp_path, "web")
    (tmp_path / "web.png").write_bytes(data)
    assert Shelf().boots([job(tmp_path, "web")])["web"].picture is None


def test_a_picture_that_is_too_large_is_none(tmp_path: Path) -> None:
    record(tmp_path, "web")
    (tmp_path / "web.png").write_bytes(png() + b"\0" * PICTURE_BYTES)
    assert Shelf().boots([job(tmp_path, "web")])["web"].picture is None


@pytest.mark.parametrize("name", ["../web.png", "/etc/hostname", "folder/web.png", "", None, 7, "no-such.png", ".."])
def test_names_that_lead_elsewhere_are_not_followed(tmp_path: Path, name: object) -> None:
    (tmp_path / "web.png").write_bytes(png())
    inside = tmp_path / "results"
    (inside / "folder").mkdir(parents=True)
    (inside / "folder" / "web.png").write_bytes(png())
    record(inside, "web", name)
    assert Shelf().boots([job(inside, "web")])["web"].picture is None


def test_links_pipes_and_folders_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(png())
    for name in ("link", "pipe", "folder"):
        record(tmp_path, name)
    (tmp_path / "link.png").symlink_to("real.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    boots = Shelf().boots([job(tmp_path, name) for name in ("link", "pipe", "folder")])
    assert [boots[name].picture for name in ("link", "pipe", "folder")] == [None, None, None]


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"boot": []}', '{"boot": {"evidence": 5}}', "[" * 200_000])
def test_a_record_that_is_none_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "web.json").write_text(text)
    assert Shelf().boots([job(tmp_path, "web")]) == {}


def test_a_record_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    assert Shelf().boots([job(tmp_path, "web"), Job(machine("other"), State.WAITING)]) == {}


def test_pictures_have_a_budget_and_failures_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["old", "new", "parked"]
    for name in names:
        record(tmp_path, name)
        (tmp_path / f"{name}.png").write_bytes(png())
    monkeypatch.setattr(pictures, "PICTURES_BYTES", 2 * len(png()))
    failed = Failure("not-booted", 3, "it hangs")
    jobs = [
        job(tmp_path, "old", ended=1.0),
        job(tmp_path, "new", ended=2.0),
        job(tmp_path, "parked", State.PARKED, failure=failed),
    ]
    boots = Shelf().boots(jobs)
    assert {name: bool(boots[name].picture and boots[name].picture.png) for name in names} == {  # type: ignore[union-attr]
        "old": False,
        "new": True,
        "parked": True,
    }
    old = boots["old"].picture
    assert old is not None
    assert old.path == tmp_path / "old.png"


def test_a_record_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, "web")
    (tmp_path / "web.png").write_bytes(png())
    shelf, read, real = Shelf(), list[Path](), pictures.boot_of

    def counted(path: Path) -> Boot | None:
        read.append(path)
        return real(path)

    monkeypatch.setattr(pictures, "boot_of", counted)
    for _ in range(3):
        assert shelf.boots([job(tmp_path, "web")])["web"].reason == "booted"
    assert len(read) == 1
    record(tmp_path, "web", note="longer than before")
    shelf.boots([job(tmp_path, "web")])
    assert len(read) == 2
