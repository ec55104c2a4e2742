"""Plans as text: complete, with real differences, and harmless to the terminal they are shown on."""

from __future__ import annotations

import difflib
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.caps import GuestCaps
from drivers.changes import (
    BootGeometry,
    CarryFile,
    Change,
    CopyFile,
    DeleteFile,
    DeleteSymlink,
    EditBootSector,
    EditFile,
    ExtendInitramfs,
    MakeSymlink,
    Member,
    WriteFile,
)
from drivers.plan import Finding, GuestPlan, GuestProgram, PlanOptions
from drivers.plan_text import escaped, render, unified_diff
from drivers.planning import plan_guest
from tests.drivers.linux.guest import facts_of, files

CAPS = GuestCaps(("virtio-blk", "sata"), ("virtio",), "bios", "x86_64", rng=True)


def shown(*changes: Change) -> list[str]:
    """The lines of a plan of these changes."""
    return render(GuestPlan(changes, (), (), CAPS)).split("\n")


def diff(before: str, after: str) -> list[str]:
    """The lines of a difference, without its header."""
    return list(unified_diff(before, after, "/f"))[2:]


def test_every_kind_of_change_shows_what_it_does() -> None:
    lines = shown(
        WriteFile("/a", "one\ntwo\n", 0o600, "w"),
        EditFile("/b", "x\n", "y\n", "e"),
        DeleteFile("/c", "ab12", "d"),
        MakeSymlink("/d", "/dev/null", None, "m"),
        MakeSymlink("/e", "/dev/null", "/old", "m"),
        DeleteSymlink("/f", "/t", "s"),
        ExtendInitramfs(
            "/i", 2048, "00", "6.1", "/usr/lib/modules/6.1", ("kernel/a.ko",), "usr/lib/modules/6.1", "lz4", "x"
        ),
        CopyFile("/g", 2048, "cd34", "/h", 0o644, "c"),
        CarryFile("/host/j", 2048, "ef56", "/k", 0o600, "c"),
        CarryFile("/host/cd.iso", 2048, "aa78", "/l", 0o600, "c", Member("/disk/w10.sys", 4096)),
        EditBootSector("/$Boot", BootGeometry(255, 2048), BootGeometry(64, 63), "b"),
    )
    stripped = [line.strip() for line in lines]
    for expected in (
        "1. create /a", "why: w", "--- /dev/null", "+++ /a (mode 0600)", "@@ -0,0 +1,2 @@", "+one", "+two",
        "2. edit /b", "--- /b", "@@ -1 +1 @@", "-x", "+y",
        "3. delete /c", "- /c (SHA-256 ab12)",
        "+ /d -> /dev/null (was nothing)", "+ /e -> /dev/null (was -> /old)", "- /f -> /t",
        "7. add 1 module to /i", "/i, 2.0 KiB; appended, compression: lz4", "+ usr/lib/modules/6.1/kernel/a.ko",
        "8. copy /g to /h", "+ /h (2.0 KiB, mode 0644, SHA-256 cd34)",
        "9. put /host/j of this host to /k", "+ /k (2.0 KiB, mode 0600, SHA-256 ef56)",
        "10. put /disk/w10.sys of /host/cd.iso to /l", "+ /l (2.0 KiB, mode 0600, SHA-256 aa78)",
        "11. change the geometry in the boot sector /$Boot", "- heads: 255, hidden sectors: 2048",
        "+ heads: 64, hidden sectors: 63",
        "- disks: virtio-blk, sata", "- network cards: virtio", "- virtio devices besides: random numbers",
    ):  # fmt: skip
        assert expected in stripped, expected


def test_the_lines_of_a_text_for_windows_are_shown_without_their_ends_which_are_said() -> None:
    lines = [line.strip() for line in shown(WriteFile("/a.cmd", "one\r\ntwo\rthree\r\n", 0o644, "w"))]
    assert "+++ /a.cmd (mode 0644, CR and LF at the end of each line)" in lines
    assert "+one" in lines
    assert "+two\\x0dthree" in lines
    assert "+one\\x0d" in [line.strip() for line in shown(WriteFile("/a.cmd", "one\r\ntwo\n", 0o644, "w"))]


def test_findings_come_with_their_ids_and_hints_blockers_last() -> None:
    text = render(GuestPlan((), (Finding("w.id", "careful", "look"),), (Finding("b.id", "stop"),), CAPS))
    assert text.index("careful [w.id]") < text.index("look") < text.index("stop [b.id]")
    assert "cannot be carried out" in text.split("\n", 1)[0]


def test_a_program_of_the_guests_that_is_run_is_said_with_its_arguments() -> None:
    program = GuestProgram(("/usr/bin/dracut", "--force", "/boot/a b", "6.1"), "/boot/a b", "as was asked for")
    text = render(GuestPlan((), (), (), CAPS, programs=(program,)))
    assert "runs the guest's program /usr/bin/dracut --force '/boot/a b' 6.1 in the appliance" in text
    assert "1 program of the guest's to run; ready" in text.split("\n", 1)[0]
    assert "as was asked for" in text


def test_a_plan_that_changes_nothing_says_so() -> None:
    assert "nothing needs to be changed" in render(GuestPlan((), (), (), CAPS))


def test_context_is_three_lines_and_hunks_far_apart_are_separate() -> None:
    before = "".join(f"{n}\n" for n in range(1, 31))
    lines = diff(before, before.replace("\n5\n", "\nfive\n").replace("\n25\n", "\n25\nnew\n"))
    assert lines[0] == "@@ -2,7 +2,7 @@"
    assert lines[1:9] == [" 2", " 3", " 4", "-5", "+five", " 6", " 7", " 8"]
    assert lines[9] == "@@ -23,6 +23,7 @@"
    assert "+new" in lines


def test_a_missing_newline_at_the_end_is_shown() -> None:
    assert diff("a", "a\n") == ["@@ -1 +1 @@", "-a", "\\ No newline at end of file", "+a"]


def test_only_newlines_end_lines() -> None:
    assert diff("a\u2028b\x0bc\rd\n", "x\n") == ["@@ -1 +1 @@", "-a\\u2028b\\x0bc\\x0dd", "+x"]


def test_escape_sequences_and_text_that_reorders_itself_are_shown_not_obeyed() -> None:
    assert (
        escaped("\x1b[31m\x9b\x7f\u202e\u200b\udcff\U000e0001") == "\\x1b[31m\\x9b\\x7f\\u202e\\u200b\\xff\\U000e0001"
    )
    assert escaped("a\tü→b") == "a\tü→b"


HOSTILE = st.text(st.characters(), max_size=20)


@settings(deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_nothing_of_a_guest_passes_unescaped(first: str, second: str, third: str) -> None:
    changes: tuple[Change, ...] = (
        WriteFile(first, second, 0o644, third),
        EditFile(first, second, third, first),
        DeleteFile(first, second, third),
        MakeSymlink(first, second, third, first),
        DeleteSymlink(first, second, third),
        CarryFile(first, 1, second, third, 0o600, first, Member(second, 1)),
        EditBootSector(first, BootGeometry(1, 2), BootGeometry(3, 4), second),
        ExtendInitramfs(first, 1, second, third, first, (second,), third, first, second),
    )
    finding = Finding(first, second, third)
    caps = GuestCaps((first,), (second,), third, first, machine=second)
    text = render(GuestPlan(changes, (finding,), (finding,), caps))
    assert all(letter in "\n\t" or letter.isprintable() for letter in text)
    text.encode("utf-8")


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_lines_of_a_difference_hold_both_texts(old: list[str], new: list[str]) -> None:
    before, after = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    lines = [line for line in diff(before, after) if not line.startswith("@@")]
    removed, added = ([line[1:] for line in lines if line[0] in (" ", mark)] for mark in "-+")
    if len(old) <= 4 and len(new) <= 4 and old != new:  # all of it is context
        assert (removed, added) == (old, new)
    assert bool(lines) == (old != new)


def test_a_long_text_with_many_changes_costs_no_more_than_its_length() -> None:
    before = "".join(f"{n % 90}\n" for n in range(200_000))
    begun = time.process_time()
    assert len(diff(before, before.replace("7\n", "8\n"))) > 1000
    assert time.process_time() - begun < 20


def test_a_real_plan_shows_the_difference_of_every_edit() -> None:
    found = plan_guest(facts_of(files()), PlanOptions())
    text = render(found)
    for change in found.changes:
        assert change.path in text
        assert change.why in text
    assert "-/dev/sda1 /               ext4    errors=remount-ro 0       1" in text
    assert "+[Match]" in text


def test_hunks_are_those_of_difflib() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        old = [f"{rng.choice('abc')}\n" for _ in range(rng.randrange(1, 40))]
        new = [line if rng.random() < 0.9 else "z\n" for line in old] + ["end\n"]
        assert (
            diff("".join(old), "".join(new))
            == [line.removesuffix("\n") for line in difflib.unified_diff(old, new, lineterm="")][2:]
        )
