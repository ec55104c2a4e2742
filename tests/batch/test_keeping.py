"""The fleet's page beside a run: a folder of results that does not answer holds up neither its beginning nor its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.batch.report.pictures import Shelf
from p2v.batch.store import Store
from p2v.cli.batch.keeping import kept
from tests.batch.machines import batch


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
