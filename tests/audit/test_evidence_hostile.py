"""Messages and facts of hostile guests: evidence is bounded, printable and soon found, whatever they hold."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from drivers.plan import Finding
from p2v.audit.evidence import PIECES_AT_MOST, evidence_of, pointed_at
from p2v.audit.examined import Examined
from tests.audit.planned_guests import bare, examined, findings
from tests.audit.test_evidence_windows import guest, windows
from tests.drivers.linux.guest import facts_of, files
from tests.drivers.memory_tree import Node
from tests.drivers.windows.test_states import machine

IDS = sorted(pointed_at())
_DESCRIPTION = "a = 'b'\n" * 50 + "\x1b[2J\u2028(((\n"


@cache
def _guests() -> tuple[Examined, ...]:
    described = replace(bare(1), description=Path("/vms/\x1b[31m/web.vmx"))
    return (
        examined(facts_of(files()), described, description=_DESCRIPTION),
        replace(guest(windows({}, {})), description=_DESCRIPTION),
        guest(windows(), replace(machine(), disks=(), partitions=(), root=None)),
    )


MESSAGES = (
    "", " ", "'", "''''", "'\\", "'\\x'", "(((((", "[a-z", "/etc/fstab line 99999999999 x", "/etc/fstab line 1", "/etc/fstab",
    "disk 9999, partition 9999", "disk 0, partition 0", "disk 1, partition 1 and disk 1, partition 1", "the entry  passes  to",
    "the boot entry " + "(" * 200 + " starts /boot/x, which is none", "the file system at / has", "kernel  finds",
    "its registry (SYSTEM) was in use", "its registry (NOSUCH) was in use", "\udcff\x00\x1b[2J" * 50, "a" * 100_000,
    "x line 1" * 20_000, "'" + "\\" * 50_000 + "'", "the disk " + "9" * 50_000 + " is", "the same signature (" + ")" * 1000,
)  # fmt: skip


def assert_sound(seen: Examined, finding: Finding) -> None:
    """Evidence that anybody may print and store."""
    found = evidence_of(seen, finding)
    assert len(found) <= PIECES_AT_MOST
    for each in found:
        assert each.where
        assert each.where.isprintable()
        assert each.text.isprintable()
        assert len(each.where) < 5000
        assert len(each.text) < 2500
        assert each.line is None or each.line > 0
        assert each.offset is None or each.offset >= 0


@pytest.mark.parametrize("id_", IDS)
def test_no_message_is_too_odd(id_: str) -> None:
    started = time.process_time()
    for seen in _guests():
        for message in MESSAGES:
            assert_sound(seen, Finding(id_, message))
    assert time.process_time() - started < 20


@settings(deadline=None, max_examples=150)
@given(strategies.sampled_from(IDS), strategies.text(max_size=80), strategies.sampled_from(range(3)))
def test_no_text_in_a_message_is_too_odd(id_: str, text: str, number: int) -> None:
    for message in (
        text,
        f"/etc/fstab {text}",
        f"the disk {text} is",
        f"'{text}' is",
        f"the entry {text} passes {text} to a kernel",
    ):
        assert_sound(_guests()[number], Finding(id_, message))


def test_a_table_of_many_lines_is_pointed_at_soon() -> None:
    table = "/dev/sdq1 /data ext4 defaults 0 2\n" * 3000
    nodes: dict[str, Node] = {**files(), "/etc/fstab": table}
    seen = examined(facts_of(nodes))
    told = [each for each in findings(seen) if each.id == "linux.fstab.unresolved"]
    assert len(told) == 3000
    started = time.process_time()
    for each in told[:100]:
        assert_sound(seen, each)
    assert time.process_time() - started < 5
