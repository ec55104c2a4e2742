"""The published schema of what a crash left is what `p2v batch clean --json` prints, before and after something is removed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from p2v.batch.clean_document import CleanDocument
from p2v.batch.cleaning import Left, LeftKind, Removed
from p2v.batch.jobs import Batch, Budget, MachineJob
from p2v.batch.store import Store
from p2v.core import jsonio
from tests.batch.fitting import Fitting, printed
from tests.batch.output_schemas import output
from tests.batch.test_cleaning import crashed, killed_runner

HOUR = 3600.0


def batch(folder: Path) -> Batch:
    """One whose only machine has the name of those of a killed run."""
    results = crashed(folder / "results")
    web = MachineJob("web", (folder / "web.img",), results)
    return Batch((web,), Budget(), folder / "batch.sqlite", folder / "jobs.yaml")


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """What is said of a batch whose run was killed an hour ago, and while it is paused, which gives no leases."""
    folder = tmp_path_factory.mktemp("crash")
    (folder / "temporary").mkdir()
    wished = batch(folder)
    with Store.create(wished.store) as store:
        store.put(wished, time.time())
        assert store.claim("web", "dead:1", HOUR, time.time() - 2 * HOUR) is not None
        store.pause(time.time())

    def told(*words: str, status: int = 0) -> str:
        return printed("clean", str(wished.store), "--json", *words, status=status)

    with pytest.MonkeyPatch.context() as patch, killed_runner_in(folder / "temporary", wished.store, patch):
        made = {"shown": told(), "removed": told("--remove", status=2)}
        with Store.open(wished.store) as store:
            store.resume(time.time())
        made |= {"the rest": told("--remove", "--everything"), "nothing": told()}
        yield made


def killed_runner_in(temporary: Path, store: Path, patch: pytest.MonkeyPatch) -> Any:
    """A killed run whose temporary folder is there, and nobody else's is looked at."""
    patch.setenv("TMPDIR", str(temporary))
    patch.setattr("tempfile.tempdir", None)
    patch.setattr("p2v.batch.cleaning._GRACE_SECONDS", 0.2)
    return killed_runner(store)


def of_a_cluster() -> str:
    """Of hosts that have what is left on disks of their own; one gave no answer."""
    left = Left(LeftKind.FILE, "web", "unfinished disk", Path("/data/web.qcow2.partial"), None, 4096, "", "node7")
    document = CleanDocument.of([left], [Removed(left, "node7 gave no answer")], {"node8": "it gives no answer"})
    return json.dumps(jsonio.encode(jsonio.converter(), document))


def test_what_is_left_and_what_became_of_it_fits_and_every_shape_is_that_of_one(documents: Mapping[str, str]) -> None:
    fitting = Fitting(output("batch-clean").published())
    for text in (*documents.values(), of_a_cluster()):
        fitting.take(text)
    assert fitting.unseen() == []


def test_the_documents_tell_what_happened(documents: Mapping[str, str]) -> None:
    shown, removed, rest, nothing = (
        json.loads(documents[name]) for name in ("shown", "removed", "the rest", "nothing")
    )
    assert {each["kind"] for each in shown["left"]} >= {"process", "lease", "temporary folder"}
    assert shown["removed"] == []
    assert all(each["refused"] is None for each in shown["left"])
    (refused,) = [each for each in removed["removed"] if each["refused"]]
    assert (refused["kind"], "paused" in refused["refused"]) == ("lease", True)
    assert any(each["kept"] for each in removed["left"])
    assert {each["kind"] for each in rest["removed"]} == {"lease", "file"}
    assert (nothing["left"], nothing["removed"], nothing["unasked"]) == ([], [], [])


EDITS: tuple[Callable[[Any], object], ...] = (
    lambda d: d.update(schema=2),
    lambda d: d.pop("unasked"),
    lambda d: d.update(more=1),
    lambda d: d["left"][0].update(kind="thing"),
    lambda d: d["left"][0].pop("refused"),
    lambda d: d["left"][0].update(allocated=-1),
    lambda d: d["left"][0].update(pid="7"),
    lambda d: d["left"][0].update(kept=None),
    lambda d: d["unasked"].append("node8"),
)


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_what_is_no_such_document_does_not_fit(number: int) -> None:
    fitting = Fitting(output("batch-clean").published())
    data = fitting.take(of_a_cluster())
    EDITS[number](data)
    assert not fitting.fits(data)
