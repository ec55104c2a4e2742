"""A guest whose disk is mounted and written to while it is converted: as a physical machine's is that copies itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2v.consistency import Way
from p2v.record import load_record
from tests.cli.test_live_options import writing
from tests.fixtures import guest, layout
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device, mounted
from tests.pipeline.running import kill_when, names, p2v, started
from tests.test_freezing import can_be_written

pytestmark = NEEDS_LOOP_DEVICES
_PARTITION = ("--offset", str(layout.ROOT_OFFSET_BYTES), "--sizelimit", str(layout.ROOT_BYTES))


@contextmanager
def running_guest(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The disk of a Debian as a device, and where its root is mounted (through a second device: partitions have no nodes here)."""
    disk = folder / "disk"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", guest("vmware"), disk], check=True)
    disk.chmod(0o600)
    with loop_device(disk) as device, loop_device(device, options=_PARTITION) as partition:
        with mounted(partition, folder / "root") as root:
            yield device, root


def root_of(image: Path, folder: Path) -> Path:
    """The root file system of a converted disk, as an image of its own."""
    raw, root = folder / "raw", folder / "root.img"
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
    subprocess.run(["dd", "bs=1M", f"skip={layout.ROOT_OFFSET_BYTES >> 20}", f"count={layout.ROOT_BYTES >> 20}", "conv=sparse",
                    "status=none", f"if={raw}", f"of={root}"], check=True)  # fmt: skip
    raw.unlink()
    return root


@pytest.mark.appliance
def test_a_guest_is_converted_while_somebody_writes_to_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running_guest(tmp_path) as (device, root), writing(root / "srv"):
        words: list[str | Path] = ["convert", "--live", device, "-o", out, "--name", "vm", "--checksum", "--progress", "plain"]
        ran = p2v(*words)
        assert ran.status == 0, ran.err
        assert can_be_written(root, 20)
    record = load_record(out / "vm.json")
    (live,) = record.live
    assert live.way is Way.FREEZE
    assert live.done[0] == f"froze {root}"
    assert live.done[1].startswith(f"thawed {root} after")
    assert f"mounted on {root}" in "; ".join(live.users)
    (planned,) = record.document.live
    assert (planned.way, planned.freezes) == (Way.FREEZE, (str(root),))
    # what changed is told by what was copied: the source has changed since
    (disk,) = record.disks
    assert all(changed.before and changed.before != changed.after for changed in disk.changed)
    assert [check.clean for check in record.checks] == [True, True]
    assert "was in use" in ran.out
    refused = p2v("prove", out / "vm.json")
    assert (refused.status, "was in use while it was copied" in refused.err) == (64, True), refused.err
    copied = root_of(out / "vm.qcow2", tmp_path)
    assert subprocess.run(["e2fsck", "-f", "-n", copied], check=False, capture_output=True).returncode == 0
    with mounted(copied, tmp_path / "look") as look:
        first, second = (int((look / "srv" / name).read_text()) for name in ("first", "second"))
        assert "UUID=" in (look / "etc/fstab").read_text()
    assert first - second in (0, 1)


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(1800)
def test_a_guest_that_is_copied_as_it_runs_is_repaired_by_its_journal_and_boots(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running_guest(tmp_path) as (device, root):
        (root / "srv/before").write_text("written")
        os.sync()
        (root / "srv/after").write_text("only in the journal, perhaps")
        words: list[str | Path] = ["convert", "--live", "--freeze-limit", "0", device, "-o", out, "--name", "vm", "--verify"]
        ran = p2v(*words, "--progress", "plain")
        assert ran.status == 0, ran.err
    record = load_record(out / "vm.json")
    assert [live.way for live in record.live] == [Way.AS_IT_RUNS]
    # free blocks may be in use a moment later
    assert not any(disk.left_out for disk in record.disks)
    assert [check.clean for check in record.checks] == [True, True]
    assert record.boot is not None
    assert record.boot.booted
    copied = root_of(out / "vm.qcow2", tmp_path)
    assert subprocess.run(["e2fsck", "-f", "-n", copied], check=False, capture_output=True).returncode == 0
    with mounted(copied, tmp_path / "look") as look:
        assert (look / "srv/before").read_text() == "written"


def test_a_plan_whose_guest_changed_before_the_copy_is_stale_and_leaves_nothing(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    with running_guest(tmp_path) as (device, root):
        made = p2v("plan", "--live", device, "--name", "vm", "--json")
        assert made.status == 0, made.err
        plan.write_text(made.out)
        assert json.loads(made.out)["live"][0]["way"] == "freeze"
        words: list[str | Path] = ["convert", "--plan", plan, "-o", out]
        ran = p2v(*words)
        assert (ran.status, "--live" in ran.err) == (64, True)
        with (root / "etc/fstab").open("a") as table:
            table.write("# one line more\n")
        ran = p2v(*words, "--live", "--progress", "plain")
        assert ran.status == 78, ran.err
        assert "texts" in ran.err
        assert not out.exists()
        # another way than the planned one is another plan
        ran = p2v(*words, "--live", "--freeze-limit", "0")
        assert ran.status == 78, ran.err
        assert "--freeze-limit 0 forbids it" in ran.err
        assert can_be_written(root, 10)
    with loop_device(tmp_path / "disk") as idle:
        ran = p2v(*words, idle, "--live")
        assert ran.status == 78, ran.err
        assert "nobody uses" in ran.err


def test_mere_use_of_a_guest_makes_no_plan_stale(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    with running_guest(tmp_path) as (device, root):
        made = p2v("plan", "--live", device, "--name", "vm", "--json")
        plan.write_text(made.out)
        (root / "srv/new").write_bytes(os.urandom(1 << 20))
        words: list[str | Path] = ["convert", "--plan", plan, "--live", "-o", out]
        # the appliance starts only when the copy was found to be the guest that was planned
        assert kill_when(words, started("appliance"), signal.SIGINT)
        assert names(out) == set()
        assert can_be_written(root, 10)


def test_a_device_that_is_copied_live_goes_to_files_only(tmp_path: Path) -> None:
    with running_guest(tmp_path) as (device, _), loop_device(tmp_path / "to", 4 << 30) as target:
        ran = p2v("convert", "--live", device, "-o", tmp_path / "out", "--to-device", target)
        assert ran.status == 64, ran.err
        assert not (tmp_path / "out").exists()


def test_an_image_in_a_device_cannot_be_copied_while_it_is_used(tmp_path: Path) -> None:
    image = tmp_path / "image"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1G"], check=True)
    with image.open("r+b") as file:
        file.truncate(8 << 20)
    with loop_device(image) as device:
        handle = os.open(device, os.O_RDWR)
        try:
            verbs: tuple[tuple[str | Path, ...], ...] = (
                ("plan", "--live", device),
                ("disk", "convert", "--live", device, tmp_path / "copy.raw"),
            )
            for words in verbs:
                ran = p2v(*words)
                assert (ran.status, "qcow2" in ran.err) == (64, True), ran.err
        finally:
            os.close(handle)
    assert names(tmp_path) == {"image"}
