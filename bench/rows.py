"""The rows of the benchmark: what is measured, against whom, and the goal.

Each row runs ours and the peer's in turn on the same input in the same process tree, warms up first where
the peer's cost allows it, and reports medians.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.inputs import guest_disk, qemu_format
from bench.measuring import HOUR, P2V, RUNNER, Outcome, Row, Say, paired, scratch_folder, timed
from bench.moving import against_qemu_img
from p2v.acceleration import acceleration
from p2v.record import load_record
from tests.fixtures import packed


def peer_environment() -> dict[str, str]:
    """What a libguestfs tool needs on this host, by what the doctor found."""
    env = {"LIBGUESTFS_BACKEND": "direct"}
    if not acceleration(RUNNER).kvm:
        env["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
    return env


def _convert_of(guest: str) -> Callable[[Say], Outcome]:
    return lambda say: _convert(packed(guest, "vmdk-stream"), say)


def _convert(source: Path, say: Say) -> Outcome:
    ours, phases = [], {}
    for turn in range(4):
        with scratch_folder() as folder:
            seconds = timed([*P2V, "convert", str(source), "-o", str(folder), "--name", "bench", "--progress", "none"])
            phases = dict(load_record(folder / "bench.json").seconds)
        say(f"ours, {'warm-up' if not turn else f'run {turn}'}: {seconds:.1f} s {phases}")
        if turn:
            ours.append(seconds)
    with scratch_folder() as folder:
        argv = ["virt-v2v", "-i", "disk", str(source), "-o", "local", "-os", str(folder), "-of", "qcow2", "-on", "bench"]
        other = timed(argv, peer_environment())
        say(f"virt-v2v: {other:.1f} s")
        theirs = _boots(folder / "bench-sda", say)
    return Outcome(
        statistics.median(ours), other, (len(ours), 1),
        f"phases of our last run, seconds: {phases}\n"
        f"accelerator: {acceleration(RUNNER).evidence}\n"
        "most of virt-v2v's time is the guest's own update-initramfs, under emulation where KVM does not work\n"
        f"virt-v2v's result, booted by p2v verify: {theirs}",
    )  # fmt: skip


def _boots(disk: Path, say: Say) -> str:
    """Whether the peer's result boots from virtio-blk, in the boot check's words."""
    argv = [*P2V, "verify", str(disk), "--input-format", "qcow2", "--json", "--progress", "none"]
    done = RUNNER.run(argv, timeout=HOUR, accept=(0, 3))
    said = str(json.loads(done.stdout)["verdict"]["sentence"])
    say(f"virt-v2v's result: {said}")
    return said


def _inspect(say: Say) -> Outcome:
    source = packed("vmware", "vmdk-sparse")
    ours = [timed([*P2V, "inspect", str(source)]) for _ in range(8)][1:]
    say(f"ours: {[round(s, 2) for s in ours]}")
    argv = ["virt-inspector", "--format=vmdk", "-a", str(source)]
    other = [timed(argv, peer_environment()) for _ in range(3)]
    say(f"virt-inspector: {[round(s, 1) for s in other]}")
    return Outcome(statistics.median(ours), statistics.median(other), (len(ours), len(other)))


def _copy(packing: str, disk_format: str) -> Callable[[Say], Outcome]:
    def measure(say: Say) -> Outcome:
        source, of_input = packed("vmware", packing), qemu_format(packing)
        convert = ["qemu-img", "convert", "-f", of_input, "-O", disk_format, str(source)]
        ours, other = paired(
            lambda place: timed([sys.executable, "-m", "bench.copy_once", str(source), str(place / "disk"), disk_format]),
            lambda place: timed([*convert, str(place / "disk")]),
            say,
        )
        return Outcome(ours, other, (5, 5), "whole processes, ours with Python's start")

    return measure


def _disk_convert(packing: str) -> Callable[[Say], Outcome]:
    return against_qemu_img(packing, "raw", disk=guest_disk)


def _open_huge(qemu_format: str) -> Callable[[Say], Outcome]:
    """`p2v disk info` of an empty image of 64 TiB against the limit of a second."""

    def measure(say: Say) -> Outcome:
        with scratch_folder() as folder:
            image = folder / f"huge.{qemu_format}"
            timed(["qemu-img", "create", "-q", "-f", qemu_format, str(image), "64T"])
            ours = [timed([*P2V, "disk", "info", str(image)]) for _ in range(6)][1:]
        say(f"ours {[round(s, 2) for s in ours]}")
        return Outcome(statistics.median(ours), 1.0, (5, 1), "the whole process; other: the limit")

    return measure


def _memory(say: Say) -> Outcome:
    """Ours: the largest resident set of any process of ours in one conversion; other: the limit of 300 MB."""
    with scratch_folder() as folder:
        peak = peak_memory(
            [*P2V, "convert", str(packed("vmware", "vmdk-stream")), "-o", str(folder), "--name", "b", "--progress", "none"]
        )
    for name, size in sorted(peak.items()):
        say(f"{name}: {size / 1e6:.0f} MB")
    mine = max((size for name, size in peak.items() if not name.startswith("qemu")), default=0)
    detail = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sorted(peak.items()))
    return Outcome(mine / 1e6, 300.0, (1, 1), f"{detail} (qemu: the appliance's virtual machine)")


def peak_memory(argv: Sequence[str]) -> dict[str, int]:
    """Largest VmHWM, in bytes, of each program below a command while it runs, sampled ten times a second."""
    peaks: dict[str, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            for name, size in _descendants(os.getpid()):
                peaks[name] = max(peaks.get(name, 0), size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        timed(argv)
    finally:
        done.set()
        watcher.join()
    return peaks


def _descendants(root: int) -> Iterator[tuple[str, int]]:
    children: dict[int, list[int]] = {}
    facts: dict[int, tuple[str, int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = dict(
                line.split(":", 1) for line in (entry / "status").read_text("utf-8", "replace").splitlines() if ":" in line
            )
        except OSError:
            continue  # ended meanwhile
        pid, parent = int(entry.name), int(status["PPid"])
        children.setdefault(parent, []).append(pid)
        facts[pid] = (status["Name"].strip(), int(status.get("VmHWM", "0 kB").split()[0]) * 1024)
    pending = list(children.get(root, ()))
    while pending:
        pid = pending.pop()
        pending += children.get(pid, ())
        yield facts[pid]


def _prove(say: Say) -> Outcome:
    """Ours: a proof without its appliance's launch; other: reading what is used of both disks once, by comparing them."""
    source = packed("vmware", "vmdk-sparse")
    ours, other, phases = [], [], {}
    with scratch_folder() as folder:
        timed([*P2V, "convert", str(source), "-o", str(folder), "--name", "b", "--progress", "none"])
        for turn in range(4):
            seconds = timed([*P2V, "prove", str(folder / "b.json"), "--progress", "none"])
            phases = json.loads((folder / "b.proof.json").read_text("utf-8"))["seconds"]
            argv = [*P2V, "disk", "compare", str(source), str(folder / "b.qcow2"), "--progress", "none"]
            read = RUNNER.run(argv, timeout=HOUR, accept=(0, 1)).seconds
            say(f"ours {seconds:.1f} s {phases}, comparing alone {read:.1f} s")
            if turn:
                ours.append(seconds - phases["appliance"])
                other.append(read)
    detail = f"phases of our last run, seconds: {phases}; listing two file systems is the appliance's, emulated without KVM"
    return Outcome(statistics.median(ours), statistics.median(other), (3, 3), detail)


ROWS = (
    Row("convert", "conversion against virt-v2v: guest without virtio in its initramfs", "s", 30, _convert_of("vmware")),
    Row("convert-most", "the same: guest with Debian's own full initramfs", "s", 30, _convert_of("vmware-most")),
    Row("inspect", "p2v inspect against virt-inspector", "s", 40, _inspect),
    Row("copy-stream", "streamOptimized VMDK to qcow2 against qemu-img convert", "s", 1, _copy("vmdk-stream", "qcow2")),
    Row("copy-vhd", "dynamic VHD to qcow2 against qemu-img convert", "s", 0.5, _copy("vhd-dynamic", "qcow2")),
    Row("copy-raw", "raw to raw against qemu-img convert", "s", 0.5, _copy("raw", "raw")),
    Row("disk-stream", "p2v disk convert to raw: streamOptimized VMDK", "s", 2, _disk_convert("vmdk-stream")),
    Row("disk-vmdk", "the same: monolithicSparse VMDK", "s", 1, _disk_convert("vmdk-sparse")),
    Row("disk-vhd", "the same: dynamic VHD", "s", 1, _disk_convert("vhd-dynamic")),
    Row("disk-vhdx", "the same: dynamic VHDX", "s", 1, _disk_convert("vhdx")),
    Row("disk-raw", "the same: raw", "s", 1, _disk_convert("raw")),
    Row("disk-qcow2", "the same: qcow2", "s", 1, _disk_convert("qcow2")),
    Row("disk-vdi", "the same: dynamic VDI", "s", 1, _disk_convert("vdi")),
    Row("bulk-qcow2", "the same, 2 GiB of data: qcow2", "s", 1, against_qemu_img("qcow2", "raw")),
    Row("open-vhdx", "p2v disk info of an empty VHDX of 64 TiB against 1 s", "s", 1, _open_huge("vhdx")),
    Row("open-qcow2", "the same: qcow2", "s", 1, _open_huge("qcow2")),
    Row("open-vmdk", "the same: monolithicSparse VMDK", "s", 1, _open_huge("vmdk")),
    Row("prove", "a proof, less the launch, against reading both disks once", "s", 0.5, _prove),
    Row("memory", "largest resident set of our processes in a conversion, against 300 MB", "MB", 1, _memory),
)
