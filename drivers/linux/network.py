"""How a guest configures its network: every file that names an interface, whoever reads it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from drivers.facts import InterfaceConfig, Network, TextFile
from drivers.linux import keyfile, netplan, paths, wicked
from drivers.linux.macs import normal_mac
from drivers.tree import GuestTree

INTERFACES = "/etc/network/interfaces"
_SOURCES_AT_MOST = 50
_ASSIGNMENT = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=[\"']?([^\"'\n]*)", re.MULTILINE)
# ifupdown's own names that are no interfaces
_NOT_BELOW = frozenset({"none", "all", "regex", "auto"})
_BELOW_OPTIONS = frozenset({
    "bridge_ports", "bridge-ports", "bond-slaves", "slaves", "bond_slaves",
    "vlan-raw-device", "vlan_raw_device", "bond-primary",
})  # fmt: skip
_ETHERNET = ("ethernet", "802-3-ethernet")
_ADDRESS_KEY = re.compile(r"address(?:es)?[0-9]*")
# leftovers that neither initscripts nor wicked read
_BACKUPS = ("~", ".bak", ".old", ".orig", ".rpmnew", ".rpmorig", ".rpmsave", ".scpmbackup")
IFCFG_FOLDERS = ("/etc/sysconfig/network-scripts", "/etc/sysconfig/network")
"""Red Hat's and SUSE's."""
_ETH_ID = re.compile(r"ifcfg-eth-(id|bus)-(.+)")
CONNECTIONS = "/etc/NetworkManager/system-connections/*"
# "route" files have further routes, SUSE's also the default one
_TEXTS = (
    "/etc/systemd/network/*.network", CONNECTIONS, "/etc/sysconfig/network", "/etc/sysconfig/network/config",
    *(f"/etc/sysconfig/network-scripts/{name}" for name in ("ifcfg-*", "route-*")),
    *(f"/etc/sysconfig/network/{name}" for name in ("ifcfg-*", "ifroute-*", "routes")),
)  # fmt: skip
_TEXTS_AT_MOST = 200
_TEXT_AT_MOST = 64 * 1024
# bounded, as a line may be as long as the file
_SECRET = re.compile(
    r"(?:psk|passw|passphrase|secret|private.?key|wep.?key|wireless.?key|\bkey)[\w-]{0,40}[\"']?[ \t]{0,20}"
    r"[:= \t][ \t]{0,20}[\"']?[^\s\"']",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Stack:
    """Something that reads network configuration: its name, and how its files are read."""

    name: str
    read: Callable[[GuestTree], Iterator[InterfaceConfig]]
    shown_by: tuple[str, ...]
    """Patterns of files that show it is used, even where no interface could be read from them."""


def read_network(tree: GuestTree) -> Network:
    """The interfaces that the configuration names, by stack in the order of ``STACKS``; without ``lo``."""
    stacks = []
    interfaces: list[InterfaceConfig] = []
    for stack in STACKS:
        found = [interface for interface in stack.read(tree) if interface.name != "lo"]
        if found or any(True for pattern in stack.shown_by for _ in paths.matching(tree, pattern)):
            stacks.append(stack.name)
        interfaces += found
    return Network(tuple(stacks), tuple(interfaces))


def _ifupdown(tree: GuestTree) -> Iterator[InterfaceConfig]:
    """interfaces(5), with what it sources; a later stanza of the same interface adds to the first."""
    found: dict[str, InterfaceConfig] = {}
    for file in _sourced(tree):
        name = ""
        for line in file.text.replace("\\\n", " ").split("\n"):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if words[0] == "iface" and len(words) > 3:
                name = words[1].partition(":")[0]
                method = "manual" if words[3] == "loopback" else words[3]
                known = found.get(name)
                if known is None or known.method in ("manual", "auto"):
                    found[name] = InterfaceConfig(name, file.path, method, known.addresses if known else ())
            elif words[0] in _BELOW_OPTIONS:
                for below in words[1:]:
                    if below not in _NOT_BELOW:
                        found.setdefault(below, InterfaceConfig(below, file.path, "manual"))
            elif name in found and len(words) > 1:
                found[name] = _with_option(found[name], words)
    yield from found.values()


def _with_option(known: InterfaceConfig, words: list[str]) -> InterfaceConfig:
    addresses, mac = known.addresses, known.mac
    if words[0] == "address":
        addresses = (*addresses, words[1])
    elif words[0] == "netmask" and addresses and "/" not in addresses[-1]:
        addresses = (*addresses[:-1], f"{addresses[-1]}/{words[1]}")
    return InterfaceConfig(known.name, known.source, known.method, addresses, mac)


def _sourced(tree: GuestTree) -> Iterator[TextFile]:
    return sourced(lambda path: paths.read_text(tree, path), lambda pattern: paths.matching(tree, pattern))


def sourced(
    read: Callable[[str], TextFile | None], matching: Callable[[str], Iterable[str]]
) -> Iterator[TextFile]:
    """/etc/network/interfaces and the files that it sources, each once, wherever they are read from."""
    todo = [INTERFACES]
    seen: set[str] = set()
    patterns: set[str] = set()
    while todo and len(seen) < _SOURCES_AT_MOST:
        path = todo.pop(0)
        file = None if path in seen else read(path)
        if file is None:
            continue
        seen.add(path)
        yield file
        for line in file.text.split("\n"):
            words = line.split()
            if len(words) > 1 and words[0] in ("source", "source-directory"):
                pattern = posixpath.join(posixpath.dirname(path), words[1])
                pattern += "/*" if words[0] == "source-directory" else ""
                if pattern not in patterns and len(patterns) < _SOURCES_AT_MOST:
                    patterns.add(pattern)
                    todo += sorted(matching(pattern))


def _networkd(tree: GuestTree) -> Iterator[InterfaceConfig]:
    """systemd.network(5)."""
    for path in paths.matching(tree, "/etc/systemd/network/*.network"):
        settings = keyfile.parse(file.text if (file := paths.read_text(tree, path)) else "")
        macs = [mac for word in keyfile.values(settings, "Match", "MACAddress") if (mac := normal_mac(word))]
        macs += [mac for word in keyfile.values(settings, "Match", "PermanentMACAddress") if (mac := normal_mac(word))]
        addresses = keyfile.values(settings, "Network", "Address") + keyfile.values(settings, "Address", "Address")
        dhcp = keyfile.first(settings, "Network", "DHCP").lower() not in ("", "no", "false", "0", "none")
        method = "dhcp" if dhcp else "static" if addresses else "manual"
        hardware = [word for key in ("Driver", "Path") for word in keyfile.values(settings, "Match", key)]
        for name in keyfile.values(settings, "Match", "Name") or ("",):
            if name or macs or hardware:
                yield InterfaceConfig(name, path, method, addresses, macs[0] if macs else None, " ".join(hardware))


def _network_manager(tree: GuestTree) -> Iterator[InterfaceConfig]:
    """nm-settings-keyfile(5)."""
    for path in paths.matching(tree, CONNECTIONS):
        settings = keyfile.parse(file.text if (file := paths.read_text(tree, path)) else "")
        macs = [keyfile.first(settings, section, "mac-address") for section in _ETHERNET]
        mac = next((mac for text in macs if (mac := normal_mac(text))), None)
        names = [keyfile.first(settings, section, "interface-name") for section in ("connection", "match")]
        name = next((name.rstrip(";") for name in names if name), "")
        kind = keyfile.first(settings, "connection", "type")
        hardware = [word for key in ("driver", "path") for word in keyfile.values(settings, "match", key)]
        if kind in ("", *_ETHERNET) and (name or mac or hardware):
            families = [s for s in settings if s.section in ("ipv4", "ipv6")]
            addresses = tuple(s.value.partition(",")[0] for s in families if _ADDRESS_KEY.fullmatch(s.key))
            how = keyfile.first(settings, "ipv4", "method")
            method = {"auto": "dhcp", "manual": "static"}.get(how, "manual")
            yield InterfaceConfig(name, path, method, addresses, mac, " ".join(hardware))


@dataclass(frozen=True, slots=True)
class Ifcfg:
    """An ifcfg file: the interface it is for by name, MAC address or place on a bus, and its assignments."""

    name: str
    mac: str | None
    by_bus: str
    settings: Mapping[str, str]

    @property
    def addresses(self) -> tuple[str, ...]:
        """What it gives the interface itself."""
        return tuple(value for key, value in self.settings.items() if re.fullmatch(r"IPADDR[0-9]*", key))

    @property
    def method(self) -> str:
        """As in ``InterfaceConfig``."""
        dhcp = self.settings.get("BOOTPROTO", "").startswith("dhcp")
        return "dhcp" if dhcp else "static" if self.addresses else "manual"


def read_ifcfg(path: str, text: str) -> Ifcfg:
    """What initscripts and wicked see in an ifcfg file."""
    settings = dict(_ASSIGNMENT.findall(text))
    named, by_mac, by_bus = _ifcfg_name(posixpath.basename(path))
    return Ifcfg(settings.get("DEVICE") or named, normal_mac(settings.get("HWADDR", "")) or by_mac, by_bus, settings)


def is_ifcfg(path: str, folder: str) -> bool:
    """Whether a path is that of an ifcfg file that is read."""
    parent, base = posixpath.split(path)
    return parent == folder and base.startswith("ifcfg-") and not base.endswith(_BACKUPS)


def _ifcfg(tree: GuestTree) -> Iterator[InterfaceConfig]:
    """initscripts' and SUSE wicked's ifcfg files."""
    for folder in IFCFG_FOLDERS:
        for path in paths.matching(tree, f"{folder}/ifcfg-*"):
            if is_ifcfg(path, folder):
                found = read_ifcfg(path, file.text if (file := paths.read_text(tree, path)) else "")
                yield InterfaceConfig(found.name, path, found.method, found.addresses, found.mac, found.by_bus)


def _ifcfg_name(base: str) -> tuple[str, str | None, str]:
    """What SLES 9 and 10 put into a file's name: the interface, its MAC address, or its place (ifcfg(5))."""
    kind = _ETH_ID.fullmatch(base)
    if kind is None:
        return base.removeprefix("ifcfg-").partition(":")[0], None, ""
    return ("", normal_mac(kind[2]), "") if kind[1] == "id" else ("", None, kind[2])


def network_texts(tree: GuestTree) -> Iterator[TextFile]:
    """Configuration of the network that may have to be rewritten; a file with passwords or keys in it stays out of plans."""
    found = dict.fromkeys((*(file.path for file in _sourced(tree)), *netplan.files(tree)))
    found |= dict.fromkeys(path for pattern in _TEXTS for path in paths.matching(tree, pattern))
    for path in list(found)[:_TEXTS_AT_MOST]:
        file = paths.read_text(tree, path) if not path.endswith(_BACKUPS) else None
        if file is not None and len(file.text) <= _TEXT_AT_MOST and not _has_secret(file.text):
            yield file


def _has_secret(text: str) -> bool:
    lines = (line for line in text.split("\n") if not line.lstrip().startswith(("#", ";")))
    return any(_SECRET.search(line) for line in lines)


# Every reader of network configuration, in the order its files are listed in the facts.
STACKS: tuple[Stack, ...] = (
    Stack("ifupdown", _ifupdown, (INTERFACES,)),
    Stack("networkd", _networkd, ()),
    Stack("networkmanager", _network_manager, (CONNECTIONS,)),
    Stack("ifcfg", _ifcfg, ()),
    Stack("netplan", netplan.interfaces, ("/etc/netplan/*.yaml",)),
    Stack("wicked", wicked.interfaces, (wicked.CONFIGS,)),
)
