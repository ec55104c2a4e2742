"""The text of Xen's machine configurations, read as data: nothing in it is ever run.

Sources: xl.cfg(5), "Syntax" (settings are numbers, strings and lists, separated by line ends or ``;``), and the examples of xm,
whose files are Python programs: those that do no more than set names to literals mean the same. A file that
computes something is an error with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from p2v.core.errors import BadDescription
from p2v.sources.description import Description

_TOKENS_AT_MOST = 100_000
_DEEPEST = 8
_LONGEST = 64 * 1024
_TOKEN = re.compile(
    r"(?P<space>[ \t\f\v\0]+|\\\n|#[^\n]*)"
    r"|(?P<end>\n[\n \t]*|;)"
    r"|(?P<long>\"\"\"|''')"
    r"|(?P<string>[uUrRbB]?(?:\"(?:[^\"\\\n]++|\\.)*+\"|'(?:[^'\\\n]++|\\.)*+'))"
    r"|(?P<number>[+-]?(?:0[xX][0-9A-Fa-f]{1,16}|\d{1,20})(?![\w.]))"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\+=|[\[\](),=])"
    r"|(?P<other>.)",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([0-7]{1,3})|(\n)|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r"}
_CONSTANTS: Mapping[str, int | None] = {"True": 1, "False": 0, "None": None}
_OPEN, _CLOSED = {"[": "]", "(": ")"}, "])"

Value = int | str | tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The values by their names."""

    values: Mapping[str, Value]

    def text(self, name: str) -> str:
        """A string, or a number as one; empty where there is none, or a list."""
        value = self.values.get(name, "")
        return str(value).strip() if isinstance(value, int | str) else ""

    def words(self, name: str) -> tuple[str, ...]:
        """The strings of a list; a string alone is a list of one. Numbers and lists in it are left out."""
        value = self.values.get(name, ())
        each = value if isinstance(value, tuple) else (value,)
        return tuple(item.strip() for item in each if isinstance(item, str) and item.strip())

    def is_on(self, name: str) -> bool:
        """A number other than 0, or its word."""
        return self.text(name).lower() not in ("", "0", "false", "no", "off")

    def count(self, name: str) -> int:
        """How many entries a list has, also empty ones (``vif = ['']`` is a card with defaults)."""
        value = self.values.get(name, ())
        return len(value) if isinstance(value, tuple) else int(value != "")


def parse(description: Description) -> Settings:
    """The settings; of a name that is set twice the last counts. Raises BadDescription for anything that is no literal."""
    text = description.data.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    parser = _Parser(description, _tokens(description, text))
    return Settings(parser.settings())


def _tokens(description: Description, text: str) -> list[_Token]:
    found: list[_Token] = []
    at, line, depth = 0, 1, 0
    while (match := _TOKEN.match(text, at)) is not None:
        kind, piece = match.lastgroup or "", match[0]
        if kind == "long" and (end := text.find(piece, match.end())) >= 0:
            kind, piece = "string", text[at : end + len(piece)]
        if kind == "sign":
            depth += (piece in _OPEN) - (piece in _CLOSED)
        # inside brackets a line's end means nothing
        if kind != "space" and not (kind == "end" and piece != ";" and depth > 0):
            found.append(_Token(kind, piece, line))
        line += piece.count("\n")
        at += len(piece)
        if len(found) > _TOKENS_AT_MOST:
            raise description.error(f"has more than {_TOKENS_AT_MOST} words")
    return [*found, _Token("end", "", line)]


def _problem(description: Description, line: int, what: str) -> BadDescription:
    return description.error(
        f"line {line}: {what[:60]!a} is not expected there; only names that are set to numbers, strings and lists are read",
        "A configuration of xm may be a program, which is not run here: write down what it comes to, in the syntax of xl.cfg(5).",
    )


class _Parser:
    """Settings from tokens."""

    def __init__(self, description: Description, tokens: list[_Token]) -> None:
        self._description = description
        self._tokens = tokens
        self._at = 0

    def settings(self) -> dict[str, Value]:
        """All of them."""
        values: dict[str, Value] = {}
        while self._at < len(self._tokens):
            name = self._next()
            if name.kind == "end":
                continue
            if name.kind != "word":
                raise self._unexpected(name)
            sign = self._next()
            if sign.text not in ("=", "+="):
                raise self._unexpected(name if sign.kind == "end" else sign)
            value = self._value(0)
            end = self._next()
            if end.kind != "end":
                raise self._unexpected(end)
            _put(values, name.text, value, is_more=sign.text == "+=")
            put = values.get(name.text)
            if isinstance(put, str | tuple) and len(put) > _LONGEST:
                raise self._description.error(f"line {name.line}: has a value of more than {_LONGEST} letters or entries")
        return values

    def _next(self) -> _Token:
        token = self._tokens[min(self._at, len(self._tokens) - 1)]
        self._at += 1
        return token

    def _peek(self) -> _Token:
        return self._tokens[min(self._at, len(self._tokens) - 1)]

    def _value(self, depth: int) -> Value | None:
        token = self._next()
        if token.kind == "string":
            pieces = [_unquoted(token.text)]
            while self._peek().kind == "string":  # Python joins strings that stand side by side
                pieces.append(_unquoted(self._next().text))
            return "".join(pieces)
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "word" and token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        if token.text in _OPEN and depth < _DEEPEST:
            return self._list(_OPEN[token.text], depth)
        raise self._unexpected(token)

    def _list(self, closing: str, depth: int) -> Value | None:
        found: list[Value] = []
        has_comma = False
        while self._peek().text != closing or self._peek().kind != "sign":
            value = self._value(depth + 1)
            if value is not None:
                found.append(value)
            if self._peek().text != ",":
                break
            has_comma = True
            self._next()
        end = self._next()
        if end.kind != "sign" or end.text != closing:
            raise self._unexpected(end)
        # Python's parentheses around one value are no list
        return found[0] if closing == ")" and len(found) == 1 and not has_comma else tuple(found)

    def _unexpected(self, token: _Token) -> BadDescription:
        return _problem(self._description, token.line, token.text or "the end of the file")


def _put(values: dict[str, Value], name: str, value: Value | None, *, is_more: bool) -> None:
    if value is None:
        values.pop(name, None)
        return
    known = values.get(name)
    if is_more and isinstance(known, tuple) and isinstance(value, tuple):
        value = (*known, *value)
    elif is_more and isinstance(known, str) and isinstance(value, str):
        value = known + value
    values[name] = value


def _number(text: str) -> int:
    """A decimal number, one of hexadecimal digits, or one of octal digits that begins with 0, as C reads them."""
    digits = text.lstrip("+-").lower()
    base = 16 if digits.startswith("0x") else 8 if re.fullmatch(r"0[0-7]+", digits) else 10
    return int(digits, base) * (-1 if text.startswith("-") else 1)


def _unquoted(text: str) -> str:
    raw = text[:1] in "rR"
    body = text.lstrip("uUrRbB")
    width = 3 if body.startswith(('"""', "'''")) else 1
    body = body[width : len(body) - width]
    return body if raw else _ESCAPE.sub(_escaped, body)


def _escaped(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    if match[2]:
        return chr(int(match[2], 8) & 0xFF)
    return "" if match[3] else _LETTERS.get(match[4], match[4])
