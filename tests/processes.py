"""Whether a process runs, for tests that start one or wait for its end."""

from __future__ import annotations

from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether it does; one that has ended does not, though nobody has asked for its status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    # the second where it goes after its file was opened
    except (FileNotFoundError, ProcessLookupError):
        return False
