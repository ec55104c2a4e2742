"""A server is there when it listens, not when its socket has a name."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.core.unix_sockets import listens
from p2v.core.workspace import socket_folder


@pytest.fixture
def path() -> Iterator[Path]:
    with socket_folder() as folder:
        yield folder / "tpm"


def test_a_socket_that_has_a_name_is_not_listened_at_before_somebody_does(path: Path) -> None:
    assert not listens(path)
    with socket.socket(socket.AF_UNIX) as emulator:
        emulator.bind(str(path))
        assert path.exists()
        assert not listens(path)
        emulator.listen()
        assert listens(path)
        # nobody has connected by that
        emulator.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            emulator.accept()
    assert path.exists()
    assert not listens(path)
