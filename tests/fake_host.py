"""What the kernel tells of block devices, as files: for devices that are not at hand."""

from __future__ import annotations

from pathlib import Path

from p2v.core.block_devices import HostFiles


class FakeHost:
    """/proc and /sys as files: devices by number and name."""

    def __init__(self, folder: Path) -> None:
        self.files = HostFiles(folder / "proc", folder / "sys")
        self.write("proc/self/mountinfo", "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n", folder)
        self.write("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n", folder)
        self._folder = folder

    def write(self, name: str, text: str, folder: Path | None = None) -> None:
        path = (folder or self._folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def device(self, number: str, name: str, *, of: str = "", holders: tuple[str, ...] = (), slaves: tuple[str, ...] = ()) -> None:
        """A device; ``of``: the disk it is a partition of; ``slaves`` and ``holders``: names of devices."""
        node = f"sys/devices/{of}/{name}" if of else f"sys/devices/{name}"
        self.write(f"{node}/dev", number)
        self.write(f"{node}/size", "2048")
        self.write(f"{node}/ro", "0")
        if of:
            self.write(f"{node}/partition", name.removeprefix(of))
        for kind, others in (("holders", holders), ("slaves", slaves)):
            (self._folder / node / kind).mkdir()
            for other in others:
                (self._folder / node / kind / other).symlink_to(self._folder / "sys/devices" / other)
        link = self._folder / "sys/dev/block" / number
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self._folder / node)
