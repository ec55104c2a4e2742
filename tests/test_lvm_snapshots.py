"""Snapshots of logical volumes, against an LVM that is played: this kernel has no device-mapper."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from p2v import lvm_snapshots
from p2v.consistency import LiveSource, LogicalVolume, Way
from p2v.core.block_devices import THIS_HOST, BlockDevice
from p2v.core.errors import NotHeldStill, ProgramFailed
from p2v.core.marks import batch_mark, this_host
from p2v.core.run import Completed
from p2v.core.units import GIB
from p2v.lvm_snapshots import left_snapshots, remove_leftovers, snapshot, volume_of

SOURCE = LiveSource(0, "dm/uuid=LVM-x", 10 * GIB, Way.SNAPSHOT, ("mounted on /srv",), volume="vg0/data", snapshot_bytes=2 * GIB)


class PlayedLvm:
    """Volumes by name, as rows of lvs."""

    def __init__(self) -> None:
        self.volumes: dict[str, dict[str, str]] = {
            "vg0/data": {
                "vg_name": "vg0", "lv_name": "data", "lv_size": str(10 * GIB), "vg_free": str(5 * GIB),
                "origin": "", "pool_lv": "", "lv_tags": "", "lv_attr": "-wi-ao----", "data_percent": "",
            }
        }  # fmt: skip
        self.ran: list[list[str]] = []
        self.fails: set[str] = set()
        self.state, self.filled = "sri-a-s---", "1.50"

    def run(
        self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None,
        on_line: Callable[[str], None] | None = None, accept: Sequence[int] = (0,), env: Mapping[str, str] | None = None,
    ) -> Completed:  # fmt: skip
        self.ran.append(list(argv))
        if argv[0] in self.fails:
            raise ProgramFailed(argv[0], 5, "Insufficient free space")
        out = ""
        match argv[0]:
            case "lvcreate":
                words = list(argv)
                made = f"vg0/{words[words.index('--name') + 1]}"
                assert words[-1] == "vg0/data"
                self.volumes[made] = {
                    **self.volumes["vg0/data"], "lv_name": made[4:], "origin": "data",
                    "lv_tags": words[words.index("--addtag") + 1],
                }  # fmt: skip
            case "lvremove":
                del self.volumes[argv[-1]]
            case "lvs":
                wanted = [argv[-1].removeprefix("/dev/")] if "/" in argv[-1] else list(self.volumes)
                rows = [dict(self.volumes[name]) for name in wanted if name in self.volumes]
                for row in rows:
                    if row["origin"]:
                        row.update(lv_attr=self.state, data_percent=self.filled)
                out = json.dumps({"report": [{"lv": rows}]})
        return Completed(out, "", 0.1)

    @property
    def snapshots(self) -> list[str]:
        return [name for name in self.volumes if name != "vg0/data"]


@pytest.fixture
def lvm() -> PlayedLvm:
    return PlayedLvm()


def device(identity: str) -> BlockDevice:
    return BlockDevice(Path("/dev/vg0/data"), "252:3", "dm-3", 10 * GIB, 512, False, identity)


def test_a_logical_volume_is_known_by_what_the_kernel_and_lvm_say(lvm: PlayedLvm) -> None:
    assert volume_of(device("dm/uuid=LVM-abc"), lvm) == LogicalVolume("vg0", "data", 10 * GIB, 5 * GIB)
    for identity in ("wwid=naa.5000", "dm/uuid=mpath-3600", "dm/uuid=LVM-abc partition=1"):
        lvm.ran.clear()
        assert "logical volume" in str(volume_of(device(identity), lvm))
        assert lvm.ran == []


@pytest.mark.parametrize("answer", ["", "{}", '{"report": [{"lv": []}]}', '{"report": [{"lv": [{"vg_name": "vg0"}]}]}'])
def test_an_answer_that_is_none_is_a_reason_against_a_snapshot(
    lvm: PlayedLvm, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(lvm, "run", lambda *_, **__: Completed(answer, "", 0.1))
    assert "LVM" in str(volume_of(device("dm/uuid=LVM-abc"), lvm))


def test_a_snapshot_is_read_only_has_its_room_and_goes_at_the_end(lvm: PlayedLvm) -> None:
    with snapshot(SOURCE, lvm) as taken:
        assert lvm.snapshots == [taken.name]
        assert taken.path == Path("/dev") / taken.name
    taken.require_kept()
    assert taken.fullest == 1.5
    assert lvm.snapshots == []
    (made,) = [words for words in lvm.ran if words[0] == "lvcreate"]
    assert made[made.index("--size") + 1] == f"{2 * GIB}b"
    assert made[made.index("--permission") + 1] == "r"


def test_a_thin_snapshot_is_given_no_size(lvm: PlayedLvm) -> None:
    thin = LiveSource(0, "dm/uuid=LVM-x", 10 * GIB, Way.SNAPSHOT, (), volume="vg0/data")
    with snapshot(thin, lvm):
        pass
    assert not any("--size" in words for words in lvm.ran)


def test_a_snapshot_goes_when_an_error_ends_the_copy(lvm: PlayedLvm) -> None:
    with pytest.raises(ZeroDivisionError), snapshot(SOURCE, lvm):
        raise ZeroDivisionError
    assert lvm.snapshots == []


@pytest.mark.parametrize(("state", "filled"), [("sri-I-s---", "100.00"), ("sri-a-s---", "100.00")])
def test_a_snapshot_that_ran_full_is_an_error_and_goes(lvm: PlayedLvm, state: str, filled: str) -> None:
    with snapshot(SOURCE, lvm) as taken:
        lvm.state, lvm.filled = state, filled
    with pytest.raises(NotHeldStill, match="ran full"):
        taken.require_kept()
    assert lvm.snapshots == []


def test_a_copy_is_told_when_its_snapshot_runs_full_meanwhile(lvm: PlayedLvm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvm_snapshots, "_WATCH_SECONDS", 0.05)
    lost = threading.Event()
    with snapshot(SOURCE, lvm, lost.set):
        assert not lost.wait(0.3)
        lvm.state = "sri-I-s---"
        assert lost.wait(120)


def test_a_snapshot_that_cannot_be_removed_is_told_and_does_the_copy_no_harm(
    lvm: PlayedLvm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvm_snapshots, "_REMOVE_PAUSE_SECONDS", 0)
    with snapshot(SOURCE, lvm) as taken:
        lvm.fails.add("lvremove")
    taken.require_kept()
    assert f"lvremove {taken.name}" in taken.left
    tries = [words for words in lvm.ran if words[0] == "lvremove"]
    assert len(tries) == 5


def test_lvms_own_refusal_is_told(lvm: PlayedLvm) -> None:
    lvm.fails.add("lvcreate")
    with pytest.raises(NotHeldStill, match="Insufficient free space"), snapshot(SOURCE, lvm):
        pytest.fail("there is no snapshot")


def test_what_a_killed_run_left_is_removed_and_told_and_nothing_else(lvm: PlayedLvm) -> None:
    def left(name: str, tags: str) -> None:
        row: dict[str, Any] = {**lvm.volumes["vg0/data"], "lv_name": name, "origin": "data", "lv_tags": tags}
        lvm.volumes[f"vg0/{name}"] = row

    ours = lvm_snapshots._started(os.getpid(), THIS_HOST)
    left("p2v-gone", "p2v-suite.999999999.77")
    left("p2v-runs", f"p2v-suite.{os.getpid()}.{ours}")
    # a process of today has the number of the one that was killed
    left("p2v-reused", f"other,p2v-suite.{os.getpid()}.1")
    left("nightly-backup", "backup")
    told = remove_leftovers(lvm)
    assert sorted(lvm.snapshots) == ["vg0/nightly-backup", "vg0/p2v-runs"]
    assert ["p2v-gone" in told[0], "p2v-reused" in told[1], len(told)] == [True, True, 2]
    lvm.fails.add("lvs")
    assert remove_leftovers(lvm) == ()


def test_a_snapshot_tells_whose_it_is(lvm: PlayedLvm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch's conversion that has died, on this host: nobody else's, and none that is in use."""
    here, gone = this_host().mark(), "p2v-suite.999999999.77"
    tags = {
        "ours": f"{gone},p2v-host.{here},p2v-batch.{batch_mark(tmp_path / 'a')}",
        "of-another-batch": f"{gone},p2v-host.{here},p2v-batch.{batch_mark(tmp_path / 'b')}",
        "of-no-batch": f"{gone},p2v-host.{here}",
        "of-another-host": f"{gone},p2v-host.0123456789ab,p2v-batch.{batch_mark(tmp_path / 'a')}",
        "in-use": f"p2v-suite.{os.getpid()}.{lvm_snapshots._started(os.getpid(), THIS_HOST)},p2v-host.{here},"
        f"p2v-batch.{batch_mark(tmp_path / 'a')}",
        "nobodys": f"p2v-host.{here},p2v-batch.{batch_mark(tmp_path / 'a')}",
    }
    for name, text in tags.items():
        lvm.volumes[f"vg0/{name}"] = {**lvm.volumes["vg0/data"], "lv_name": name, "origin": "data", "lv_tags": text}
    assert left_snapshots(lvm, batch=tmp_path / "a") == ("vg0/ours",)
    assert set(left_snapshots(lvm)) == {"vg0/ours", "vg0/of-another-batch", "vg0/of-no-batch"}
    # and what is taken bears these tags
    monkeypatch.setenv("P2V_BATCH", str(tmp_path / "a"))
    with snapshot(SOURCE, lvm):
        (made,) = [words for words in lvm.ran if words[0] == "lvcreate"]
    added = [word for before, word in itertools.pairwise(made) if before == "--addtag"]
    assert added[1:] == [f"p2v-host.{here}", f"p2v-batch.{batch_mark(tmp_path / 'a')}"]
