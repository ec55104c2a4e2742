"""The SELinux labels that the guest's own policy gives to new files, so that nothing has to be relabelled.

Facts hold the rules of the policy's ``file_contexts`` that can fit what plans create (``CREATED_BELOW``): the whole has
five thousand and more, and which names are new is known only when the plan is made. Planning looks the names up, so
the labels stand in the plan (``GuestPlan.labels``) and applying decides nothing. The rules are regular expressions written by the
guest and matched outside the confined child, by RE2: it takes time linear in the name whatever the expression is.
RE2 has no look-around and no back references; a rule that needs them is left out, and planning says so. So far
no policy was seen to have one.

How rules are read and which one wins: file_contexts(5), selabel_file(5), matchpathcon(8). The last rule that fits wins, those
without any metacharacter after all others; ``file_contexts.local`` comes last; a path that begins with an alias of the
``subs`` files is looked up under its other name, the longest alias first. ``<<none>>`` means that the policy leaves the file alone.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import re2

from drivers.changes import Change, MakeSymlink, NewFile
from drivers.expectations import parents
from drivers.facts import LabelPolicy, LabelRule
from drivers.systems import parse_assignments
from drivers.tree import GuestTree, text_of
from p2v.core.units import KIB, MIB

CONFIG = "/etc/selinux/config"
FILE, FOLDER, LINK = "--", "-d", "-l"
"""Types of files as file_contexts writes them."""

CREATED_BELOW: tuple[str, ...] = (
    "/boot/",
    "/etc/NetworkManager/",
    "/etc/X11/",
    "/etc/chrony.d/",
    "/etc/chrony/",
    "/etc/cloud/",
    "/etc/cmdline.d/",
    "/etc/conf.d/",
    "/etc/default/",
    "/etc/dracut.conf.d/",
    "/etc/grub.d/",
    "/etc/init.d/boot.d/",
    "/etc/init.d/p2v",
    "/etc/init.d/rc",
    "/etc/init/",
    "/etc/initramfs-tools/",
    "/etc/kernel/",
    "/etc/local.d/",
    "/etc/lvm/",
    "/etc/mkinitcpio.conf.d/",
    "/etc/modprobe.d/",
    "/etc/modules-load.d/",
    "/etc/netplan/",
    "/etc/network/",
    "/etc/p2v",
    "/etc/rc",
    "/etc/runlevels/",
    "/etc/ssh/",
    "/etc/sysconfig/",
    "/etc/systemd/",
    "/etc/udev/",
    "/etc/wicked/",
    "/usr/local/sbin/p2v",
    "/var/lib/dbus/",
    "/var/lib/p2v",
    "/var/log/p2v",
)
"""Where plans and boot checks make new names. Elsewhere a new file gets its folder's label."""

_MAIN = "file_contexts"
_ADDED = ("file_contexts.homedirs", "file_contexts.local")
# first the administrator's, then the distribution's: one name may pass through both
_ALIASES = ("file_contexts.subs", "file_contexts.subs_dist")
_TYPES = frozenset({"--", "-b", "-c", "-d", "-l", "-p", "-s"})
_NONE = "<<none>>"
_FILE_BYTES_AT_MOST = 8 * MIB
_CONFIG_BYTES_AT_MOST = 64 * KIB
_LINES_AT_MOST = 100_000
_RULES_AT_MOST = 4000
_ALIASES_AT_MOST = 500
_PATTERN_AT_MOST = 500
_MATCHER_BYTES = 1 * MIB
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+){2}(:[A-Za-z0-9_.,:-]+)?")
_FIRST_FOLDER = re.compile(r"/[A-Za-z0-9_-]+/")
# what makes an expression of a name, to libselinux
_META = frozenset(".^$?*+|[({")


# --- reading, in the confined child ------------------------------------------------------------------------


def read_label_policy(tree: GuestTree) -> tuple[LabelPolicy | None, tuple[str, ...]]:
    """The rules that can matter, and notes; None where the guest has no policy, or has SELinux turned off."""
    config = text_of(tree, CONFIG, _CONFIG_BYTES_AT_MOST)
    settings = parse_assignments(config) if config is not None else {}
    name = settings.get("SELINUXTYPE", "").strip()
    if config is None or not name or settings.get("SELINUX", "").strip().lower() == "disabled":
        return None, ()
    if not _NAME.fullmatch(name):
        return None, (f"{CONFIG}: SELINUXTYPE={name[:64]!r} is no name of a policy",)
    folder = f"/etc/selinux/{name}/contexts/files"
    texts = [text_of(tree, posixpath.join(folder, file), _FILE_BYTES_AT_MOST) for file in (_MAIN, *_ADDED)]
    if texts[0] is None:
        return None, (f"{folder}/{_MAIN} could not be read, so new files get the label of their folder",)
    local, shipped = (
        _aliases(text_of(tree, posixpath.join(folder, file), _FILE_BYTES_AT_MOST) or "") for file in _ALIASES
    )
    under_local = _images(CREATED_BELOW, local)
    wanted = _images(under_local, shipped)
    rules = [rule for text in texts for rule in _rules(text or "") if _may_fit(rule.pattern, wanted)]
    notes: tuple[str, ...] = ()
    if len(rules) > _RULES_AT_MOST:
        # without all of them the wrong one would win
        rules, notes = [], (f"{folder}: more than {_RULES_AT_MOST} rules for the folders that are written to",)
    local = tuple(alias for alias in local if _matters(alias, CREATED_BELOW))
    shipped = tuple(alias for alias in shipped if _matters(alias, under_local))
    return LabelPolicy(name, tuple(rules), local, shipped), notes


def _lines(text: str) -> Iterator[list[str]]:
    for line in text.split("\n", _LINES_AT_MOST)[:_LINES_AT_MOST]:
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words


def _rules(text: str) -> Iterator[LabelRule]:
    for words in _lines(text):
        pattern, type_, label = words[0], "", words[-1]
        if len(words) == 3:
            type_ = words[1]
        is_label = label == _NONE or (len(label) < 256 and _LABEL.fullmatch(label))
        if len(words) in (2, 3) and is_label and type_ in ("", *_TYPES) and len(pattern) <= _PATTERN_AT_MOST:
            yield LabelRule(pattern, type_, "" if label == _NONE else label)


def _aliases(text: str) -> tuple[tuple[str, str], ...]:
    found = [(words[0], words[1]) for words in _lines(text) if len(words) >= 2]
    plain = [alias for alias in found if alias[0].startswith("/") and max(map(len, alias)) <= _PATTERN_AT_MOST]
    return tuple(plain[:_ALIASES_AT_MOST])


def _matters(alias: tuple[str, str], prefixes: Sequence[str]) -> bool:
    return any(alias[0].startswith(p) or p.startswith(alias[0]) for p in prefixes)


def _images(prefixes: Sequence[str], aliases: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The prefixes as rules see them: under their other names as well."""
    below = [target for source, target in aliases for p in prefixes if source.startswith(p)]
    return tuple(dict.fromkeys((*prefixes, *(_aliased(p, aliases) for p in prefixes), *below)))


def _may_fit(pattern: str, prefixes: Sequence[str]) -> bool:
    literal = _literal_beginning(pattern)
    return any(p.startswith(literal) or literal.startswith(p) for p in prefixes)


# --- looking up, when the plan is made ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    beginning: str
    pattern: str
    type: str
    label: str
    is_exact: bool


class LabelLookup:
    """Labels by the rules of a policy; ``problems`` names rules that could not be used."""

    def __init__(self, policy: LabelPolicy) -> None:
        rules = [
            _Rule(_literal_beginning(rule.pattern), rule.pattern, rule.type, rule.label, _is_exact(rule.pattern))
            for rule in policy.rules
        ]
        # stable: among themselves both kinds keep their order
        self._last_first = sorted(rules, key=lambda rule: rule.is_exact)[::-1]
        self._policy = policy
        self._matchers: dict[str, re2.Pattern | None] = {}
        self.problems: dict[str, None] = {}

    def label(self, path: str, type_: str) -> str | None:
        """The label for a new file (``FILE``, ``FOLDER``, ``LINK``); None where the policy has none for it."""
        name = _aliased(_aliased(path, self._policy.aliases), self._policy.shipped_aliases)
        for rule in self._last_first:
            if rule.type in ("", type_) and name.startswith(rule.beginning) and self._fits(rule, name):
                return rule.label or None
        return None

    def _fits(self, rule: _Rule, name: str) -> bool:
        if rule.is_exact:
            return name == rule.beginning
        if rule.pattern not in self._matchers:
            self._matchers[rule.pattern] = self._compiled(rule.pattern)
        matcher = self._matchers[rule.pattern]
        return matcher is not None and matcher.search(_bytes(name)) is not None

    def _compiled(self, pattern: str) -> re2.Pattern | None:
        options = re2.Options()
        options.log_errors = False
        options.dot_nl = True
        options.max_mem = _MATCHER_BYTES
        options.encoding = re2.Options.Encoding.LATIN1  # names are bytes to libselinux
        try:
            return re2.compile(b"^" + _bytes(pattern) + b"$", options)
        except re2.error:
            self.problems[pattern] = None
            return None


def labels_of(policy: LabelPolicy | None, changes: Iterable[Change]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Labels by path for every name that the changes may make, folders above it included; and rules not understood."""
    made = tuple(changes)
    files = [change.path for change in made if isinstance(change, NewFile)]
    return labels_for(policy, files, [change.path for change in made if isinstance(change, MakeSymlink)])


def labels_for(
    policy: LabelPolicy | None, files: Iterable[str], links: Iterable[str]
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """As ``labels_of``, for regular files and symbolic links at these paths."""
    if policy is None:
        return {}, ()
    lookup = LabelLookup(policy)
    names = dict.fromkeys(files, FILE) | dict.fromkeys(links, LINK)
    # which folders are there already is not among the facts
    names |= dict.fromkeys((folder for path in names for folder in parents(path)), FOLDER)
    labels = {path: lookup.label(path, type_) for path, type_ in names.items() if _is_covered(path, type_)}
    return {path: label for path, label in labels.items() if label is not None}, tuple(lookup.problems)


def _is_covered(path: str, type_: str) -> bool:
    """Whether all rules that can fit a path are among the facts."""
    return (f"{path}/" if type_ == FOLDER else path).startswith(CREATED_BELOW)


def _aliased(path: str, aliases: Sequence[tuple[str, str]]) -> str:
    """The path under the name that rules are written for: the longest alias that it begins with is replaced."""
    fitting = [(s, t) for s, t in aliases if path == s or path.startswith(s if s.endswith("/") else f"{s}/")]
    if not fitting:
        return path
    source, target = max(fitting, key=lambda alias: len(alias[0]))
    return posixpath.normpath(target + "/" + path[len(source) :]) if path != source else target


def _is_exact(pattern: str) -> bool:
    return all(letter not in _META for letter, escaped in _letters(pattern) if not escaped)


def _letters(pattern: str) -> Iterator[tuple[str, bool]]:
    """Characters, and whether a backslash stands before each."""
    escaped = False
    for letter in pattern:
        if letter == "\\" and not escaped:
            escaped = True
            continue
        yield letter, escaped
        escaped = False


def _literal_beginning(pattern: str) -> str:
    """What every name that fits begins with; empty where that is not plain to see."""
    if "|" in pattern and _has_alternatives(pattern):
        # libselinux tries a rule on names with its first folder only, whatever the bar makes of the rest
        first = _FIRST_FOLDER.match(pattern)
        return first[0] if first else ""
    found: list[str] = []
    for letter, escaped in _letters(pattern):
        if not escaped and letter in _META:
            # what may be repeated no times is not surely there
            return "".join(found[:-1] if letter in "?*{" else found)
        if escaped and letter.isalnum():
            return "".join(found)
        found.append(letter)
    return "".join(found)


def _has_alternatives(pattern: str) -> bool:
    """Whether a bar may stand outside of all brackets; it then parts the whole expression, its anchors included."""
    depth, in_class = 0, False
    for letter, escaped in _letters(pattern):
        if escaped:
            continue
        if in_class or letter == "[":
            in_class = letter != "]"
        elif letter == "|" and depth <= 0:
            return True
        else:
            depth += (letter == "(") - (letter == ")")
    return False


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
