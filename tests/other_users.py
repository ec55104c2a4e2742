"""What tests hand to processes of other users."""

from __future__ import annotations

from pathlib import Path


def let_others_through(folder: Path) -> None:
    """Open a folder of pytest's, and those above it, which are closed to others."""
    for parent in (folder, *folder.parents):
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
