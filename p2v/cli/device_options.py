"""The options about block devices that disks are written to, in place of files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from p2v.core.errors import Usage
from p2v.device_targets import DeviceWish

_NUMBERED = re.compile(r"(?P<disk>[0-9]{1,3})=(?P<device>.*)", re.DOTALL)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    group = parser.add_argument_group("block devices (disks, logical volumes) in place of files")
    group.add_argument(
        "--to-device",
        action="append",
        default=[],
        metavar="[DISK=]DEVICE",
        help="write a disk to this block device, raw; DISK is its number from 1 on, not needed where there is only one; repeat "
        "for more disks. Refused when it is in use, too small, or not empty; the definition and the record still go to DIR",
    )
    group.add_argument("--overwrite-device", action="store_true", help="what is on the devices may be lost")
    group.add_argument(
        "--discard", action="store_true", help="tell the devices first that nothing on them is needed (thin volumes, SSDs)"
    )


def devices_of(arguments: argparse.Namespace) -> DeviceWish:
    """What they say. Raises Usage."""
    if not arguments.to_device and (arguments.overwrite_device or arguments.discard):
        raise Usage("--overwrite-device and --discard are for --to-device", "As in --to-device /dev/vg/web1.")
    return DeviceWish(tuple(map(_device, arguments.to_device)), arguments.overwrite_device, arguments.discard)


def _device(text: str) -> tuple[int | None, Path]:
    match = _NUMBERED.fullmatch(text)
    number, device = (int(match["disk"]), match["device"]) if match else (None, text)
    if not device or "\0" in device:
        raise Usage(f"--to-device {text}: no device is named", "As in --to-device 1=/dev/vg/web1-root (DISK=DEVICE).")
    return number, Path(device)
