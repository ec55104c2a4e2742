"""The units of docs/batch-night.md, run by a real systemd with real conversions."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import time
from pathlib import Path

import pytest

from p2v.core.run import find_program
from tests.batch.night.host import PATIENCE, until, why_not
from tests.batch.night.nights import NEVER, OWNER, SERVICE, SLOW, TIMER, Fleet, Night
from tests.batch.night.page import PROGRAM, confined, rotation, runs

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.timeout(6 * PATIENCE),
    pytest.mark.xdist_group("night"),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

LOGROTATE = find_program("logrotate")
_MAIL = '#!/bin/sh\\n{ echo "$@"; id -un; cat; } > /srv/migration/mail\\n'
# what it leaves running holds nothing of the hook's
_FACTS = """#!/bin/sh
setsid sleep 1000 < /dev/null > /dev/null 2>&1 &
until pgrep -x -f "sleep 1000" > /dev/null; do sleep 0.1; done
{ umask; nice; env; cat /proc/self/cgroup; } > /srv/migration/facts
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def mail_program(night: Night) -> None:
    """What the failure unit sends its mail with."""
    night.machine.does("sh", "-c", f"printf '{_MAIL}' > /usr/local/bin/mail && chmod 755 /usr/local/bin/mail")


def change(night: Night, unit: str, lines: str) -> None:
    """Change a unit by a drop-in; a timer goes by it at once."""
    place = f"/run/systemd/system/{unit}.d"
    night.machine.does(
        "sh", "-c", f"mkdir -p {place} && echo '{lines}' > {place}/changed.conf && systemctl daemon-reload"
    )
    if unit == TIMER:
        night.machine.does("systemctl", "restart", TIMER)


def test_the_timer_runs_a_night_whose_parked_machine_is_told_and_the_next_one_does_nothing_twice(fleet: Fleet) -> None:
    hook = fleet.here / "facts.sh"
    hook.write_text(_FACTS)
    hook.chmod(0o755)
    fleet.add("first", before=["/srv/migration/facts.sh"])
    fleet.add("second")
    fleet.add("third")
    fleet.add_bad("old")
    with fleet.machine(timer="") as night:
        mail_program(night)
        the_timer_starts_it(night)
        assert night.ended() == ("failed", "exit-code", "5")
        assert "sleep 1000" not in night.processes()
        states = {name: each["state"] for name, each in night.machines().items()}
        assert states == {"first": "done", "second": "done", "third": "done", "old": "parked"}
        it_told_people(fleet, night)
        it_ran_as_the_unit_says(fleet)

        # the next night
        fleet.mend("old")
        night.p2v("batch", "retry", "old")
        night.start()
        assert night.ended() == ("inactive", "success", "0")
        assert {each["state"] for each in night.machines().values()} == {"done"}
        attempts = {name: len(night.events(name, "claimed")) for name in night.machines()}
        assert attempts == {"first": 1, "second": 1, "third": 1, "old": 2}


def the_timer_starts_it(night: Night) -> None:
    at_night = re.compile(r"next_elapse=\w+ \S+ 22:00:00 ")
    assert not at_night.search(night.machine.properties(TIMER)["TimersCalendar"])
    night.machine.does("systemctl", "enable", "--now", TIMER)
    # as the page has it; the test does not wait until then
    assert at_night.search(night.machine.properties(TIMER)["TimersCalendar"])
    change(night, TIMER, "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\n")
    until(lambda: night.machine.properties(SERVICE)["ActiveState"] != "inactive", "the timer's start")
    change(night, TIMER, f"[Timer]\n{NEVER}\n")


def it_told_people(fleet: Fleet, night: Night) -> None:
    log = night.log()
    assert sum(": converted: " in line for line in log) == 3
    # no bars, no colours, no times beside the journal's
    assert [line for line in log if re.search(r"[\x00-\x1f\x7f]|^\d{4}-|\[\d+[KmA-D]|%\|", line)] == []
    until((fleet.here / "mail").exists, "the mail")
    until(lambda: night.machine.properties("p2v-batch-failed")["ActiveState"] == "inactive", "the end of the mail")
    about, sender, *lines = (fleet.here / "mail").read_text().splitlines()
    assert (about, sender) == ("-s p2v batch on night: failed fleet@example.com", "p2v")
    assert any(re.match(r"\s*old: .*\(bad-image\)", line) for line in lines)


def it_ran_as_the_unit_says(fleet: Fleet) -> None:
    facts = (fleet.here / "facts").read_text().splitlines()
    assert facts[:2] == ["0027", "10"]
    assert {"HOME=/var/lib/p2v", "USER=p2v", f"0::/system.slice/{SERVICE}"} <= set(facts)
    assert (fleet.data / "kvm" / "first.json").stat().st_mode & 0o777 == 0o640
    assert (fleet.here / "fleet.html").exists()


def test_a_confined_service_converts(fleet: Fleet) -> None:
    hook = fleet.here / "writes.sh"
    hook.write_text("#!/bin/sh\ntouch /etc/p2v /usr/p2v 2> /srv/migration/refused; :\n")
    hook.chmod(0o755)
    fleet.add("first", before=["/srv/migration/writes.sh"])
    fleet.add("second")
    with fleet.machine() as night:
        change(night, SERVICE, confined())
        night.start()
        assert night.ended() == ("inactive", "success", "0")
        assert {each["state"] for each in night.machines().values()} == {"done"}
        refused = (fleet.here / "refused").read_text().splitlines()
        assert [line.rpartition(": ")[2] for line in refused] == ["Read-only file system"] * 2


def test_a_stop_in_the_middle_of_a_copy_leaves_nothing_running_and_the_next_start_goes_on(fleet: Fleet) -> None:
    fleet.add_slow()
    fleet.add("quick")
    fleet.add("after", wave=1)
    with fleet.machine() as night:
        night.start()
        copied = night.await_copy()
        night.machine.does("systemctl", "stop", SERVICE)
        assert night.ended() == ("inactive", "success", "143")
        assert night.processes() == []
        assert {each["state"] for each in night.machines().values()} <= {"waiting", "done"}
        assert SLOW in [each["machine"] for each in kept_for_the_next(night)]
        assert night.machine.does("find", "/tmp", "/var/tmp", "-user", "p2v") == ""
        began_again = goes_on(fleet, night)
        assert night.events(SLOW, "released")
        # what was copied counts as soon as the copy goes on
        assert began_again >= copied


def kept_for_the_next(night: Night) -> list[dict[str, object]]:
    """What a run left; it is all for the next one."""
    left: list[dict[str, object]] = json.loads(night.p2v("batch", "clean", "--json"))["left"]
    assert [each for each in left if not each["kept"]] == []
    return left


def goes_on(fleet: Fleet, night: Night) -> int:
    """The next run, which does nothing twice: how much of the slow copy it counts at its beginning."""
    fleet.hurry()
    done = {name for name, each in night.machines().items() if each["state"] == "done"}
    night.start()
    assert night.ended() == ("inactive", "success", "0")
    assert {each["state"] for each in night.machines().values()} == {"done"}
    assert all(len(night.events(name, "done")) == 1 for name in night.machines())
    assert all(len(night.events(name, "claimed")) == 1 for name in done)
    return first_count(night)


def first_count(night: Night) -> int:
    last = night.events(SLOW, "claimed")[-1]["fence"]
    counted = [each for each in night.events(SLOW, "bytes-done") if each["fence"] == last]
    return int(counted[0]["data"]["count"])


def test_a_stop_before_the_run_has_begun_is_no_failure(fleet: Fleet) -> None:
    fleet.add("first")
    with fleet.machine() as night:
        mail_program(night)
        for seconds in (0.0, 0.1, 0.4, 1.0, 2.0):
            night.start()
            time.sleep(seconds)
            night.machine.does("systemctl", "stop", SERVICE)
            assert night.ended()[:2] == ("inactive", "success"), seconds
            # it does not start what was started five times in ten seconds
            night.machine.does("systemctl", "reset-failed", SERVICE)
        assert night.processes() == []
        assert not (fleet.here / "mail").exists()
        night.start()
        assert night.ended() == ("inactive", "success", "0")


@pytest.mark.parametrize(("option", "state"), [("--until", "done"), ("--stop-at", "waiting")])
def test_a_night_whose_time_is_over_is_no_failure(fleet: Fleet, option: str, state: str) -> None:
    fleet.add("first", before=["/usr/bin/sleep", "20"])
    fleet.add("after", wave=1)
    at = "$$(date -d +15seconds +%%Y-%%m-%%dT%%H:%%M:%%S)"
    with fleet.machine() as night:
        mail_program(night)
        command = f"exec {PROGRAM} batch run jobs.yaml {option} {at}"
        change(night, SERVICE, f'[Service]\nExecStart=\nExecStart=/bin/sh -c "{command}"\n')
        night.start()
        assert night.ended() == ("inactive", "success", "75")
        assert {name: each["state"] for name, each in night.machines().items()} == {"first": state, "after": "waiting"}
        assert night.machines()["after"]["attempts"] == 0
        assert not (fleet.here / "mail").exists()


@pytest.mark.parametrize("how", ["shutdown", "power-cut"])
def test_a_host_that_goes_down_in_the_middle_goes_on_after_its_next_start(fleet: Fleet, how: str) -> None:
    fleet.add("quick")
    fleet.add_slow()
    with fleet.machine() as night:
        night.start()
        night.await_copy()
        if how == "shutdown":
            night.machine.does("systemctl", "poweroff", "--no-block")
            until(lambda: not night.machine.is_on(), "the end of the host")
        else:
            night.machine.cut_off()
    fleet.hurry()
    with fleet.machine(timer="OnBootSec=\nOnBootSec=1") as night:
        until(lambda: night.machine.properties(SERVICE)["ActiveState"] != "inactive", "the start after a boot")
        assert night.ended() == ("inactive", "success", "0")
        assert {each["state"] for each in night.machines().values()} == {"done"}
        assert all(len(night.events(name, "done")) == 1 for name in night.machines())
        assert bool(night.events(SLOW, "released")) == (how == "shutdown")
        if how == "power-cut":
            # a fence, where a machine had just ended
            night.p2v("batch", "clean", "--remove")
        assert kept_for_the_next(night) == []


@pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed (apt install logrotate)")
def test_a_log_is_rotated_while_a_run_writes_to_it(fleet: Fleet) -> None:
    assert LOGROTATE is not None
    shutil.copy(LOGROTATE, fleet.data / "logrotate")
    (fleet.data / "rotation").write_text(rotation())
    (fleet.data / "rotation").chmod(0o644)
    # one that others of a group may write to, which logrotate does not touch as root
    fleet.here.chmod(0o775)
    fleet.add("first", before=["/usr/bin/sleep", "10"])
    # what the crontab starts, with the log that the page tells of
    line = " ".join(runs()[1]).replace("--progress none", "--progress plain 2>> batch.log")
    with fleet.machine() as night:
        change(night, SERVICE, f'[Service]\nExecStart=\nExecStart=/bin/sh -c "exec {PROGRAM} {line}"\n')
        night.start()
        log = fleet.here / "batch.log"
        until(lambda: log.exists() and "attempt 1 begins" in log.read_text(), "the log")
        night.machine.does("/srv/logrotate", "--force", "--state", "/srv/rotated", "/srv/rotation")
        first = gzip.decompress((fleet.here / "batch.log.1.gz").read_bytes()).decode()
        assert night.ended() == ("inactive", "success", "0")
        assert "attempt 1 begins" in first
        rest = log.read_text()
        assert "converted: " in rest
        assert "\0" not in rest
        assert rest.splitlines()[0] not in first
        assert log.stat().st_uid == OWNER
