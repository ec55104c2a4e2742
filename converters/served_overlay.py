"""An overlay over a disk that our own reader serves: what is written goes to the overlay, and the disk is only read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converters import nbd
from converters.allocation.left_out import LeftOut
from converters.qemu_img import NbdUri, QemuImg
from converters.references import DiskSpec
from p2v.core.errors import P2vError, ReadFailed


@contextmanager
def served_overlay(
    spec: DiskSpec, overlay: Path, size: int, sockets: Path, qemu_img: QemuImg, left_out: LeftOut | None = None
) -> Iterator[Path]:
    """Make a qcow2 overlay over a disk of ``size`` bytes, which is served while the context lasts. The overlay stays.

    ``sockets``, ``left_out``: as for ``nbd.serve``. Raises what that and ``QemuImg.create_overlay`` raise; ReadFailed in place of
    another of our errors where the disk could not be read, which may be the reason.
    """
    with nbd.serve(spec, sockets, left_out) as export:
        qemu_img.create_overlay(overlay, NbdUri(export.uri), "raw", size)
        try:
            yield overlay
        except ReadFailed:
            raise
        except P2vError as error:
            failures = export.failures()
            if not failures:
                raise
            # who reads through QEMU sees no more than an I/O error, somewhere
            raise ReadFailed(str(spec.path), f"{error.sentence()}; it could not be read: {failures[0]}") from error
