"""The NBD protocol's messages, as far as a reading client needs them.

Source: NetworkBlockDevice/nbd, doc/proto.md (fixed newstyle negotiation, structured replies, metadata contexts); names as
there. Everything is big-endian. Behaviour is in ``nbd_client.py``.
"""

from __future__ import annotations

import struct

INIT_PASSWD = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
STRUCTURED_REPLY_MAGIC = 0x668E33EF

FLAG_FIXED_NEWSTYLE = 1 << 0
FLAG_NO_ZEROES = 1 << 1

OPT_GO = 7
OPT_STRUCTURED_REPLY = 8
OPT_SET_META_CONTEXT = 10

REP_ACK = 1
REP_INFO = 3
REP_META_CONTEXT = 4
REP_ERROR = 1 << 31

INFO_EXPORT = 0
FLAG_READ_ONLY = 1 << 1

CMD_READ = 0
CMD_BLOCK_STATUS = 7

REPLY_FLAG_DONE = 1 << 0
REPLY_NONE = 0
REPLY_OFFSET_DATA = 1
REPLY_OFFSET_HOLE = 2
REPLY_BLOCK_STATUS = 5
REPLY_ERROR_BIT = 1 << 15

BASE_ALLOCATION = b"base:allocation"
STATE_HOLE = 1 << 0
STATE_ZERO = 1 << 1

# A server may refuse more in one request.
MAX_REQUEST_BYTES = 32 * 1024 * 1024

GREETING = struct.Struct(">8s8sH")
OPTION = struct.Struct(">8sII")
OPTION_REPLY = struct.Struct(">QIII")
EXPORT_INFO = struct.Struct(">HQH")
REQUEST = struct.Struct(">IHHQQI")
CHUNK = struct.Struct(">IHHQI")
OFFSET = struct.Struct(">Q")
HOLE = struct.Struct(">QI")
CONTEXT_ID = struct.Struct(">I")
STATE = struct.Struct(">II")
ERROR = struct.Struct(">IH")


def option(number: int, data: bytes = b"") -> bytes:
    """One option of the negotiation."""
    return OPTION.pack(OPTION_MAGIC, number, len(data)) + data


def go() -> bytes:
    """Choose the default export (the one without a name) and begin."""
    return option(OPT_GO, struct.pack(">IH", 0, 0))


def set_meta_context(context: bytes) -> bytes:
    """Ask for one metadata context of the default export."""
    return option(OPT_SET_META_CONTEXT, struct.pack(">III", 0, 1, len(context)) + context)
