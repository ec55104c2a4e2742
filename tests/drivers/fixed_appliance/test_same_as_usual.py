"""The quick appliance beside libguestfs' own: the same file systems, volumes, devices and names, of every kind we know."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers.appliance import Appliance
from drivers.appliance_launch import installed_parts, open_appliance
from drivers.appliance_values import ApplianceDisk
from drivers.fixed_appliance.choosing import PLAIN, VARIABLE, default_store, wanted
from drivers.fixed_appliance.parts import fingerprint
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.events import Event, Warned
from tests.drivers.fixed_appliance.made_parts import root
from tests.drivers.volume_disks import MACHINES, disks

# Nine disks take half a minute of processor time, of which a busy machine gives a tenth.
_PATIENCE_SECONDS = 1500.0
TCG = Acceleration(Accelerator.TCG, "for tests")
LINKS = r"find /dev/disk/by-path /dev/disk/by-id /dev/mapper /dev/md -type l -printf '%p\n' 2>/dev/null | sort"
# what libguestfs' calls reach for: device mapper, loops, FUSE (ntfs-3g), Btrfs
NODES = "for n in mapper/control loop-control fuse btrfs-control; do [ -c /dev/$n ] && echo $n; done"
KINDS = "ext4 xfs btrfs vfat ntfs"
# Each is made, mounted by the kernel or by FUSE, written to and read back, and the whole is what a rewriting rests on.
WRITING = f"""
for kind in {KINDS}; do
    f=/tmp/fs-$kind; truncate -s 320M $f; options=
    case $kind in vfat) ;; ntfs) options=-FQq;; ext4) options=-Fq;; btrfs|xfs) options=-fq;; esac
    mkfs.$kind $options $f >/dev/null 2>&1
    mkdir -p /tmp/m
    if [ $kind = ntfs ]; then ntfs-3g -o loop $f /tmp/m; else mount -o loop $f /tmp/m; fi
    echo $kind > /tmp/m/said && umount /tmp/m
    if [ $kind = ntfs ]; then ntfs-3g -o loop $f /tmp/m; else mount -o loop $f /tmp/m; fi
    cat /tmp/m/said; umount /tmp/m; rm -f $f
done 2>&1
"""


SCRIPTS = {
    "links": LINKS,
    "nodes": NODES,
    # the numbers of arrays, the order of what is found (so the kernel's letters of disks) and the identity of the appliance's own
    # root (ext2) are any
    "arrays": "grep -o ' raid1 ' /proc/mdstat; for each in /sys/block/md*/slaves/*; do "
    "udevadm info -q symlink -n ${each##*/} | tr ' ' '\\n' | grep by-path | sort | head -1; done | sort",
    "volumes": "lvm lvs --noheadings | sort",
    "contents": "blkid | grep -v ext2 | sed 's/^[^:]*: //' | sort",
    "written": WRITING,
}


def seen(plain: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], str]:
    """What an appliance says of the disks of all machines, and the kernel's modules."""
    monkeypatch.setenv(VARIABLE, PLAIN if plain else "")
    paths = [path for machine in MACHINES for path in disks(machine)]
    given = [ApplianceDisk(path, "raw", read_only=True) for path in paths]
    with open_appliance(given, TCG, memory_mib=768, launch_seconds=_PATIENCE_SECONDS) as appliance:
        return {name: shell(appliance, script) for name, script in SCRIPTS.items()}, shell(appliance, "lsmod")


def shell(appliance: Appliance, script: str) -> str:
    return str(appliance.call("debug", "sh", [script], seconds=_PATIENCE_SECONDS))


@pytest.mark.appliance
@pytest.mark.timeout(4 * _PATIENCE_SECONDS)
@pytest.mark.xdist_group("volume-disks")
@pytest.mark.skipif(
    os.environ.get(VARIABLE) == PLAIN or not wanted(), reason="needs an x86-64 host, and no P2V_APPLIANCE=plain"
)
def test_the_quick_appliance_sees_and_does_what_the_usual_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, usual_modules = seen(True, monkeypatch)
    quick, quick_modules = seen(False, monkeypatch)
    assert quick == usual
    assert quick["written"].split() == KINDS.split()
    for kind in ("ext4", "crypto_LUKS", "btrfs", "LVM2_member", "linux_raid_member"):
        assert f'TYPE="{kind}"' in usual["contents"]
    assert usual["arrays"].count("raid1") == 2
    assert "big-data" in usual["volumes"]
    assert "ata_piix" in usual_modules
    assert "ata_piix" not in quick_modules, "it was the usual one again"
    parts = installed_parts()
    assert parts is not None
    assert default_store().works(fingerprint(parts), Accelerator.TCG)


@pytest.mark.appliance
def test_one_that_does_not_start_costs_a_launch_and_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts = installed_parts()
    assert parts is not None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store, key = default_store(), fingerprint(parts)
    for name in ("kernel", "initrd", "root"):
        made = store.path("made") / name
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(root(b"nothing that could be started"))
    store.folder.chmod(0o700)
    (store.path("made") / "README.fixed").touch()
    store.take_in(store.path("made"), key)
    disk, events = tmp_path / "disk", list[Event]()
    disk.write_bytes(bytes(1 << 20))
    with open_appliance([ApplianceDisk(disk, "raw", read_only=True)], TCG, report=events.append) as appliance:
        assert shell(appliance, "lsmod | grep -c ata_piix").strip() != "0"
    assert sum(isinstance(event, Warned) for event in events) == 1
    assert store.reason_against(key, Accelerator.TCG) is not None
