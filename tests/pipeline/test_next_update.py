"""The guest's own next update keeps what was done: run in the booted result, which then boots on virtio again.

Each family's own tools make the initramfs and the boot entries anew; what they are told is what the conversion left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivers.changes import summary
from tests.fixtures.guests import named
from tests.pipeline.afterwards import Put, converted, give_task, run_to_its_end
from tests.pipeline.test_families import noted, seen_wrong

# What the package of a new kernel runs when it is installed.
_KERNEL_HOOKS = """
version=$(uname -r)
run-parts --verbose --exit-on-error --arg="$version" --arg="/boot/vmlinuz-$version" /etc/kernel/postinst.d
"""

# kernel-install and dracut are real; what RHEL's own two plug-ins do is told by these, which Debian has not.
_DRACUT_PLUGIN = """#!/bin/sh
[ "$1" = add ] || exit 0
exec dracut --force "/boot/initramfs-$2.img" "$2"
"""
_BLS_PLUGIN = """#!/bin/sh
. /etc/os-release
entry=/boot/loader/entries/$(cat /etc/machine-id)-$2.conf
rm -f "$entry"
[ "$1" = add ] || exit 0
cmp -s "$4" "/boot/vmlinuz-$2" || cp "$4" "/boot/vmlinuz-$2"
{
	echo "title $NAME ($2) $VERSION"
	echo "version $2"
	echo "linux /vmlinuz-$2"
	echo "initrd /initramfs-$2.img \\$tuned_initrd"
	echo "options \\$kernelopts \\$tuned_params"
	echo "grub_class kernel"
} >"$entry"
grub-editenv /boot/grub2/grubenv set "saved_entry=$(basename "$entry" .conf)"
"""
_RHEL_UPDATE = """
version=$(uname -r)
kernel-install --verbose add "$version" "/boot/vmlinuz-$version"
# Debian's tool has its folder elsewhere than the guest
mkdir /boot/grub
grub-mkconfig -o /root/grub.cfg
rm -r /boot/grub
"""


@dataclass(frozen=True)
class Update:
    """A family's update: the guest, what it runs for the table of the support matrix, the script itself.

    ``menu``: a text in the guest that its tools wrote, to be looked at where entries are not read from it.
    """

    guest: str
    what: str
    script: str
    files: tuple[Put, ...] = ()
    menu: str = ""
    often: bool = False


UPDATES = (
    Update("vmware", "update-initramfs, update-grub", "update-initramfs -u -k all\nupdate-grub", often=True),
    Update("dracut", "the kernel package's hooks: dracut, update-grub", _KERNEL_HOOKS),
    Update(
        "rhel-like",
        "kernel-install: dracut and a new entry with $kernelopts; grub-mkconfig beside it",
        _RHEL_UPDATE,
        (
            Put("/usr/lib/kernel/install.d/50-dracut.install", _DRACUT_PLUGIN, 0o755),
            Put("/usr/lib/kernel/install.d/20-grub.install", _BLS_PLUGIN, 0o755),
        ),
        menu="/root/grub.cfg",
    ),
    Update("extlinux-menu", "the kernel package's hooks: update-initramfs, u-boot-update", _KERNEL_HOOKS),
    Update("systemd-boot", "the kernel package's hooks: update-initramfs, kernel-install", _KERNEL_HOOKS),
)


@pytest.mark.boots
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "update",
    [pytest.param(u, id=u.guest, marks=() if u.often else pytest.mark.matrix) for u in UPDATES],
)
def test_update_in_the_booted_result_still_boots_from_virtio(update: Update, tmp_path: Path) -> None:
    guest = named(update.guest)
    # in every run the same disk is proven by test_left_out.py
    result = converted(guest, tmp_path, proof=not update.often)
    appended = _default_initramfs(result.facts())
    give_task(result, update.script, update.files)
    said = run_to_its_end(result)
    assert "task ended with 0" in said, said[-3000:]

    facts = result.facts()
    problems = _undone(facts, appended, result.root.read(update.menu) if update.menu else "")
    again = result.planned()
    problems += [f"to be done again: {summary(change)}" for change in again.plan.changes]
    record = result.checked(again)
    problems += seen_wrong(guest, record, result.folder)
    noted(guest, record, problems, f"after its own update: {update.what}")
    assert problems == [], said[-3000:]


def _undone(facts: dict[str, Any], before: dict[str, Any], menu: str) -> list[str]:
    """What the update brought back, or did not do."""
    rebuilt = _default_initramfs(facts)
    problems = [] if rebuilt["sha256"] != before["sha256"] else ["the update wrote no new initramfs"]
    missing = {"virtio_pci", "virtio_blk", "virtio_scsi"} - set(rebuilt["modules"])
    problems += [f"its initramfs lacks {name}" for name in sorted(missing)]
    # what rhel-like's stand-in for blscfg says is a variable, which the entries have the value of
    lines = [e["arguments"] for e in facts["boot_loader"]["entries"] if not e["arguments"].startswith("$kernelopts")]
    assert lines
    lines += [line for line in menu.splitlines() if line.strip().startswith("linux")]
    problems += [f"told {line}" for line in lines if "root=UUID=" not in line or "/dev/sd" in line]
    return problems


def _default_initramfs(facts: dict[str, Any]) -> dict[str, Any]:
    """The initramfs of the kernel that starts; one kernel may be found twice (/boot and the ESP)."""
    loader = facts["boot_loader"]
    entry = next(e for e in loader["entries"] if e["title"] == loader["default"])
    found = [k["initramfs"] for k in facts["kernels"] if k["initramfs"] and k["initramfs"]["path"] in entry["initramfs"]]
    return dict(found[0])
