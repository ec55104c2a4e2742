"""Names of machines are read from a manifest and its store without leaving a trace, and what is no name is never told."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from p2v.batch.jobs import Batch, Budget, MachineJob
from p2v.batch.manifest import read_batch
from p2v.batch.names import KnownMachine, known_machines, store_of
from p2v.batch.nodes import parse
from p2v.batch.store import Store

_SECONDS = 300.0
_TOP = Path(__file__).parents[2]
_MANIFEST = """schema: 1
defaults: {target: out}
machines:
  - {name: zeta, source: a.vmdk}
  - {name: alpha, source: b.vmdk}
"""
_HOSTILE = (
    "$(touch hacked)", "`touch hacked`", "two words", "it's", 'say "so"', "two\nlines", "-rf", "", ";reboot", "a" * 64, "b/../../c",
    "\x1b[2J", "Über",
)  # fmt: skip


def batch(folder: Path, *names: str) -> Batch:
    """A batch that was put into a store, which is beside a manifest."""
    (folder / "jobs.yaml").write_text(_MANIFEST, "utf-8")
    machines = tuple(MachineJob(name, (folder / "x.vmdk",), folder / "out") for name in names)
    return Batch(machines, Budget(), folder / "out" / "jobs.batch.sqlite", folder / "jobs.yaml")


def told(path: Path) -> list[str]:
    return [machine.name for machine in known_machines(path)]


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Of each file when it was written, and what is in it."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    return {str(each): (each.stat().st_mtime_ns, each.read_bytes()) for each in files}


def writer(store: Path) -> subprocess.Popen[str]:
    """Another process that has written into the log of a store, and has it open; it closes it when its stdin ends."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom p2v.batch.store import Store\n"
        "with Store.open(Path(sys.argv[1])) as store:\n    store.cancel('zeta', 1.0)\n    print(flush=True)\n    sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(store)]
    env = {**os.environ, "PYTHONPATH": str(_TOP)}
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    return process


def test_the_store_tells_names_and_states_in_the_order_of_the_batch(tmp_path: Path) -> None:
    wished = batch(tmp_path, "zeta", "alpha", "mid")
    with Store.create(wished.store) as store:
        store.put(wished)
        store.cancel("alpha", 1.0)
    known = (KnownMachine("zeta"), KnownMachine("alpha", "cancelled"), KnownMachine("mid"))
    assert known_machines(tmp_path / "jobs.yaml") == known
    assert known_machines(wished.store) == known


def test_of_a_batch_that_was_never_run_the_manifest_tells_them(tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(_MANIFEST, "utf-8")
    assert told(tmp_path / "jobs.yaml") == ["zeta", "alpha"]


def test_a_store_that_nobody_has_open_is_not_touched(tmp_path: Path) -> None:
    wished = batch(tmp_path, "zeta", "alpha")
    with Store.create(wished.store) as store:
        store.put(wished)
    before = state_of(tmp_path)
    assert not any(name.endswith("-wal") for name in before)
    assert told(tmp_path / "jobs.yaml") == ["zeta", "alpha"]
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("killed", [False, True], ids=["runs", "was-killed"])
def test_what_a_run_has_only_in_its_log_is_seen_and_not_touched(tmp_path: Path, killed: bool) -> None:
    wished = batch(tmp_path, "zeta", "alpha")
    with Store.create(wished.store) as store:
        store.put(wished)
    with writer(wished.store) as run:
        try:
            if killed:
                run.send_signal(signal.SIGKILL)
                run.wait(_SECONDS)
            before = state_of(tmp_path)
            assert before[f"{wished.store}-wal"][1] != b""
            first = known_machines(tmp_path / "jobs.yaml")[0]
            assert first == KnownMachine("zeta", "cancelled")
            assert state_of(tmp_path) == before
        finally:
            run.kill()


def test_a_log_without_its_index_is_not_given_one(tmp_path: Path) -> None:
    wished = batch(tmp_path, "zeta", "alpha")
    with Store.create(wished.store) as store:
        store.put(wished)
    with writer(wished.store) as run:
        run.kill()
        run.wait(_SECONDS)
    Path(f"{wished.store}-shm").unlink()
    before = state_of(tmp_path)
    told(tmp_path / "jobs.yaml")
    assert state_of(tmp_path) == before


def crafted(path: Path, statements: str) -> Path:
    """A store that p2v did not write."""
    with sqlite3.connect(path) as connection:
        connection.executescript(statements)
    connection.close()
    return path


def test_what_cannot_be_a_machines_name_is_not_told(tmp_path: Path) -> None:
    store = crafted(tmp_path / "s.sqlite", "CREATE TABLE jobs (place, name, state, cancel_wished)")
    with sqlite3.connect(store) as connection:
        rows: list[tuple[object, ...]] = [
            (number, name, "parked", 0) for number, name in enumerate((*_HOSTILE, "web-1"))
        ]
        rows += [
            (100, b"\xff\xfe", "parked", 0),
            (101, 7, "parked", 0),
            (102, None, "parked", 0),
            ("no place", "web-2", "parked", 0),
        ]
        connection.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?)", rows)
    connection.close()
    assert told(store) == ["web-1"]
    quoted = "".join(f"  - {{name: {name!a}, source: x}}\n" for name in (*_HOSTILE, "web-1") if "\x1b" not in name)
    (tmp_path / "jobs.yaml").write_text(f"schema: 1\ndefaults: {{target: .}}\nmachines:\n{quoted}", "utf-8")
    assert told(tmp_path / "jobs.yaml") == ["web-1"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0\xff" * 400, b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 4096, b"- a\n- b\n", b"machines: x\n",
        b"machines:\n- 1\n", b"machines:\n- {name: [a]}\n", b"defaults: [1]\nstore: {a: b}\nmachines: {a: b}\n", b"*alias",
        b"[" * 5000, b"name,source\nweb,x\n",
    ],
)  # fmt: skip
def test_what_is_neither_manifest_nor_store_has_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_bytes(content)
    assert told(tmp_path / "jobs.yaml") == []


def test_a_pipe_is_not_waited_for_and_a_folder_has_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert told(tmp_path / "pipe") == []
    assert told(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        told(tmp_path / "nowhere")


@pytest.mark.parametrize("odd", ["plain", "100%?#x", "ü é", "a'b\"c"])
def test_a_store_is_found_whatever_its_folder_is_called(odd: str, tmp_path: Path) -> None:
    folder = tmp_path / odd
    folder.mkdir()
    wished = batch(folder, "zeta")
    with Store.create(wished.store) as store:
        store.put(wished)
    shutil.move(folder / "jobs.yaml", folder / "other.yaml")
    (folder / "other.yaml").write_text(f"{_MANIFEST}store: out/jobs.batch.sqlite\n", "utf-8")
    assert told(folder / "other.yaml") == ["zeta"], "the manifest has one more, which is in no store"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jobs.yaml", _MANIFEST),
        ("night.2.yml", _MANIFEST.replace("target: out", "target: /srv/out")),
        ("jobs.yaml", _MANIFEST + "store: elsewhere/mine.sqlite\n"),
        ("jobs.yaml", _MANIFEST + "store: ~\n"),
        ("jobs.yaml", "schema: 1\nmachines:\n  - {name: a, source: x, target: t}\n"),
        ("jobs.csv", "name,source,target\na,x,t\n"),
    ],
)
def test_where_the_store_is_is_read_as_a_run_reads_it(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    root = None if path.suffix == ".csv" else parse(text)
    assert store_of(root, path) == read_batch(path).store
