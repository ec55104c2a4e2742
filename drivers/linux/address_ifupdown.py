"""A card's address in ifupdown's stanzas (interfaces(5)), also as Alpine's busybox reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from drivers.facts import TextFile
from drivers.linux import resolv_conf
from drivers.linux.address_parts import SEVERAL, Card, Rewritten, bare, holder, netmask
from drivers.linux.network import sourced
from drivers.linux.splice import Splice, lines_of, spliced
from drivers.plan import Addressing

_KEYWORDS = frozenset({
    "iface", "auto", "mapping", "source", "source-directory", "no-auto-down", "no-scripts", "rename", "template",
})  # fmt: skip
_METHODS = frozenset({"static", "dhcp", "manual", "bootp"})
_REPLACED = frozenset({"address", "netmask", "gateway", "broadcast", "network", "pointopoint"})
_DNS = frozenset({"dns-nameservers", "dns-nameserver"})
_PORTS = frozenset({"bridge_ports", "bridge-ports", "bond-slaves", "slaves", "bond_slaves", "vlan-raw-device", "vlan_raw_device"})


@dataclass
class _Line:
    """A line with the ones it is continued on: where it stands, its line end with it, and its words."""

    begin: int
    end: int
    words: list[str]


@dataclass
class _Stanza:
    file: TextFile
    head: _Line
    options: list[_Line] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.head.words[1]

    @property
    def is_ipv4(self) -> bool:
        return len(self.head.words) > 3 and self.head.words[2] == "inet"

    def values(self, *keys: str) -> list[str]:
        return [word for line in self.options if line.words[0] in keys for word in line.words[1:]]


def rewrite(texts: Mapping[str, TextFile], card: Card, wanted: Addressing) -> Rewritten:
    """The files that have a stanza for the card, with its new address."""
    found = Rewritten()
    stanzas = [stanza for file in _files(texts) for stanza in _stanzas(file)]
    if not card.name or not any(card.name in (s.name, *s.values(*_PORTS)) for s in stanzas):
        return found
    addressed = {s.name for s in stanzas if s.is_ipv4 and s.head.words[3] != "manual"}
    name = holder(card.name, _above(stanzas), addressed)
    own = [stanza for stanza in stanzas if stanza.is_ipv4 and stanza.name == name]
    if name is None or not own:
        file = next(s.file for s in stanzas if card.name in (s.name, *s.values(*_PORTS)))
        found.problems[file.path] = SEVERAL if name is None else f"it has no IPv4 stanza for {name}"
        return found
    first = next((s for s in own if s.head.words[3] != "manual"), own[0])
    if first.head.words[3] not in _METHODS:
        found.problems[first.file.path] = f"{name} gets its address by the method {first.head.words[3]}"
        return found
    found.texts[first.file.path] = spliced(first.file.text, _splices(first, wanted))
    further = [s for s in stanzas if s.is_ipv4 and s is not first and s.name.partition(":")[0] == name]
    if any(s.head.words[3] == "static" for s in further):
        found.problems[further[0].file.path] = f"it gives {name} further addresses"
    servers = texts.get(resolv_conf.PATH)
    if wanted.dns and servers is not None:
        found.texts[servers.path] = resolv_conf.with_servers(servers.text, wanted.dns)
    return found


def _files(texts: Mapping[str, TextFile]) -> Iterator[TextFile]:
    return sourced(texts.get, lambda pattern: [path for path in texts if _fits(path, pattern)])


def _fits(path: str, pattern: str) -> bool:
    # no "*" goes over a folder's end
    return fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")


def _stanzas(file: TextFile) -> Iterator[_Stanza]:
    stanza: _Stanza | None = None
    for line in _logical_lines(file.text):
        if line.words[0] in _KEYWORDS or line.words[0].startswith("allow-"):
            if stanza is not None:
                yield stanza
            stanza = _Stanza(file, line) if line.words[0] == "iface" and len(line.words) > 1 else None
        elif stanza is not None:
            stanza.options.append(line)
    if stanza is not None:
        yield stanza


def _logical_lines(text: str) -> Iterator[_Line]:
    """The lines that say something: no blank ones, no comments."""
    open_line: _Line | None = None
    for _, begin, line in lines_of(text):
        end = min(begin + len(line) + 1, len(text))
        is_continued = line.endswith("\\")
        words = line.removesuffix("\\").split()
        if open_line is not None:
            open_line.end = end
            open_line.words += words
        elif words and not words[0].startswith("#"):
            open_line = _Line(begin, end, words)
        if open_line is not None and not is_continued:
            yield open_line
            open_line = None
    if open_line is not None:
        yield open_line


def _above(stanzas: list[_Stanza]) -> dict[str, list[str]]:
    above: dict[str, list[str]] = {}
    for stanza in stanzas:
        for port in stanza.values(*_PORTS):
            above.setdefault(port, []).append(stanza.name)
        for bond in stanza.values("bond-master", "bond_master"):
            above.setdefault(stanza.name, []).append(bond)
        lower, dot, _ = stanza.name.partition(".")
        if dot:
            above.setdefault(lower, []).append(stanza.name)
    return above


def _splices(stanza: _Stanza, wanted: Addressing) -> Iterator[Splice]:
    text, head = stanza.file.text, stanza.head
    method = "dhcp" if wanted.address is None else "static"
    start = _word_start(text, head, 3)
    yield Splice(start, start + len(head.words[3]), method)
    replaced = _REPLACED | (_DNS if wanted.dns or wanted.address is None else frozenset())
    old = [line for line in stanza.options if line.words[0] in replaced]
    first = stanza.options[0] if stanza.options else None
    indent = text[first.begin : _word_start(text, first, 0)] if first else "\t"
    lines = "".join(f"{indent}{line}\n" for line in _lines(stanza, wanted))
    at = old[0].begin if old else head.end
    gap = "" if not lines or text[:at].endswith("\n") else "\n"
    if not old:
        yield Splice(at, at, gap + lines)
    for line in old:
        yield Splice(line.begin, line.end, gap + lines if line is old[0] else "")


def _lines(stanza: _Stanza, wanted: Addressing) -> Iterator[str]:
    if wanted.address is None:
        return
    if any("/" in word for word in stanza.values("address")):
        yield f"address {wanted.address}"
    else:
        # old ifupdown and busybox take no prefix behind the address
        yield f"address {bare(wanted.address)}"
        yield f"netmask {netmask(wanted.address)}"
    if wanted.gateway is not None:
        yield f"gateway {wanted.gateway}"
    if wanted.dns:
        yield f"dns-nameservers {' '.join(wanted.dns)}"


def _word_start(text: str, line: _Line, index: int) -> int:
    at = line.begin
    for word in line.words[:index]:
        at = text.index(word, at) + len(word)
    return text.index(line.words[index], at)
