"""Passphrases as the command line takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.keys import Key, fitting, parse_key
from p2v.core.errors import Usage


def test_a_file_gives_its_text_without_the_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("two words \n\n")
    assert parse_key(f"/dev/sda2:file:{file}") == Key("/dev/sda2", "two words \n")


def test_without_selector_a_key_is_for_every_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2V_TEST_KEY", "hidden")
    assert parse_key("env:P2V_TEST_KEY") == Key("all", "hidden")


def test_a_passphrase_may_hold_colons() -> None:
    assert parse_key("all:key:a:b:c") == Key("all", "a:b:c")


def test_a_passphrase_is_not_shown_in_a_traceback() -> None:
    assert "hidden" not in repr(Key("all", "hidden"))


@pytest.mark.parametrize("text", ["secret", "all:clevis:x", ":key:x", "file:/nowhere/at/all", "env:P2V_NOT_SET_ANYWHERE"])
def test_what_is_no_key_is_said_in_one_sentence(text: str) -> None:
    with pytest.raises(Usage, match="--key"):
        parse_key(text)


def test_keys_that_name_a_container_come_before_those_for_all_and_others_not_at_all() -> None:
    keys = (Key("all", "1"), Key("/dev/sdb1", "2"), Key("ABCD-1", "3"))
    assert [key.secret for key in fitting(keys, ("abcd-1", "/dev/sda2"))] == ["3", "1"]
