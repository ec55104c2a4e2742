"""A conversion whose words are a guest's: whatever it says, its machine ends, the others are theirs, and screens stay whole."""

from __future__ import annotations

import sys
from pathlib import Path

from p2v.batch.jobs import State
from p2v.batch.report import write_report
from p2v.batch.store import Store
from p2v.cli.batch import event_text
from p2v.cli.batch.progress import told
from p2v.cli.batch.status_text import Seen, overview, table
from tests.batch.fleets import batch, machine, run
from tests.pages.nesting import Nesting

# the beginning of each is what p2v is asked; a machine that is called «good» behaves
CHILD = """\
import json, sys
words = sys.argv[1:]
name = next((word[7:] for word in words if word.startswith("--name=")), "")
write = sys.stderr.buffer.write
def say(**event):
    write(json.dumps(event).encode() + b"\\n")
if words[0] != "convert":
    sys.exit(1)
if name == "good":
    say(event="phase-started", phase="copy", title="Copying", total_bytes=5)
    say(event="bytes-done", phase="copy", count=5)
    say(event="phase-finished", phase="copy", seconds=1.0, failed=False)
    sys.exit(0)
EVIL = "\\x1b[2J</script><script>window.hacked=1</script>\\u202e\\ud800"
if name == "types":
    for value in (None, True, -1, 10**300, 1e308, float("nan"), float("inf"), "5", EVIL, [], {}, [[1]], "x" * 100000):
        say(event="phase-started", phase=value, title=value, total_bytes=value)
        say(event="phase-started", phase="copy", title=value, total_bytes=value)
        say(event="bytes-done", phase="copy", count=value)
        say(event="phase-finished", phase="copy", seconds=value, failed=value)
        say(event="warning", message=value)
        say(event="change-applied", summary=value, skipped=value)
        say(event=value, job="good", fence=value, at=value)
elif name == "others":
    for kind in "claimed done parked cancelled released again retried lease-lost worker batch-ended late".split():
        for job in ("good", "", "others"):
            say(event=kind, job=job, fence=10**6, worker=EVIL, host=EVIL, record="/etc/passwd", verified=True, seconds={})
elif name == "noise":
    for _ in range(300):
        write(b"\\xff\\xfe\\x00\\x1b[2J\\x1b]0;hacked\\x07" * 300)
    write(b"\\n" + b"[" * 500000 + b"\\n" + b'{"event":' * 20000 + b"\\n{\\n{}\\n")
elif name == "many":
    for number in range(20000):
        say(event="warning", message=EVIL + str(number))
say(event="error", code=EVIL, exit_code=[65] if name == "types" else 65, message=EVIL * 1000, hint=EVIL)
sys.exit(65)
"""
NAMES = ("types", "others", "noise", "many", "good")


def test_each_ends_as_its_own_and_nothing_of_it_reaches_another_or_the_screen(tmp_path: Path) -> None:
    wished = batch(tmp_path, [machine(tmp_path, name, attempts=1) for name in NAMES])
    ran = run(wished, program=(sys.executable, "-c", CHILD))
    assert {job.machine.name: job.state for job in ran.outcome.jobs} == {
        **dict.fromkeys(NAMES, State.PARKED), "good": State.DONE
    }  # fmt: skip
    assert ran.kinds("good") == ["claimed", "done"]
    assert (ran.job("good").bytes_copied, ran.job("good").verified) == (5, None)
    for event in ran.told:
        for text in (told(event), event_text.line(event)):
            assert not set("\x1b\r\n\x07") & set(text)
            assert len(text) < 2000
    # what is kept of each is bounded, however much it said
    assert len([event for event in ran.told if event.job == "many"]) < 1000
    shown = Seen("jobs.yaml", ran.outcome.jobs, 2e9)
    assert "\x1b" not in overview(shown) + table(shown)
    with Store.open(wished.store) as store:
        write_report(tmp_path / "page.html", wished, store.jobs(), store.events(0, None, 100_000), 2e9, None)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<script>window" not in page
    assert Nesting(page).ids
