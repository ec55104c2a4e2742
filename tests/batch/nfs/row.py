"""In the machine: one row: ``python -m tests.batch.nfs.row NAME [WORD...]``."""

from __future__ import annotations

import importlib
import json
import sys

from tests.batch.nfs.agent import FIGURES
from tests.batch.nfs.rows import ROWS


def main(name: str, *words: str) -> None:
    """Its figures go to a file."""
    module, function = ROWS[name]
    row = getattr(importlib.import_module(f"tests.batch.nfs.{module}"), function)
    FIGURES.write_text(json.dumps(row(*words) or {}))


if __name__ == "__main__":
    main(*sys.argv[1:])
