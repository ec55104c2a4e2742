"""`p2v batch`, as a user types it: a run with a stand-in for the conversion, and every verb that looks at it or steers it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.children import LocalStarter
from p2v.batch.jobs import Batch, Job, State
from p2v.batch.manifest import read_batch
from p2v.batch.marking import left_folders, marked_processes
from p2v.batch.runner import BatchOutcome, Settings, run_batch
from p2v.batch.store import Store
from p2v.cli.batch.progress import Sink
from p2v.cli.batch.which import standing_of
from p2v.cli.main import main
from tests.batch.fleets import FAKE, QUICK

BAD = {
    "always": {
        "error": {"code": "bad-image", "exit_code": 65, "message": "disk: the footer lies", "hint": "Copy it again."}
    }
}
SECONDS = 120.0


@dataclass
class Ended:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its JSON document."""
        return json.loads(self.out)


P2v = Callable[..., Ended]


@pytest.fixture
def p2v(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> P2v:
    """The command, in the folder of the batch; conversions are a stand-in's."""
    monkeypatch.chdir(tmp_path)
    local = LocalStarter(tmp_path / "batch.sqlite", FAKE, QUICK.grace)

    def run(batch: Batch, store: Store, sink: Sink, *, settings: Settings, **rest: Any) -> BatchOutcome:
        wished = replace(QUICK, chosen=settings.chosen, until=settings.until, stop_at=settings.stop_at)
        return run_batch(batch, store, sink, local=local, settings=wished, looked=rest["looked"])

    monkeypatch.setattr("p2v.cli.batch.running.run_batch", run)

    def called(*words: str) -> Ended:
        capfd.readouterr()
        try:
            status = main(["batch", *words])
        except SystemExit as ended:
            status = int(str(ended.code))
        out, err = capfd.readouterr()
        return Ended(status, out, err)

    return called


def manifest(folder: Path, machines: dict[str, dict[str, Any]], **options: Any) -> Path:
    """A batch in ``folder``; each machine says what its conversion does."""
    (folder / "sources").mkdir(exist_ok=True)
    listed = []
    for name, wish in machines.items():
        source = folder / "sources" / f"{name}.json"
        source.write_text(json.dumps(wish))
        listed.append({"name": name, "source": str(source), "target": str(folder / "out")})
    path = folder / "jobs.yaml"
    # YAML holds JSON
    budget = {"jobs": 4, "copies": 4, "appliances": 4}
    path.write_text(json.dumps({"schema": 1, "store": "batch.sqlite", "budget": budget, "machines": listed, **options}))
    return path


def states(p2v: P2v) -> dict[str, str]:
    return {each["name"]: each["state"] for each in p2v("status", "--json").data["machines"]}


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_run_says_who_is_converted_and_who_is_parked_and_why(p2v: P2v, tmp_path: Path) -> None:
    manifest(tmp_path, {"web": {}, "db": {}, "old": BAD})
    before = p2v("status")
    assert (before.status, "3 machines: 3 waiting" in before.out) == (0, True)
    ran = p2v("run", "--progress", "json")
    assert ran.status == 5, ran.err
    assert "2 done" in ran.out
    assert "old: disk: the footer lies (bad-image)" in ran.out
    assert "Copy it again." in ran.out
    events = [json.loads(line) for line in ran.err.splitlines()]
    assert {event["job"] for event in events if event["event"] == "done"} == {"web", "db"}
    assert sum(e["count"] for e in events if e["event"] == "bytes-done" and e["job"] == "web") == 1000
    assert states(p2v) == {"web": "done", "db": "done", "old": "parked"}
    assert p2v("run", "--progress", "none").status == 5
    assert (tmp_path / "out" / "web.runs").read_text() == "r"


def test_the_same_of_a_batch_that_is_named_by_its_store(p2v: P2v, tmp_path: Path) -> None:
    path = manifest(tmp_path, {"web": {}, "old": BAD})
    p2v("run", str(path), "--progress", "none")
    path.unlink()
    assert "1 parked, 1 done" in p2v("status", "batch.sqlite").out
    assert "PARKED" in p2v("logs", "old", "--batch", "batch.sqlite").out
    assert p2v("retry", "-b", "batch.sqlite").out == "old: waits again\n"
    for verb in ("run", "plan"):
        refused = p2v(verb, "batch.sqlite")
        assert refused.status == 64
        assert "manifest" in refused.err


def test_at_the_end_a_run_gives_a_document_that_holds_every_machine(p2v: P2v, tmp_path: Path) -> None:
    manifest(tmp_path, {"web": {}, "old": BAD})
    ran = p2v("run", "--json", "--progress", "none")
    assert (ran.status, ran.err) == (5, "")
    assert ran.data["counts"] == {"waiting": 0, "running": 0, "done": 1, "parked": 1, "cancelled": 0}
    (old,) = [each for each in ran.data["machines"] if each["name"] == "old"]
    assert (old["failure"]["code"], old["failure"]["exit_code"]) == ("bad-image", 65)
    assert Path(old["failure"]["bundle"]).is_dir()


def test_logs_tell_every_attempt_and_its_end(p2v: P2v, tmp_path: Path) -> None:
    failing = {"first": {"error": {"code": "read-failed", "exit_code": 74, "message": "disk: EIO", "hint": ""}}}
    manifest(tmp_path, {"web": failing, "db": {}})
    assert p2v("run", "--progress", "none").status == 0
    text = p2v("logs", "web").out
    for words in ("attempt 1 begins", "disk: EIO (read-failed)", "attempt 2 begins", "copy: done", "converted"):
        assert words in text
    events = [json.loads(line) for line in p2v("logs", "web", "--json").out.splitlines()]
    assert {event["job"] for event in events} == {"web"}
    assert [event["number"] for event in events] == sorted(event["number"] for event in events)
    # it has ended: there is nothing to wait for
    assert p2v("logs", "web", "--follow").out == text


def test_retry_takes_all_that_are_parked_or_those_that_are_named(p2v: P2v, tmp_path: Path) -> None:
    manifest(tmp_path, {"web": {}, "old": BAD, "older": BAD})
    p2v("run", "--progress", "none")
    assert "web: is done" in p2v("retry", "web", "older").out
    assert states(p2v) == {"web": "done", "old": "parked", "older": "waiting"}
    p2v("retry")
    assert states(p2v) == {"web": "done", "old": "waiting", "older": "waiting"}
    assert p2v("retry").out == "nothing is parked\n"
    manifest(tmp_path, {"web": {}, "old": {}, "older": {}})
    assert p2v("run", "--progress", "none").status == 0


def test_retry_takes_back_that_one_under_way_was_to_be_given_up(p2v: P2v, tmp_path: Path) -> None:
    path = manifest(tmp_path, {"web": {}, "db": {}})
    batch = read_batch(path)
    with Store.create(batch.store) as store:
        store.put(batch, time.time())
        leases = [store.claim(name, "worker", 1000.0, time.time()) for name in ("web", "db")]
        assert p2v("cancel", "web").status == 0
        assert p2v("retry", "web", "db").out == (
            "web: is not given up any more\ndb: is running, neither parked nor cancelled: left as it is\n"
        )
        assert [store.cancelled(lease) for lease in leases if lease is not None] == [False, False]


def test_retry_takes_those_that_were_parked_for_a_reason(p2v: P2v, tmp_path: Path) -> None:
    full = {"always": {"error": {"code": "no-space", "exit_code": 73, "message": "full", "hint": ""}}}
    machines = {"old": BAD, "web": full, "db": full, "mail": {}}
    path = manifest(tmp_path, machines)
    path.write_text(path.read_text().replace('"name": ', '"attempts": 1, "name": '))
    assert p2v("retry", "--reason", "no-space").status == 66
    assert p2v("run", "--progress", "none").status == 5
    refused = p2v("retry", "--reason", "no-spice")
    assert (refused.status, "bad-image, no-space" in refused.err) == (64, True)
    assert p2v("retry", "--reason", "no-space", "db").out == "db: waits again\n"
    assert p2v("retry", "--reason", "no-space").out == "web: waits again\n"
    assert states(p2v) == {"old": "parked", "web": "waiting", "db": "waiting", "mail": "done"}


def test_a_part_of_a_batch_is_run_and_its_exit_status_is_of_that_part(p2v: P2v, tmp_path: Path) -> None:
    path = manifest(tmp_path, {"web1": {}, "web2": {}, "old": BAD, "db": {}})
    path.write_text(path.read_text().replace('"name": "db"', '"wave": 1, "name": "db"'))
    ran = p2v("run", "--only", "web*", "--progress", "plain")
    assert (ran.status, ran.err.count("attempt 1 begins")) == (0, 2)
    assert "the run begins: 2 of 4 machines" in ran.err
    assert "[2 of 2]" in ran.err
    assert states(p2v) == {"web1": "done", "web2": "done", "old": "waiting", "db": "waiting"}
    # a wave that is asked for does not wait for those before it
    assert p2v("run", "--wave", "1", "--progress", "none").status == 0
    assert states(p2v)["db"] == "done"
    for words in (("--only", "wab"), ("--wave", "2"), ("--only", "db", "--wave", "0"), ("--until", "25:00")):
        assert p2v("run", *words).status == 64
    assert states(p2v)["old"] == "waiting"
    assert p2v("run", "--only", "old", "--only", "db", "--progress", "none").status == 5


def test_the_batchs_own_command_hears_how_a_run_ended(p2v: P2v, tmp_path: Path) -> None:
    hook = [sys.executable, "-c", "import sys; open('heard', 'a').write(sys.stdin.read())"]
    manifest(tmp_path, {"web": {}, "old": BAD}, hooks={"end": hook})
    ran = p2v("run", "--progress", "plain", "--report", "fleet.html")
    assert (ran.status, "own command at the end: done" in ran.err) == (5, True)
    heard = json.loads((tmp_path / "heard").read_text())
    assert (heard["outcome"], heard["exit_code"], heard["counts"]["done"], heard["counts"]["parked"]) == ("ended", 5, 1, 1)
    assert heard["page"] == str(tmp_path / "fleet.html")
    (parked,) = heard["parked"]
    assert (parked["name"], parked["code"], parked["hint"]) == ("old", "bad-image", "Copy it again.")
    assert Path(parked["bundle"]).is_dir()
    manifest(tmp_path, {"web": {}, "old": BAD}, hooks={"end": ["false"]})
    again = p2v("run", "--progress", "plain")
    # the run is what it is, whoever can be told of it
    assert (again.status, "at the end: failed: ended with exit status 1" in again.err) == (5, True)


def test_the_batchs_own_command_hears_of_a_run_that_failed(p2v: P2v, tmp_path: Path) -> None:
    hook = [sys.executable, "-c", "import sys; open('heard', 'a').write(sys.stdin.read())"]
    manifest(tmp_path, {"web": {}}, hooks={"end": hook})
    refused = p2v("run", "--report", "none/fleet.html", "--progress", "none")
    assert refused.status == 66
    heard = json.loads((tmp_path / "heard").read_text())
    assert (heard["outcome"], heard["exit_code"], heard["error"]["code"]) == ("failed", 66, "no-source")


def test_cancel_gives_up_what_waits(p2v: P2v, tmp_path: Path) -> None:
    manifest(tmp_path, {"web": {}, "db": {}})
    with Store.create(tmp_path / "batch.sqlite") as store:
        store.put(read_batch(tmp_path / "jobs.yaml"))
    assert p2v("cancel", "web").out == "web: cancelled\n"
    assert p2v("cancel", "web").out == "web: is cancelled already\n"
    assert p2v("run", "--progress", "none").status == 0
    assert states(p2v) == {"web": "cancelled", "db": "done"}
    assert p2v("cancel", "db").out == "db: is done already\n"


@pytest.mark.parametrize(
    "words", [("cancel", "nobody"), ("logs", "nobody"), ("retry", "nobody"), ("cancel", "web", "nobody")]
)
def test_a_machine_that_is_none_is_told_and_nothing_is_changed(
    p2v: P2v, tmp_path: Path, words: tuple[str, ...]
) -> None:
    manifest(tmp_path, {"web": BAD})
    p2v("run", "--progress", "none")
    refused = p2v(*words)
    assert refused.status == 64
    assert "'nobody'" in refused.err
    assert states(p2v) == {"web": "parked"}
    assert "did you mean web?" in p2v("logs", "wbe").err


BESIDE = """\
import sys
from pathlib import Path
import p2v.cli.batch.running as verb
from p2v.batch.children import LocalStarter
from p2v.cli.batch.progress import Sink
from p2v.cli.main import main
from tests.batch.fleets import FAKE, QUICK
local = LocalStarter(Path("batch.sqlite").absolute(), FAKE, QUICK.grace)
run_batch = verb.run_batch
verb.run_batch = lambda batch, store, sink, **rest: run_batch(batch, store, sink, local=local, settings=QUICK)
sys.exit(main(["batch", "run", "--progress", "none", *sys.argv[1:]]))
"""
Begin = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins a run in a process of its own, which the verbs steer; it is ended with the test."""
    begun: list[subprocess.Popen[bytes]] = []

    def one(*words: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(each for each in sys.path if each)
        command = [sys.executable, "-c", BESIDE, *words]
        env = {**os.environ, "PYTHONPATH": path}
        begun.append(
            subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return begun[-1]

    yield one
    for process in begun:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def only_stuck(p2v: P2v) -> bool:
    """Whether the stand-in for one has come to where it hangs (which it does the first time only), and the others are done."""
    machines = p2v("status", "--json").data["machines"]
    return all(each["state"] == "done" or (each["name"], each["phase"]) == ("stuck", "waiting") for each in machines)


def test_cancel_stops_one_that_is_under_way_and_the_rest_goes_on(p2v: P2v, tmp_path: Path, begin: Begin) -> None:
    manifest(tmp_path, {"stuck": {"always": "hang"}, "web": {}})
    run = begin()
    wait_for(lambda: only_stuck(p2v))
    assert "stuck" in p2v("status").out
    assert "asked to stop" in p2v("cancel", "stuck").out
    assert run.wait(SECONDS) == 0
    assert states(p2v) == {"stuck": "cancelled", "web": "done"}


def test_a_paused_batch_begins_nothing_until_it_is_resumed(p2v: P2v, tmp_path: Path, begin: Begin) -> None:
    manifest(tmp_path, {"old": BAD, "web": {}})
    assert p2v("run", "--progress", "none").status == 5
    assert "paused" in p2v("pause").out
    assert p2v("pause").out == "was paused already\n"
    assert "paused" in p2v("status").out
    manifest(tmp_path, {"old": BAD, "web": {}, "new": {}})
    run = begin()
    wait_for(lambda: "new" in states(p2v))
    assert run.poll() is None
    assert states(p2v)["new"] == "waiting"
    assert p2v("resume").out == "goes on\n"
    assert p2v("resume").out == "was not paused\n"
    assert run.wait(SECONDS) == 5
    assert states(p2v)["new"] == "done"


def test_following_a_log_ends_with_the_machine(p2v: P2v, tmp_path: Path, begin: Begin) -> None:
    manifest(tmp_path, {"web": {"seconds": 1.0}})
    begin()
    # who looks seldom may see it only when it is done
    wait_for(lambda: states(p2v).get("web") in ("running", "done"))
    followed = p2v("logs", "web", "--follow")
    assert followed.status == 0
    assert "converted" in followed.out.splitlines()[-1]


def test_watching_ends_with_the_batch(p2v: P2v, tmp_path: Path, begin: Begin) -> None:
    manifest(tmp_path, {"web": {}, "db": {}})
    begin()
    watched = p2v("status", "--watch", "--json")
    assert watched.status == 0
    assert json.loads(watched.out.splitlines()[-1])["counts"]["done"] == 2


def test_a_signal_stops_a_run_and_the_next_one_goes_on(p2v: P2v, tmp_path: Path, begin: Begin) -> None:
    manifest(tmp_path, {"stuck": {"first": "hang"}, "web": {}})
    run = begin()
    wait_for(lambda: only_stuck(p2v))
    run.send_signal(signal.SIGTERM)
    assert run.wait(SECONDS) == 143
    assert states(p2v)["stuck"] == "waiting"
    assert p2v("clean").out == "nothing was left\n"
    assert begin().wait(SECONDS) == 0
    assert states(p2v) == {"stuck": "done", "web": "done"}


def test_clean_of_a_batch_that_was_never_run_calls_no_store_anothers(p2v: P2v, tmp_path: Path) -> None:
    manifest(tmp_path, {"web": {}})
    for words in ((), ("--remove", "--everything")):
        said = p2v("clean", *words)
        assert (said.status, said.out) == (0, "nothing was left\n")
        assert "there is no store" in said.err
        assert "may open" not in said.err
    assert not (tmp_path / "batch.sqlite").exists()


def test_a_wave_that_is_no_number_is_told_in_words(p2v: P2v, tmp_path: Path) -> None:
    manifest(tmp_path, {"web": {}})
    for verb in ("plan", "run"):
        said = p2v(verb, "--wave", "x")
        assert said.status == 64
        assert "'x' is no number of a wave" in said.err


def test_what_a_killed_run_left_is_shown_removed_and_gone_on_from(
    p2v: P2v, tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(tmp_path, {"stuck": {"first": "hang"}, "web": {}})
    run = begin()
    wait_for(lambda: only_stuck(p2v))
    run.kill()
    run.wait()
    wait_for(lambda: not list(marked_processes(tmp_path / "batch.sqlite")))
    # what such a conversion would have left, and what is the user's
    for name in ("stuck.qcow2.partial", "stuck.xml.partial", "notes.txt"):
        (tmp_path / "out" / name).write_text("x")
    later = time.time() + 3600
    monkeypatch.setattr("p2v.cli.batch.clean.time.time", lambda: later)
    shown = p2v("clean")
    assert shown.status == 0
    assert "lease" in shown.out
    assert "stuck.qcow2.partial" in shown.out.partition("kept")[2]
    assert "notes.txt" not in shown.out
    assert (tmp_path / "out" / "stuck.xml.partial").exists()
    removed = p2v("clean", "--remove", "--json")
    assert removed.status == 0
    assert not any(each["refused"] for each in removed.data["removed"])
    assert not (tmp_path / "out" / "stuck.xml.partial").exists()
    assert (tmp_path / "out" / "stuck.qcow2.partial").exists()
    assert (tmp_path / "out" / "notes.txt").exists()
    assert not list(left_folders(tmp_path / "batch.sqlite"))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    run = begin()
    assert run.wait(SECONDS) == 0
    assert {job.machine.name: job.state for job in jobs(tmp_path)} == {"stuck": State.DONE, "web": State.DONE}


def jobs(folder: Path) -> tuple[Job, ...]:
    with Store.open(folder / "batch.sqlite") as store:
        return store.jobs()


def test_a_page_is_kept_while_it_runs_and_written_anew_when_asked(p2v: P2v, tmp_path: Path) -> None:
    manifest(tmp_path, {"web": {}, "old": BAD})
    assert p2v("run", "--progress", "none", "--report", "fleet.html").status == 5
    page = (tmp_path / "fleet.html").read_text()
    assert "the footer lies" in page
    # nothing more happens: it does not ask for a newer one
    assert 'http-equiv="refresh"' not in page
    assert p2v("report", "-o", "again.html", "--refresh", "7").out == "again.html\n"
    assert 'http-equiv="refresh"' in (tmp_path / "again.html").read_text()
    assert p2v("report").out == f"{tmp_path / 'batch.html'}\n"
    (tmp_path / "other").write_text("mine")
    assert p2v("report", "-o", "other").status == 73
    assert (tmp_path / "other").read_text() == "mine"


@pytest.mark.parametrize(
    "words, status",
    [
        (("status", "none.yaml"), 66),
        (("run", "--refresh", "0"), 64),
        (("report", "--refresh", "0"), 64),
        (("report", "-o", "none/page.html"), 66),
        (("run", "--report", "none/page.html"), 66),
        (("pause",), 66),
        (("logs", "web"), 66),
        (("status", "--state", "gone"), 64),
        (("plan", "broken.yaml"), 64),
        (("run", "broken.yaml"), 64),
        (("status", "."), 64),
        ((), 64),
    ],
)
def test_what_makes_no_sense_is_told(p2v: P2v, tmp_path: Path, words: tuple[str, ...], status: int) -> None:
    manifest(tmp_path, {"web": {}})
    (tmp_path / "broken.yaml").write_text("schema: 1\nmachines:\n  - {name: web}\n  - 7\n")
    refused = p2v(*words)
    assert refused.status == status, refused.err
    assert refused.err.startswith("p2v: ")
    assert not (tmp_path / "out").exists()


def test_all_mistakes_of_a_manifest_are_told_at_once(p2v: P2v, tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(
        "schema: 1\nmachines:\n  - {name: web}\n  - {name: db, source: a, targets: b}\n"
    )
    refused = p2v("plan")
    assert refused.status == 64
    assert "line 3" in refused.err
    assert "line 4" in refused.err


def test_status_goes_by_the_run_that_is_on_and_else_by_the_manifest(p2v: P2v, tmp_path: Path) -> None:
    path = manifest(tmp_path, {"web": {}, "db": {}, "mail": {}, "far": {}})
    path.write_text(path.read_text().replace('"name": "far"', '"host": "elsewhere", "name": "far"'))
    assert p2v("run", "--only", "web", "--only", "db", "--progress", "none").status == 0
    with Store.open(tmp_path / "batch.sqlite") as store:
        kept = store.terms()
    assert kept is not None
    assert kept.setting.chosen == {"web", "db"}
    left = p2v("status", "--json").data["left"]
    # the run of a part of it is over: the next one would take all that it reaches
    assert (left["running"], left["later"]) == (False, ["far"])
    path.write_text(path.read_text().replace('"copies": 4', '"copies": 1'))
    assert standing_of(read_batch(path)).terms.budget.copies == 1
