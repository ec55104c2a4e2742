"""Which files of an initramfs facts keep the text of: configuration that may name devices."""

from __future__ import annotations

import re

TEXT_BYTES_AT_MOST = 256 * 1024
TEXTS_AT_MOST = 32

_FILES = frozenset({
    "cryptroot/crypttab", "etc/crypttab", "etc/mdadm/mdadm.conf", "etc/mdadm.conf", "etc/lvm/lvm.conf", "etc/lvm/lvmlocal.conf",
    "conf/conf.d/cryptroot", "conf/initramfs.conf", "etc/lvm/devices/system.devices",
})  # fmt: skip
# What dracut waits for before it goes on, each device in a file of its own (modules.d/99base/dracut-dev-lib.sh).
DEVICE_WAIT = re.compile(r"(?:usr/lib|lib|var/lib)/dracut/hooks/initqueue/finished/devexists-[^/]+\.sh")
DEVICE_TIMEOUT = re.compile(r"etc/systemd/system/(?P<unit>dev-[^/]+)\.device\.d/timeout\.conf")
_FOLDERS = re.compile(r"etc/cmdline(?:\.d/[^/]+\.conf)?|conf/conf\.d/[^/]+")
# The file as it is packed is nearly all comments; only lines that filter matter.
_FILTERS = re.compile(rb"^[ \t]*(?:global_)?filter\b", re.MULTILINE)


def is_kept(path: str) -> bool:
    """Whether facts hold the text of such a file of an initramfs."""
    return path in _FILES or any(pattern.fullmatch(path) for pattern in (_FOLDERS, DEVICE_WAIT, DEVICE_TIMEOUT))


def is_worth_keeping(path: str, data: bytes) -> bool:
    """Whether anything in it could name a device; LVM's file is large and seldom says anything."""
    if DEVICE_TIMEOUT.fullmatch(path):
        return True
    return b"/dev/" in data and (not path.startswith("etc/lvm/lvm") or _FILTERS.search(data) is not None)
