"""HTML and SVG, made here alone: every text is escaped on its way in, and nothing else in the report writes a tag.

A text may come from a guest, a description or an export: control characters, bidirectional overrides and lone surrogates
come out as visible escapes; what would be markup comes out as text; what is too long is cut, and says by how much.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from p2v.core.text import printable

NAME_LETTERS = 200
TEXT_LETTERS = 2_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ATTRIBUTE_LETTERS = 20_000


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is markup already. Made by the functions of this module only."""

    html: str


Child = Markup | str | int | None
"""What an element may hold: markup as it is, text and numbers escaped, None left out."""

NOTHING = Markup("")

_ELEMENTS = frozenset(
    {
        "a", "article", "bdi", "button", "caption", "code", "dd", "details", "div", "dl", "dt", "figcaption",
        "figure", "footer", "form", "h1", "h2", "h3", "h4", "header", "input", "label", "li", "line", "main", "nav",
        "ol", "option", "output", "p", "pre", "rect", "section", "select", "span", "strong", "summary", "svg",
        "table", "tbody", "td", "text", "th", "thead", "title", "tr", "ul",
    }
)  # fmt: skip
_ATTRIBUTES = frozenset(
    {
        "id", "class", "href", "rel", "for", "type", "value", "hidden", "open", "scope", "role", "tabindex", "title",
        "autocomplete", "spellcheck", "viewBox", "width", "height", "x", "y", "x1", "y1", "x2", "y2", "text-anchor",
        "focusable", "preserveAspectRatio", "colspan", "alt",
    }
)  # fmt: skip
_NAMED = re.compile(r"(?:data|aria)-[a-z]+(?:-[a-z]+)*")
_TARGET = re.compile(r"#[A-Za-z][\w.-]*|https?://[!-~]+", re.ASCII)
_VOID = frozenset({"input"})


def shown(text: str, most: int = TEXT_LETTERS) -> str:
    """The text as it can be shown: cut to ``most`` letters, and what does not print as escapes. Not escaped for HTML."""
    rest = len(text) - most
    if rest > 0:
        text = text[:most]
    if not text.replace("\n", "").replace("\t", "").isprintable():
        text = printable(text)[:most]  # an escape is longer than what it stands for
    return f"{text}… ({rest:,} more letters)" if rest > 0 else text


def element(name: str, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """An element. ``class_`` and ``for_`` are spelled so for Python's sake; other underscores are hyphens (``aria_label``).

    True is an attribute without a value, False and None none at all. Raises ValueError for an element or attribute that
    reports have no use for: scripts, styles, handlers, embedded things.
    """
    if name not in _ELEMENTS:
        raise ValueError(f"a report has no element {name!r}")
    opening = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    if name in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{''.join(map(_inner, children))}</{name}>")


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if name not in _ATTRIBUTES and not _NAMED.fullmatch(name):
        raise ValueError(f"a report has no attribute {name!r}")
    if value is True:
        return f" {name}"
    if isinstance(value, float):
        value = f"{value:.1f}".removesuffix(".0")
    if name == "href" and not _TARGET.fullmatch(str(value)):
        raise ValueError(f"a report does not link to {value!r}")
    return f' {name}="{html.escape(shown(str(value), _ATTRIBUTE_LETTERS))}"'


def _inner(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child.html
    return html.escape(shown(child)) if isinstance(child, str) else str(child)


def joined(parts: Iterable[Child], between: str = "") -> Markup:
    """Parts one after the other, with a text between each two."""
    return Markup(html.escape(between).join(map(_inner, parts)))


def long_text(text: str, most: int) -> Markup:
    """A text that may be longer than others: preformatted ones."""
    return Markup(html.escape(shown(text, most)))


def name_of(text: str) -> Markup:
    """A name from outside, cut, in an isolation of its own: letters that run from right to left move nothing around it."""
    return element("bdi", shown(text, NAME_LETTERS))


def with_commands(text: str, most: int = TEXT_LETTERS) -> Markup:
    """A sentence in which commands stand between grave accents, as in a terminal; one that has no partner stays as it is."""
    parts = shown(text, most).split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = ["`".join(parts[-2:])]
    return joined(element("code", part) if number % 2 else part for number, part in enumerate(parts))


def link(target: str, text: Child) -> Markup:
    """A link into the page or to a web page; the text alone for a target that is neither."""
    if not _TARGET.fullmatch(target):
        return joined((text,))
    return element("a", text, href=target, rel=None if target.startswith("#") else "noreferrer noopener")


def picture(png: bytes, width: int, height: int, alternative: str) -> Markup:
    """A picture that the page has in it, laid out before it is decoded. Raises ValueError for what does not begin as a PNG does."""
    if not png.startswith(PNG_SIGNATURE):
        raise ValueError("a page holds pictures as PNG only")
    attributes = _attribute("alt", alternative) + _attribute("width", width) + _attribute("height", height)
    data = base64.b64encode(png).decode()
    return Markup(f'<img{attributes} decoding="async" src="data:image/png;base64,{data}">')


# A page that comes in the place of an older one is shown when its script has put everything where the reader had it: until then
# the older one stays on the screen. One that is opened is shown as it comes. Its last element is waited for.
_WHOLE = """"use strict";
if (performance.getEntriesByType("navigation")[0]?.type === "reload") {
  const whole = document.createElement("link");
  whole.rel = "expect";
  whole.href = "#whole";
  whole.blocking = "render";
  document.head.append(whole);
}"""


def page(
    title: str, styles: tuple[str, ...], quiet_style: str, script: str, body: Markup, refresh_seconds: int | None = None
) -> str:
    """The whole file. ``quiet_style`` holds where scripts do not run. Nothing but these styles and this script may be used.

    ``refresh_seconds``: after which it is loaded anew where scripts do not run; where they do, they do that.
    """
    scripts = (_WHOLE, script) if refresh_seconds else (script,)
    early = f"<script>{_own(_WHOLE)}</script>\n" if refresh_seconds else ""
    end = '<p id="whole" hidden></p>\n' if refresh_seconds else ""
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {' '.join(_digest(each) for each in (*styles, quiet_style))}",
            f"script-src {' '.join(map(_digest, scripts))}",
            "img-src data:",  # pictures, and the empty icon, which keeps a browser from asking a server for one
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    refresh = f'<meta http-equiv="refresh" content="{refresh_seconds:d}">' if refresh_seconds else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy, quote=False)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(shown(title, NAME_LETTERS))}</title>\n"
        f'<link rel="icon" href="data:,">\n{early}'
        f"{''.join(f'<style>{_own(each)}</style>' for each in styles)}\n"
        f"<noscript>{refresh}<style>{_own(quiet_style)}</style></noscript>\n</head>\n"
        f"<body>\n{body.html}\n<script>{_own(script)}</script>\n{end}</body>\n</html>\n"
    )


def _own(text: str) -> str:
    """The suite's own style or script. No text of anybody else's is ever in one."""
    if "</" in text or "<!--" in text:
        raise ValueError("a style or script of the report's holds what would end it")
    return text


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
