"""``--rebuild-initramfs``: which program is run for which image, and what the rest of the plan makes of it."""

from __future__ import annotations

import dataclasses

import pytest

from drivers.changes import ExtendInitramfs
from drivers.facts import GuestFacts, Kernel
from drivers.linux.rebuild import BUILDERS
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from tests.drivers.linux.guest import OLDER, VERSION, facts_of, files, kernel
from tests.drivers.memory_tree import Node

ASKED = PlanOptions(rebuild_initramfs=True)
UPDATE = "/usr/sbin/update-initramfs"


def guest(program: str = UPDATE, *kernels: Kernel) -> GuestFacts:
    nodes: dict[str, Node] = {**files((VERSION, OLDER)), program: b"ELF"}
    return facts_of(nodes, kernels or [kernel(), kernel(OLDER)])


def changed(known: Kernel, **fields: object) -> Kernel:
    assert known.initramfs is not None
    return dataclasses.replace(known, initramfs=dataclasses.replace(known.initramfs, **fields))  # type: ignore[arg-type]


def test_nothing_of_the_guests_is_run_unless_it_is_asked_for() -> None:
    plan = plan_guest(guest(), PlanOptions())
    assert plan.programs == ()
    assert any(isinstance(change, ExtendInitramfs) for change in plan.changes)


def test_each_kernels_initramfs_is_built_anew_and_nothing_is_appended_to_it() -> None:
    plan = plan_guest(guest(), ASKED)
    assert [(each.argv, each.writes) for each in plan.programs] == [
        ((UPDATE, "-u", "-k", version), f"/boot/initrd.img-{version}") for version in (VERSION, OLDER)
    ]
    assert not any(isinstance(change, ExtendInitramfs) for change in plan.changes)
    assert (plan.blockers, plan.caps.disk_buses[0]) == ((), "virtio-blk")
    # what the program goes by is set before it runs
    assert "/etc/initramfs-tools/modules" in [change.path for change in plan.changes]


@pytest.mark.parametrize(
    ("program", "family", "argv"),
    [
        ("/usr/bin/dracut", "redhat", ("/usr/bin/dracut", "--force", f"/boot/initrd.img-{VERSION}", VERSION)),
        ("/usr/bin/mkinitcpio", "arch", ("/usr/bin/mkinitcpio", "-k", VERSION, "-g", f"/boot/initrd.img-{VERSION}")),
        ("/sbin/mkinitrd", "suse", ("/sbin/mkinitrd", "-k", f"vmlinuz-{VERSION}", "-i", f"initrd.img-{VERSION}")),
        (
            "/sbin/mkinitrd", "redhat",
            ("/sbin/mkinitrd", "-f", "--with=virtio_blk", "--with=virtio_scsi", "--with=virtio_pci",
             f"/boot/initrd.img-{VERSION}", VERSION),
        ),
    ],
)  # fmt: skip
def test_every_familys_program_is_run_as_it_wants_it(program: str, family: str, argv: tuple[str, ...]) -> None:
    found = guest(program, kernel())
    assert found.os is not None
    plan = plan_guest(dataclasses.replace(found, os=dataclasses.replace(found.os, family=family)), ASKED)
    assert [each.argv for each in plan.programs] == [argv]


def test_an_image_that_nothing_can_be_appended_to_is_no_obstacle_then() -> None:
    closed = changed(kernel(), squashed=True, builder="dracut")
    assert plan_guest(guest("/usr/bin/dracut", closed), PlanOptions()).blockers
    assert plan_guest(guest("/usr/bin/dracut", closed), ASKED).blockers == ()


def test_an_image_of_another_name_or_for_rescue_stays_as_it_is_and_that_is_said() -> None:
    other = changed(kernel(OLDER), path="/boot/mine.img")
    plan = plan_guest(guest(UPDATE, kernel(), other), ASKED)
    assert [each.writes for each in plan.programs] == [f"/boot/initrd.img-{VERSION}"]
    assert "linux.rebuild.left" in [finding.id for finding in plan.warnings]
    assert [c.path for c in plan.changes if isinstance(c, ExtendInitramfs)] == ["/boot/mine.img"]
    rescue = changed(kernel(OLDER), path="/boot/initramfs-0-rescue-1.img")
    plan = plan_guest(guest("/usr/bin/dracut", kernel(), rescue), ASKED)
    assert [each.writes for each in plan.programs] == [f"/boot/initrd.img-{VERSION}"]


def test_where_nothing_can_build_it_the_plan_is_blocked_at_once() -> None:
    without = facts_of(files(), [kernel()])
    other_arch = guest()
    assert other_arch.os is not None
    other_arch = dataclasses.replace(other_arch, os=dataclasses.replace(other_arch.os, arch="s390x"))
    unified = guest(UPDATE, changed(kernel(), unified=True))
    for found in (without, other_arch, unified):
        plan = plan_guest(found, ASKED)
        assert "linux.rebuild.impossible" in [finding.id for finding in plan.blockers]
        assert plan.programs == ()


def test_all_builders_are_found_where_they_are() -> None:
    for builder in BUILDERS:
        for path in builder.paths:
            assert guest(path).programs == (path,)
