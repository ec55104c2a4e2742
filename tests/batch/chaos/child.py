"""``p2v``, which also notes the errors that it ends with: nobody hears of one whose lease is lost, and those are counted."""

from __future__ import annotations

import os
import sys

from p2v.cli import console
from p2v.cli.main import main
from p2v.core.errors import P2vError

NOTES = "P2V_CHAOS_NOTES"


def note(failure: P2vError) -> None:
    """One line for each, whole whoever else writes."""
    with open(os.environ[NOTES], "a", encoding="ascii") as file:
        file.write(f"{failure.code}\n")


if __name__ == "__main__":
    said = console.error

    def noted(failure: P2vError, progress: str) -> None:
        """As the console says it."""
        note(failure)
        said(failure, progress)

    console.error = noted
    sys.exit(main())
