"""A card's address in ifcfg files: Red Hat's (initscripts, NetworkManager's plug-in) and SUSE's (wicked and before)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from drivers.facts import TextFile
from drivers.linux.address_parts import SEVERAL, Card, Rewritten, bare, holder, netmask
from drivers.linux.network import IFCFG_FOLDERS, Ifcfg, is_ifcfg, read_ifcfg
from drivers.linux.splice import Splice, spliced, with_lines
from drivers.plan import Addressing

RED_HAT, SUSE = IFCFG_FOLDERS
_ROUTES = f"{SUSE}/routes"
_SUSE_DNS = f"{SUSE}/config"
_RED_HAT_GLOBAL = "/etc/sysconfig/network"

_REPLACED = re.compile(r"(?:IPADDR|PREFIX|NETMASK|GATEWAY|BROADCAST|NETWORK)[0-9]?|(?:PREFIXLEN|REMOTE_IPADDR)")
_DNS = re.compile(r"DNS[0-9]+")
_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>[^\n]*)(?:\n|\Z)", re.MULTILINE)
_LOWER = ("ETHERDEVICE", "PHYSDEV")
_UPPER = ("BRIDGE", "MASTER", "TEAM_MASTER", "OVS_BRIDGE")
_PORT_KEYS = re.compile(r"BRIDGE_PORTS|BONDING_SLAVE_?[0-9]{1,3}|TEAM_PORT_DEVICE_[0-9]{1,3}")
_DEFAULT_ROUTE = re.compile(
    r"^[ \t]*(?:default|0\.0\.0\.0/0)[ \t]+(?P<via>[0-9.]+)(?P<rest>[^\n]*)(?:\n|\Z)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class _File:
    text: TextFile
    folder: str
    found: Ifcfg

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def settings(self) -> Mapping[str, str]:
        return self.found.settings


def rewrite(texts: Mapping[str, TextFile], card: Card, wanted: Addressing) -> Rewritten:
    """The files about the card in both folders, with its new address."""
    found = Rewritten()
    for folder in (RED_HAT, SUSE):
        files = [
            _File(text, folder, read_ifcfg(path, text.text)) for path, text in texts.items() if is_ifcfg(path, folder)
        ]
        _rewrite_in(files, texts, card, wanted, found)
    return found


def _rewrite_in(
    files: list[_File], texts: Mapping[str, TextFile], card: Card, wanted: Addressing, found: Rewritten
) -> None:
    own = [f for f in files if (card.name and f.name == card.name) or (card.mac and f.found.mac == card.mac)]
    name = card.name or next((f.name for f in own), "")
    above = _above(files, name, card.mac)
    if not own and name not in above:
        return
    held = holder(name, above, {f.name for f in files if f.found.method != "manual"})
    # a file that knows its card by the address alone has no name
    chosen = own if own and held == name else [f for f in files if f.name and f.name == held]
    if not chosen:
        where = own[0] if own else next(f for f in files if f.name in above[name])
        found.problems[where.text.path] = SEVERAL if held is None else f"no file is for {held}"
        return
    file = chosen[0]
    for other in chosen[1:]:
        found.problems[other.text.path] = f"it is for {held or card.mac} too, as is {file.text.path}"
    found.texts[file.text.path] = _with_address(file, wanted)
    if any(key.startswith("IPADDR_") for key in file.settings):
        found.problems[file.text.path] = f"it gives {file.name or card.mac} further addresses"
    if file.folder == SUSE:
        _suse_routes(texts, file, wanted, found)
        if wanted.dns and (config := texts.get(_SUSE_DNS)):
            settings = {"NETCONFIG_DNS_STATIC_SERVERS": " ".join(wanted.dns)}
            found.texts[_SUSE_DNS] = _with_settings(config.text, settings, lambda key: False, '"')
    else:
        _red_hat_routes(texts, file, wanted, found)


def _above(files: Iterable[_File], name: str, mac: str | None) -> dict[str, list[str]]:
    above: dict[str, list[str]] = {}
    for file in files:
        lower = [file.settings[key] for key in _LOWER if key in file.settings]
        lower += [word for key, value in file.settings.items() if _PORT_KEYS.fullmatch(key) for word in value.split()]
        # a card without name in its file is the one that is asked for, or another's business
        named = file.name or (name if mac and file.found.mac == mac else "")
        lower += [named.partition(".")[0]] if "." in named else []
        for each in lower:
            above.setdefault(each, []).append(file.name)
        for key in _UPPER:
            if named and file.settings.get(key):
                above.setdefault(named, []).append(file.settings[key])
    return above


def _with_address(file: _File, wanted: Addressing) -> str:
    is_suse = file.folder == SUSE
    settings = {"BOOTPROTO": "dhcp" if wanted.address is None else "static" if is_suse else "none"}
    if wanted.address is not None and is_suse:
        settings["IPADDR"] = wanted.address
    elif wanted.address is not None:
        settings["IPADDR"] = bare(wanted.address)
        if any(key.startswith("PREFIX") for key in file.settings):
            settings["PREFIX"] = wanted.address.partition("/")[2]
        else:
            settings["NETMASK"] = netmask(wanted.address)
        if wanted.gateway is not None:
            settings["GATEWAY"] = wanted.gateway
    drops_dns = bool(wanted.dns) or wanted.address is None
    if not is_suse:
        settings |= {f"DNS{number}": server for number, server in enumerate(wanted.dns, start=1)}
        if file.settings.get("BOOTPROTO", "").lower() == "static" and wanted.address is not None:
            settings["BOOTPROTO"] = "static"

    def is_replaced(key: str) -> bool:
        return _REPLACED.fullmatch(key) is not None or (drops_dns and _DNS.fullmatch(key) is not None)

    return _with_settings(file.text.text, settings, is_replaced, "'" if is_suse else "")


def _with_settings(text: str, settings: Mapping[str, str], is_replaced: Callable[[str], bool], quote: str) -> str:
    """The text with these assignments: in place where there is one, else behind the last of them or at the end."""
    splices: list[Splice] = []
    done: set[str] = set()
    for line in _LINE.finditer(text):
        key = line["key"]
        if key in settings and key not in done:
            done.add(key)
            value = _requoted(line["value"], settings[key], quote)
            splices.append(Splice(line.start("value"), line.end("value"), value))
        elif key in settings or is_replaced(key):
            splices.append(Splice(line.start(), line.end(), ""))
    after = spliced(text, splices)
    more = "".join(f"{key}={quote}{value}{quote}\n" for key, value in settings.items() if key not in done)
    return with_lines(after, more) if more else after


def _requoted(old: str, value: str, quote: str) -> str:
    ending = "\r" if old.endswith("\r") else ""
    used = old[0] if old[:1] in ("'", '"') else "" if old.strip() and not quote else quote
    quoted = used if used or " " not in value else '"'
    return f"{quoted}{value}{quoted}{ending}"


def _suse_routes(texts: Mapping[str, TextFile], file: _File, wanted: Addressing, found: Rewritten) -> None:
    """The default route, which has a file of its own: ifroute-NAME or routes (routes(5))."""
    paths = [f"{SUSE}/ifroute-{file.name}", _ROUTES]
    known = [texts[path] for path in paths if path in texts]
    done = wanted.gateway is None
    for text in known:
        splices = []
        for line in _DEFAULT_ROUTE.finditer(text.text):
            words = line["rest"].split()
            if len(words) > 1 and words[1] not in ("-", file.name):
                continue
            if done:
                splices.append(Splice(line.start(), line.end(), ""))
            else:
                done = True
                splices.append(Splice(line.start("via"), line.end("via"), wanted.gateway or ""))
        if splices:
            found.texts[text.path] = spliced(text.text, splices)
    if not done:
        route = f"default {wanted.gateway} - {file.name or '-'}\n"
        found.texts[_ROUTES] = with_lines(texts[_ROUTES].text if _ROUTES in texts else "", route)


def _red_hat_routes(texts: Mapping[str, TextFile], file: _File, wanted: Addressing, found: Rewritten) -> None:
    everywhere = texts.get(_RED_HAT_GLOBAL)
    if everywhere is not None and any(line["key"] == "GATEWAY" for line in _LINE.finditer(everywhere.text)):
        settings = {"GATEWAY": wanted.gateway} if wanted.gateway else {}
        found.texts[_RED_HAT_GLOBAL] = _with_settings(everywhere.text, settings, lambda key: key == "GATEWAY", "")
    if (routes := f"{RED_HAT}/route-{file.name}") in texts:
        found.problems[routes] = "its routes may lead through the old network"
