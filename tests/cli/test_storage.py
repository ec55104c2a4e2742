"""Where disks go: options for all of them and for one."""

from __future__ import annotations

import argparse

import pytest

from p2v.cli import storage
from p2v.core.errors import Usage
from p2v.targets.front_ends import FrontEnd
from p2v.targets.storage import DEFAULT, Storage


def said(to: FrontEnd, *words: str) -> Storage:
    parser = argparse.ArgumentParser()
    storage.configure(parser)
    return storage.storage_of(parser.parse_args(words), to)


@pytest.mark.parametrize(
    ("to", "option"),
    [
        (FrontEnd.LIBVIRT, "--pool"), (FrontEnd.PROXMOX, "--storage"), (FrontEnd.KUBEVIRT, "--storage-class"),
        (FrontEnd.OPENSTACK, "--volume-type"),
    ],
)  # fmt: skip
def test_each_front_end_has_a_word_for_it(to: FrontEnd, option: str) -> None:
    assert said(to) == DEFAULT
    assert said(to, option, "fast") == Storage("fast")
    places = said(to, option, "2=slow", option, "fast", option, "4=slow")
    assert places == Storage("fast", {1: "slow", 3: "slow"})
    assert [places.of(index) for index in range(4)] == ["fast", "slow", "fast", "slow"]
    assert places.names == ("fast", "slow")
    assert said(to, option, "2=slow").of(0) is None


@pytest.mark.parametrize(
    ("to", "words", "about"),
    [
        (FrontEnd.QEMU, ("--pool", "fast"), "--to libvirt"),
        (FrontEnd.LIBVIRT, ("--storage-class", "fast"), "--to kubevirt"),
        (FrontEnd.LIBVIRT, ("--pool", "a", "--pool", "b"), "for all disks already"),
        (FrontEnd.LIBVIRT, ("--pool", "1=a", "--pool", "1=b"), "given twice for disk 1"),
        (FrontEnd.LIBVIRT, ("--pool", "0=a"), "counted from 1"),
        (FrontEnd.LIBVIRT, ("--pool", "1="), "cannot be its name"),
        (FrontEnd.LIBVIRT, ("--pool", "a/b"), "cannot be its name"),
        (FrontEnd.PROXMOX, ("--storage", "a b"), "cannot be its name"),
        (FrontEnd.PROXMOX, ("--storage", "$(reboot)"), "cannot be its name"),
        (FrontEnd.KUBEVIRT, ("--storage-class", "Fast"), "cannot be its name"),
        (FrontEnd.OPENSTACK, ("--volume-type", "a\nb"), "cannot be its name"),
    ],
)
def test_what_makes_no_sense_is_refused(to: FrontEnd, words: tuple[str, ...], about: str) -> None:
    with pytest.raises(Usage) as refused:
        said(to, *words)
    assert about in refused.value.sentence()


def test_a_disk_that_is_not_there_is_refused() -> None:
    places = Storage("fast", {1: "slow"})
    storage.require_disks(places, 2)
    with pytest.raises(Usage) as refused:
        storage.require_disks(places, 1)
    assert "no disk 2" in refused.value.sentence()
