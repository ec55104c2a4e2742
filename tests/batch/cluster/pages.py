"""What docs/cluster.md tells people to type: its commands as words, its blocks as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text("utf-8")


def block(kind: str) -> str:
    """The only one of its kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert isinstance(found, str)
    return found


def commands(beginning: str, section: str = "") -> list[list[str]]:
    """The commands that begin so, in the page's order, of a section or of all; lines that are continued are one."""
    text = PAGE if not section else PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = re.findall(rf"^    ({re.escape(beginning)}(?:.*\\\n)*.*)$", text, re.MULTILINE)
    return [shlex.split(line.replace("\\\n", " "), comments=True) for line in lines]


def replaced(text: str, changes: dict[str, str]) -> str:
    """A text of the page with what differs at a test; each must be there."""
    for old, new in changes.items():
        assert old in text, f"docs/cluster.md no longer says {old}"
        text = text.replace(old, new)
    return text


def authority_commands() -> list[list[str]]:
    """Those that make an authority and a certificate."""
    found = [*commands("openssl"), *commands("chmod")]
    assert len(found) == 4
    return found
