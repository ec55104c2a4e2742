"""Boot Loader Specification entries of type 1: ``loader/entries/*.conf``, as GRUB's blscfg and systemd-boot take them.

Source: the UAPI Group's Boot Loader Specification; GRUB's order is that of Fedora's blscfg command, which compares
file names as rpm compares packages (name, version, release), newest first.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drivers.facts import TextFile
from drivers.linux import paths
from drivers.linux.kernel_arguments import CommandLine, finder_of
from drivers.tree import GuestTree

ENTRIES_AT_MOST = 200
GRUB_FOLDERS = ("/boot/loader/entries", "/boot/efi/loader/entries")

_LINE = re.compile(r"^[ \t]*(?P<key>[A-Za-z][A-Za-z0-9_-]*)[ \t]+(?P<value>[^ \t\r\n][^\r\n]*)", re.MULTILINE)
_SEGMENT = re.compile(r"[0-9]+|[A-Za-z]+|~")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# systemd-boot counts the tries of an entry in its name (Automatic Boot Assessment)
_TRIES = re.compile(r"\+[0-9]+(?:-[0-9]+)?(?=\.conf\Z|\.efi\Z)")


@dataclass(frozen=True, slots=True)
class Snippet:
    """One entry's file. ``identifier`` is its name without ``.conf``; repeated keys are joined by blanks."""

    path: str
    identifier: str
    keys: dict[str, str]

    def key(self, name: str) -> str:
        """What a key is set to; empty when it is not there."""
        return self.keys.get(name, "")

    def word(self, *names: str) -> str:
        """The first word of the first of the keys that has one; empty when none has."""
        return next((words[0] for name in names if (words := self.key(name).split())), "")


def read_snippets(tree: GuestTree, folder: str) -> list[Snippet]:
    """The entries of a folder, in the order of their names."""
    found = []
    for path in list(paths.matching(tree, f"{folder}/*.conf"))[:ENTRIES_AT_MOST]:
        file = paths.read_text(tree, path)
        if file is not None:
            found.append(Snippet(path, entry_id(path).removesuffix(".conf"), parse(file.text)))
    return found


def entry_id(path: str) -> str:
    """The name by which an entry is called, counted tries taken off."""
    return _TRIES.sub("", posixpath.basename(path))


def parse(text: str) -> dict[str, str]:
    """The keys of an entry; those that come more than once (``options``, ``initrd``) joined by blanks."""
    found: dict[str, list[str]] = {}
    for line in _LINE.finditer(text):
        found.setdefault(line["key"].lower(), []).append(line["value"].rstrip())
    return {key: " ".join(values) for key, values in found.items()}


def command_lines(file: TextFile) -> Iterator[CommandLine]:
    """Where an entry's arguments stand."""
    keys = parse(file.text)
    finder = finder_of(keys.get("linux", ""), "initrd" in keys or "initrd=" in keys.get("options", ""))
    for line in _LINE.finditer(file.text):
        if line["key"].lower() == "options":
            yield CommandLine(line.start("value"), line.start("value") + len(line["value"].rstrip()), finder)


def grub_order(snippets: Iterable[Snippet]) -> list[Snippet]:
    """As blscfg lists them: newest version first."""
    return sorted(snippets, key=lambda snippet: _nvr_key(snippet.identifier), reverse=True)


def systemd_order(snippets: Iterable[Snippet]) -> list[Snippet]:
    """As systemd-boot lists them: by sort-key and version where there is one, then by name, newest first."""
    given = list(snippets)
    plain = [snippet for snippet in given if not snippet.key("sort-key")]
    keyed = [snippet for snippet in given if snippet.key("sort-key")]
    keyed.sort(key=lambda snippet: version_key(snippet.identifier), reverse=True)
    keyed.sort(key=lambda snippet: version_key(snippet.key("version")), reverse=True)
    keyed.sort(key=lambda snippet: (snippet.key("sort-key"), snippet.key("machine-id")))
    return keyed + sorted(plain, key=lambda snippet: version_key(snippet.identifier), reverse=True)


def expanded(text: str, variables: dict[str, str]) -> str:
    """GRUB's variables put in; those that are not set are nothing."""
    return " ".join(_VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), text).split())


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts versions as rpm does: numbers by value and above letters, more parts above fewer, ``~`` below nothing."""
    return (*(_segment_key(segment) for segment in _SEGMENT.findall(version)), (0, 0, ""))


def _segment_key(segment: str) -> tuple[int, int, str]:
    if segment == "~":
        return -1, 0, ""
    digits = segment.lstrip("0")
    return (2, len(digits), digits) if segment[0].isdigit() else (1, 0, segment)


def _nvr_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    parts = name.rsplit("-", 2)
    return tuple(version_key(part) for part in [*[""] * (3 - len(parts)), *parts])


def titles(snippets: Iterable[Snippet]) -> list[str]:
    """A title for each, made different where several have the same (systemd-boot adds version, then name)."""
    given = list(snippets)
    found = [snippet.key("title") or snippet.identifier for snippet in given]
    for names in ([snippet.key("version") for snippet in given], [snippet.identifier for snippet in given]):
        again = {title for title, times in Counter(found).items() if times > 1}
        found = [f"{t} ({name})" if t in again and name else t for t, name in zip(found, names, strict=True)]
    return found
