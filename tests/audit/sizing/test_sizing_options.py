"""What the command line asks for, and what it gets wrong."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from p2v.audit.sizing.inputs import Policy, SizingWish, Use
from p2v.audit.sizing.measure import Bounds
from p2v.audit.sizing.size import size_as_wished
from p2v.audit.sizing.values import HostType
from p2v.cli.sizing_options import add_sizing, is_asked_for
from p2v.cli.sizing_wish import sizing_wish
from p2v.core.errors import ReadFailed, Usage
from p2v.core.units import GIB, MIB
from tests.audit.sizing.fleets import disk, machine

QUICK = Bounds(repeats=2, seconds=20.0, stream_bytes=16 * MIB)


def wish(*words: str) -> SizingWish | None:
    parser = argparse.ArgumentParser()
    add_sizing(parser)
    arguments = parser.parse_args(words)
    return sizing_wish(arguments) if is_asked_for(arguments) else None


def test_without_any_of_them_nothing_is_sized() -> None:
    assert wish() is None


def test_asking_alone_takes_the_defaults() -> None:
    assert wish("--size") == SizingWish(None, Policy())


def test_a_host_type() -> None:
    asked = wish("--host-cores", "48", "--host-memory", "512G")
    assert asked is not None
    assert asked.host == HostType(48, 512 * GIB, 48)
    asked = wish(
        *("--host-cores", "48", "--host-memory", "1T", "--host-sockets", "2", "--host-threads", "96"),
        *("--host-numa-nodes", "8", "--host-mhz", "2400", "--host-disk", "4T"),
    )
    assert asked is not None
    assert asked.host == HostType(48, 1024 * GIB, 96, 2, 8, 2400, 4096 * GIB)


def test_a_policy_and_what_of_it_was_given() -> None:
    asked = wish(
        *("--overcommit", "1:6", "--memory-headroom", "15%", "--cpu-headroom", "12.5", "--spare-hosts", "0"),
        *("--memory-overhead", "512M", "--machine-seconds", "30", "--concurrent", "2", "--leave-out-powered-off"),
    )
    assert asked is not None
    given = ("overcommit", "memory_headroom", "cpu_headroom", "spare_hosts", "machine_overhead_bytes",
             "machine_overhead_seconds", "concurrent", "leave_out_powered_off")  # fmt: skip
    assert asked.policy == Policy(6.0, 0.15, 0.125, 0, 512 * MIB, 30.0, 2, True, given)


def test_files_are_read_before_anything_is_audited(tmp_path: Path) -> None:
    use, prices = tmp_path / "use.csv", tmp_path / "prices.toml"
    use.write_text("name,cpu p95 %\nweb,10\n")
    prices.write_text('currency = "EUR"\nkwh = 0.3\n')
    asked = wish("--utilisation", str(use), "--prices", str(prices), "--measure", str(tmp_path))
    assert asked is not None
    assert asked.utilisation == (Use("web", 2, cpu_percent=10.0),)
    assert asked.prices is not None
    assert asked.measure == tmp_path
    with pytest.raises(ReadFailed):
        wish("--utilisation", str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--host-cores", "8"), "--host-memory"),
        (("--host-memory", "8G"), "--host-cores"),
        (("--host-mhz", "8"), "--host-cores"),
        (("--host-cores", "0", "--host-memory", "8G"), "--host-cores"),
        (("--host-cores", "-3", "--host-memory", "8G"), "--host-cores"),
        (("--host-cores", "8", "--host-memory", "8"), "--host-memory"),
        (("--host-cores", "8", "--host-memory", "9" * 400), "--host-memory"),
        (("--host-cores", "8", "--host-memory", "lots"), "--host-memory"),
        (("--host-cores", "8", "--host-memory", "8G", "--host-threads", "4"), "threads"),
        (("--host-cores", "8", "--host-memory", "8G", "--host-sockets", "9"), "sockets"),
        (("--overcommit", "0"), "--overcommit"),
        (("--overcommit", "4:1"), "--overcommit"),
        (("--memory-headroom", "100"), "--memory-headroom"),
        (("--memory-headroom", "0.1"), "--memory-headroom"),
        (("--memory-headroom", "lots"), "--memory-headroom"),
        (("--concurrent", "65"), "--concurrent"),
        (("--concurrent", "0"), "--concurrent"),
        (("--spare-hosts", "1.5"), "--spare-hosts"),
        (("--measure", "/no/such/folder"), "--measure"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(words: tuple[str, ...], named: str) -> None:
    with pytest.raises(Usage) as raised:
        # argparse takes -3 for an option unless it is joined
        wish(*(f"{name}={value}" for name, value in zip(words[::2], words[1::2], strict=True)))
    assert named in raised.value.sentence()


def test_a_wish_with_a_folder_is_measured_and_the_time_follows(tmp_path: Path) -> None:
    asked = wish("--measure", str(tmp_path), "--concurrent", "1")
    assert asked is not None
    sized = size_as_wished(
        asked, [machine("a", disks=(disk(1, 1, 1, str(tmp_path / "gone" / "none.vmdk")),))], bounds=QUICK
    )
    assert sized.measured is not None
    assert sized.measured.write is not None
    assert sized.migration.seconds is not None
    assert sized.migration.seconds.high is None
    assert list(tmp_path.iterdir()) == []
