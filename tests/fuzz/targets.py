"""What is fuzzed: one record a target. Adding a format is a line; a format without one is fuzzed by its variants."""

from __future__ import annotations

import random
import subprocess
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from converters.formats import FORMATS
from p2v.sources.description import LARGEST_BYTES
from tests.converters import vmdk_writer
from tests.converters.images import VARIANTS, Variant, make_image, qemu_img
from tests.converters.vdi_writer import write_vdi
from tests.converters.vhd_writer import DIFFERENCING, Vhd
from tests.converters.vhdx_writer import LogEntry, Vhdx, put_log, write_pages
from tests.fuzz import (
    archive_checksums,
    archive_seeds,
    checksums,
    descriptions,
    hives,
    variables,
    windows_media,
    windows_volumes,
)
from tests.fuzz.sparse import MAX_FILE_BYTES, Sparse
from tests.sources.readers import DISKS, put_samples

KIB, MIB = 1024, 1024 * 1024
_SIZE = 1 * MIB + 512
_SECTORS = (0, 1, 2, 9, 130, 255, 700, 1024, 2048)
_LOG_GUID = uuid.UUID("11112222-3333-4444-5555-666677778888")
_GRAINED_SECTORS = 8192
_PART_BYTES, _CHUNK_BYTES = 64 * KIB, 8 * KIB
# A deflated file is read through when it is opened, and zeroes may be a long stream of it.
_DEFLATED_BYTES = 48 * KIB
_SEVERAL_FILES = {"split", "flat", "data"}


@dataclass(frozen=True)
class Target:
    """``make`` puts images into a folder and says which are seeds; what else it leaves there stays beside the input.

    ``format`` is the one the input is opened with; empty: what is found by its contents, as with archives.
    ``place`` is the name the input gets in that folder, ``opened`` the file that is opened (the input, unless
    the input is a part of it). ``fix`` makes checksums right. ``largest`` limits the input's size in bytes.
    ``reader``: the module of p2v.sources that reads the input, where it is no image but a machine's description.
    ``read``: what reads it, where it is neither. ``words``: it is a text, whose words are changed.
    """

    id: str
    format: str
    make: Callable[[Path], Iterable[Path]]
    fix: Callable[[Sparse], None] | None = None
    place: str = "input"
    opened: str = ""
    largest: int = MAX_FILE_BYTES
    reader: str = ""
    read: Callable[[Path], None] | None = None
    words: bool = False

    @property
    def is_text(self) -> bool:
        """Whether most mutations are of words."""
        return self.words or bool(self.reader)


def content(size: int = _SIZE) -> bytes:
    """A small disk with a few sectors in it, two of them side by side."""
    raw = bytearray(size)
    for number, data in _sectors().items():
        raw[number * 512 : number * 512 + 512] = data
    return bytes(raw[:size])


def _sectors(seed: int = 1) -> dict[int, bytes]:
    noise = random.Random(seed)
    found = {number: noise.randbytes(64) * 8 for number in _SECTORS}
    return found | {0: b"\xeb" + found[0][1:510] + b"\x55\xaa"}


def of_variants(format_id: str) -> Callable[[Path], Iterable[Path]]:
    """Every variant that qemu-img makes and that is one file."""

    def make(folder: Path) -> Iterable[Path]:
        variants = [v for v in VARIANTS if v.format == format_id and not _in_files(v)]
        return [make_image(folder, _small(variant), content()) for variant in variants]

    return make


def _small(variant: Variant) -> Variant:
    """Clusters of 64 KiB and more make mutations meet zeroes; where a variant leaves them open, they are small."""
    if variant.format == "qcow2" and "cluster_size" not in variant.options and "0.10" not in variant.options:
        small = "cluster_size=16K" if "extended_l2" in variant.options else "cluster_size=4K"
        return replace(variant, options=",".join(filter(None, (variant.options, small))))
    return variant


def _vhds(folder: Path) -> Iterable[Path]:
    return [*of_variants("vhd")(folder), Vhd(256 * KIB, _short()).write(folder / "own.vhd")]


def _short() -> dict[int, bytes]:
    return {number: data for number, data in _sectors().items() if number < 512}


def _vhd_children(folder: Path) -> Iterable[Path]:
    parent = Vhd(256 * KIB, _short())
    parent.write(folder / "parent.vhd")
    child = Vhd(
        256 * KIB, {3: b"\1" * 512, 130: b"\2" * 512, 400: b"\3" * 512}, kind=DIFFERENCING, parent_id=parent.unique_id,
        parent_name="parent.vhd", locators=((b"W2ru", r".\parent.vhd".encode("utf-16-le")),),
    )  # fmt: skip
    return [child.write(folder / "child.vhd")]


def _vhdx_children(folder: Path) -> Iterable[Path]:
    parent = Vhdx(3 * MIB, _sectors())
    parent.write(folder / "base.vhdx")
    values = {"parent_linkage": f"{{{parent.write_guid}}}", "relative_path": r".\base.vhdx"}
    child = Vhdx(3 * MIB, dict.fromkeys((1, 2, 3, 2047, 2048, 5000), b"\x01" * 512), parent=values)
    # The writer fills what is not the child's own, so that it would be noticed; here it would only be large.
    pages = {at: bytes(page) for at, page in child.pages().items()}
    own = {at: page for at, page in pages.items() if len(set(page)) > 1 or page[0] == 0}
    return [write_pages(folder / "child.vhdx", own)]


def _vhdx_logs(folder: Path) -> Iterable[Path]:
    made = Vhdx(2 * MIB, _sectors(), log_guid=_LOG_GUID)
    pages = made.pages()
    some = sorted(pages)[-2:]
    put_log(pages, _LOG_GUID, [
        LogEntry({at: bytes([number]) * 4096 for number, at in enumerate(some)}),
        LogEntry(zeroes=[(some[0], 4096)]),
    ], last=max(pages) + MIB, flushed=max(pages) + 4096)  # fmt: skip
    return [write_pages(folder / "log.vhdx", pages)]


def _split_vmdks(folder: Path) -> Iterable[Path]:
    return [make_image(folder, v, content()) for v in VARIANTS if v.format == "vmdk" and _in_files(v)]


def _in_files(variant: Variant) -> bool:
    return not _SEVERAL_FILES.isdisjoint(variant.name.split("-"))


def _vmdk_extents(folder: Path) -> Iterable[Path]:
    variant = next(v for v in VARIANTS if v.name == "vmdk-split-sparse")
    make_image(folder, variant, content())
    return [folder / "vmdk-split-sparse-s001.vmdk"]


def _vmdk_children(folder: Path) -> Iterable[Path]:
    """A delta over a delta over a sparse disk."""
    grains = {n: bytes([n + 1]) * 4096 for n in range(3)}
    seeds: list[Path] = []
    for name, cid, below, parent_cid in (("base", "1", "", "ffffffff"), ("middle", "2", "base.vmdk", "1"),
                                         ("child", "3", "middle.vmdk", "2")):  # fmt: skip
        line = f'RW {_GRAINED_SECTORS} SPARSE "{name}.vmdk"'
        ids = {"cid": cid, "parent_cid": parent_cid, "hint": below}
        text = vmdk_writer.descriptor(line, create_type="monolithicSparse", **ids)
        raw = vmdk_writer.sparse({**grains, len(seeds) + 3: None}, _GRAINED_SECTORS, grain_sectors=8, text=text)
        seeds.append(vmdk_writer.put(folder, f"{name}.vmdk", raw))
    return seeds[-1:]


def _esx_extents(kind: str) -> Callable[[Path], Iterable[Path]]:
    """The extent of an ESX snapshot below its descriptor, over a flat base."""
    grain_sectors, word = (1, "vmfsSparse") if kind == "cowd" else (8, "seSparse")

    def make(folder: Path) -> Iterable[Path]:
        size = _GRAINED_SECTORS * 512
        grains: dict[int, bytes | None] = {n: bytes([n % 250 + 1]) * 512 * grain_sectors for n in (0, 1, 3, 900)}
        if kind == "sesparse":
            grains[4] = None
        made = vmdk_writer.cowd(grains, _GRAINED_SECTORS) if kind == "cowd" else vmdk_writer.sesparse(grains, _GRAINED_SECTORS)
        vmdk_writer.put(folder, "base-flat.vmdk", content(size).ljust(size, b"\0"))
        line = f'RW {_GRAINED_SECTORS} VMFS "base-flat.vmdk"'
        vmdk_writer.put(folder, "base.vmdk", vmdk_writer.descriptor(line, create_type="vmfs", cid="1"))
        line = f'RW {_GRAINED_SECTORS} {word.upper()} "disk-delta.vmdk"'
        text = vmdk_writer.descriptor(line, create_type=word, parent_cid="1", hint="base.vmdk")
        vmdk_writer.put(folder, "disk.vmdk", text)
        return [vmdk_writer.put(folder, "disk-delta.vmdk", made)]

    return make


def _vdi_children(folder: Path) -> Iterable[Path]:
    size = 24 * 4 * KIB + 512
    base = write_vdi(folder / "base.vdi", size, {n: bytes([n + 1]) * 4096 for n in (3, 0, 1, 10)})
    blocks = {1: b"\xc1" * 4096, 3: None, 5: b"\xc5" * 4096, 24: b"\xc6" * 512}
    return [
        write_vdi(folder / "child.vdi", size, blocks, parent=base),
        write_vdi(folder / "extra.vdi", size, blocks, parent=base, block_extra=512),
    ]


def _split_raws(folder: Path) -> Iterable[Path]:
    """The last of three parts, and a raw disk of them."""
    raw = content(3 * _PART_BYTES - 512)
    for number in range(3):
        (folder / f"disk.raw.{number + 1:03d}").write_bytes(raw[number * _PART_BYTES :][:_PART_BYTES])
    return [folder / "disk.raw.003"]


def _chunked_streams(folder: Path) -> Iterable[Path]:
    """The first chunk of a stream, as an OVF has it; it is read with the others when its size fits theirs."""
    raw = archive_seeds.stream()
    for number in range(3):
        (folder / f"disk.vmdk.{number:09d}").write_bytes(raw[number * _CHUNK_BYTES :][:_CHUNK_BYTES])
    return [folder / "disk.vmdk.000000000"]


def _described(kind: str) -> Target:
    """The descriptions of a kind that tests have samples of."""
    return Target(kind, "", lambda folder: put_samples(folder, kind), largest=LARGEST_BYTES, reader=kind)


def _qcow2_children(folder: Path) -> Iterable[Path]:
    (folder / "base.raw").write_bytes(content())
    child = folder / "child.qcow2"
    words = ("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-F", "raw", "-b", "base.raw", str(child))
    qemu_img(*words, str(_SIZE + 64 * KIB))
    for command in ("write -P 7 4k 8k", "write -z 512k 16k"):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(child)], check=True, capture_output=True)
    return [child]


_TARGETS = (
    Target("raw", "raw", of_variants("raw")),
    Target("vhd", "vhd", _vhds, checksums.vhd),
    Target("vhd-child", "vhd", _vhd_children, checksums.vhd),
    Target("vhdx", "vhdx", of_variants("vhdx"), checksums.vhdx),
    Target("vhdx-child", "vhdx", _vhdx_children, checksums.vhdx),
    Target("vhdx-log", "vhdx", _vhdx_logs, checksums.vhdx),
    Target("vmdk", "vmdk", of_variants("vmdk")),
    Target("vmdk-descriptor", "vmdk", _split_vmdks),
    Target("vmdk-extent", "vmdk", _vmdk_extents, None, "vmdk-split-sparse-s001.vmdk", "vmdk-split-sparse.vmdk"),
    Target("vmdk-child", "vmdk", _vmdk_children),
    Target("vmdk-cowd", "vmdk", _esx_extents("cowd"), None, "disk-delta.vmdk", "disk.vmdk"),
    Target("vmdk-sesparse", "vmdk", _esx_extents("sesparse"), None, "disk-delta.vmdk", "disk.vmdk"),
    Target("vdi", "vdi", of_variants("vdi")),
    Target("vdi-child", "vdi", _vdi_children),
    Target("raw-split", "raw", _split_raws, None, "disk.raw.003", "disk.raw.001"),
    Target("vmdk-chunks", "vmdk", _chunked_streams, None, "disk.vmdk.000000000"),
    Target("tar", "", archive_seeds.tars, archive_checksums.tar),
    Target("zip", "", archive_seeds.zips),
    Target("zip-deflated", "", archive_seeds.deflated_zips, archive_checksums.zip_, largest=_DEFLATED_BYTES),
    Target("gzip", "", archive_seeds.gzips, archive_checksums.tar, largest=_DEFLATED_BYTES),
    Target("qcow2", "qcow2", of_variants("qcow2")),
    Target("qcow2-child", "qcow2", _qcow2_children),
    Target("uefi-variables", "", variables.edk2, variables.volume_sum, opened="web.xml", reader="libvirt"),
    Target("uefi-variables-vmware", "", variables.vmware, opened="web.vmx", reader="vmx"),
    Target("hive", "", hives.hives, hives.right_sum, largest=hives.LARGEST_BYTES, read=hives.read_hive),
    Target("hive-log", "", hives.logs, hives.right_sum, largest=hives.LARGEST_BYTES, read=hives.read_log),
    Target("inf", "", windows_media.inf_files, largest=LARGEST_BYTES, read=windows_media.read_inf, words=True),
    Target("driver-signature", "", windows_media.signatures, largest=LARGEST_BYTES, read=windows_media.read_signed),
    Target("bitlocker", "", windows_volumes.locked, read=windows_volumes.read_disk),
    Target("dynamic-disk", "", windows_volumes.dynamic, read=windows_volumes.read_disk),
    Target("program-version", "", windows_volumes.versions, largest=LARGEST_BYTES, read=windows_volumes.read_version),
    Target("driver-cd", "", windows_media.images, read=windows_media.read_image),
    *(_described(kind) for kind in DISKS),
    *(
        Target(kind, "", descriptions.seeds(kind), sums, largest=LARGEST_BYTES, reader=kind)
        for kind, sums in (("vmc", None), ("hyperv", None), ("hyperv_exp", None), ("vmcx", descriptions.store_sums))
    ),
)


def targets() -> tuple[Target, ...]:
    """All targets; formats without a record of their own by the variants that qemu-img makes of them."""
    named = {target.format for target in _TARGETS}
    made = {variant.format for variant in VARIANTS}
    others = (Target(f.id, f.id, of_variants(f.id)) for f in FORMATS if f.id not in named and f.id in made)
    return (*_TARGETS, *others)
