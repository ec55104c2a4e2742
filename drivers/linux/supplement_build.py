"""Building the bytes that are appended to an initramfs: the modules, and indexes over all the archive then holds.

The indexes must name files as the archive names them: initramfs tools may keep decompressed modules where the
guest's tree has .ko.xz, and the guest's own indexes would name files that are not there. So the archive's modules
are laid out beside the added ones and the host's depmod makes the indexes anew. Module files are copied byte for
byte, signatures included. The same change gives the same bytes.

Tried with kernel 6.1 on virtio-blk, the root was found: a plain supplement on a 4-byte boundary behind gzip, bzip2, lzma,
xz, zstd and plain archives; a legacy lz4 one behind lz4, behind lz4 and zeroes, and behind gzip; a plain one behind lz4
when at least eight zeroes stand between. Behind lz4 with less ("Decoding failed") it was not: the lz4 unpacker takes the
next four bytes for a chunk's length and ends only at four zeroes (older kernels not even there). Hence lz4 after lz4.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drivers.changes import ExtendInitramfs
from drivers.linux import initramfs_texts
from drivers.linux.cpio import ALIGNMENT, BadArchive, Entry, NewEntry, write_archive
from drivers.linux.inflate import lz4_legacy
from drivers.linux.initramfs import MODULE_NAME, Image, Names
from drivers.linux.kernels import VERSION
from drivers.linux.paths import resolve
from drivers.tree import FileType, GuestTree, text_of
from p2v.core.errors import GuestNotUnderstood, PlanStale, ReadFailed
from p2v.core.run import Runner
from p2v.core.units import MIB

_FOLDER_MODE = stat.S_IFDIR | 0o755
_FILE_MODE = stat.S_IFREG | 0o644
_MODULE_BYTES = 64 * MIB
_INPUT_BYTES = 16 * MIB
_DEPMOD_SECONDS = 120.0
# What depmod reads rather than makes.
_INPUTS = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
_CONFIG_FOLDERS = ("/etc/depmod.d", "/usr/lib/depmod.d", "/lib/depmod.d")
_CONFIG_BYTES = 64 * 1024
_READ_BYTES = 1 * MIB


def build_supplement(change: ExtendInitramfs, tree: GuestTree, scratch: Path, runner: Runner) -> bytes:
    """The exact bytes to append to ``change.path``, padding included; empty when they stand there already.

    ``scratch`` is a folder for the archive's modules, unpacked (tens of MiB); nothing stays there. depmod reads
    modules from the guest, which are hostile input: ``runner`` should confine it.

    Raises PlanStale when the image or a module is not as planned, ReadFailed when scratch cannot hold the
    modules, and what the runner raises.
    """
    size = _check_size(change, tree)
    added: dict[str, bytes] = {}
    indexes: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="initramfs-", dir=scratch) as folder:
        layout = _Layout(change, Path(folder))
        try:
            image = _lay_out_archive(change, tree, layout)
            if change.modules:
                added = _lay_out_added(change, tree, layout)
                _lay_out_inputs(change, tree, layout)
                runner.run(layout.depmod(_depmod_config(tree)), timeout=_DEPMOD_SECONDS)
                indexes = layout.indexes()
        except OSError as e:
            raise ReadFailed(str(scratch), f"the modules of {change.path} cannot be laid out: {e}") from e
    archive = write_archive(_entries({**added, **indexes, **_texts(change, layout)}, layout.names))
    supplement = _padded(change, image, archive)
    if size == change.size:
        return supplement
    if size == change.size + len(supplement) and _read(tree, change.path, len(supplement), change.size) == supplement:
        return b""
    raise PlanStale(change.path, f"{change.size} bytes, or the same extended", f"{size} bytes of something else")


def _texts(change: ExtendInitramfs, layout: _Layout) -> dict[str, bytes]:
    """The configuration that takes another's place; refused where links of the archive lead it elsewhere."""
    found: dict[str, bytes] = {}
    for file in change.files:
        folder, base = posixpath.split(file.path)
        if not initramfs_texts.is_kept(file.path) or posixpath.join(layout.names.resolve(folder), base) != file.path:
            raise PlanStale(change.path, f"{file.path} in it", "links that lead it elsewhere")
        found[file.path] = file.after.encode("utf-8", "surrogateescape")
    return found


def _check_size(change: ExtendInitramfs, tree: GuestTree) -> int:
    if not VERSION.fullmatch(change.kernel_version):
        raise GuestNotUnderstood(change.path, f"{change.kernel_version!r} is no kernel version")
    try:
        found = tree.lstat(change.path)
    except FileNotFoundError:
        raise PlanStale(change.path, f"a file of {change.size} bytes", "nothing") from None
    if found.type is not FileType.FILE or found.size < change.size:
        raise PlanStale(change.path, f"a file of {change.size} bytes", f"a {found.type.value} of {found.size} bytes")
    return found.size


def _read(tree: GuestTree, path: str, length: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while length > 0 and (part := tree.read_range(path, min(length, _READ_BYTES), offset)):
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return b"".join(parts)


@dataclass
class _Layout:
    """A folder that holds the modules of the archive under their own paths, for depmod."""

    change: ExtendInitramfs
    folder: Path
    names: Names = field(default_factory=Names)
    inputs: dict[str, bytes] = field(default_factory=dict)
    _hard_links: dict[tuple[tuple[int, int], int], list[Path]] = field(default_factory=dict)

    def _path(self, name: str) -> Path:
        # Names come from the archive: their folders are resolved (relative, without ".."), and they end like a module.
        path = self.folder / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def add_entry(self, entry: Entry) -> None:
        """Keep what the entry is good for: its place, its module, its list of built-in modules."""
        name = self.names.place(entry)
        if not entry.is_file:
            return
        folder, _, base = name.rpartition("/")
        if folder == self.change.archive_prefix and base in _INPUTS and entry.size <= _INPUT_BYTES:
            self.inputs[base] = entry.data(_INPUT_BYTES)
        elif MODULE_NAME.search(name):
            self.names.keep(name)
            self._add_archived_module(self._path(name), entry)

    def _add_archived_module(self, path: Path, entry: Entry) -> None:
        with path.open("wb") as file:
            for piece in entry.pieces():
                file.write(piece)
        if entry.nlink < 2:
            return
        # The data stands with one of the names only, as a rule the last.
        group = self._hard_links.setdefault((entry.device, entry.ino), [])
        group.append(path)
        source = path if entry.size else next((p for p in group if p.exists() and p.stat().st_size), None)
        for other in group if source else ():
            if other != source:
                other.unlink(missing_ok=True)
                os.link(source, other)  # type: ignore[arg-type]

    def add_module(self, name: str, data: bytes) -> None:
        """Put a module that the archive will have beside those it has."""
        self._path(name).write_bytes(data)

    def follow_links(self) -> None:
        """Give modules that are links (Red Hat's weak-updates) the file they lead to."""
        for name in sorted(self.names.links):
            if MODULE_NAME.search(name) and name.startswith(self.change.archive_prefix + "/"):
                target = self.folder / "archive" / self.names.resolve(name)
                if target.is_file():
                    os.link(target, self._path(name))

    def depmod(self, config: str) -> list[str]:
        """Move the modules to where depmod looks for them, and say how to call it."""
        base, conf = self.folder / "base", self.folder / "depmod.conf"
        conf.write_text(config, encoding="utf-8", errors="surrogateescape")
        (base / "lib/modules").mkdir(parents=True)
        # Where a newer kmod was built to look.
        (base / "usr").mkdir()
        (base / "usr/lib").symlink_to("../lib")
        self.modules.rename(base / "lib/modules" / self.change.kernel_version)
        return ["depmod", "-b", str(base), "-C", str(conf), self.change.kernel_version]

    @property
    def modules(self) -> Path:
        """The module folder, before depmod's turn."""
        return self.folder / "archive" / self.change.archive_prefix

    def indexes(self) -> dict[str, bytes]:
        """What depmod made, by path in the archive."""
        folder = self.folder / "base/lib/modules" / self.change.kernel_version
        made = (path for path in folder.glob("modules.*") if path.name not in _INPUTS and path.is_file())
        return {posixpath.join(self.change.archive_prefix, path.name): path.read_bytes() for path in made}


def _lay_out_archive(change: ExtendInitramfs, tree: GuestTree, layout: _Layout) -> Image:
    """Walk the image as it was planned; an earlier run's supplement behind it is not looked at."""
    image = Image(tree, change.path, change.size)
    problem = ""
    try:
        for entry in image.entries():
            layout.add_entry(entry)
        layout.follow_links()
        prefix = layout.names.module_prefix(change.kernel_version)
        if prefix != change.archive_prefix:
            problem = f"an archive that keeps them in {prefix}"
    except BadArchive as e:
        problem = f"an archive that cannot be read: {e}"
    digest = image.sha256()
    if digest != change.sha256:
        raise PlanStale(change.path, f"contents with SHA-256 {change.sha256}", f"SHA-256 {digest}")
    if problem:
        raise PlanStale(change.path, f"modules in {change.archive_prefix}", problem)
    return image


def _lay_out_added(change: ExtendInitramfs, tree: GuestTree, layout: _Layout) -> dict[str, bytes]:
    """The added modules by their paths in the archive, links of the archive followed."""
    added: dict[str, bytes] = {}
    for module in change.modules:
        source = posixpath.join(change.modules_folder, module)
        try:
            data = tree.read(source, _MODULE_BYTES)
        except (FileNotFoundError, ValueError) as e:
            raise PlanStale(source, "a module", f"none that can be read ({e})") from e
        folder, base = posixpath.split(posixpath.join(change.archive_prefix, module))
        name = posixpath.join(layout.names.resolve(folder), base)
        if not MODULE_NAME.search(name) or not name.startswith(change.archive_prefix + "/"):
            raise PlanStale(source, f"a module below {change.archive_prefix}", name)
        added[name] = data
        layout.add_module(name, data)
    return added


def _lay_out_inputs(change: ExtendInitramfs, tree: GuestTree, layout: _Layout) -> None:
    """The lists depmod reads: the archive's own, else the guest's."""
    layout.modules.mkdir(parents=True, exist_ok=True)
    for name in _INPUTS:
        if name not in layout.inputs:
            try:
                layout.inputs[name] = tree.read(posixpath.join(change.modules_folder, name), _INPUT_BYTES)
            except (FileNotFoundError, ValueError):
                continue
    layout.inputs["modules.order"] = _complete_order(layout.inputs.get("modules.order", b""), layout.modules)
    for name, data in layout.inputs.items():
        (layout.modules / name).write_bytes(data)


def _complete_order(order: bytes, modules: Path) -> bytes:
    """All modules in order: depmod takes those that are not listed as the scratch file system happens to list them."""
    listed = order.splitlines()
    below = (os.fsencode(path.relative_to(modules)) for path in modules.rglob("*.ko*"))
    # Names stand there without the suffix of their compression.
    present = {path[: path.rindex(b".ko") + 3] for path in below}
    return b"".join(line + b"\n" for line in [*listed, *sorted(present - set(listed))])


def _depmod_config(tree: GuestTree) -> str:
    """The guest's preferences among modules of one name; its other directives may name folders of this host."""
    lines: list[str] = []
    folders = dict.fromkeys(filter(None, (resolve(tree, folder) for folder in _CONFIG_FOLDERS)))
    for folder in folders:
        for name in tree.list(folder):
            if not name.endswith(".conf"):
                continue
            text = text_of(tree, posixpath.join(folder, name), _CONFIG_BYTES) or ""
            lines += [line for line in text.splitlines() if line.startswith(("search ", "override "))]
    return "".join(line.rstrip("\\") + "\n" for line in lines)


def _entries(files: Mapping[str, bytes], names: Names) -> list[NewEntry]:
    """Files and the folders that are new, parents first.

    A folder entry for what is a link in the archive would make the kernel remove the link and hide all below
    it, so nothing that is there already gets an entry.
    """
    folders: set[str] = set()
    for path in files:
        parent = posixpath.dirname(path)
        while parent and parent not in names.folders and parent not in names.links:
            folders.add(parent)
            parent = posixpath.dirname(parent)
    made = {path: NewEntry(path, _FOLDER_MODE) for path in folders}
    made |= {path: NewEntry(path, _FILE_MODE, data) for path, data in files.items()}
    return [made[path] for path in sorted(made)]


def _padded(change: ExtendInitramfs, image: Image, archive: bytes) -> bytes:
    """The archive as the kernel takes it behind this image."""
    if change.codec == "none":
        return bytes(-change.size % ALIGNMENT) + archive
    if change.codec != "lz4":
        raise PlanStale(change.path, "an archive packed with none or lz4", f"the codec {change.codec!r}")
    if image.trailing_zeroes or image.members[-1] != "lz4":
        # The unpacker ended; four zeroes are what tells it that it did.
        missing = max(0, ALIGNMENT - image.trailing_zeroes) if image.trailing_zeroes else 0
        return bytes(missing) + lz4_legacy(archive)
    # It goes on as if this were one archive, whose entries are aligned from its first byte on.
    return lz4_legacy(bytes(-image.last_contents_bytes % ALIGNMENT) + archive)
