"""`p2v batch clean` of a run that was killed: at once, with its lock and snapshots; and on a host that only worked for a batch."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from p2v.batch.jobs import State
from p2v.batch.marking import marked_environment, marked_processes
from p2v.batch.store import Store
from p2v.batch.taking_over import lock_prefix
from p2v.cli.main import main
from p2v.core.marks import batch_mark, this_host
from tests.batch.fleets import batch, machine
from tests.batch.test_taking_over import HOUR, locks, runner, until

# volumes by name with their tags, as JSON beside it
LVM = """\
#!PYTHON -ISE
import json, sys
from pathlib import Path
file = Path(__file__).parent / "volumes.json"
volumes = json.loads(file.read_text())
if Path(sys.argv[0]).name == "lvremove":
    del volumes[sys.argv[-1]]
    file.write_text(json.dumps(volumes))
else:
    rows = [dict(vg_name=name.split("/")[0], lv_name=name.split("/")[1], lv_tags=tags) for name, tags in volumes.items()]
    print(json.dumps({"report": [{"lv": rows}]}))
"""


@pytest.fixture
def lvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the volumes of a played LVM."""
    programs = tmp_path / "lvm"
    programs.mkdir()
    for name in ("lvs", "lvremove"):
        (programs / name).write_text(LVM.replace("PYTHON", sys.executable))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs / "volumes.json"


def owned(store: Path) -> str:
    return f"p2v-suite.999999999.77,p2v-host.{this_host().mark()},p2v-batch.{batch_mark(store)}"


def clean(store: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["batch", "clean", str(store), *more]) == 0
    said = capsys.readouterr()
    return said.out, said.err


def test_what_a_killed_run_left_is_shown_and_removed_though_its_lease_is_of_an_hour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "jobs.p2v"
    with runner(tmp_path) as first:
        # nothing of one that lives is left
        assert "nothing was left" in clean(store, capsys)[0]
        first.kill()
        first.wait()
        until(lambda: not list(marked_processes(store)))
        shown, _ = clean(store, capsys)
        assert "lease number 1" in shown
        assert lock_prefix(store) in shown
        # nobody has to wait to be told of it, either
        assert main(["batch", "status", str(store)]) == 0
        assert "not heard of any more" in capsys.readouterr().out
        with Store.open(store) as opened:
            assert opened.job("a").state is State.RUNNING
        removed, _ = clean(store, capsys, "--remove")
        assert "still there" not in removed
        with Store.open(store) as opened:
            assert (opened.job("a").state, opened.job("a").fence) == (State.WAITING, 2)
            assert opened.runs.all() == ()
        assert not locks(tmp_path)
        assert "nothing was left" in clean(store, capsys)[0]


def test_snapshots_of_this_batchs_dead_conversions_are_removed_and_no_others(
    tmp_path: Path, lvm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wished = batch(tmp_path, [machine(tmp_path, "a", options=("--live",))])
    other = tmp_path / "other.p2v"
    volumes = {"vg0/data": "", "vg0/p2v-ours": owned(wished.store), "vg0/p2v-others": owned(other)}
    lvm.write_text(json.dumps(volumes))
    with Store.create(wished.store) as store:
        store.put(wished)
    shown, _ = clean(wished.store, capsys)
    assert "p2v-ours" in shown
    assert "p2v-others" not in shown
    assert json.loads(lvm.read_text()) == volumes
    clean(wished.store, capsys, "--remove")
    assert set(json.loads(lvm.read_text())) == {"vg0/data", "vg0/p2v-others"}


def test_other_hosts_that_converted_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wished = batch(tmp_path, [machine(tmp_path, name) for name in "ab"])
    with Store.create(wished.store) as store:
        store.put(wished)
        assert "converted, too" not in clean(wished.store, capsys)[1]
        lease = store.claim("a", f"{this_host().name}:1", HOUR, time.time())
        assert lease is not None
        store.event(lease, "worker", {"worker": "tls://10.0.0.7:1", "host": "worker7"}, time.time())
        assert store.claim("b", "runner2:1", HOUR, time.time()) is not None
    said = clean(wished.store, capsys)[1]
    assert "runner2, worker7" in said


def test_on_a_host_that_only_worked_for_a_batch_its_folders_and_snapshots_are_cleaned(
    tmp_path: Path, lvm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "elsewhere" / "jobs.p2v"
    store.parent.mkdir()
    manifest = tmp_path / "jobs.yaml"
    manifest.write_text(
        f"schema: 1\nstore: {store}\ndefaults: {{target: out}}\nmachines: [{{name: a, source: a.raw}}]\n"
    )
    lvm.write_text(json.dumps({"vg0/p2v-ours": owned(store)}))
    with marked_environment(store, "a") as marks:
        shown, said = clean(manifest, capsys)
        assert "p2v-ours" in shown
        assert marks["TMPDIR"] not in shown  # it is in use
        assert "look there" in said
    clean(manifest, capsys, "--remove")
    assert json.loads(lvm.read_text()) == {}
    assert not store.exists()
