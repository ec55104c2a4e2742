"""The Tab key in real shells: what can stand there is offered, no more, and nothing that somebody wrote is run."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.batch.jobs import Batch, Budget, MachineJob
from p2v.batch.store import Store
from p2v.cli.main import main, whole_parser
from p2v.cli.verbs import VerbParser
from tests.cli.shells import ALL, SECONDS, environment, fish_offers, shell, stand_in
from tests.cli.test_starting import _FOREIGN, _OF_OTHER_RUNS, below, read_by

_TOP = Path(__file__).parents[2]
_SHELLS = ("bash", "zsh", "fish")
_TYPED = ("bash", "zsh")
_NAMES = b"web1\nweb2\nweb.3\ndb-1\n"
# what a store that somebody crafted may have, and a p2v that somebody put there may say
_HOSTILE = (
    b"web9;touch hacked\n$(touch hacked)\nweb$(touch hacked)\n`touch hacked`\nweb 9\nweb'9\nweb\"9\nweb\\9\n-web\nweb*\nweb9&\n"
    b"web9\ttouch\nweb9\rtouch hacked\n\x1b[2Jweb9\nweb\xff\n~\n!!\nweb9|touch hacked\n{web,9}\n\n"
)


def need(name: str) -> None:
    """`make setup` brings them."""
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")


def parsers(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every verb as it is typed, with the parser that takes its options apart."""
    if isinstance(parser, VerbParser):
        parser.load()
    yield " ".join(("p2v", *words)), parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, under in action.choices.items():
                yield from parsers(under, (*words, name))


def told_by_parsers() -> dict[str, set[str]]:
    """Lines, and what is to be offered behind each: all options of all verbs, and all choices of all options."""
    wished: dict[str, set[str]] = {}
    for line, parser in parsers(whole_parser()):
        shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        wished[f"{line} -"] = {name for action in shown for name in action.option_strings}
        for action in shown:
            if action.nargs == "?" and action.option_strings:
                continue  # what follows it may be something else as well; below there is a test of it
            if action.choices is not None and action.option_strings:
                wished |= {f"{line} {name} ": set(map(str, action.choices)) for name in action.option_strings}
            elif action.choices is not None:
                wished[f"{line} "] = set(map(str, action.choices))
    return wished


def offered_in_bash(lines: list[str], top: Path) -> list[set[str]]:
    """By the function of the script itself, called as bash calls it."""
    code = (
        'source "$1"; shift; for l; do COMP_LINE=$l COMP_POINT=${#l}; _p2v p2v "${l##* }"; echo "${COMPREPLY[*]}"; done'
    )
    argv = ["bash", "--noprofile", "--norc", "-c", code, "bash", str(stand_in("bash", top)), *lines]
    ran = subprocess.run(
        argv, env=environment(top), cwd=top, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert ran.stderr == ""
    return [set(line.split()) for line in ran.stdout.split("\n")[:-1]]


def offered_in_zsh(lines: list[str], top: Path) -> list[set[str]]:
    with shell("zsh", top) as typed:
        return [set(typed.offered(line)) for line in lines]


def offered_in_fish(lines: list[str], top: Path) -> list[set[str]]:
    stand_in("fish", top)
    return [set(each) for each in fish_offers(lines, top)]


def test_every_verb_has_been_seen_by_the_next_tests() -> None:
    wished = told_by_parsers()
    assert {"--output", "-o", "--verify", "--to", "--no-reflink"} < wished["p2v convert -"]
    assert wished["p2v batch logs -"] == {"-h", "--help", "-b", "--batch", "-f", "--follow", "--json"}
    assert wished["p2v convert --format "] == {"qcow2", "raw"}
    assert wished["p2v completion "] == {"bash", "zsh", "fish"}
    assert {"batch", "convert", "completion"} < wished["p2v "]
    assert len(wished) > 90


@pytest.mark.parametrize("name", _SHELLS)
def test_all_verbs_options_and_choices_are_offered_and_no_others(name: str, tmp_path: Path) -> None:
    need(name)
    wished = told_by_parsers()
    if name == "zsh":
        # keys pressed one by one: an option is looked at once, whatever verbs have it
        once = {line.partition(" --")[2] or line: line for line in wished}
        wished = {line: wished[line] for line in once.values()}
    offered = {"bash": offered_in_bash, "zsh": offered_in_zsh, "fish": offered_in_fish}[name](list(wished), tmp_path)
    assert dict(zip(wished, offered, strict=True)) == wished


@pytest.mark.parametrize("name", _TYPED)
def test_what_is_typed_is_completed(name: str, tmp_path: Path) -> None:
    need(name)
    (tmp_path / "my folder").mkdir()
    (tmp_path / "my file.vmdk").touch()
    (tmp_path / "jobs.yaml").touch()
    rows = {
        "p2v ba": "batch",
        "p2v --vers": "--version",
        "p2v batch lo": "batch logs",
        "p2v batch logs --fol": "batch logs --follow",
        "p2v batch status --state pa": "batch status --state parked",
        "p2v batch status --state=pa": "batch status --state=parked",
        "p2v convert --compress=z": "convert --compress=zstd",
        "p2v convert --compress def": "convert --compress deflate",
        "p2v convert --compress --veri": "convert --compress --verify",
        "p2v convert my\\ fi": "convert 'my file.vmdk'",
        "p2v convert a.vmdk my\\ fi": "convert a.vmdk 'my file.vmdk'",
        "p2v convert 'my fi": "convert 'my file.vmdk'",
        "p2v convert --plan my\\ fi": "convert --plan 'my file.vmdk'",
        "p2v convert --plan=my\\ fi": "convert --plan='my file.vmdk'",
        "p2v convert --key all:file:jo": "convert --key all:file:jobs.yaml",
        "p2v batch run -- jo": "batch run -- jobs.yaml",
        "p2v batch run --only=x --wave 1 jo": "batch run --only=x --wave 1 jobs.yaml",
        # a folder is wished, and files are none
        "p2v convert -o my": "convert -o 'my folder'",
        "p2v convert --output=my": "convert --output='my folder'",
        # nothing can be known
        "p2v convert --name my": "convert --name my",
        "p2v nothing my": "nothing my",
        "p2v doctor my": "doctor my",
        "p2v batch logs a my": "batch logs a my",
        # after what the shell itself takes
        "true; p2v ba": "batch",
        "X=1 p2v ba": "batch",
        "p2v ba 2>/dev/null lo": "ba lo",
        "p2v batch 2>/dev/null lo": "batch logs",
    }
    with shell(name, tmp_path, _NAMES) as typed:
        done = {line: [word.rstrip("/") for word in typed.run(line)] for line in rows}
    assert done == {line: shlex.split(words) for line, words in rows.items()}


@pytest.mark.parametrize("name", _TYPED)
def test_machines_are_offered_where_machines_are_wished(name: str, tmp_path: Path) -> None:
    need(name)
    (tmp_path / "web5").touch()
    every = {"web1", "web2", "web.3", "db-1"}
    with shell(name, tmp_path, _NAMES) as typed:
        for verb in ("retry", "cancel", "logs"):
            assert set(typed.offered(f"p2v batch {verb} ")) == every
        assert set(typed.offered("p2v batch run --only ")) == every
        assert set(typed.offered("p2v batch retry web1 ")) == every - {"web1"}
        assert set(typed.offered("p2v batch retry --reason no-space web1 web")) == {"web2", "web.3"}
        assert typed.run("p2v batch logs -b 'of night 1.yaml' d") == ["batch", "logs", "-b", "of night 1.yaml", "db-1"]
        assert typed.run("~/bin/p2v batch logs d") == ["batch", "logs", "db-1"]
        assert typed.run("p2v batch run --only=d") == ["batch", "run", "--only=db-1"]
    asked = (tmp_path / "asked").read_text("utf-8").splitlines()
    assert asked[-3:] == [
        "--machines-for batch logs -b of night 1.yaml",
        "--machines-for batch logs",
        "--machines-for batch run",
    ]
    assert b"nobody is to see" not in typed.seen


@pytest.mark.parametrize("name", _TYPED)
def test_no_key_but_that_for_a_machine_starts_the_program(name: str, tmp_path: Path) -> None:
    need(name)
    lines = (
        "p2v ",
        "p2v batch ",
        "p2v batch logs -",
        "p2v convert --to ",
        "p2v convert ",
        "p2v convert -o ",
        "p2v batch run ",
    )
    with shell(name, tmp_path, _NAMES) as typed:
        for line in lines:
            typed.look(line)
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("name", _TYPED)
def test_hostile_names_are_neither_offered_nor_run(name: str, tmp_path: Path) -> None:
    need(name)
    with shell(name, tmp_path, _HOSTILE + _NAMES) as typed:
        assert set(typed.offered("p2v batch logs ")) == {"web1", "web2", "web.3", "db-1"}
        assert typed.run("p2v batch logs web.") == ["batch", "logs", "web.3"]
        (tmp_path / "names").write_bytes(_HOSTILE)
        assert typed.offered("p2v batch logs ") == []
        assert typed.run("p2v batch cancel ") == ["batch", "cancel"]
    assert (tmp_path / "asked").exists()
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("name", _TYPED)
def test_what_is_typed_is_not_run_before_its_time(name: str, tmp_path: Path) -> None:
    need(name)
    lines = (
        "p2v batch logs -b $(touch hacked) ", "p2v batch logs -b `touch hacked` ", 'p2v batch logs "$(touch hacked)" ',
        "p2v batch logs --batch='$(touch hacked)' ", "p2v batch logs $(touch hacked)", "p2v '$(touch hacked)' ",
        "p2v convert --to=$(touch hacked)", "p2v batch logs ${x:=$(touch hacked)} ", "p2v batch logs 'a[$(touch hacked)]' ",
        "p2v 'batch logs) touch hacked;;' ", "p2v batch 'x[$(touch hacked)]' --",
    )  # fmt: skip
    with shell(name, tmp_path, _NAMES) as typed:
        for line in lines:
            typed.look(line)
            typed.look(line, ALL)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("name", _TYPED)
def test_a_program_that_is_not_there_is_no_trouble(name: str, tmp_path: Path) -> None:
    need(name)
    with shell(name, tmp_path, _NAMES) as typed:
        before = len(typed.seen)
        typed.look("nowhere/p2v batch logs ")
        assert b"o such file" not in typed.seen[before:]
        assert b"not found" not in typed.seen[before:]


def test_fish_offers_machines_and_files_where_they_are_wished(tmp_path: Path) -> None:
    need("fish")
    stand_in("fish", tmp_path, _HOSTILE + _NAMES)
    (tmp_path / "my folder").mkdir()
    (tmp_path / "my file.vmdk").touch()
    rows = {
        "p2v batch logs ": {"web1", "web2", "web.3", "db-1"},
        "p2v batch retry web1 web": {"web2", "web.3"},
        "p2v batch run --only d": {"db-1"},
        "p2v batch run --only=d": {"--only=db-1"},
        "p2v batch logs -b 'of night 1.yaml' d": {"db-1"},
        "p2v batch logs -b '$(touch hacked)' $(touch hacked) d": {"db-1"},
        "p2v convert my": {"my folder/", "my file.vmdk"},
        "p2v convert -o my": {"my folder/"},
        "p2v convert --output=my": {"--output=my folder/"},
        "p2v convert --plan=my": {"--plan=my folder/", "--plan=my file.vmdk"},
        "p2v convert -o batch --no-ref": {"--no-reflink"},
        "p2v convert --name my": set(),
        "p2v nothing my": set(),
        "p2v doctor my": set(),
        "nowhere/p2v batch logs ": set(),
        "bin/p2v batch logs d": {"db-1"},
        "~/bin/p2v batch logs d": {"db-1"},
    }
    offered = fish_offers(list(rows), tmp_path)
    assert {line: set(each) for line, each in zip(rows, offered, strict=True)} == rows
    asked = (tmp_path / "asked").read_text("utf-8").splitlines()
    assert "--machines-for batch logs -b of night 1.yaml" in asked
    assert not (tmp_path / "hacked").exists()


def ran(argv: list[str], top: Path) -> str:
    """What a shell prints that is no terminal's, and says nothing else."""
    done = subprocess.run(argv, env=environment(top), capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


def test_fish_finds_the_script_where_the_documentation_puts_it(tmp_path: Path) -> None:
    need("fish")
    written = stand_in("fish", tmp_path)
    (tmp_path / ".config" / "fish" / "completions").mkdir(parents=True)
    written.rename(tmp_path / ".config" / "fish" / "completions" / "p2v.fish")
    assert ran(["fish", "-c", "complete -C 'p2v ba'"], tmp_path).split()[0] == "batch"


def test_a_script_can_be_read_at_the_start_of_a_shell(tmp_path: Path) -> None:
    """By bash also with ``set -u``; by zsh after ``compinit`` (in the other tests it finds the script where functions are)."""
    need("zsh")
    for name in ("bash", "zsh"):
        (tmp_path / name).mkdir()
    written = stand_in("bash", tmp_path / "bash")
    assert ran(["bash", "-uec", f"source {written}; complete -p p2v"], tmp_path) == "complete -F _p2v p2v"
    written = stand_in("zsh", tmp_path / "zsh")
    code = f"autoload -U compinit; compinit -D -u; source {written}; print $_comps[p2v]"
    assert ran(["zsh", "-fc", code], tmp_path) == "_p2v"


def batch(folder: Path) -> Batch:
    """A batch in its store, with a machine of each kind."""
    (folder / "jobs.yaml").write_text("schema: 1\ndefaults: {target: .}\nmachines: []\n", "utf-8")
    machines = tuple(MachineJob(name, (folder / "x.vmdk",), folder) for name in ("waits", "given-up", "asked-to-stop"))
    wished = Batch(machines, Budget(), folder / "jobs.batch.sqlite", folder / "jobs.yaml")
    with Store.create(wished.store) as store:
        store.put(wished)
        store.cancel("given-up", 1.0)
        assert store.claim("asked-to-stop", "worker", 1e9, 2.0) is not None
        store.cancel("asked-to-stop", 3.0)
    return wished


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("logs", "waits given-up asked-to-stop"),
        ("logs -b jobs.yaml", "waits given-up asked-to-stop"),
        ("logs --batch=jobs.batch.sqlite", "waits given-up asked-to-stop"),
        ("logs -bjobs.yaml", "waits given-up asked-to-stop"),
        ("logs -b $HERE/jobs.yaml", "waits given-up asked-to-stop"),
        ("logs -b ~/jobs.yaml", "waits given-up asked-to-stop"),
        ("logs -b nothing.yaml", ""),
        ("retry", "given-up asked-to-stop"),
        ("cancel", "waits"),
        ("run --only", "waits given-up asked-to-stop"),
        ("run jobs.batch.sqlite --only", "waits given-up asked-to-stop"),
    ],
)
def test_the_program_tells_who_can_be_meant(
    words: str, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["completion", "--machines-for", "batch", *words.split()]) == 0
    said = capsys.readouterr()
    assert (said.out.split(), said.err) == (names.split(), "")


@pytest.mark.parametrize(
    "words", [[], ["batch"], ["batch", "logs"], ["batch", "logs", "-b", "x\0y"], ["batch", "logs", "-b", "/"], ["-b"]]
)
def test_where_there_is_no_batch_nothing_is_said(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["completion", "--machines-for", *words]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", _TYPED)
def test_names_come_from_the_store_of_the_batch_to_the_line(name: str, tmp_path: Path) -> None:
    need(name)
    with shell(name, tmp_path) as typed:
        batch(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.glob("jobs*")}
        (tmp_path / "bin" / "noting").write_bytes((tmp_path / "bin" / "p2v").read_bytes())
        (tmp_path / "bin" / "noting").chmod(0o755)
        real = f'PYTHONPATH={_TOP} exec {sys.executable} -m p2v "$@"'
        (tmp_path / "bin" / "p2v").write_text(
            f'#!/bin/sh\n[ "$2" = --machines-for ] && {real}\nexec noting "$@"\n', "utf-8"
        )
        assert set(typed.offered("p2v batch logs ")) == {"waits", "given-up", "asked-to-stop"}
        assert typed.run("p2v batch cancel ") == ["batch", "cancel", "waits"]
        assert typed.run("p2v batch retry --batch jobs.batch.sqlite g") == [
            "batch",
            "retry",
            "--batch",
            "jobs.batch.sqlite",
            "given-up",
        ]
        assert {path.name: path.read_bytes() for path in tmp_path.glob("jobs*")} == before


def test_names_are_told_without_what_a_batch_needs_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch(tmp_path)
    monkeypatch.chdir(tmp_path)
    modules = read_by(tmp_path, "completion", "--machines-for", "batch", "logs")
    assert "p2v.batch.names" in modules
    others = [each for each in _OF_OTHER_RUNS if each != "p2v.batch"]
    heavy = ("attr", "cattrs", "p2v.batch.manifest", "p2v.batch.store", "p2v.cli.batch", "p2v.cli.completion.scripts")
    assert below(modules, (*_FOREIGN, *others, *heavy)) == []
    assert [each for each in modules if each.startswith(("converters.", "drivers."))] == []


def test_a_store_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    store = tmp_path / "endless.sqlite"
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    made = f"CREATE VIEW jobs AS {endless} SELECT i AS place, 'a' AS name, 'b' AS state, 0 AS cancel_wished FROM n WHERE i < 0;"
    argv = [
        sys.executable,
        "-c",
        "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])",
        str(store),
        made,
    ]
    subprocess.run(argv, check=True, timeout=SECONDS)
    argv = [sys.executable, "-m", "p2v", "completion", "--machines-for", "batch", "logs", "-b", str(store)]
    env = {**os.environ, "PYTHONPATH": str(_TOP)}
    ran = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=SECONDS)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_who_names_no_shell_is_told_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion"]) == 64
    assert "completion bash" in capsys.readouterr().err
