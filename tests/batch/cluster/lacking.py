"""A stand-in for p2v at a worker of Dask (``--preload``): it says the event that it is given, and makes a file where it can.

``EVENT FILE``: without HAS_TOOL in its environment it ends as the event says.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

from p2v.batch.children import LocalStarter

if __name__ == "__main__":
    print(sys.argv[1], file=sys.stderr, flush=True)
    if "HAS_TOOL" not in os.environ:
        sys.exit(json.loads(sys.argv[1])["exit_code"])
    Path(sys.argv[2]).write_text("made")
else:
    from p2v.batch.cluster import worker

    setattr(worker, "LocalStarter", partial(LocalStarter, program=(sys.executable, "-m", __name__)))  # noqa: B010 - it is no name of theirs
