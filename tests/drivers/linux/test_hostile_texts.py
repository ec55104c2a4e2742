"""Whatever stands in the files that planning looks at: no exception, and a second plan that changes nothing."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.facts import FileSystem, Partition
from drivers.linux.reading import TEXTS
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from p2v.core.units import KIB, MIB
from tests.drivers.linux.guest import ROOT, SWAP, applied, extended, facts_of, files, kernel
from tests.drivers.memory_tree import Node

OPTIONS = PlanOptions(("00:0c:29:01:02:03", None))
VOLUME = Partition(0, 5, 0, MIB, "8e", False, "c0ffee12-05", filesystem=FileSystem("lvm2", "AbCd"))
PATHS = sorted({
    *(pattern.replace("*", "x") for pattern in TEXTS), "/etc/netplan/x.yaml", "/etc/sysconfig/network/ifcfg-x",
    "/etc/NetworkManager/system-connections/x", "/etc/systemd/network/x.network",
})  # fmt: skip
WORDS = (
    "/dev/sda1", "/dev/sda5", "/dev/nvme0n1p2", "/dev/sdz9", "DEVICE", "ARRAY", "devices=", "uuid=a", "filter", "=", "[", "]",
    '"a|/dev/sd|"', '"r|.*|"', ",", "What=", "Section", '"Device"', "Driver", '"vmware"', "EndSection", "alias", "eth0",
    "scsi_hostadapter", "blacklist", "virtio_net", 'KERNELS=="0000:00:11.0"', 'ATTR{address}=="00:0c:29:01:02:03"',
    'NAME="eth0"', "none", "luks", "swap", ":", "\n", "\r\n", "\n\t", " ", "#", "\\", '"', "'", "\udcff", "{", "}",
    "IDTYPE=sys_wwid", "GRUB_CMDLINE_LINUX=", "GRUB_DISABLE_LINUX_UUID=true", "root=", "resume=", "console=hvc0", "xvc0", "RESUME=",
    "omit_drivers+=", "add_drivers+=", "virtio_blk", "INITRD_MODULES=", "MODULES=", "(", ")", "dep", "linux", "initrd", "title",
    "kernel", "APPEND", "options", "menuentry x", "kernelopts=", "respawn:/sbin/getty", "# kopt=", "# groot=",
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(PATHS), st.lists(st.sampled_from(WORDS), max_size=30), max_size=8), st.booleans())
def test_any_words_in_any_files_are_planned_once(words: dict[str, list[str]], spaced: bool) -> None:
    nodes: dict[str, Node] = {**files(), **{path: (" " if spaced else "").join(found) for path, found in words.items()}}
    kernels, partitions = [kernel()], (ROOT, SWAP, VOLUME)
    first = plan_guest(facts_of(nodes, kernels, partitions), OPTIONS)
    after = facts_of(applied(nodes, first.changes), extended(kernels, first.changes), partitions)
    assert plan_guest(after, OPTIONS).changes == ()


# pieces that made the first versions of these readers slow, or would have
PIECES = (
    'filter=["a|(x', "'", '"\\', 'Section "Device"\n', 'NAME="e" KERNELS=="1"\n', "DEVICE /dev/sda1 ",
    "\n /dev/sda1", " :", "[", "- ",
)  # fmt: skip


@pytest.mark.parametrize("piece", PIECES, ids=range(len(PIECES)))
def test_much_of_anything_is_planned_in_seconds(piece: str) -> None:
    text = piece * (300 * KIB // len(piece))
    several = (
        "/etc/crypttab", "/etc/mdadm.conf", "/etc/lvm/lvm.conf", "/etc/auto.misc", "/etc/systemd/system/x.mount",
        "/etc/udev/rules.d/70-persistent-net.rules", "/etc/X11/xorg.conf", "/etc/modprobe.conf", "/etc/netplan/x.yaml",
    )  # fmt: skip
    started = time.process_time()
    plan_guest(facts_of({**files(), **dict.fromkeys(several, text)}, partitions=(ROOT, SWAP, VOLUME)), OPTIONS)
    assert time.process_time() - started < 12
