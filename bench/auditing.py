"""The rows of the audit: one guest against virt-inspector; a folder of guests, and an inventory, against the rates wanted."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

from bench.measuring import P2V, Outcome, Row, Say, scratch_folder, timed
from bench.rows import peak_memory, peer_environment
from tests.audit.inventory.exports import fleet, write_workbook
from tests.fixtures import guest, packed

_GUESTS = 200
_ROWS = 1000
_ROWS_SECONDS = 5.0
_PER_SECOND_AND_CORE = 2.0
# of several kinds, so that no one reader's speed is the row's
_KINDS = ("vmware", "vmware-most", "good-virtio", "vmware-two-kernels")
_VMX = """config.version = "8"
displayName = "guest{number:03}"
guestOS = "debian12-64"
memSize = "2048"
numvcpus = "2"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "guest.vmdk"
"""


def _one_guest(say: Say) -> Outcome:
    source = packed("vmware", "vmdk-sparse")
    ours = [timed([*P2V, "audit", str(source), "--progress", "none"]) for _ in range(8)][1:]
    say(f"ours: {[round(s, 2) for s in ours]}")
    argv = ["virt-inspector", "--format=vmdk", "-a", str(source)]
    other = [timed(argv, peer_environment()) for _ in range(3)]
    say(f"virt-inspector: {[round(s, 1) for s in other]}")
    return Outcome(statistics.median(ours), statistics.median(other), (len(ours), len(other)), "whole processes")


def _fleet(say: Say) -> Outcome:
    """Ours: a folder of 200 described machines; other: what two guests a second and core would take."""
    with scratch_folder() as folder:
        samples = [_sample(name, folder) for name in _KINDS]
        machines = folder / "fleet"
        for number in range(_GUESTS):
            place = machines / f"guest{number:03}"
            place.mkdir(parents=True)
            (place / "guest.vmx").write_text(_VMX.format(number=number), "utf-8")
            # a file of its own each, by its name; its bytes are the sample's
            os.link(samples[number % len(samples)], place / "guest.vmdk")
        argv = [*P2V, "audit", str(machines), "--json", "--progress", "none"]
        ours = [timed(argv) for _ in range(4)][1:]
        peak = peak_memory(argv)
    say(f"ours: {[round(s, 1) for s in ours]}")
    limit = _GUESTS / (_PER_SECOND_AND_CORE * (os.cpu_count() or 1))
    rate = _GUESTS / statistics.median(ours) / (os.cpu_count() or 1)
    largest = max(peak.values(), default=0)
    detail = f"{rate:.1f} guests a second and core; largest resident set of any process {largest / 1e6:.0f} MB"
    return Outcome(statistics.median(ours), limit, (len(ours), 1), detail)


def _sample(name: str, folder: Path) -> Path:
    """A sample's VMDK on the file system that the folder is on, so that links to it can be made."""
    copy = folder / f"{name}.vmdk"
    timed(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", str(guest(name)), str(copy)])
    return copy


def _inventory(say: Say) -> Outcome:
    """Ours: an RVTools workbook of 1,000 machines with every sheet; other: the limit of 5 s."""
    with scratch_folder() as folder:
        workbook = write_workbook(folder / "RVTools.xlsx", fleet(_ROWS))
        argv = [*P2V, "audit", str(workbook), "--json", "--progress", "none"]
        ours = [timed(argv) for _ in range(6)][1:]
        peak = peak_memory(argv)
    say(f"ours: {[round(s, 2) for s in ours]}")
    detail = f"the whole process; largest resident set of any process {max(peak.values(), default=0) / 1e6:.0f} MB"
    return Outcome(statistics.median(ours), _ROWS_SECONDS, (len(ours), 1), detail)


ROWS = (
    Row("audit-guest", "p2v audit of one guest against virt-inspector", "s", 40, _one_guest),
    Row("audit-rvtools", "p2v audit of an RVTools workbook of 1,000 machines against 5 s", "s", 1, _inventory),
    Row("audit-fleet", "p2v audit of a folder of 200 machines against two a second and core", "s", 1, _fleet),
)
