"""Real guests of every layout, loader, release and family: converted, booted on virtio, asked what came up.

A few of them run with every ``make test``; ``make matrix`` runs them all and writes what happened into docs/support-matrix.md
(``tests/support_matrix.py``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from p2v.machine import DiskBus
from p2v.record import ConversionRecord, load_record
from tests.fixtures import rootfs
from tests.fixtures.families import FAMILIES
from tests.fixtures.guests import guest_disks
from tests.fixtures.records import Guest
from tests.pipeline.running import SECONDS, Ran, p2v, proven, state
from tests.support_matrix import ROWS_FOLDER, Row

# One of each: LVM, UEFI without a fallback loader, dracut with virtio left out.
OFTEN = ("uefi", "dracut")
# Its command line is inside the signed image and names /dev/sda2: only hardware that keeps the name starts it.
FIXED = ("uki",)
KERNELS_FIRST_WORDS = "Linux version "
# KVM is no help for another architecture
EMULATED_SECONDS = 1500.0

ALL = [
    pytest.param(guest, id=guest.name, marks=() if guest.name in OFTEN else pytest.mark.matrix) for guest in FAMILIES
]


def keys(guest: Guest) -> list[str]:
    return ["--key", f"key:{guest.passphrase}"] if guest.passphrase else []


def noted(guest: Guest, record: ConversionRecord | None, problems: list[str], afterwards: str = "") -> None:
    """Keep what happened for the support matrix; also of a test that then fails.

    ``afterwards``: what the converted guest had done itself when it was looked at.
    """
    folder = os.environ.get(ROWS_FOLDER)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        row = Row.of(guest, record, problems, afterwards)
        (Path(folder) / f"{row.file_stem}.json").write_text(json.dumps(row.data()), "utf-8")


def seen_wrong(guest: Guest, record: ConversionRecord, folder: Path) -> list[str]:
    """What the booted guest shows that it should not, or does not show; ``folder`` has the conversion's files."""
    boot, wanted = record.boot, guest.converted
    if boot is None or not boot.booted:
        return [boot.verdict.sentence if boot else "it was not booted"]
    report = boot.report
    if report is None:
        return [] if boot.not_instrumented else ["it reported nothing"]
    problems = [f"{unit} failed" for unit in report.failed_units if unit not in wanted.may_fail]
    # findmnt adds the subvolume, the reporter does not
    root = wanted.root_device.partition("[")[0]
    root = root.replace("/dev/vd", "/dev/sd") if record.hardware.disk_bus is DiskBus.SATA else root
    if root not in (report.root_device, report.root_source):
        problems.append(f"its root is {report.root_source or report.root_device} instead of {root}")
    versions = [f"vmlinuz-{kernel.version}" for kernel in record.document.facts.kernels]
    started = rootfs.kernel_versions(versions)[-1 if wanted.oldest_kernel else 0]
    if report.kernel != started:
        problems.append(f"its kernel is {report.kernel} instead of {started}")
    addresses = {each.name: each.addresses for each in report.interfaces}
    if wanted.interface and wanted.interface not in addresses:
        problems.append(f"{wanted.interface} is missing among {', '.join(addresses)}")
    elif wanted.address and wanted.address not in addresses[wanted.interface]:
        problems.append(f"{wanted.interface} has {addresses[wanted.interface]} instead of {wanted.address}")
    if not boot.log or KERNELS_FIRST_WORDS not in (folder / boot.log).read_text("utf-8"):
        problems.append("its kernel was not heard on the serial port")
    return problems


def is_quiet(arguments: str) -> bool:
    return "quiet" in arguments.split()


def converted(guest: Guest, folder: Path, *more: str) -> Ran:
    disks = guest_disks(guest.name)
    words: list[str | Path] = ["convert", *disks, "-o", folder, "--name", "vm", "--format", "raw", "--verify", *keys(guest), *more]
    return p2v(*words, seconds=SECONDS if guest.arch == "x86_64" else EMULATED_SECONDS)


@pytest.mark.boots
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("guest", ALL)
def test_a_guest_boots_on_virtio_with_its_root_and_its_address(guest: Guest, tmp_path: Path) -> None:
    if guest.missing:
        pytest.skip(f"{guest.missing} is not installed (make setup-matrix)")
    before = [state(disk) for disk in guest_disks(guest.name)]
    ran = converted(guest, tmp_path, *(["--compatible"] if guest.name in FIXED else []))
    record = load_record(tmp_path / "vm.json") if (tmp_path / "vm.json").exists() else None
    last_words = ran.err.strip().splitlines()[-1:] or ["no record"]
    problems = seen_wrong(guest, record, tmp_path) if record else last_words
    noted(guest, record, problems)
    assert problems == [], ran.err
    assert ran.status == 0
    proven(tmp_path / "vm.json", *keys(guest))
    assert [state(disk) for disk in guest_disks(guest.name)] == before

    # planned again from the result, there is nothing left to do
    disks = [tmp_path / str(disk.path) for disk in record.hardware.disks] if record else []
    again = p2v("plan", *disks, "--input-format", "raw", "--json", *keys(guest))
    document = json.loads(again.out)
    assert [change for change in document["plan"]["changes"] if change] == []
    # the boot check has its kernels speak up; that stayed in its overlay
    left = [entry["arguments"] for entry in document["facts"]["boot_loader"]["entries"]]
    found = [entry.arguments for entry in record.document.facts.boot_loader.entries] if record else []
    assert [is_quiet(arguments) for arguments in left] == [is_quiet(arguments) for arguments in found]


@pytest.mark.matrix
@pytest.mark.parametrize("name", FIXED)
def test_a_guest_that_no_edit_reaches_is_blocked_with_a_way_out(name: str) -> None:
    ran = p2v("plan", *guest_disks(name))
    assert ran.status == 4
    assert "--compatible" in ran.out
