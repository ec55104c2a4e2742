"""INF files as text: sections, entries, quoted strings, continued lines, string tokens. What they mean is in ``inf``.

Sources: Microsoft, Windows driver documentation, "General Syntax Rules for INF Files", "INF Strings Section". The files are
hostile input: their size, their lines, their fields and what tokens grow them to are bounded. Reading is deterministic:
the strings are those of one language, English unless another is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from p2v.core.units import MIB

INF_BYTES_AT_MOST = 1 * MIB
LINES_AT_MOST = 50_000
FIELD_AT_MOST = 4096
"""Characters of a field with its strings put in ("INF Size Limits")."""
FIELDS_AT_MOST = 4096
ENGLISH = 0x0409
_SECTION_NAME_AT_MOST = 255
_PRIMARY_LANGUAGE = 0x3FF
# end of the text for programs of DOS
_END_OF_TEXT = "\x1a"
_TOKEN = re.compile(r"%([^%\r\n]*)%")
# a quotation (up to the end of the line, where nothing closes it), a token, a comment's begin, or what is none of them
_PIECE = re.compile(r'"[^"]*"?|%[^%"]*%|;|[^";%]+|%')
_FIELD_PIECE = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"?|[,=]|[^",=]+')
_PROBED_BYTES = 512


class BadInf(ValueError):
    """The bytes are no INF file, or one beyond the bounds; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a section: ``key`` (None without ``=``) and the values after it, string tokens not yet replaced."""

    key: str | None
    values: tuple[str, ...]


_Directives = dict[str, list[tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class InfText:
    """The sections by their names in lower case, in the order of the file; those of one name are one section."""

    sections: Mapping[str, tuple[Entry, ...]]
    strings: Mapping[str, str]
    """What stands for ``%key%``, by the key in lower case."""
    _found: dict[str, _Directives] = field(default_factory=dict, compare=False, repr=False)

    def has(self, section: str) -> bool:
        """Whether there is a section of that name, be it empty."""
        return section.lower() in self.sections

    def entries(self, section: str) -> Iterator[Entry]:
        """A section's entries with their string tokens replaced; none when it is not there. Raises BadInf."""
        for entry in self.sections.get(section.lower(), ()):
            key = None if entry.key is None else self.replaced(entry.key)
            yield Entry(key, tuple(self.replaced(value) for value in entry.values))

    def directives(self, section: str, name: str) -> Iterator[tuple[str, ...]]:
        """The values of a section's entries of that key, one tuple an entry. Raises BadInf."""
        by_key = self._found.get(section.lower())
        if by_key is None:
            by_key = self._found[section.lower()] = {}
            for entry in self.entries(section):
                if entry.key is not None:
                    by_key.setdefault(entry.key.lower(), []).append(entry.values)
        yield from by_key.get(name.lower(), ())

    def first(self, section: str, name: str) -> str:
        """The first value of the first entry of that key; empty when there is none. Raises BadInf."""
        return next((values[0] for values in self.directives(section, name) if values), "")

    def replaced(self, text: str) -> str:
        """A field with its tokens replaced: ``%%`` is a per cent sign, what no string is called stays (directory numbers).

        Raises BadInf when it grows beyond ``FIELD_AT_MOST``.
        """
        if "%" not in text:
            return text
        made = _TOKEN.sub(lambda match: self._token(match[1], match[0]), text)
        if len(made) > FIELD_AT_MOST:
            raise BadInf(f"a field grows to {len(made)} characters by its strings; {FIELD_AT_MOST} are allowed")
        return made

    def _token(self, name: str, whole: str) -> str:
        return self.strings.get(name.lower(), whole) if name else "%"


def parse_text(data: bytes, language: int = ENGLISH) -> InfText:
    """The sections of an INF file, with the strings for a Windows of ``language`` (a LANGID).

    Raises BadInf for what has no section at all, or is beyond the bounds.
    """
    if len(data) > INF_BYTES_AT_MOST:
        raise BadInf(f"has {len(data)} bytes; at most {INF_BYTES_AT_MOST} are read")
    sections: dict[str, list[Entry]] = {}
    current: list[Entry] | None = None
    for line in _logical_lines(_decoded(data)):
        if line.startswith("["):
            current = sections.setdefault(_section_name(line), [])
        elif current is not None:
            current.append(_entry(line))
    if not sections:
        raise BadInf("has no sections")
    frozen = {name: tuple(entries) for name, entries in sections.items()}
    return InfText(frozen, _strings(frozen, language))


def _decoded(data: bytes) -> str:
    """UTF-16 in both orders with its mark or without, UTF-8 with its mark, else letters of one byte.

    What code page those are in is written nowhere; nothing that is decided on is beyond ASCII, so that Latin 1, which
    refuses no byte, does for all.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8")):
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    probe = data[:_PROBED_BYTES]
    if probe[1::2].count(0) > len(probe) // 4:
        return data.decode("utf-16-le", "replace")
    if probe[::2].count(0) > len(probe) // 4:
        return data.decode("utf-16-be", "replace")
    return data.decode("latin-1")


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments and outer blanks, those that go on joined; empty ones are left out."""
    lines = re.split(r"\r\n|\n|\r", text.partition(_END_OF_TEXT)[0])
    if len(lines) > LINES_AT_MOST:
        raise BadInf(f"has {len(lines)} lines; at most {LINES_AT_MOST} are read")
    pending: list[str] = []
    length = 0
    for line in lines:
        kept, goes_on = _uncommented(line)
        pending.append(kept)
        length += len(kept)
        if length > FIELD_AT_MOST * 16:
            raise BadInf(f"has a line of more than {FIELD_AT_MOST * 16} characters")
        if goes_on:
            continue
        if whole := "".join(pending).strip():
            yield whole
        pending, length = [], 0
    if whole := "".join(pending).strip():
        yield whole


def _uncommented(line: str) -> tuple[str, bool]:
    """The line up to its comment, and whether the next one belongs to it. A quotation ends with its line."""
    end, open_quotation = len(line), False
    if ";" in line or '"' in line:
        for match in _PIECE.finditer(line):
            if match[0] == ";":
                end = match.start()
                break
            # the last piece, where nothing closes it
            open_quotation = match[0].startswith('"') and (len(match[0]) == 1 or not match[0].endswith('"'))
    kept = line[:end].rstrip(" \t\0")
    if kept.endswith("\\") and not open_quotation:
        return kept[:-1], True
    return kept + ('"' if open_quotation else ""), False


def _section_name(line: str) -> str:
    name = line[1:].partition("]")[0].strip()
    if not name or len(name) > _SECTION_NAME_AT_MOST:
        raise BadInf(f"has a section with a name of {len(name)} characters")
    return name.lower()


def _entry(line: str) -> Entry:
    fields = list(_fields(line))
    if len(fields) > FIELDS_AT_MOST:
        raise BadInf(f"has an entry of {len(fields)} fields; at most {FIELDS_AT_MOST} are read")
    key = None
    if fields and fields[0][0] == "=":
        key = fields.pop(0)[1]
    return Entry(key, tuple(text for _, text in fields))


def _fields(line: str) -> Iterator[tuple[str, str]]:
    """The fields, each with what ends it: ``=`` for a key, which only the first can be, ``,`` or nothing."""
    if '"' not in line:
        yield from _plain_fields(line)
        return
    text: list[str] = []
    # blanks around a field are no part of it, unless they are quoted
    solid = 0
    may_be_key = True
    for match in _FIELD_PIECE.finditer(line):
        piece = match[0]
        if piece[0] == '"':
            text.append(match["quoted"].replace('""', '"'))
            solid = len(text)
        elif piece == "," or (piece == "=" and may_be_key):
            yield piece, _checked("".join(text[:solid]))
            text, solid, may_be_key = [], 0, False
        else:
            bare = piece.strip(" \t")
            if bare:
                lead, _, trail = piece.partition(bare)
                text += [lead if text else "", bare, trail]
                solid = len(text) - 1
            else:
                text.append(piece if text else "")
    yield "", _checked("".join(text[:solid]))


def _plain_fields(line: str) -> Iterator[tuple[str, str]]:
    key, equals, rest = line.partition("=")
    if equals and "," not in key:
        yield "=", _checked(key.strip(" \t"))
    else:
        rest = line
    for text in rest.split(","):
        yield ",", _checked(text.strip(" \t"))


def _checked(text: str) -> str:
    if len(text) > FIELD_AT_MOST:
        raise BadInf(f"has a field of {len(text)} characters; {FIELD_AT_MOST} are allowed")
    return text


def _strings(sections: Mapping[str, tuple[Entry, ...]], language: int) -> Mapping[str, str]:
    """The one strings section that Windows takes for a language."""
    localized: dict[int, str] = {}
    for name in sections:
        if name.startswith("strings."):
            try:
                localized.setdefault(int(name.removeprefix("strings."), 16), name)
            except ValueError:
                continue
    primary = language & _PRIMARY_LANGUAGE
    kin = [number for number in sorted(localized) if number & _PRIMARY_LANGUAGE == primary]
    chosen = next((number for number in (language, primary, *kin) if number in localized), None)
    name = "strings" if chosen is None else localized[chosen]
    found: dict[str, str] = {}
    for entry in sections.get(name, ()):
        if entry.key is not None:
            # a comma in a string that nobody quoted
            found.setdefault(entry.key.lower(), ", ".join(entry.values))
    return found
