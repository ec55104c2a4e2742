"""What is asked for in the guest reaches planning, and cannot change a plan that is made."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.plan import PlanOptions
from p2v.cli import convert, machine_options, plan
from p2v.core.errors import NoSource, Usage
from tests.drivers.test_packages import control_tar, deb

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


def test_package_files_are_read_when_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.deb"
    path.write_bytes(deb(control_tar()))
    wanted = machine_options.guest_of(parsed(plan.configure, "disk", "--agent-package", str(path)))
    assert [package.name for package in wanted.agent_packages] == ["qemu-guest-agent"]
    with pytest.raises(NoSource):
        machine_options.guest_of(parsed(plan.configure, "disk", "--agent-package", str(tmp_path)))


_VALUED = ["--agent-package=x", "--virtio-win=x", "--ip=1:dhcp", "--network=user", "--mac=00:0c:29:aa:bb:01"]


@pytest.mark.parametrize("option", [*ASKED, *_VALUED])
def test_a_plan_that_is_made_takes_no_further_wishes(option: str, tmp_path: Path) -> None:
    arguments = parsed(convert.configure, "--plan", str(tmp_path / "plan"), "-o", str(tmp_path), option)
    with pytest.raises(Usage) as caught:
        convert.run(arguments)
    assert option.partition("=")[0] in caught.value.sentence()
