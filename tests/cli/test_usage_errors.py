"""What was mistyped is told with what was perhaps meant, and with where the rest can be read."""

from __future__ import annotations

import pytest

from p2v.cli.main import main


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 64
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant", "where"),
    [
        (("bacth",), "batch", "p2v"),
        (("batch", "stauts"), "status", "p2v batch"),
        (("batch", "status", "--state", "parkd"), "parked", "p2v batch status"),
        (("batch", "status", "--sate", "parked"), "--state", "p2v batch status"),
        (("convert", "x.img", "-o", "out", "--verfy"), "--verify", "p2v convert"),
    ],
)
def test_a_slip_of_the_pen(words: tuple[str, ...], meant: str, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, *words)
    assert text.splitlines()[0].endswith(f"did you mean {meant}?")
    assert f"`{where} --help`" in text


@pytest.mark.parametrize(
    ("words", "verbs"),
    [((), ("inspect", "batch", "doctor")), (("batch",), ("init", "run", "clean")), (("disk",), ("info",))],
)
def test_who_names_no_verb_is_told_of_all(
    words: tuple[str, ...], verbs: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, *words)
    assert all(verb in text for verb in verbs)
    assert f"`{' '.join(('p2v', *words))} --help`" in text


@pytest.mark.parametrize("words", [("batch", "logs"), ("batch", "status", "a", "b"), ("nothing-like-any",)])
def test_where_nothing_is_like_it_nothing_is_guessed(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, *words)
    assert "did you mean" not in text
    assert "--help" in text
