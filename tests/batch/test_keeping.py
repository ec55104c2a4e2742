"""The fleet's page beside a run: a folder of results that does not answer holds up neither its beginning nor its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.batch.jobs import JobEvent
from p2v.batch.report.pictures import Shelf
from p2v.batch.store import Store
from p2v.cli.batch.keeping import Pages, kept, write_page
from tests.batch.machines import batch

START = 1_795_000_000.0


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, nobody gets to see a boot check."""
    event = threading.Event()

    def boots(*_: object) -> dict[str, object]:
        event.wait()
        return {}

    monkeypatch.setattr(Shelf, "boots", boots)
    monkeypatch.setattr("p2v.cli.batch.keeping.ANSWER_SECONDS", 0.2)
    yield event
    event.set()
    # what is left of a run's page ends before the next test begins
    for thread in threading.enumerate():
        if thread.name == "report":
            thread.join(60)


def test_a_run_begins_and_ends_though_its_page_cannot_be_made(
    tmp_path: Path, answers: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    wished, page = batch(tmp_path, "a"), tmp_path / "fleet.html"
    Store.create(wished.store).close()
    with kept(page, wished, 1):
        assert not page.exists()
    assert "does not answer" in capsys.readouterr().err


def test_the_last_page_is_there_when_the_context_ends(
    tmp_path: Path, answers: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.set()
    monkeypatch.setattr("p2v.cli.batch.keeping.ANSWER_SECONDS", 60.0)
    wished, page = batch(tmp_path, "a"), tmp_path / "fleet.html"
    Store.create(wished.store).close()
    with kept(page, wished, 3600):
        first = page.read_text()
    assert "Refresh every 3600 s" in first
    assert "Refresh every" not in page.read_text()


def test_a_page_that_is_kept_says_what_one_made_anew_says_and_hears_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wished = batch(tmp_path, "a", "b")
    heard = list[int]()
    real = Store.every_event

    def told(store: Store, after: int = 0, job: str | None = None) -> Iterator[JobEvent]:
        for event in real(store, after, job):
            heard.append(event.number)
            yield event

    with Store.create(wished.store) as store:
        store.put(wished, START)
        monkeypatch.setattr(Store, "every_event", told)
        monkeypatch.setattr("time.time", lambda: START + 100)
        pages = Pages(tmp_path / "kept.html", wished, store)
        for number, name in enumerate(("a", "b")):
            pages.write(15)
            lease = store.claim(name, "here", 60.0, START + number * 10)
            assert lease is not None
            store.event(lease, "phase-started", {"phase": "copy", "total_bytes": 4096}, START + number * 10 + 1)
            pages.write(15)
            store.event(lease, "bytes-done", {"phase": "copy", "count": 4096}, START + number * 10 + 2)
            store.finish(lease, START + number * 10 + 5, record=None, seconds={"copy": 4.0}, verified=None)
        pages.write(None)
        assert heard == sorted(set(heard)), "each event once"
        assert len(heard) == store.events()[-1].number
        write_page(tmp_path / "anew.html", wished, store, None)
    assert (tmp_path / "kept.html").read_text() == (tmp_path / "anew.html").read_text()


@pytest.mark.parametrize(
    ("processor_seconds", "size", "pause"), [(0.01, 1000, 15), (0.3, 1000, 15), (2.0, 1000, 100), (0.3, 13_500_000, 90)]
)
def test_a_page_that_costs_much_is_written_less_often(
    tmp_path: Path, processor_seconds: float, size: int, pause: int
) -> None:
    wished = batch(tmp_path, "a")
    with Store.create(wished.store) as store:
        pages = Pages(tmp_path / "page.html", wished, store, processor_seconds, size)
        assert pages.pause(15) == pause
        pages.write(15)
        assert pages.processor_seconds > 0
        assert pages.size == (tmp_path / "page.html").stat().st_size


def test_the_page_says_how_long_it_really_is_until_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wished, page = batch(tmp_path, "a"), tmp_path / "fleet.html"
    Store.create(wished.store).close()
    monkeypatch.setattr(Pages, "pause", lambda pages, wished: 1)
    with kept(page, wished, 3600):
        deadline = time.monotonic() + 60
        while "Refresh every 1 s" not in page.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
