"""What a run reads at its start. Counted in modules and not in time: what nobody asked for is not imported at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from p2v.cli.main import main
from p2v.sources.recognition import KINDS
from tests.batch.dos import dos_disk

_SECONDS = 300.0
_TOP = Path(__file__).parents[2]
_NOTED = "P2V_TEST_IMPORTED"
# read by the interpreter itself; a confined child can open no file, and so import nothing either
_NOTING = f"""
import os, sys

def note(event, arguments):
    if event == "import":
        try:
            number = os.open(os.environ[{_NOTED!r}], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except OSError:
            return
        os.write(number, arguments[0].encode() + b"\\n")
        os.close(number)

sys.addaudithook(note)
"""

# what no short run of one machine has a use for; names with all that is below them
_FOREIGN = (
    "asyncio", "dask", "distributed", "guestfs", "http.client", "hypothesis", "multiprocessing", "pytest", "python_calamine", "ssl",
)  # fmt: skip
_READERS = tuple(f"p2v.sources.{kind.module}" for kind in KINDS)
_OF_OTHER_RUNS = (
    "converters.qemu_img", "converters.transaction", "drivers.appliance", "drivers.appliance_launch", "drivers.appliance_library",
    "drivers.windows.media", "drivers.windows.planning",
    "p2v.appliance_facts", "p2v.audit.formats.junit", "p2v.audit.inventory.audit", "p2v.audit.inventory.workbook",
    "p2v.audit.report", "p2v.audit.sizing.size", "p2v.batch", "p2v.migrate", "p2v.pages", "p2v.verify", *_READERS,
)  # fmt: skip
_OF_OTHER_CONVERSIONS = (
    "drivers.linux.planning", "drivers.windows.media", "drivers.windows.planning", "p2v.appliance_facts", "p2v.audit", "p2v.batch",
    *_READERS,
)  # fmt: skip


def read_by(folder: Path, *words: str | Path) -> list[str]:
    """The modules that a run imported, once for each process of its that did; a note of each is made in ``folder``."""
    noted = folder / "imported"
    (folder / "sitecustomize.py").write_text(_NOTING, "utf-8")
    env = {**os.environ, "PYTHONPATH": f"{folder}:{_TOP}", _NOTED: str(noted)}
    argv = [sys.executable, "-m", "p2v", *map(str, words)]
    ran = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return noted.read_text("utf-8").split()


def below(modules: Sequence[str], names: Sequence[str]) -> list[str]:
    """The modules that are one of the names, or stand below it."""
    return [each for each in modules if each.startswith(tuple(f"{name}." for name in names)) or each in names]


@pytest.mark.parametrize("name", sorted({*_OF_OTHER_RUNS, *_OF_OTHER_CONVERSIONS}))
def test_what_is_not_to_be_read_is_there_by_that_name(name: str) -> None:
    assert find_spec(name) is not None, "renamed? a test that looks for the old name can no longer fail"


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_the_program_alone_reads_no_engine(word: str, tmp_path: Path) -> None:
    modules = read_by(tmp_path, word)
    assert "p2v.cli.main" in modules
    assert below(modules, (*_FOREIGN, "attr", "cattrs", "yaml", "p2v.audit", "p2v.batch", "p2v.migrate")) == []
    assert [each for each in modules if each.startswith(("converters.", "drivers."))] == []


def test_an_audit_of_one_machine_reads_what_that_needs(tmp_path: Path) -> None:
    modules = read_by(tmp_path, "audit", dos_disk(tmp_path / "dos.raw"), "--progress", "none")
    # an audit looks in processes of its own: what those read is seen as well
    assert "drivers.other.planning" in modules
    assert below(modules, (*_FOREIGN, *_OF_OTHER_RUNS)) == []


def test_a_report_that_was_asked_for_is_read_and_seen(tmp_path: Path) -> None:
    modules = read_by(
        tmp_path, "audit", dos_disk(tmp_path / "dos.raw"), "--progress", "none", "--html", tmp_path / "audit.html"
    )
    assert below(modules, ("p2v.audit.report",)) != []


def test_of_many_machines_none_reads_anything_for_itself(tmp_path: Path) -> None:
    disks = [dos_disk(tmp_path / f"dos{number}" / "dos.raw") for number in range(3)]
    modules = read_by(tmp_path, "audit", *disks, "--progress", "none")
    ours = [each for each in modules if each.startswith(("p2v.", "drivers.", "converters."))]
    assert sorted({each for each in ours if ours.count(each) > 1}) == []


def test_a_conversion_reads_what_its_guest_needs(tmp_path: Path) -> None:
    disk = dos_disk(tmp_path / "dos.raw")
    modules = read_by(tmp_path, "convert", disk, "-o", tmp_path / "out", "--progress", "none")
    assert "p2v.migrate" in modules
    assert below(modules, (*_FOREIGN, *_OF_OTHER_CONVERSIONS)) == []


def test_who_waits_for_the_modules_is_told_when_all_of_a_verbs_are_read() -> None:
    told: list[bool] = []
    assert main(["audit", "explain"], loaded=lambda: told.append("p2v.cli.audit" in sys.modules)) == 0
    assert told == [True]


def test_garbage_is_looked_for_again_once_the_modules_are_read() -> None:
    code = "import gc\nfrom p2v.__main__ import run\nrun(['audit', 'explain'])\nprint(gc.isenabled(), gc.get_freeze_count())"
    env = {**os.environ, "PYTHONPATH": str(_TOP)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=_SECONDS, check=True
    )
    enabled, frozen = ran.stdout.splitlines()[-1].split()
    assert enabled == "True"
    assert int(frozen) > 10_000
