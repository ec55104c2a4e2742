"""What the host refuses where no engine expected it is told of as what it is."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import pytest

from p2v.cli import doctor, inspect
from p2v.cli.main import main
from p2v.core.errors import NoSource


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [(errno.ENOSPC, 73, "no room left"), (errno.EDQUOT, 73, "quota"), (errno.EIO, 74, "Input/output error")],
    ids=["full", "quota", "other"],
)
def test_an_error_without_a_file_has_the_exit_code_of_its_kind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, status: int, words: str
) -> None:
    """As an NFS client gives it when a file is closed."""

    def refuse(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(doctor, "run", refuse)
    assert main(["doctor"]) == status
    assert words in capsys.readouterr().err


def test_a_file_on_a_storage_that_is_read_only_is_told_as_what_may_not_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a batch finds /tmp in a service with ProtectSystem=strict."""

    def refuse(*_: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/tmp/p2v-batch-1")

    monkeypatch.setattr(doctor, "run", refuse)
    assert main(["doctor"]) == 77
    told = capsys.readouterr().err
    assert "/tmp/p2v-batch-1: " in told
    assert "mounted read-only" in told


@pytest.mark.parametrize("progress", ["json", "plain"])
def test_an_error_that_nobody_can_be_told_of_keeps_its_exit_code(monkeypatch: pytest.MonkeyPatch, progress: str) -> None:
    """Its log stands on a full disk, or its reader has gone."""

    def fail(*_: Any) -> int:
        raise NoSource("/disk.raw", "does not exist")

    monkeypatch.setattr(inspect, "run", fail)
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", full)
        status = main(["inspect", "/disk.raw", "--progress", progress])
    assert status == NoSource.exit_code
