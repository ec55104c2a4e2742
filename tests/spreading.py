"""How a run is spread over workers: which tests are one piece of work, and which pieces come first.

xdist's own ``loadgroup`` hands out tests one by one: neighbours of a file go to different workers, and each of these makes
what the file makes once (disks, conversions, a launched appliance), for the same end. Here a file is a piece of work, a
group of ``xdist_group`` is one as there, and a test that boots a guest is one by itself.
"""

from __future__ import annotations

from typing import Any

import pytest

#: The group of tests that share nothing with each other, in the ids of tests that boot: a piece of work each.
ALONE = "boots"
#: The group that begins: it has the sample guest made that nearly all others wait for.
FIRST = "convert"
#: Groups that need no sample guest: what another worker does while those are made.
MEANWHILE = ("chromium", "cluster", "wine")
#: Files of ten seconds of processor time and more that boot nothing: at the end a worker is left alone with a short one.
LONG = (
    "tests/pipeline/test_machines.py",
    "tests/pipeline/test_every_write_of_a_machine.py",
    "tests/proof/test_corruptions.py",
    "tests/pipeline/test_every_write.py",
    "tests/converters/allocation/test_mutations.py",
    "tests/converters/test_copy_commit.py",
    "tests/pipeline/test_in_place_steps.py",
    "tests/windows_startup/test_convertible.py",
    "tests/pipeline/test_random_kills.py",
    "tests/converters/allocation/test_xfs.py",
    "tests/converters/allocation/test_ext4.py",
    "tests/batch/test_batch_page.py",
    "tests/cli/test_live_options.py",
    "tests/batch/test_runner.py",
    "tests/audit/test_windows_guests.py",
    "tests/batch/test_fenced_conversion.py",
    "tests/converters/test_copy.py",
)


def group_of(item: pytest.Item) -> str:
    """The name of an item's group; nothing when it has none."""
    mark = item.get_closest_marker("xdist_group")
    return str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) if mark else ""


def rank(item: pytest.Item) -> tuple[int, int]:
    """Where an item stands in the order of a run: the lower, the earlier."""
    group, file = group_of(item), item.nodeid.partition("::")[0]
    if group == FIRST:
        return (0, 0)
    if group in MEANWHILE:
        return (1, MEANWHILE.index(group))
    if item.get_closest_marker("boots"):
        return (2, 0)
    if item.get_closest_marker("appliance"):
        return (3, 0)
    return (4, LONG.index(file)) if file in LONG else (5, 0)


def in_order(items: list[pytest.Item]) -> None:
    """Sort the items of a run, and put those that boot by themselves."""
    for item in items:
        if item.get_closest_marker("boots") and not group_of(item):
            item.add_marker(pytest.mark.xdist_group(ALONE))
    items.sort(key=rank)


def piece_of(nodeid: str) -> str:
    """The piece of work that a test is in, by its id as xdist has it: with its group behind an @."""
    group = nodeid.rpartition("@")[2] if nodeid.rfind("@") > nodeid.rfind("]") else ""
    if group == ALONE:
        return nodeid
    return group or nodeid.partition("::")[0]


def scheduling(config: pytest.Config, log: object) -> Any:
    """xdist's scheduler that hands out ``piece_of`` work in the order of ``in_order``."""
    # it is there wherever this is called
    from xdist.scheduler import LoadScopeScheduling

    # else the pieces with the most tests came first, which are the quickest tests
    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = piece_of
    return scheduler
