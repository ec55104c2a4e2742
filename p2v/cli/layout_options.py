"""The options about how the images that are made are laid out: compression, clusters, reserved space."""

from __future__ import annotations

import argparse

from converters.target_formats import (
    DEFAULT_CLUSTER_BYTES,
    Preallocation,
    TargetFormat,
    TargetOptions,
    require_sensible,
)
from p2v.core.disk import Codec
from p2v.core.errors import ToolMissing, Usage
from p2v.core.units import parse_size

_CODECS = (Codec.ZSTD.value, Codec.DEFLATE.value)
NAMES = ("compress", "cluster_size", "preallocation", "no_reflink")
"""What their values are called; each is false where the option was not given."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    group = parser.add_argument_group("layout of the images made")
    group.add_argument(
        "--compress",
        nargs="?",
        const=True,
        choices=_CODECS,
        help="qcow2: compress what gets smaller, in the threads that copy: zstd (default; QEMU 5.1 and later read it) or deflate "
        "(all of them do). Name the codec as in --compress=deflate",
    )
    group.add_argument(
        "--cluster-size", metavar="SIZE", help="qcow2: bytes in a cluster, 64K (default), 128K, 256K, 512K, 1M or 2M"
    )
    group.add_argument(
        "--preallocation",
        choices=[each.value for each in Preallocation],
        help="off (default), metadata (qcow2: every cluster has its place), falloc (the file system reserves the whole disk)",
    )
    group.add_argument(
        "--no-reflink",
        action="store_true",
        help="write every byte anew also where the file system could share the source's blocks (XFS, Btrfs)",
    )


def layout_of(arguments: argparse.Namespace, target_format: TargetFormat) -> TargetOptions:
    """What they say of a target of this format. Raises Usage for what makes no sense."""
    options = TargetOptions(
        cluster_bytes=_cluster_bytes(arguments.cluster_size),
        preallocation=Preallocation(arguments.preallocation or Preallocation.OFF.value),
        compression=_codec(arguments.compress),
        shares=not arguments.no_reflink,
    )
    require_sensible(target_format, options)
    return options


def require_readable_here(options: TargetOptions) -> None:
    """Raise Usage where this host's own QEMU, which is to write the changes into the image, cannot read it."""
    if options.compression is Codec.ZSTD and not _qemu_knows_zstd():
        raise Usage("this host's qemu-img does not know zstd", "Say --compress=deflate.")


def _cluster_bytes(text: str | None) -> int:
    if text is None:
        return DEFAULT_CLUSTER_BYTES
    try:
        return parse_size(text)
    except ValueError as error:
        raise Usage(f"--cluster-size: {error}") from error


def _codec(said: str | bool | None) -> Codec | None:
    """``True``: it was left to us."""
    if said is None or isinstance(said, str):
        return None if said is None else Codec(said)
    try:
        return Codec.ZSTD if _qemu_knows_zstd() else Codec.DEFLATE
    except ToolMissing:
        return Codec.ZSTD  # nothing here reads it; what will is newer than five years


def _qemu_knows_zstd() -> bool:
    # what starts programs is imported by those who start one
    from converters.qemu_img import QemuImg
    from p2v.core.run import SystemRunner

    return QemuImg(SystemRunner()).knows_zstd()
