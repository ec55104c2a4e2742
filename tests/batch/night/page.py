"""The files that docs/batch-night.md shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PROGRAM = "/opt/p2v-suite/.venv/bin/p2v"
_PAGE = (Path(__file__).parents[3] / "docs" / "batch-night.md").read_text("utf-8")


def units() -> dict[str, str]:
    """Of systemd, by their names."""
    found = {name: text for name, text in _files().items() if "/" not in name}
    assert set(found) == {"p2v-batch.service", "p2v-batch.timer", "p2v-batch-failed.service"}
    return found


def confined() -> str:
    """The drop-in that confines the service."""
    return _files()["p2v-batch.service.d/confined.conf"]


def _files() -> dict[str, str]:
    return dict(re.findall(r"`/etc/systemd/system/(\S+)`:\n\n```ini\n(.*?)```", _PAGE, re.DOTALL))


def runs() -> list[list[str]]:
    """Each run of a batch that a file of the page starts, as the program's words: of the service, and of the crontab."""
    found = [shlex.split(line) for line in re.findall(rf"{PROGRAM} (batch run .*)", _PAGE)]
    assert len(found) == 2
    return found


def rotation() -> str:
    """Of logrotate."""
    (found,) = re.findall(r"```\n(/srv/migration/batch.log \{\n.*?\n\}\n)```", _PAGE, re.DOTALL)
    return str(found)
