"""What an initramfs holds: its concatenated archives walked in order, as the kernel unpacks them.

The kernel (init/initramfs.c, unpack_to_rootfs) takes any number of newc archives, plain or compressed, with
zeroes between them; a plain one must begin on a 4-byte boundary, and later files replace earlier ones.
Nothing is unpacked here: contents stream by, and what is remembered is bounded.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from drivers.facts import Initramfs
from drivers.linux import initramfs_texts
from drivers.linux.cpio import ALIGNMENT, BadArchive, ByteStream, Entry, read_entries
from drivers.linux.inflate import MAGICS, Budget, inflated
from drivers.linux.paths import LINKS_AT_MOST, resolve
from drivers.tree import FileType, GuestTree
from p2v.core.units import GIB, MIB

LARGEST_IMAGE_BYTES = 1 * GIB
ENTRIES_AT_MOST = 200_000
MEMBERS_AT_MOST = 64
DEEPEST_PATH = 100
_KEPT_NAMES_BYTES = 16 * MIB
_READ_BYTES = 1 * MIB
_SMALL_FILE_BYTES = 64 * 1024

# one try at each name, however long it is
MODULE_NAME = re.compile(r"(?:\A|(?<=/))([^/]+)\.ko(?:\.xz|\.zst|\.gz)?\Z")
_NIX_MODULES = re.compile(r"nix/store/[^/]+/lib/modules/[^/]+")
# dracut's "squash" module, in the places its releases put the image.
_SQUASH_IMAGES = frozenset({"squashfs-root.img", "squash-root.img", "squash/root.img", "erofs-root.img"})
_RELEASE_FILES = frozenset({"etc/initrd-release", "usr/lib/initrd-release"})
# SUSE's mkinitrd leaves its stages, Red Hat's of old the shell it wrote for it.
_MKINITRD_FILES = frozenset({"run_all.sh", "mkinitrd.config", "bin/nash", "sbin/nash"})


def module_name(path: str) -> str | None:
    """The kernel's name of a module file (``.../virtio-rng.ko.xz`` is ``virtio_rng``); None for other files."""
    match = MODULE_NAME.search(path)
    return match[1].replace("-", "_") if match else None


class Image:
    """One pass over an image file: its entries, and what is known of it when they came to their end."""

    def __init__(self, tree: GuestTree, path: str, size: int) -> None:
        self._hash = hashlib.sha256()
        self._pieces = self._file_pieces(tree, path, size)
        self._stream = ByteStream(self._pieces)
        self._entries = 0
        self.members: list[str] = []
        self.last_contents_bytes = 0
        """How much the last member inflated to, when it is a compressed one."""
        self.trailing_zeroes = 0

    def _file_pieces(self, tree: GuestTree, path: str, size: int) -> Iterator[bytes]:
        for offset in range(0, size, _READ_BYTES):
            piece = tree.read_range(path, min(_READ_BYTES, size - offset), offset)
            if not piece:
                return
            self._hash.update(piece)
            yield piece

    def sha256(self) -> str:
        """The digest of all bytes of the file, also of those that the walk did not come to."""
        for _ in self._pieces:
            pass
        return self._hash.hexdigest()

    def entries(self) -> Iterator[Entry]:
        """All entries of all members in order. Raises BadArchive."""
        stream, budget = self._stream, Budget()
        while True:
            self.trailing_zeroes = stream.skip_zeroes()
            first = stream.peek()
            if not first:
                return
            if first == b"0" and stream.position % ALIGNMENT == 0:
                self._new_member("none")
                yield from self._counted(read_entries(stream))
                continue
            codec = self._codec()
            self._new_member(codec)
            on_member = lambda codec=codec: self._new_member(codec)  # noqa: E731
            yield from self._compressed(ByteStream(inflated(codec, stream, budget, on_member)))

    def _compressed(self, contents: ByteStream) -> Iterator[Entry]:
        while True:
            yield from self._counted(read_entries(contents))
            contents.skip_zeroes()
            following = contents.peek()
            if not following:
                break
            if following != b"0":
                raise BadArchive(f"no cpio entry at byte {contents.position} of a {self.members[-1]} member")
        self.last_contents_bytes = contents.position

    def _codec(self) -> str:
        magic = self._stream.up_to(2)
        codec = MAGICS.get(magic)
        if codec is None:
            raise BadArchive(f"an unknown kind of archive at byte {self._stream.position - len(magic)} ({magic.hex()})")
        self._stream.unread(magic)
        return codec

    def _new_member(self, codec: str) -> None:
        if len(self.members) >= MEMBERS_AT_MOST:
            raise BadArchive(f"more than {MEMBERS_AT_MOST} archives in one image")
        self.members.append(codec)

    def _counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self._entries += 1
            if self._entries > ENTRIES_AT_MOST:
                raise BadArchive(f"more than {ENTRIES_AT_MOST} entries")
            yield entry


@dataclass
class Names:
    """The folders and links that entries made so far, to say where a path of the archive leads."""

    links: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    _resolved_folders: dict[str, str] = field(default_factory=dict)
    _left_bytes: int = _KEPT_NAMES_BYTES

    def keep(self, *texts: str) -> None:
        """Account for texts that will be remembered. Raises BadArchive when it is too much."""
        self._left_bytes -= sum(map(len, texts)) + 100
        if self._left_bytes < 0:
            raise BadArchive("too many names to remember")

    def place(self, entry: Entry) -> str:
        """Where the entry ends up, links of its folders followed; folders and links are remembered."""
        # The kernel's root folder is its own parent, so `./x`, `/x` and `../x` are all `x`.
        parent, _, base = entry.name.rstrip("/").rpartition("/")
        path = posixpath.join(self._resolve_folder(parent), base) if parent else base
        if entry.is_link:
            self._add_link(path, entry)
        elif path in self.links:
            # An entry of another type takes the place of the link.
            del self.links[path]
            self._resolved_folders.clear()
        if entry.is_folder and path not in self.folders:
            self.keep(path)
            self.folders.add(path)
        return path

    def module_prefix(self, version: str) -> str:
        """Where libkmod in the archive finds a kernel's modules: below /lib/modules, wherever that leads.

        NixOS makes that link only when its archive is running (nixos/modules/system/boot/stage-1-init.sh).
        """
        usual = self.resolve(f"lib/modules/{version}")
        if usual in self.folders:
            return usual
        stores = [path for path in self.folders if _NIX_MODULES.fullmatch(path) and path.endswith(f"/{version}")]
        return stores[0] if len(stores) == 1 else usual

    def _add_link(self, path: str, entry: Entry) -> None:
        if path in self.folders:
            return  # a folder that has something in it stays
        target = entry.data(4096).partition(b"\0")[0].decode("utf-8", "surrogateescape")
        self.keep(path, target)
        self.links[path] = target
        self._resolved_folders.clear()

    def _resolve_folder(self, folder: str) -> str:
        known = self._resolved_folders.get(folder)
        if known is None:
            known = self.resolve(folder)
            self.keep(folder, known)
            self._resolved_folders[folder] = known
        return known

    def resolve(self, path: str) -> str:
        """The path with the archive's links followed; what is not there stays as it is. Raises BadArchive on a loop."""
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while todo:
            if len(todo) > DEEPEST_PATH:
                raise BadArchive(f"a path is more than {DEEPEST_PATH} folders deep")
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            target = self.links.get("/".join([*done, part])) if self.links else None
            if target is None:
                done.append(part)
                continue
            links += 1
            if links > LINKS_AT_MOST:
                raise BadArchive(f"the links of {path[:200]!r} do not come to an end")
            todo.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
            done = [] if target.startswith("/") else done
        return "/".join(done)


@dataclass
class _Contents:
    """What the facts say of the entries."""

    kernel_version: str
    names: Names = field(default_factory=Names)
    modules: set[str] = field(default_factory=set)
    traits: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        path = self.names.place(entry)
        if initramfs_texts.is_kept(path):
            self._keep_text(path, entry)
        if path.endswith((".ko", ".ko.xz", ".ko.zst", ".ko.gz")) and f"modules/{self.kernel_version}/" in path:
            self.names.keep(path)
            self.modules.add(path)
        elif path in _SQUASH_IMAGES:
            self.traits |= {"squashed", "dracut"}
        elif path == "conf/initramfs.conf" or path.startswith("scripts/"):
            self.traits.add("initramfs-tools")
        elif path.startswith(("usr/lib/dracut", "lib/dracut")):
            self.traits.add("dracut")
        elif path in _RELEASE_FILES and entry.is_file and entry.size <= _SMALL_FILE_BYTES:
            if b"dracut" in entry.data(_SMALL_FILE_BYTES):
                self.traits.add("dracut")
        elif path in _MKINITRD_FILES:
            self.traits.add("mkinitrd")

    def _keep_text(self, path: str, entry: Entry) -> None:
        """What stands there last counts; what is no small text file counts as nothing."""
        self.texts.pop(path, None)
        is_small = entry.is_file and entry.size <= initramfs_texts.TEXT_BYTES_AT_MOST
        if is_small and len(self.texts) < initramfs_texts.TEXTS_AT_MOST:
            data = entry.data(initramfs_texts.TEXT_BYTES_AT_MOST)
            if initramfs_texts.is_worth_keeping(path, data):
                self.texts[path] = data.decode("utf-8", "surrogateescape")

    def builder(self) -> str:
        return next((name for name in ("dracut", "initramfs-tools", "mkinitrd") if name in self.traits), "unknown")

    def prefix(self) -> str:
        return self.names.module_prefix(self.kernel_version)

    def module_names(self, prefix: str) -> tuple[str, ...]:
        below = (path for path in self.modules if path.startswith(prefix + "/"))
        return tuple(sorted({name for path in below if (name := module_name(path))}))


def read_initramfs(tree: GuestTree, path: str, kernel_version: str) -> Initramfs:
    """The facts about an image: what it is made of, and the modules it has for ``kernel_version``.

    ``path`` may be a link; the fact names the file it leads to. Whatever is wrong with the contents becomes
    the fact's ``problem``. Raises FileNotFoundError when no regular file is there.
    """
    resolved = resolve(tree, path)
    if resolved is None or (stat := tree.lstat(resolved)).type is not FileType.FILE:
        raise FileNotFoundError(path)
    if stat.size > LARGEST_IMAGE_BYTES:
        return Initramfs(resolved, stat.size, "", problem=f"is larger than {LARGEST_IMAGE_BYTES} bytes")
    image, contents = Image(tree, resolved, stat.size), _Contents(kernel_version)
    problem, prefix = "", ""
    try:
        for entry in image.entries():
            contents.add(entry)
        prefix = contents.prefix()
        if not image.members:
            problem = "holds no archive"
    except BadArchive as e:
        problem = str(e)
    return Initramfs(
        resolved,
        stat.size,
        image.sha256(),
        members=tuple(image.members),
        builder=contents.builder(),
        modules=contents.module_names(prefix) if prefix else (),
        module_prefix=prefix,
        squashed="squashed" in contents.traits,
        problem=problem,
        texts=contents.texts,
    )
