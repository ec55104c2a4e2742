"""What is asked for in the guest reaches planning, and cannot change a plan that is made."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.plan import PlanOptions
from p2v.cli import convert, machine_options, plan
from p2v.core.errors import Usage

ASKED = ["--new-identity", "--install-agent", "--purge-tools", "--compatible", "--rebuild-initramfs"]


def parsed(configure: Callable[[argparse.ArgumentParser], None], *argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    configure(parser)
    return parser.parse_args(argv)


def test_nothing_is_done_that_nobody_asked_for() -> None:
    assert machine_options.guest_of(parsed(plan.configure, "disk")) == PlanOptions()


@pytest.mark.parametrize("configure", [plan.configure, convert.configure])
def test_options_of_the_guest_reach_planning(configure: Callable[[argparse.ArgumentParser], None]) -> None:
    wanted = machine_options.guest_of(
        parsed(configure, "disk", *ASKED, *(["-o", "x"] if configure is convert.configure else []))
    )
    assert wanted == PlanOptions(
        new_identity=True, install_agent=True, purge_tools=True, compatible=True, rebuild_initramfs=True
    )


@pytest.mark.parametrize("option", [*ASKED, "--ip=1:dhcp", "--network=user", "--mac=00:0c:29:aa:bb:01"])
def test_a_plan_that_is_made_takes_no_further_wishes(option: str, tmp_path: Path) -> None:
    arguments = parsed(convert.configure, "--plan", str(tmp_path / "plan"), "-o", str(tmp_path), option)
    with pytest.raises(Usage) as caught:
        convert.run(arguments)
    assert option.partition("=")[0] in caught.value.sentence()
