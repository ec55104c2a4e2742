"""Access lists as Linux stores them in extended attributes: what a new name gets from its folder's default list. Pure.

Source: the kernel's include/uapi/linux/posix_acl_xattr.h; acl(5), "OBJECT CREATION AND DEFAULT ACLs".
"""

from __future__ import annotations

import struct

ACCESS_LIST, DEFAULT_LIST = "system.posix_acl_access", "system.posix_acl_default"
_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_OWNER, _GROUP, _MASK, _OTHERS = 0x01, 0x04, 0x10, 0x20
_ANYBODYS = (_OWNER, _GROUP, _OTHERS)


def inherited(default: str, mode: int, *, is_folder: bool) -> dict[str, str]:
    """The attributes, values in hexadecimal, of a name that was made below a folder with this default list and then got a mode.

    Raises ValueError when the list is none.
    """
    if not default.startswith("0x"):
        raise ValueError("an attribute is not hexadecimal")
    raw = bytes.fromhex(default[2:])
    if len(raw) % _ENTRY.size != 4 or struct.unpack_from("<I", raw)[0] != _VERSION:
        raise ValueError("a default access list is none")
    entries = [_ENTRY.unpack_from(raw, at) for at in range(4, len(raw), _ENTRY.size)]
    has_mask = any(tag == _MASK for tag, _, _ in entries)
    of_mode = {_OWNER: mode >> 6 & 7, _MASK if has_mask else _GROUP: mode >> 3 & 7, _OTHERS: mode & 7}
    access = b"".join(_ENTRY.pack(tag, of_mode.get(tag, permissions), who) for tag, permissions, who in entries)
    found = {}
    # a list that says no more than the mode is not kept
    if any(tag not in _ANYBODYS for tag, _, _ in entries):
        found[ACCESS_LIST] = "0x" + (struct.pack("<I", _VERSION) + access).hex()
    if is_folder:
        found[DEFAULT_LIST] = default
    return found
