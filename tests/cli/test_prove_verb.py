"""``p2v prove``: what it refuses before it reads anything, what it ends with, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2v.cli import prove as verb
from p2v.cli.main import main
from p2v.record.proof import ProofDocument, ProofVerdict


def _ended(*words: str | Path) -> int:
    try:
        return main(["prove", *map(str, words), "--progress", "none"])
    except SystemExit as ended:
        return int(str(ended.code))


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (None, "No such file"), ("not JSON", "not a JSON document"), ("[]", "not a conversion record"),
        ('{"schema": 99}', "not a conversion record"), ("[" * 100_000, "not a JSON document"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], contents: str | None, words: str
) -> None:
    record = tmp_path / "vm.json"
    if contents is not None:
        record.write_text(contents)
    assert _ended(record) not in (0, 1)
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("*.proof.json"))


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A record of one disk, as far as the verb looks at it."""
    opened = SimpleNamespace(whole=lambda: SimpleNamespace(disks=(1,)), digest="sha")
    monkeypatch.setattr(verb, "open_record", lambda path: opened)
    monkeypatch.setattr(verb, "pair_of", lambda *arguments: None)
    return tmp_path / "vm.json"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--source", "a", "--source", "b"), "1 disks, 2 sources"), (("--threads", "0"), "--threads"),
        (("--threads", "x"), "invalid int"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_record_are_refused(
    record: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    assert _ended(record, *options) == 64
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verdict", "status"), [(ProofVerdict.PROVEN, 0), (ProofVerdict.GUEST_PROGRAM, 0), (ProofVerdict.FAILED, 1)]
)
@pytest.mark.parametrize("as_json", [False, True])
def test_it_ends_with_the_verdict_and_leaves_the_proof_beside_the_record(
    record: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verdict: ProofVerdict, status: int,
    as_json: bool,
) -> None:
    proof = ProofDocument("sha", "vm", "2026-01-01T00:00:00Z", verdict, (), (), (), (), (), {}, 0.0)
    monkeypatch.setattr(verb, "prove", lambda *arguments, **options: proof)
    assert _ended(record, *(["--json"] if as_json else [])) == status
    said = capsys.readouterr().out
    left = json.loads(record.with_name("vm.proof.json").read_text())
    assert left["verdict"] == verdict.value
    assert json.loads(said) == left if as_json else ("NOT PROVEN" in said) is (status == 1)
    other = record.with_name("elsewhere.json")
    assert _ended(record, "-o", other) == status
    assert json.loads(other.read_text()) == left
