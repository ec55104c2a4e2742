"""The versions of everything that had a hand in a result, for its record."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import p2v
from p2v.core.errors import P2vError
from p2v.core.qemu import emulator_of, find_qemu
from p2v.core.run import Runner, SystemRunner

# As packages are called; their modules are pyvhdi, pyfsext, re2, ...
_LIBRARIES = (
    "attrs", "cattrs", "defusedxml", "deflate", "google-crc32c", "google-re2", "isal", "libfsext-python", "libfsfat-python",
    "libfsntfs-python", "libfsxfs-python", "libvhdi-python", "libvmdk-python", "lz4", "PyYAML", "tqdm", "zstandard",
)  # fmt: skip
_SECONDS = 20.0


def tool_versions(runner: Runner | None = None, arch: str = "x86_64") -> Mapping[str, str]:
    """Name to version, of the QEMU for ``arch`` as well; what is not there is left out."""
    runner = runner or SystemRunner()
    found = {"p2v": p2v.__version__, "python": platform.python_version(), "kernel": platform.release()}
    for library in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[library] = version(library)
    programs = (("qemu-img", "qemu-img"), (find_qemu(arch) or emulator_of(arch).program, "qemu"), ("nbdkit", "nbdkit"))
    for program, name in programs:
        with contextlib.suppress(P2vError):
            lines = runner.run((program, "--version"), timeout=_SECONDS).stdout.splitlines()
            found[name] = lines[0].strip() if lines else "unknown"
    return found
