"""A small NBD client that reads and asks for allocation over a UNIX socket, one request at a time.

libnbd's Python binding is no dependency of ours (it is not on PyPI), and could not be used where guests are inspected:
in that child no poll, no sendmsg and no new descriptor are allowed. This client needs read and write on a connected
socket, whose own timeouts (SO_RCVTIMEO) need no poll. The server is a program we started, but one that parses hostile
images: every length it names is checked, and nothing it does makes a call hang.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from pathlib import Path

from converters import c_nbd
from p2v.core.errors import BadImage, ReadFailed

_LONGEST_OPTION_REPLY_BYTES = 64 * 1024
_LONGEST_MESSAGE_BYTES = 64 * 1024
_LONGEST_STATUS_BYTES = 1024 * 1024
# Replies to requests that a child process left unanswered are passed over, a few of them.
_MAX_STRAY_CHUNKS = 64
_LISTEN_SECONDS = 15.0
_POLL_SECONDS = 0.01
_READ_BYTES = 2 * 1024 * 1024


class NbdConnection:
    """One connection to a server's default export; safe for threads, not for use after a fork by both sides.

    ``image`` is named in errors. Every call raises ReadFailed when the server is gone, breaks the protocol or does not
    answer within ``timeout`` seconds, after which the connection is of no use; BadImage when the server says that it
    cannot read.
    """

    def __init__(self, address: Path, image: Path, timeout: float) -> None:
        self._image = image
        self._timeout = timeout
        self._lock = threading.Lock()
        self._broken = ""
        self._context = -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            limit = struct.pack("@ll", max(1, int(timeout)), 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._connect(str(address))
            self._deadline = time.monotonic() + timeout
            self.size = self._negotiate()
        except BaseException:
            self._socket.close()
            raise

    @property
    def fd(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def pread(self, length: int, offset: int) -> bytes:
        """Read ``length`` bytes at ``offset``, all of which must lie in the export."""
        if length <= _READ_BYTES:
            return bytes(self._read(length, offset))
        parts = (self._read(min(_READ_BYTES, length - at), offset + at) for at in range(0, length, _READ_BYTES))
        return b"".join(parts)

    def states(self, length: int, offset: int) -> list[tuple[int, int]]:
        """What the server says of a range: (bytes, flags of ``c_nbd.STATE_...``), from ``offset`` on, maybe not to
        its end; never empty. All data where the server does not tell."""
        if self._context < 0:
            return [(length, 0)]
        found: list[tuple[int, int]] = []
        error: BadImage | None = None
        with self._lock:
            cookie = self._request(c_nbd.CMD_BLOCK_STATUS, length, offset)
            done = False
            while not done:
                kind, left, done = self._chunk(cookie)
                if kind != c_nbd.REPLY_BLOCK_STATUS:
                    error = self._other_chunk(kind, left, f"tell the allocation of {length} bytes at {offset}") or error
                    continue
                self._expect(left >= 12 and (left - 4) % 8 == 0 and left <= _LONGEST_STATUS_BYTES, "states")
                raw = self._receive(left)
                if c_nbd.CONTEXT_ID.unpack_from(raw)[0] == self._context:
                    found += c_nbd.STATE.iter_unpack(raw[4:])
            if error is not None:
                raise error
            return self._cut(found, length)

    def close(self) -> None:
        """Hang up; closing twice is harmless."""
        self._socket.close()

    # --- requests ---

    def _read(self, length: int, offset: int) -> bytearray:
        buffer = bytearray(length)
        if not length:
            return buffer
        view, covered = memoryview(buffer), 0
        error: BadImage | None = None
        with self._lock:
            cookie = self._request(c_nbd.CMD_READ, length, offset)
            done = False
            while not done:
                kind, left, done = self._chunk(cookie)
                if kind == c_nbd.REPLY_OFFSET_DATA:
                    self._expect(left > 8, "data chunk")
                    at, count = c_nbd.OFFSET.unpack(self._receive(8))[0] - offset, left - 8
                    self._expect(at >= 0 and at + count <= length, "data chunk")
                    self._receive_into(view[at : at + count])
                elif kind == c_nbd.REPLY_OFFSET_HOLE:
                    self._expect(left == c_nbd.HOLE.size, "hole chunk")
                    at, count = c_nbd.HOLE.unpack(self._receive(left))
                    self._expect(at - offset >= 0 and at - offset + count <= length, "hole chunk")
                else:
                    error = self._other_chunk(kind, left, f"read {length} bytes at disk offset {offset}") or error
                    continue
                covered += count
            if error is not None:
                raise error
            self._expect(covered == length, "reply")
        return buffer

    def _request(self, command: int, length: int, offset: int) -> int:
        if self._broken:
            raise ReadFailed(str(self._image), self._broken)
        if offset < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} of an export of {self.size}")
        self._deadline = time.monotonic() + self._timeout
        # Random, so that replies left over from somebody else's requests are known as such.
        cookie = int.from_bytes(os.urandom(8), "big")
        self._send(c_nbd.REQUEST.pack(c_nbd.REQUEST_MAGIC, 0, command, cookie, offset, length))
        return cookie

    def _chunk(self, cookie: int) -> tuple[int, int, bool]:
        """Type and length of the next chunk of a reply, and whether it is the last."""
        for _ in range(_MAX_STRAY_CHUNKS):
            magic, flags, kind, found, length = c_nbd.CHUNK.unpack(self._receive(c_nbd.CHUNK.size))
            self._expect(magic == c_nbd.STRUCTURED_REPLY_MAGIC, "reply")
            if found == cookie:
                return kind, length, bool(flags & c_nbd.REPLY_FLAG_DONE)
            self._expect(length <= c_nbd.MAX_REQUEST_BYTES + 8, "reply to nobody's request")
            self._receive(length)
        raise self._failure("sends replies that nobody asked for")

    def _other_chunk(self, kind: int, length: int, what: str) -> BadImage | None:
        """What is left: the empty end of a reply, or an error that the server reports."""
        self._expect(length <= _LONGEST_MESSAGE_BYTES, "chunk")
        raw = self._receive(length)
        if not kind & c_nbd.REPLY_ERROR_BIT:
            self._expect(kind == c_nbd.REPLY_NONE and not raw, "chunk")
            return None
        self._expect(length >= c_nbd.ERROR.size, "error")
        number, words = c_nbd.ERROR.unpack_from(raw)
        text = raw[c_nbd.ERROR.size :][:words].decode("utf-8", "replace")
        return BadImage(
            self._image,
            f"QEMU cannot {what}: {ascii(text)[1:-1] or os.strerror(number)}",
            "The image is damaged, or the host cannot read its file: compare it with the original, see the kernel's log.",
        )

    # --- negotiation ---

    def _connect(self, address: str) -> None:
        patience = time.monotonic() + _LISTEN_SECONDS
        while True:
            try:
                return self._socket.connect(address)
            except OSError as error:
                # A socket has its name a moment before it listens.
                if not isinstance(error, ConnectionRefusedError) or time.monotonic() > patience:
                    raise self._failure(f"cannot be connected to: {error.strerror}") from error
                time.sleep(_POLL_SECONDS)

    def _negotiate(self) -> int:
        """The export's size."""
        password, magic, flags = c_nbd.GREETING.unpack(self._receive(c_nbd.GREETING.size))
        self._expect(password == c_nbd.INIT_PASSWD and magic == c_nbd.OPTION_MAGIC, "greeting")
        wanted = c_nbd.FLAG_FIXED_NEWSTYLE | c_nbd.FLAG_NO_ZEROES
        self._expect(flags & wanted == wanted, "greeting")
        self._send(wanted.to_bytes(4, "big"))
        self._send(c_nbd.option(c_nbd.OPT_STRUCTURED_REPLY))
        self._expect(self._option_reply(c_nbd.OPT_STRUCTURED_REPLY)[0] == c_nbd.REP_ACK, "answer on structured replies")
        self._ask_for_allocation()
        self._send(c_nbd.go())
        size = -1
        while True:
            kind, raw = self._option_reply(c_nbd.OPT_GO)
            if kind == c_nbd.REP_ACK:
                break
            self._expect(kind == c_nbd.REP_INFO, "export")
            if len(raw) == c_nbd.EXPORT_INFO.size and raw[:2] == c_nbd.INFO_EXPORT.to_bytes(2, "big"):
                _, size, export_flags = c_nbd.EXPORT_INFO.unpack(raw)
                self._expect(export_flags & c_nbd.FLAG_READ_ONLY, "export")
        self._expect(0 <= size < 1 << 63, "export size")
        return size

    def _ask_for_allocation(self) -> None:
        self._send(c_nbd.set_meta_context(c_nbd.BASE_ALLOCATION))
        while True:
            kind, raw = self._option_reply(c_nbd.OPT_SET_META_CONTEXT)
            if kind == c_nbd.REP_META_CONTEXT and raw[4:] == c_nbd.BASE_ALLOCATION:
                self._context = c_nbd.CONTEXT_ID.unpack_from(raw)[0]
            elif kind == c_nbd.REP_ACK or kind & c_nbd.REP_ERROR:
                return

    def _option_reply(self, option: int) -> tuple[int, bytes]:
        magic, answered, kind, length = c_nbd.OPTION_REPLY.unpack(self._receive(c_nbd.OPTION_REPLY.size))
        expected = magic == c_nbd.OPTION_REPLY_MAGIC and answered == option and length <= _LONGEST_OPTION_REPLY_BYTES
        self._expect(expected, "answer")
        return kind, self._receive(length)

    # --- bytes ---

    def _cut(self, states: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
        cut: list[tuple[int, int]] = []
        for count, flags in states:
            self._expect(count > 0, "states")
            cut.append((min(count, length), flags))
            length -= cut[-1][0]
            if not length:
                break
        self._expect(bool(cut), "states")
        return cut

    def _receive(self, length: int) -> bytes:
        buffer = bytearray(length)
        self._receive_into(memoryview(buffer))
        return bytes(buffer)

    def _receive_into(self, view: memoryview) -> None:
        while view:
            # Bytes that trickle in must not make a request last for ever either.
            if time.monotonic() > self._deadline:
                raise self._failure(f"did not answer within {self._timeout:g} s")
            try:
                count = os.readv(self.fd, [view])
            except BlockingIOError as error:
                raise self._failure(f"did not answer within {self._timeout:g} s") from error
            except OSError as error:
                raise self._failure(f"cannot be heard: {error.strerror}") from error
            if count == 0:
                raise self._failure("ended")
            view = view[count:]

    def _send(self, message: bytes) -> None:
        view = memoryview(message)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError as error:
                raise self._failure(f"took nothing for {self._timeout:g} s") from error
            except OSError as error:
                raise self._failure(f"cannot be asked: {error.strerror}") from error

    def _expect(self, kept: object, what: str) -> None:
        if not kept:
            raise self._failure(f"breaks the NBD protocol: its {what} is not as it must be")

    def _failure(self, problem: str) -> ReadFailed:
        self._broken = f"the reader from QEMU {problem}"
        return ReadFailed(str(self._image), self._broken)
