"""The example of docs/audit-sizing.md prints what the page says it does."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from p2v.audit.document import DiskAudit, MachineAudit, Origin, Verdict
from p2v.audit.sizing.size import size_as_wished
from p2v.audit.sizing.text import sizing_text
from p2v.cli.sizing_options import add_sizing
from p2v.cli.sizing_wish import sizing_wish
from p2v.core.units import GIB

PAGE = Path(__file__).parents[3] / "docs" / "audit-sizing.md"


def part(name: str) -> list[str]:
    """The table, or the indented lines, that stand behind a mark of the page."""
    lines = PAGE.read_text("utf-8").split(f"<!-- {name} -->\n")[1].split("\n")
    end = next((at for at, line in enumerate(lines) if line and not line.startswith(("|", "    "))), len(lines))
    return [line.removeprefix("    ") for line in lines[:end]]


def fleet() -> list[MachineAudit]:
    """The machines of the page's table."""
    made = []
    for row in part("fleet")[2:]:
        if not row:
            continue
        name, cpus, memory, virtual, allocated, used, host = (cell.strip() for cell in row.strip("|").split("|"))
        disk = DiskAudit(
            f"/exports/{name}.vmdk", "vmdk", int(virtual) * GIB, int(allocated) * GIB, int(used) * GIB if used else None
        )
        made.append(
            MachineAudit(
                name,
                Origin.DISKS,
                "VMX",
                (f"/exports/{name}.vmx",),
                Verdict.READY,
                (),
                cpus=int(cpus),
                memory_bytes=int(memory) * GIB,
                disks=(disk,),
                host=host,
            )
        )
    return made


def printed(folder: Path) -> list[str]:
    """What the page's command prints for its fleet."""
    (folder / "use.csv").write_text("\n".join(part("utilisation")))
    prices = part("prices")
    command = next(line for line in prices if line.startswith("p2v audit "))
    (folder / "prices.toml").write_text("\n".join(prices[: prices.index(command)]))
    words = [
        str(folder / word) if word in ("use.csv", "prices.toml") else word
        for word in shlex.split(command)[3:]  # after p2v audit /exports
    ]
    parser = argparse.ArgumentParser()
    add_sizing(parser)
    wish = sizing_wish(parser.parse_args(words))
    assert wish is not None
    return sizing_text(size_as_wished(wish, fleet()))


def test_the_pages_example_prints_what_the_page_says(tmp_path: Path) -> None:
    assert len(fleet()) == 5
    assert [line for line in part("output") if line] == printed(tmp_path)
