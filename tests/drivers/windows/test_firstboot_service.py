"""The service program of the first start under Wine's service manager: what it runs and writes, and that it comes to an end."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drivers.changes import CarryFile, WriteFile
from drivers.windows import c_regf as c
from drivers.windows.edits import AddKey, SetValue
from drivers.windows.facts import SYSTEM, ControlSets, HiveFile, WindowsFacts, WindowsVersion
from drivers.windows.firstboot import service
from drivers.windows.firstboot.program import FIRSTBOOT, PROGRAMS
from drivers.windows.firstboot.steps import ScriptFile, Step, batch, step_list
from drivers.windows.firstboot.tools import tools_of
from drivers.windows.inf_registry import terminated
from tests.drivers.windows.wine import ON_WINE, Wine, wait_for

pytestmark = ON_WINE

CMD = '"%SystemRoot%\\System32\\cmd.exe" /d /c'
FINISHED = "Z finished "


@dataclass
class Guest:
    """A Wine with the service in it, in a folder of drive C; ``name`` of the service."""

    wine: Wine
    folder: Path
    name: str = "p2v-test"

    @property
    def result(self) -> Path:
        return self.folder / "result.txt"

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    @property
    def key(self) -> str:
        return f"SYSTEM\\CurrentControlSet\\Services\\{self.name}"

    def lines(self) -> list[str]:
        """The result's lines without their times, which are all there."""
        found = self.result.read_text().splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in found), found
        return [line[21:] for line in found]

    def until(self, text: str) -> list[str]:
        wait_for(self.result, text)
        return self.lines()

    def finish(self) -> list[str]:
        """Turned on until it has come to its end."""
        with self.wine.on():
            found = self.until(FINISHED)
            wait_for_removal(self)
            return found


def step(name: str, command: str, seconds: int = 300, tries: int = 1) -> Step:
    return Step(name, seconds, tries, command, "a test")


def installed(wine: Wine, name: str, listed: str, folder: str = "Prüfung der Straße") -> Guest:
    """A service in a folder whose name has spaces and other letters than ASCII; by its name Wine's start is held to it."""
    path = wine.drive / folder / name
    path.mkdir(parents=True)
    (path / "firstboot.exe").write_bytes(Path(PROGRAMS[FIRSTBOOT]["x64"].source).read_bytes())
    (path / "steps.txt").write_bytes(listed.encode())
    own = f"p2v-{name}"
    key = f"ControlSet001\\Services\\{own}"
    image = f'"C:\\{folder}\\{name}\\firstboot.exe"'
    values = [("ImagePath", c.REG_EXPAND_SZ, terminated(image)), ("ObjectName", c.REG_SZ, terminated("LocalSystem"))]
    numbers = {"Type": 16, "Start": 2, "ErrorControl": 1}
    values += [(name, c.REG_DWORD, struct.pack("<I", number)) for name, number in numbers.items()]
    wine.import_registry([AddKey(key, "t"), *(SetValue(key, name, kind, data.hex(), None, "t") for name, kind, data in values)])
    return Guest(wine, path, own)


def guest_with(wine: Wine, name: str, *steps: Step, starts: int = 9, restarts: int = 2) -> Guest:
    return installed(wine, name, step_list(steps, starts, restarts))


def windows(sets: ControlSets) -> WindowsFacts:
    keys = {f"ControlSet00{number}\\Services": () for number in sets.present}
    hive = HiveFile("/Windows/System32/config/SYSTEM", 1, "", "clean", keys=dict(keys))
    return WindowsFacts("/windows", WindowsVersion(10, 0, 17763), "x86_64", sets, {SYSTEM: hive})


def test_what_is_planned_runs_in_order_and_removes_itself(wine: Wine) -> None:
    scripts = [ScriptFile(f"{name}.cmd", batch(f"echo {name} in %P2V_FOLDER%", "exit 0")) for name in ("one", "two")]
    found = windows(ControlSets(1, 1, 0, 2, (1, 2)))
    tools = tools_of(found)
    assert tools is not None
    steps = [replace(step(file.name[:3], tools.batch_file(file.name)), files=(file,)) for file in scripts]
    for change in service.files(steps, found, tools):
        path = wine.drive / change.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        match change:
            case CarryFile(source=source):
                path.write_bytes(Path(source).read_bytes())
            case WriteFile(content=content):
                path.write_bytes(content.encode())
    # Wine has no such key: which control set is the running one
    edits = [*service.entries(steps, found), AddKey("Select", "t"), SetValue("Select", "Current", 4, "01000000", None, "t")]
    wine.import_registry(edits)
    guest = Guest(wine, wine.drive / "windows/p2v" / service.folder_of(steps), service.SERVICE)
    with wine.on():
        guest.until(FINISHED)
        wait_for_removal(guest)
        assert not wine.has_key(f"SYSTEM\\ControlSet002\\Services\\{guest.name}")
        manager = "SYSTEM\\CurrentControlSet\\Control\\Session Manager"
        renames = wine.run("reg", "query", f"HKLM\\{manager}", "/v", "PendingFileRenameOperations")
        assert "firstboot.exe" in renames
    assert guest.lines() == ["start 1", "try one 1", "exit one 0", "try two 1", "exit two 0", "finished 0"]
    place = f"C:\\windows\\p2v\\{service.folder_of(steps)}"
    assert guest.log.index(f"one in {place}") < guest.log.index(f"two in {place}")
    # what was written to the result is in the log as well, among the programs' own words
    assert "try two 1" in guest.log
    with wine.on():
        assert not wine.has_key(guest.key)
    assert guest.lines()[-1] == "finished 0"


def wait_for_removal(guest: Guest) -> None:
    """The service manager takes the key away once the service has ended."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if not guest.wine.has_key(guest.key):
            return
    raise AssertionError(f"{guest.name} is there still")


def test_a_step_that_fails_is_tried_again_and_given_up(wine: Wine) -> None:
    guest = guest_with(wine, "fails", step("bad", f"{CMD} exit 7", tries=2), step("good", f"{CMD} echo well"))
    assert guest.finish() == [
        "start 1", "try bad 1", "exit bad 7", "try bad 2", "exit bad 7", "failed bad", "try good 1", "exit good 0", "finished 1",
    ]  # fmt: skip


@pytest.mark.matrix
def test_a_step_that_succeeds_at_its_second_try_is_done(wine: Wine) -> None:
    command = f'{CMD} "if exist once (exit 0) else (echo x > once & exit 5)"'
    guest = guest_with(wine, "again", step("twice", command, tries=3))
    assert guest.finish() == ["start 1", "try twice 1", "exit twice 5", "try twice 2", "exit twice 0", "finished 0"]


def test_folder_and_command_with_spaces_and_other_letters(wine: Wine) -> None:
    command = f'{CMD} "copy steps.txt "%P2V_FOLDER%\\größer als.txt""'
    guest = guest_with(wine, "straße nr 1", step("letters", command))
    assert guest.finish()[-1] == "finished 0"
    assert (guest.folder / "größer als.txt").read_bytes() == (guest.folder / "steps.txt").read_bytes()


@pytest.mark.matrix
def test_a_program_that_is_not_there_is_a_failure(wine: Wine) -> None:
    guest = guest_with(wine, "absent", step("gone", '"%SystemRoot%\\no such program.exe"'), step("good", f"{CMD} exit 0"))
    assert guest.finish()[1:4] == ["try gone 1", "absent gone 2", "failed gone"]


def test_a_step_that_hangs_is_ended_with_all_that_it_started(wine: Wine) -> None:
    command = f'{CMD} "start /b cmd /d /c late.cmd & ping -n 60 127.0.0.1"'
    guest = guest_with(wine, "hangs", step("slow", command, seconds=2), step("wait", f"{CMD} ping -n 10 127.0.0.1"))
    # six seconds after its limit, which a busy host may need
    (guest.folder / "late.cmd").write_text(batch("ping -n 9 127.0.0.1 >nul", "echo x > late.txt"), newline="")
    lines = guest.finish()
    assert lines == ["start 1", "try slow 1", "limit slow", "failed slow", "try wait 1", "exit wait 0", "finished 1"]
    assert not (guest.folder / "late.txt").exists()


@pytest.mark.matrix
def test_a_step_is_not_done_before_what_it_started_is(wine: Wine) -> None:
    command = f'{CMD} start /b cmd /d /c "ping -n 4 127.0.0.1 >nul & echo x > late.txt"'
    guest = guest_with(wine, "copies", step("leaves", command), step("looks", f'{CMD} "if exist late.txt (exit 0) else (exit 1)"'))
    assert guest.finish()[-3:] == ["try looks 1", "exit looks 0", "finished 0"]


def test_a_restart_that_a_step_wants_comes_once_at_the_end(wine: Wine) -> None:
    first, second = step("first", f"{CMD} exit 3010"), step("second", f"{CMD} exit 1641")
    guest = guest_with(wine, "restarts", first, second)
    with wine.on():
        lines = guest.until("restart finished")
        wait_for_removal(guest)
    assert lines == [
        "start 1", "try first 1", "exit first 3010", "try second 1", "exit second 1641", "finished 0", "restart finished",
    ]  # fmt: skip
    with wine.on():
        assert not wine.has_key(guest.key)
    assert guest.lines() == lines


@pytest.mark.matrix
def test_a_step_that_needs_a_restart_first_gets_no_more_than_there_may_be(wine: Wine) -> None:
    guest = guest_with(wine, "needs", step("driver", f"{CMD} exit 3017", tries=4), step("after", f"{CMD} exit 3010"), restarts=1)
    with wine.on():
        assert guest.until("restart driver")[-3:] == ["try driver 1", "exit driver 3017", "restart driver"]
    lines = guest.finish()
    assert lines[4:] == [
        "start 2", "try driver 2", "exit driver 3017", "try driver 3", "exit driver 3017", "try driver 4", "exit driver 3017",
        "failed driver", "try after 1", "exit after 3010", "finished 1",
    ]  # fmt: skip


def test_after_a_power_cut_it_goes_on_and_the_try_counts(wine: Wine) -> None:
    guest = guest_with(wine, "cut", step("done", f"{CMD} exit 0"), step("slow", f"{CMD} ping -n 60 127.0.0.1", tries=2))
    for tried in (1, 2):
        with wine.on():
            guest.until(f"try slow {tried}")
    lines = guest.finish()
    assert lines == [
        "start 1", "try done 1", "exit done 0", "try slow 1", "start 2", "try slow 2", "start 3", "failed slow", "finished 1",
    ]  # fmt: skip


@pytest.mark.matrix
def test_a_stop_in_the_middle_ends_the_step_and_says_so(wine: Wine) -> None:
    # which is what Windows asks of every service when it shuts down
    guest = guest_with(wine, "stopped", step("slow", f"{CMD} ping -n 60 127.0.0.1", tries=2))
    with wine.on():
        guest.until("try slow 1")
        # Wine itself finds a broken pipe where the service has ended before its answer was read
        wine.run("net", "stop", guest.name, check=False)
        assert guest.until("stopped slow") == ["start 1", "try slow 1", "stopped slow"]
        assert wine.has_key(guest.key)
    wine.run("reg", "delete", f"HKLM\\{guest.key}", "/f")


@pytest.mark.matrix
@pytest.mark.parametrize("cut", [b"", b"2026-11-26T11:00:00Z try sl", b"2026-11-26T11:00:00Z exit slow 0"])
def test_a_line_that_was_cut_off_is_not_taken_for_whole(wine: Wine, cut: bytes) -> None:
    guest = guest_with(wine, f"torn{len(cut)}", step("slow", f"{CMD} exit 0"))
    guest.result.write_bytes(b"2026-11-26T11:00:00Z start 1\r\n" + cut)
    with wine.on():
        wait_for(guest.result, FINISHED)
        wait_for_removal(guest)
    assert guest.result.read_bytes().count(b"exit slow 0\r\n") == 1
    assert b"start 2\r\n" in guest.result.read_bytes()


@pytest.mark.matrix
def test_after_so_many_starts_it_gives_up(wine: Wine) -> None:
    guest = guest_with(wine, "starts", step("never", f"{CMD} exit 0"), starts=2)
    guest.result.write_bytes(b"".join(b"2026-11-26T11:00:00Z start %d\r\n" % n for n in (1, 2)))
    assert guest.finish() == ["start 1", "start 2", "start 3", "given-up", "finished 1"]


@pytest.mark.matrix
def test_what_has_finished_runs_no_second_time(wine: Wine) -> None:
    guest = guest_with(wine, "second", step("once", f"{CMD} exit 3010"))
    guest.result.write_bytes(b"2026-11-26T11:00:00Z finished 0\r\n")
    with wine.on():
        wait_for_removal(guest)
    assert guest.lines() == ["finished 0"]


BAD_LISTS: Sequence[tuple[str, bytes | None]] = [
    ("none", None),
    ("empty", b""),
    ("other", b"p2v-firstboot-2 9 2 x\r\na 1 1 cmd\r\n"),
    ("number", b"p2v-firstboot-1 9 2 x\r\na one 1 cmd\r\n"),
    ("long", b"p2v-firstboot-1 9 2 x\r\n" + b"a" * 32 + b" 1 1 cmd\r\n"),
    ("command", b"p2v-firstboot-1 9 2 x\r\na 1 1 " + b"x" * 1100 + b"\r\n"),
    ("nothing", b"p2v-firstboot-1 9 2 x\r\na 1 1\r\n"),
    ("many", b"p2v-firstboot-1 9 2 x\r\n" + b"".join(b"s%d 1 1 cmd\r\n" % n for n in range(40))),
    ("large", b"p2v-firstboot-1 9 2 x\r\n" + b"# comment\r\n" * 4000),
]


@pytest.mark.matrix
def test_a_list_that_is_none_runs_nothing_and_the_service_goes(wine: Wine) -> None:
    guests = []
    for name, data in BAD_LISTS:
        guest = installed(wine, f"bad-{name}", "")
        (guest.folder / "steps.txt").unlink() if data is None else (guest.folder / "steps.txt").write_bytes(data)
        guests.append(guest)
    with wine.on():
        for guest in guests:
            assert guest.until(FINISHED) == ["start 1", "given-up", "finished 1"], guest.name
            wait_for_removal(guest)


@pytest.mark.matrix
def test_where_nothing_can_be_written_nothing_is_done(wine: Wine) -> None:
    guest = guest_with(wine, "unwritable", step("touch", f"{CMD} echo x > done.txt"))
    guest.result.mkdir()
    with wine.on():
        # others are started after it, so that it has had its turn
        other = guest.folder / "log.txt"
        wait_for_file(other)
        wine.run("cmd", "/c", "ping", "-n", "3", "127.0.0.1")
        assert wine.has_key(guest.key)
    assert not (guest.folder / "done.txt").exists()
    wine.run("reg", "delete", f"HKLM\\{guest.key}", "/f")
    wine.wait_until_off()


def wait_for_file(path: Path) -> None:
    wait_for(path, "")
