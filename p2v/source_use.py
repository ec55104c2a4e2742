"""Who uses a block device that is a source. (An image names none: ``converters.references`` refuses that.)"""

from __future__ import annotations

import time
from pathlib import Path

from p2v.core.block_devices import THIS_HOST, BlockDevice, HostFiles, look_at
from p2v.core.device_use import Use, UseKind, is_held, uses_of

_HELD = Use(UseKind.OPEN, "something on this host holds it (a container's mount, a device on it)")
_PATIENCE_SECONDS = 2.0


def device_uses(path: Path, host: HostFiles = THIS_HOST) -> tuple[BlockDevice, tuple[Use, ...]]:
    """The block device at a path and its users. Raises UnfitDevice, NotPermitted.

    Where nobody is found the kernel is asked whether somebody holds it all the same.
    """
    device = look_at(path, host)
    uses = uses_of(device.number, host)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not uses and is_held(path):
        if time.monotonic() >= deadline:
            return device, (_HELD,)
        time.sleep(0.1)
    return device, uses
