"""How a run is spread over workers: pieces of work, and their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spreading import ALONE, FIRST, LONG, MEANWHILE, in_order, piece_of

pytest_plugins = ["pytester"]
CHECKOUT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("nodeid", "piece"),
    [
        ("tests/test_x.py::test_a", "tests/test_x.py"),
        ("tests/test_x.py::TestA::test_b[1]", "tests/test_x.py"),
        ("tests/test_x.py::test_c[me@example.org]", "tests/test_x.py"),
        ("tests/test_x.py::test_d[a::b@c]@wine", "wine"),
        ("tests/test_y.py::test_e@wine", "wine"),
        (f"tests/test_x.py::test_f[a]@{ALONE}", f"tests/test_x.py::test_f[a]@{ALONE}"),
    ],
)
def test_a_file_is_a_piece_and_so_is_a_group_and_each_test_that_boots(nodeid: str, piece: str) -> None:
    assert piece_of(nodeid) == piece


def test_what_others_wait_for_is_first_and_what_boots_is_next_to_it_and_alone(pytester: pytest.Pytester) -> None:
    marks = {
        "quick": "",
        "grouped": "@pytest.mark.xdist_group('volume-disks')",
        "launching": "@pytest.mark.appliance",
        "booting": "@pytest.mark.boots",
        "browsing": f"@pytest.mark.xdist_group({MEANWHILE[0]!r})",
        "converting": f"@pytest.mark.xdist_group({FIRST!r})\n@pytest.mark.boots",
    }
    tests = "".join(f"{mark}\ndef test_{name}(): pass\n" for name, mark in marks.items())
    items = pytester.getitems(f"import pytest\n{tests}")
    in_order(items)
    names = [item.name.removeprefix("test_") for item in items]
    assert names == ["converting", "browsing", "booting", "launching", "quick", "grouped"]
    groups = {item.name: [mark.args[0] for mark in item.iter_markers("xdist_group")] for item in items}
    assert groups["test_booting"] == [ALONE]
    assert groups["test_converting"] == [FIRST]
    assert groups["test_quick"] == []


def test_two_workers_share_no_file(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("RAN", str(pytester.path / "ran"))
    pytester.makeconftest("from tests.conftest import pytest_collection_modifyitems, pytest_xdist_make_scheduler")
    body = (
        "import os, pytest\n"
        "@pytest.mark.parametrize('n', range(9))\n"
        "def test_it(n):\n"
        "    with open(os.environ['RAN'], 'a') as file:\n"
        "        print(os.path.basename(__file__), os.environ['PYTEST_XDIST_WORKER'], file=file)\n"
    )
    pytester.makepyfile(**{f"test_{name}": body for name in "abcd"})
    ran = pytester.runpytest_subprocess("-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider")
    ran.assert_outcomes(passed=36)
    by = [tuple(line.split()) for line in (pytester.path / "ran").read_text().splitlines()]
    assert len(by) == 36
    assert len(set(by)) == 4, set(by)
    assert len({worker for _, worker in by}) == 2


def test_files_that_are_named_exist() -> None:
    assert [name for name in LONG if not (CHECKOUT / name).is_file()] == []
