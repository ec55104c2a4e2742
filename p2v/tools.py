"""The versions of everything that had a hand in a result, for its record."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import p2v
from p2v.core.errors import P2vError
from p2v.core.run import Runner, SystemRunner

_LIBRARIES = ("deflate", "libfsext-python", "lz4", "zstandard", "cattrs")
_PROGRAMS = (("qemu-img", "qemu-img"), ("qemu-system-x86_64", "qemu"), ("nbdkit", "nbdkit"))
_SECONDS = 20.0


def tool_versions(runner: Runner | None = None) -> Mapping[str, str]:
    """Name to version; what is not there is left out."""
    runner = runner or SystemRunner()
    found = {"p2v": p2v.__version__, "python": platform.python_version(), "kernel": platform.release()}
    for library in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[library] = version(library)
    for program, name in _PROGRAMS:
        with contextlib.suppress(P2vError):
            lines = runner.run((program, "--version"), timeout=_SECONDS).stdout.splitlines()
            found[name] = lines[0].strip() if lines else "unknown"
    return found
