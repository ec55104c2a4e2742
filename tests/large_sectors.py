"""A guest of 512-byte sectors laid out again on a disk whose sectors have 4096 (4Kn), as its installer would have done there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.fixtures import guest_disks, loaders
from tests.fixtures.layout import MIB
from tests.loop_devices import loop_device

_LARGE = 4096


def uefi_guest(folder: Path) -> Path:
    """A raw image of the sample guest ``uefi`` on such a disk; needs loop devices."""
    source, image = guest_disks("uefi")[0], folder / "large.raw"
    script = subprocess.run(["sfdisk", "-d", source], capture_output=True, text=True, check=True).stdout
    esp, *others = loaders.EFI_PARTITIONS
    with loop_device(image, source.stat().st_size, options=("--sector-size", str(_LARGE))) as device:
        table = "\n".join(_in_large_sectors(line) for line in script.splitlines())
        subprocess.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", device], input=table, text=True, check=True)
        for part in others:
            _copied(source, device, part.start_mib, part.size_mib)
        system = _esp(source, folder, esp.start_mib, esp.size_mib)
        subprocess.run(["dd", f"if={system}", f"of={device}", "bs=1M", f"seek={esp.start_mib}", "conv=notrunc,fsync",
                        "status=none"], check=True)  # fmt: skip
    return image


def _in_large_sectors(line: str) -> str:
    """A line of sfdisk's dump, its places counted anew; what it says of the disk as a whole is for the new one to say."""
    if " : " not in line:
        return line if line.startswith(("label: ", "label-id: ")) else ""
    words = []
    for word in line.partition(" : ")[2].split(","):
        name, _, value = word.partition("=")
        words.append(f"{name}={int(value) * 512 // _LARGE}" if name.strip() in ("start", "size") else word)
    return ",".join(words)


def _copied(source: Path, device: Path, start_mib: int, size_mib: int) -> None:
    subprocess.run(["dd", f"if={source}", f"of={device}", "bs=1M", f"skip={start_mib}", f"seek={start_mib}",
                    f"count={size_mib}", "conv=notrunc,sparse,fsync", "status=none"], check=True)  # fmt: skip


def _esp(source: Path, folder: Path, start_mib: int, size_mib: int) -> Path:
    """The EFI system partition with large sectors: the kernel mounts no other on such a disk."""
    tree, made = folder / "esp-tree", folder / "esp"
    tree.mkdir()
    subprocess.run(["mcopy", "-s", "-i", f"{source}@@{start_mib}M", "::EFI", tree], check=True, stdin=subprocess.DEVNULL)
    with made.open("wb") as file:
        file.truncate(size_mib * MIB)
    subprocess.run(["mkfs.vfat", "-S", str(_LARGE), "-i", loaders.VOLUME_ID, made], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mcopy", "-s", "-i", made, tree / "EFI", "::"], check=True, stdin=subprocess.DEVNULL)
    return made
