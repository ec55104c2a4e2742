"""Writes hives and their logs byte by byte: what hivex does not write, and what nobody should.

Independent of the reader under test: nothing of ``drivers.windows`` is used but the hash of log entries, which has its own
test against published vectors.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.windows.hive_log import marvin32
from tests.fixtures.hives import TIMESTAMP, Tree, base_block, seal, security_descriptor

NOWHERE = 0xFFFFFFFF
SEGMENT_BYTES = 16344
PAGE = 4096


@dataclass
class Node:
    """A key to write. ``kind``: of its list of subkeys; ``per_leaf``: above 0, an index root over leaves of so many."""

    name: str
    values: list[tuple[str, int, bytes]] = field(default_factory=list)
    subkeys: list[Node] = field(default_factory=list)
    class_name: str = ""
    kind: bytes = b"lh"
    per_leaf: int = 0
    written: int = TIMESTAMP
    flags: int = 0
    at: int = 0


class HiveWriter:
    """Lays out cells in bins. What is written stays open to being spoilt until ``data``."""

    def __init__(self, minor: int = 5) -> None:
        self.minor = minor
        self.bins = bytearray()
        self._free = 0
        self._end = 0
        self.security = 0

    def hive(self, root: Node) -> bytes:
        """The whole file, with this root."""
        self.put_all(root)
        return self.data(root.at)

    def put_all(self, root: Node) -> None:
        """A key and everything below it."""
        self.security = self._security()
        keys: list[tuple[Node, Node | None]] = []
        waiting: list[tuple[Node, Node | None]] = [(root, None)]
        while waiting:
            node, parent = waiting.pop()
            node.at = self.cell(bytes(76 + len(_encoded(node.name))))
            keys.append((node, parent))
            waiting += [(child, node) for child in node.subkeys]
        self.patch(self.security, struct.pack("<I", len(keys)), 12)
        for node, parent in keys:
            self._fill(node, parent)

    def _security(self) -> int:
        descriptor = security_descriptor()
        at = self.cell(bytes(20 + len(descriptor)))
        self.patch(at, struct.pack("<2sHIIII", b"sk", 0, at, at, 1, len(descriptor)) + descriptor)
        return at

    def _fill(self, node: Node, parent: Node | None) -> None:
        name = _encoded(node.name)
        flags = node.flags | (0x20 if _is_latin(node.name) else 0) | (0x0C if parent is None else 0)
        values = [self.value(*value) for value in node.values]
        value_list = self.cell(struct.pack(f"<{len(values)}I", *values)) if values else NOWHERE
        wide = node.class_name.encode("utf-16-le")
        class_at = self.cell(wide) if wide else NOWHERE
        listed = self.key_list(node) if node.subkeys else NOWHERE
        cell = struct.pack(
            "<2sHQIIIIIIIIIIIIIIIHH", b"nk", flags, node.written, 0, parent.at if parent else 0, len(node.subkeys), 0,
            listed, NOWHERE, len(values), value_list, self.security, class_at, 0, 0, 0, 0, 0, len(name), len(wide),
        )  # fmt: skip
        self.patch(node.at, cell + name)

    def key_list(self, node: Node) -> int:
        """The list of a key's subkeys."""
        children = sorted(node.subkeys, key=lambda child: child.name.upper())
        if not node.per_leaf:
            return self._leaf(node.kind, children)
        leaves = [self._leaf(node.kind, children[i : i + node.per_leaf]) for i in range(0, len(children), node.per_leaf)]
        return self.cell(struct.pack(f"<2sH{len(leaves)}I", b"ri", len(leaves), *leaves))

    def _leaf(self, kind: bytes, children: Sequence[Node]) -> int:
        body = b""
        for child in children:
            body += struct.pack("<I", child.at)
            if kind == b"lh":
                total = 0
                for unit in struct.unpack(f"<{len(child.name)}H", child.name.upper().encode("utf-16-le", "surrogatepass")):
                    total = (37 * total + unit) & 0xFFFFFFFF
                body += struct.pack("<I", total)
            elif kind == b"lf":
                body += _encoded(child.name)[:4].ljust(4, b"\0") if _is_latin(child.name[:4]) else bytes(4)
        return self.cell(struct.pack("<2sH", kind, len(children)) + body)

    def value(self, name: str, kind: int, data: bytes) -> int:
        """A value, its data inline, in a cell, or in segments."""
        encoded = _encoded(name)
        size = len(data)
        if size <= 4:
            place, size = int.from_bytes(data.ljust(4, b"\0"), "little"), size | 0x80000000
        elif size > SEGMENT_BYTES and self.minor >= 4:
            segments = [self.cell(data[i : i + SEGMENT_BYTES]) for i in range(0, size, SEGMENT_BYTES)]
            listed = self.cell(struct.pack(f"<{len(segments)}I", *segments))
            place = self.cell(struct.pack("<2sHI", b"db", len(segments), listed))
        else:
            place = self.cell(data)
        flags = 1 if _is_latin(name) else 0
        return self.cell(struct.pack("<2sHIIIHH", b"vk", len(encoded), size, place, kind, flags, 0) + encoded)

    def cell(self, data: bytes) -> int:
        """An allocated cell; its offset in the bins."""
        size = (len(data) + 4 + 7) // 8 * 8
        if self._free + size > self._end:
            self._close_bin()
            length = (size + 32 + PAGE - 1) // PAGE * PAGE
            start = len(self.bins)
            self.bins += struct.pack("<4sIIQQI", b"hbin", start, length, 0, TIMESTAMP, 0).ljust(length, b"\0")
            self._free, self._end = start + 32, start + length
        at = self._free
        struct.pack_into("<i", self.bins, at, -size)
        self.bins[at + 4 : at + 4 + len(data)] = data
        self._free += size
        return at

    def patch(self, at: int, data: bytes, offset: int = 0) -> None:
        """Write over what a cell holds."""
        self.bins[at + 4 + offset : at + 4 + offset + len(data)] = data

    def _close_bin(self) -> None:
        if self._free < self._end:
            struct.pack_into("<i", self.bins, self._free, self._end - self._free)
            self._free = self._end

    def data(self, root_at: int, sequences: tuple[int, int] = (1, 1)) -> bytes:
        """The file as it is now."""
        self._close_bin()
        return base_block(len(self.bins), minor=self.minor, root_at=root_at, sequences=sequences) + bytes(self.bins)


def _is_latin(name: str) -> bool:
    return all(ord(letter) < 256 for letter in name)


def _encoded(name: str) -> bytes:
    return name.encode("latin-1") if _is_latin(name) else name.encode("utf-16-le", "surrogatepass")


# --- dirty hives and logs --------------------------------------------------------------------------------


def with_sequences(hive: bytes, primary: int, secondary: int) -> bytes:
    """A hive with these sequence numbers and the right checksum."""
    block = bytearray(hive)
    struct.pack_into("<II", block, 4, primary, secondary)
    seal(block)
    return bytes(block)


def pages_that_differ(before: bytes, after: bytes) -> dict[int, bytes]:
    """Pages of 4096 bytes by their offset in the bins."""
    pages = {}
    for at in range(PAGE, len(after), PAGE):
        if before[at : at + PAGE] != after[at : at + PAGE]:
            pages[at - PAGE] = after[at : at + PAGE]
    return pages


def old_log(base: bytes, pages: Mapping[int, bytes], *, bins_bytes: int, sequence: int, file_type: int = 1) -> bytes:
    """A log with a list of dirty pages."""
    block = bytearray(base[:512])
    struct.pack_into("<II", block, 4, sequence, sequence)
    struct.pack_into("<I", block, 28, file_type)
    struct.pack_into("<I", block, 40, bins_bytes)
    seal(block)
    bitmap = bytearray(bins_bytes // PAGE)
    for at in pages:
        bitmap[at // PAGE] = 0xFF
    vector = b"DIRT" + bytes(bitmap)
    vector += bytes(-len(vector) % 512)
    return bytes(block) + vector + b"".join(pages[at] for at in sorted(pages))


def log_entry(pages: Mapping[int, bytes], *, sequence: int, bins_bytes: int, flags: int = 0) -> bytes:
    """An entry of a log of the new format."""
    references = b"".join(struct.pack("<II", at, len(page)) for at, page in pages.items())
    body = references + b"".join(pages.values())
    body += bytes(-(len(body) + 40) % 512)
    head = struct.pack("<4sIIIII", b"HvLE", len(body) + 40, flags, sequence, bins_bytes, len(pages))
    head += struct.pack("<Q", marvin32(body))
    return head + struct.pack("<Q", marvin32(head)) + body


def new_log(base: bytes, entries: Sequence[bytes], *, sequence: int) -> bytes:
    """A log of entries; ``sequence``: of the first."""
    block = bytearray(base[:512])
    struct.pack_into("<II", block, 4, sequence, sequence)
    struct.pack_into("<I", block, 28, 6)
    seal(block)
    return bytes(block) + b"".join(entries)


def own_hive(tree: Tree, minor: int = 5) -> bytes:
    """A hive with these keys, written as Windows does: hivex hashes and sorts names that are not ASCII in its own way."""
    root = Node("ROOT", [(name, value.type, value.data) for name, value in tree.get("", {}).items()])
    nodes = {"": root}
    kind = b"lh" if minor >= 5 else b"lf"
    for path, values in tree.items():
        at = ""
        for name in path.split("\\") if path else ():
            below = f"{at}\\{name}" if at else name
            if below not in nodes:
                nodes[below] = Node(name)
                nodes[at].subkeys.append(nodes[below])
            at = below
        if path:
            nodes[path].values = [(name, value.type, value.data) for name, value in values.items()]
    for node in nodes.values():
        node.kind = kind
    return HiveWriter(minor).hive(root)
