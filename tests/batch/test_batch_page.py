"""The example of docs/batch.md, done as it says: real conversions, and what the page shows of their output is what they print."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2v.cli.main import main
from tests.batch.dos import dos_disk
from tests.pipeline.running import p2v

PAGE = Path(__file__).parents[2] / "docs" / "batch.md"


@dataclass
class Shown:
    """A command of the page: its words, lines of its output ("..." for others between), its exit status."""

    words: list[str]
    lines: list[str] = field(default_factory=list)
    status: int = 0


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def session() -> list[Shown]:
    found: list[Shown] = []
    for line in "".join(blocks("console")).splitlines():
        if line.startswith("$ p2v "):
            found.append(Shown(shlex.split(line.removeprefix("$ p2v "))))
        elif line.startswith("# exit status "):
            found[-1].status = int(line.split()[-1])
        else:
            found[-1].lines.append(line)
    return found


def pattern(lines: list[str]) -> re.Pattern[str]:
    """What an output must be like: times may be others, and so may the widths of columns; ``...`` is anything."""
    text = " ".join("\n".join(lines).split())
    text = re.escape(text).replace(re.escape("..."), ".*")
    return re.compile(re.sub(r"(\d+\\ min\\ )?\d+(\\\.\d)?\\ s(?!\w)", r"[0-9.]+ (min [0-9]+ )?s", text))


def test_the_page_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("files1", "web1", "web2"):
        dos_disk(tmp_path / "exports" / f"{name}.raw")
    old = tmp_path / "exports" / "old.vmdk"
    old.write_bytes(b"KDMV" + bytes(60))
    (manifest,) = blocks("yaml")
    for shown in session():
        words = shown.words
        if ">" in words:
            ran = p2v(*words[: words.index(">")])
            assert (ran.status, "exports/web1.raw" in ran.out) == (shown.status, True), ran.err
            Path("jobs.yaml").write_text(manifest)
            continue
        if "retry" in words:
            whole = dos_disk(tmp_path / "whole.raw")
            subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "vmdk", whole, old], check=True)
        ran = p2v(*words)
        assert ran.status == shown.status, ran.out + ran.err
        assert pattern(shown.lines).fullmatch(" ".join(ran.out.split())), f"{words}\n{ran.out}\n{shown.lines}"
    assert {path.stem for path in (tmp_path / "converted").glob("*.qcow2")} == {"files1", "web1", "web2", "old"}
    assert Path("fleet.html").read_text().startswith("<!doctype html>")


def test_every_verb_is_on_the_page_and_tells_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["batch", "--help"])
    verbs = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    page = PAGE.read_text()
    assert len(verbs) == 11
    for verb in verbs:
        assert re.search(rf"`{verb}[ `]", page), verb
        with pytest.raises(SystemExit) as ended:
            main(["batch", verb, "--help"])
        assert ended.value.code == 0
        assert f"p2v batch {verb}" in capsys.readouterr().out
