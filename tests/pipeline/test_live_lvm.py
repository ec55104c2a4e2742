"""Snapshots of logical volumes where they are real: inside a Debian under QEMU, with this suite in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import lvm_guest
from tests.cli.test_live_options import _WRITER, checked, generations
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device, mounted

# Four runs: one that goes well, one whose snapshot runs full, one that is killed, and the one after it.
_SCRIPT = """
set -x
p2v() { python3 -m p2v disk convert --live --progress plain "$@"; }
cat >/tmp/writer.py <<'EOF'
%(writer)s
EOF
pvcreate -q /dev/vdb && vgcreate -q vg0 /dev/vdb && lvcreate -q -y -L 300M -n data vg0 || exit
mke2fs -q -t ext4 /dev/vg0/data
mkdir /tmp/mnt && mount /dev/vg0/data /tmp/mnt || exit
python3 /tmp/writer.py /tmp/mnt &
sleep 10

p2v /dev/vg0/data /out/copy.raw >/out/well 2>&1; echo $? >/out/well.status
lvs --noheadings -o lv_name vg0 >/out/well.lvs

dd if=/dev/urandom of=/tmp/mnt/large bs=1M count=150 conv=fsync
lvcreate -q -y -l 100%%FREE -n filler vg0 && lvreduce -q -y -f -L -72M vg0/filler
(while :; do dd if=/dev/urandom of=/tmp/mnt/large bs=1M count=150 conv=notrunc,fsync; done) &
filling=$!
p2v /dev/vg0/data /out/full.raw >/out/full 2>&1; echo $? >/out/full.status
kill $filling; wait $filling
lvs --noheadings -o lv_name vg0 >/out/full.lvs
lvremove -q -y vg0/filler

(exec python3 -m p2v disk convert --live /dev/vg0/data /out/killed.raw >/out/killed 2>&1) &
run=$!
for try in $(seq 200); do lvs --noheadings -o lv_name vg0 | grep -q p2v- && break; sleep 0.1; done
kill -9 $run; sleep 1
lvs --noheadings -o lv_name vg0 >/out/killed.lvs
p2v /dev/vg0/data /out/after.raw >/out/after 2>&1; echo $? >/out/after.status
lvs --noheadings -o lv_name vg0 >/out/after.lvs
"""


@NEEDS_LOOP_DEVICES
@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(3600)
def test_a_logical_volume_that_is_written_is_copied_from_a_snapshot(tmp_path: Path) -> None:
    made = lvm_guest.make(tmp_path / "made")
    out = lvm_guest.run(made, tmp_path, _SCRIPT % {"writer": _WRITER}, 2400)
    with loop_device(out) as device, mounted(device, tmp_path / "mnt") as left:
        said = {path.name: path.read_text(errors="replace") for path in left.iterdir() if path.suffix != ".raw" and path.is_file()}
        assert said["well.status"] == "0\n", said
        assert "copied from a snapshot of the logical volume vg0/data" in said["well"]
        assert "removed the snapshot vg0/p2v-data-" in said["well"]
        assert said["well.lvs"].split() == ["data"]
        # more was written than the snapshot had room for: no copy, no snapshot
        assert said["full.status"] == "75\n", said
        assert "ran full" in said["full"]
        assert not (left / "full.raw").exists()
        assert sorted(said["full.lvs"].split()) == ["data", "filler"]
        # what a killed run leaves goes with the next one
        assert "p2v-data-" in said["killed.lvs"], said
        assert not (left / "killed.raw").exists()
        assert said["after.status"] == "0\n", said
        assert "an earlier run was killed and left the snapshot vg0/p2v-data-" in said["after"]
        assert said["after.lvs"].split() == ["data"]
        for name in ("copy.raw", "after.raw"):
            subprocess.run(["cp", "--sparse=always", left / name, tmp_path / name], check=True)
    for name in ("copy.raw", "after.raw"):
        first, second = generations(tmp_path / name, tmp_path / "copied")
        assert first - second in (0, 1)
        checked(tmp_path / name, "ext4")
