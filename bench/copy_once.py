"""One copy by our engine alone, as a process: ``python -m bench.copy_once SOURCE TARGET FORMAT``."""

from __future__ import annotations

import sys
from pathlib import Path

from converters.copy import copy_disk
from converters.image import open_disk
from converters.target import TargetFormat, open_target
from p2v.core.events import silent


def main() -> int:
    """Copy, complete, publish; everything is on stable storage at the end, which qemu-img does not wait for."""
    source, target, disk_format = Path(sys.argv[1]), Path(sys.argv[2]), TargetFormat(sys.argv[3])
    partial = target.with_name(target.name + ".partial")
    with open_disk(source) as reader, open_target(partial, disk_format, reader.virtual_size, "bench") as made:
        copy_disk(reader, made.writer, report=silent)
        made.finish_copy()
        made.publish(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
