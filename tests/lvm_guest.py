"""A Debian with LVM, Python and this source tree, started under QEMU: what no host without device-mapper can try.

``run`` boots it with a script as its first process. It sees two further disks: an empty one, and one with a file system mounted at
``/out``, on which it leaves what the host is to look at.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.fixtures import base, rootfs, trees
from tests.fixtures.layout import MIB

PACKAGES = ("lvm2", "e2fsprogs", "python3", "python3-attr")
_ROOT_MIB, _OUT_MIB = 2600, 1500
_SOURCE = Path(__file__).parents[1]
_LOCAL_CONFIGURATION = """\
# no udev runs here
activation { udev_sync = 0 udev_rules = 0 }
devices { obtain_device_list_from_udev = 0 external_device_info_source = "none" }
"""
_FIRST_PROCESS = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPATH=/opt/p2v:/opt/site PYTHONDONTWRITEBYTECODE=1
for kind in proc:/proc sysfs:/sys tmpfs:/tmp tmpfs:/run; do
    mountpoint -q "${kind#*:}" || mount -t "${kind%%:*}" none "${kind#*:}"
done
modprobe -a dm-mod dm-snapshot loop
mkdir -p /out && mount /dev/vdc /out
sh /root/script >/out/said 2>&1 </dev/null
sync
umount /out || mount -o remount,ro /out
echo THE-SCRIPT-IS-DONE >/dev/console
sleep 2
echo o >/proc/sysrq-trigger
sleep 60
"""
# Nothing that only builds, checks or tests.
_NOT_NEEDED = (
    "mypy", "atheris", "asan_", "ubsan_", "libclang", "pip", "setuptools", "hypothesis", "grimp", "pygments", "rich", "6ec",
)  # fmt: skip


def make(folder: Path) -> Path:
    """Build its root file system; a folder with ``root.img``, ``vmlinuz`` and ``initrd``. Needs root and Debian's archive."""
    folder.mkdir()
    root = trees.unpacked(folder / "root", base.tree() / base.TREE_TAR, PACKAGES)
    trees.write(root, "/etc/lvm/lvmlocal.conf", _LOCAL_CONFIGURATION)
    trees.write(root, "/first", _FIRST_PROCESS)
    (root / "first").chmod(0o755)
    site = Path(next(path for path in sys.path if path.endswith("site-packages")))
    shutil.copytree(site, root / "opt/site", ignore=lambda _, names: [n for n in names if n.startswith(_NOT_NEEDED)])
    for package in ("p2v", "converters", "drivers"):
        shutil.copytree(_SOURCE / package, root / "opt/p2v" / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "out").mkdir()
    version = trees.kernels(root)[0]
    rootfs.chroot(root, f"update-initramfs -c -k {version}")
    shutil.copyfile(root / f"boot/vmlinuz-{version}", folder / "vmlinuz")
    shutil.copyfile(root / f"boot/initrd.img-{version}", folder / "initrd")
    return folder


def run(made: Path, folder: Path, script: str, seconds: float) -> Path:
    """Boot it with a script; the image of ``/out`` as it left it. Raises AssertionError when it did not come to its end."""
    (made / "root/root/script").write_text(script)
    image, empty, out = folder / "root.img", folder / "empty.img", folder / "out.img"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", made / "root", image, f"{_ROOT_MIB}M"], check=True)
    with empty.open("wb") as file:
        file.truncate(1024 * MIB)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", out, f"{_OUT_MIB}M"], check=True)
    drives = [word for disk in (image, empty, out) for word in ("-drive", f"file={disk},format=raw,if=virtio")]
    argv = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "1", "-display", "none", "-nic", "none",
        "-no-reboot", "-serial", "stdio", "-monitor", "none", "-kernel", str(made / "vmlinuz"), "-initrd", str(made / "initrd"),
        "-append", "root=/dev/vda rw init=/first console=ttyS0 quiet panic=-1", *drives,
    ]  # fmt: skip
    try:
        done = subprocess.run(argv, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"it did not come to its end: {(late.stdout or b'')[-3000:].decode(errors='replace')}") from late
    assert b"THE-SCRIPT-IS-DONE" in done.stdout, done.stdout[-3000:].decode(errors="replace")
    return out
