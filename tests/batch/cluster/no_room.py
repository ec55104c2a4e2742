"""Has a worker of Dask (``--preload``) whose disk for temporary files is full."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import Any, NoReturn

from p2v.batch import marking


def _full(*_: Any, prefix: str = "", **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"/tmp/{prefix}x")


class _Tempfile:
    """As ``p2v.batch.marking`` sees it."""

    gettempdir = staticmethod(tempfile.gettempdir)
    mkdtemp = staticmethod(_full)


setattr(marking, "tempfile", _Tempfile)  # noqa: B010 - it is no name of theirs
