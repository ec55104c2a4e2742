"""The NBD client against servers that break the protocol, trickle, or fall silent."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converters import c_nbd
from converters.nbd_client import NbdConnection
from p2v.core.errors import BadImage, P2vError, ReadFailed
from p2v.core.workspace import socket_folder

SIZE = 1 << 20
SERVER = "nbd-server"
Script = Callable[[socket.socket], object]


def greeting() -> bytes:
    return c_nbd.GREETING.pack(c_nbd.INIT_PASSWD, c_nbd.OPTION_MAGIC, 3)


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return c_nbd.OPTION_REPLY.pack(c_nbd.OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def agreed(size: int = SIZE, flags: int = 3) -> bytes:
    """Everything a server says up to the first request."""
    return b"".join(
        (
            greeting(),
            reply(c_nbd.OPT_STRUCTURED_REPLY, c_nbd.REP_ACK),
            reply(c_nbd.OPT_SET_META_CONTEXT, c_nbd.REP_META_CONTEXT, b"\0\0\0\7" + c_nbd.BASE_ALLOCATION),
            reply(c_nbd.OPT_SET_META_CONTEXT, c_nbd.REP_ACK),
            reply(c_nbd.OPT_GO, c_nbd.REP_INFO, c_nbd.EXPORT_INFO.pack(c_nbd.INFO_EXPORT, size, flags)),
            reply(c_nbd.OPT_GO, c_nbd.REP_ACK),
        )
    )


def chunk(cookie: int, kind: int, payload: bytes, *, done: bool = True, length: int | None = None) -> bytes:
    length = len(payload) if length is None else length
    return c_nbd.CHUNK.pack(c_nbd.STRUCTURED_REPLY_MAGIC, int(done), kind, cookie, length) + payload


def part(cookie: int, offset: int, content: bytes, *, done: bool = True) -> bytes:
    return chunk(cookie, c_nbd.REPLY_OFFSET_DATA, c_nbd.OFFSET.pack(offset) + content, done=done)


@pytest.fixture
def folder() -> Iterator[Path]:
    with socket_folder() as made:
        yield made
    for thread in threading.enumerate():
        if thread.name == SERVER:
            thread.join(60)


def connected(folder: Path, script: Script, timeout: float = 60.0) -> NbdConnection:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as client:
            # the client may hang up first
            with contextlib.suppress(OSError):
                script(client)

    threading.Thread(target=serve, name=SERVER, daemon=True).start()
    return NbdConnection(folder / "s", Path("disk.qed"), timeout)


def make_impatient(connection: NbdConnection) -> None:
    """From now on it waits for a second only; before it, a busy host may take longer to agree."""
    connection._timeout = 1.0
    with socket.socket(fileno=os.dup(connection.fd)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 1, 0))


def answering(answer: Callable[[int], bytes]) -> Script:
    """A server that agrees on everything, then gives one answer to the request's cookie."""

    def script(client: socket.socket) -> None:
        client.sendall(agreed())
        # what the client says before its first request has a known length
        said = 4 + 16 + len(c_nbd.set_meta_context(c_nbd.BASE_ALLOCATION)) + len(c_nbd.go())
        client.recv(said, socket.MSG_WAITALL)
        request = client.recv(c_nbd.REQUEST.size, socket.MSG_WAITALL)
        client.sendall(answer(c_nbd.REQUEST.unpack(request)[3]))
        client.recv(1)

    return script


def test_data_and_holes_make_up_a_reply(folder: Path) -> None:
    def answer(cookie: int) -> bytes:
        hole = chunk(cookie, c_nbd.REPLY_OFFSET_HOLE, c_nbd.HOLE.pack(1512, 88), done=False)
        return part(cookie, 1600, b"b" * 424, done=False) + hole + part(cookie, 1000, b"a" * 512)

    connection = connected(folder, answering(answer))
    assert connection.size == SIZE
    assert connection.pread(1024, 1000) == b"a" * 512 + bytes(88) + b"b" * 424
    connection.close()
    with pytest.raises(ReadFailed):
        connection.pread(1024, 1000)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: b"",
        lambda _: b"x" * 20,
        lambda c: chunk(c, 0, b""),  # done, with nothing in it
        lambda c: part(c, 0, b"a" * 511),
        lambda c: part(c, 1, b"a" * 512),
        lambda c: part(c, 1 << 63, b"a" * 512),
        lambda c: part(c, 0, b"a" * 513),
        lambda c: chunk(c, c_nbd.REPLY_OFFSET_DATA, b"", length=0xFFFFFFFF),
        lambda c: chunk(c, c_nbd.REPLY_OFFSET_DATA, b"1234"),
        lambda c: chunk(c, c_nbd.REPLY_OFFSET_HOLE, c_nbd.HOLE.pack(0, 1 << 31)),
        lambda c: chunk(c, c_nbd.REPLY_OFFSET_HOLE, b"12"),
        lambda c: chunk(c, c_nbd.REPLY_BLOCK_STATUS, bytes(12)),
        lambda c: chunk(c, c_nbd.REPLY_ERROR_BIT | 1, b"", length=0xFFFFFFFF),
        lambda c: chunk(c, c_nbd.REPLY_ERROR_BIT | 1, b"12"),
        lambda c: chunk(c + 1, c_nbd.REPLY_OFFSET_DATA, b"", length=0xFFFFFFFF),
        lambda c: chunk(c ^ 1, 0, b"") * 1000,
        lambda c: part(c, 0, b"a" * 512)[:100],
    ],
)
def test_replies_that_cannot_be_are_failed_reads(answer: Callable[[int], bytes], folder: Path) -> None:
    connection = connected(folder, answering(answer))
    make_impatient(connection)
    for _ in range(2):
        with pytest.raises(ReadFailed):
            connection.pread(512, 0)
    connection.close()


def test_replies_to_somebody_elses_request_are_passed_over(folder: Path) -> None:
    connection = connected(folder, answering(lambda c: part(c ^ 1, 0, b"x" * 512) + part(c, 0, b"a" * 512)))
    assert connection.pread(512, 0) == b"a" * 512
    connection.close()


def test_after_a_broken_reply_nothing_is_believed_any_more(folder: Path) -> None:
    cookies = []

    def answer(cookie: int) -> bytes:
        cookies.append(cookie)
        return b"x" * 20

    connection = connected(folder, answering(answer))
    with pytest.raises(ReadFailed, match="protocol"):
        connection.pread(512, 0)
    with pytest.raises(ReadFailed, match="protocol"):
        connection.pread(512, 0)
    assert len(cookies) == 1
    connection.close()


@pytest.mark.parametrize(
    "payload",
    [b"\0\0\0\7", b"\0\0\0\7" + bytes(8), b"\0\0\0\7" + bytes(9), b"\0\0\0\1" + struct.pack(">II", 512, 3), b"12"],
)
def test_states_that_cannot_be_are_failed_reads(payload: bytes, folder: Path) -> None:
    connection = connected(folder, answering(lambda c: chunk(c, c_nbd.REPLY_BLOCK_STATUS, payload)))
    with pytest.raises(ReadFailed):
        connection.states(512, 0)
    connection.close()


def test_states_past_what_was_asked_for_are_cut(folder: Path) -> None:
    states = b"\0\0\0\7" + struct.pack(">IIII", 100, 3, 0xFFFFFFFF, 0)
    connection = connected(folder, answering(lambda c: chunk(c, c_nbd.REPLY_BLOCK_STATUS, states)))
    assert connection.states(512, 0) == [(100, 3), (412, 0)]
    connection.close()


def test_an_error_is_the_images_fault_and_its_words_are_harmless(folder: Path) -> None:
    words = b"no\n\x1b[31m such cluster"
    error = c_nbd.ERROR.pack(5, len(words)) + words
    connection = connected(folder, answering(lambda c: chunk(c, c_nbd.REPLY_ERROR_BIT | 1, error)))
    with pytest.raises(BadImage, match=r"such cluster") as caught:
        connection.pread(512, 0)
    assert "\x1b" not in caught.value.sentence()
    connection.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"NBDMAGIC" + bytes(10),
        c_nbd.GREETING.pack(c_nbd.INIT_PASSWD, c_nbd.OPTION_MAGIC, 0),
        greeting() + reply(c_nbd.OPT_STRUCTURED_REPLY, c_nbd.REP_ERROR | 1),
        greeting() + reply(c_nbd.OPT_GO, c_nbd.REP_ACK),
        greeting() + c_nbd.OPTION_REPLY.pack(c_nbd.OPTION_REPLY_MAGIC, c_nbd.OPT_STRUCTURED_REPLY, 1, 0xFFFFFFFF),
        agreed(size=1 << 63),
        agreed(flags=1),  # writable
        agreed()[:-40],
    ],
)
def test_servers_that_cannot_be_agreed_with_are_failed_reads(said: bytes, folder: Path) -> None:
    def script(client: socket.socket) -> None:
        client.sendall(said)
        while client.recv(1000):
            pass

    with pytest.raises(ReadFailed):
        connected(folder, script, timeout=1)


def test_a_silent_and_a_trickling_server_are_not_waited_for(folder: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ReadFailed, match="within 1 s"):
        connected(folder, lambda client: client.recv(1000, socket.MSG_WAITALL), timeout=1)
    (folder / "s").unlink()

    def trickle(client: socket.socket) -> None:
        for byte in agreed():
            client.sendall(bytes([byte]))
            time.sleep(0.05)

    with pytest.raises(ReadFailed, match="within 1 s"):
        connected(folder, trickle, timeout=1)
    assert time.monotonic() - started < 120


def test_no_server_is_a_failed_read(folder: Path) -> None:
    with pytest.raises(P2vError):
        NbdConnection(folder / "s", Path("disk.qed"), 1)
