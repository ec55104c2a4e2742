"""XML of descriptions: no entities, no DTD, no network, any of the encodings hypervisors write; namespaces taken off.

``xml.etree`` is given what defusedxml let through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from p2v.sources.description import Description

# Real ones have a few thousand elements; VirtualBox nests snapshots up to 250 deep, with two elements each.
_ELEMENTS_AT_MOST = 200_000
_DEEPEST = 600
# How a file begins whose text is in an encoding; without a mark, "<" tells.
_ENCODINGS = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"),
)  # fmt: skip


def parse(description: Description, data: bytes | None = None) -> Element:
    """The root element. Raises BadDescription: no XML, entities or a DTD in it, too deep, too many elements."""
    raw = description.data if data is None else data
    try:
        root: Element = fromstring(_without_padding(raw), forbid_dtd=True)
    except DefusedXmlException as error:
        raise description.error("has a DTD or entities in it, which no hypervisor writes and nothing here follows") from error
    except (ParseError, ValueError, LookupError) as error:
        raise description.error(f"is no sound XML: {ascii(str(error))[1:-1]}") from error
    _check(description, root)
    return root


def from_first_tag(head: bytes) -> str:
    """The text of a file's first bytes from its first element on, for a look at what XML it is; empty where it is none."""
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), "utf-8")
    text = head.decode(encoding, "replace").lstrip()
    while text.startswith(("<?", "<!--")):
        end = "?>" if text.startswith("<?") else "-->"
        text = text.partition(end)[2].lstrip()
    return text if re.match(r"<[A-Za-z_]", text) else ""


def local(element: Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def attribute(element: Element | None, name: str) -> str | None:
    """An attribute by its name without a namespace; stripped. None where there is none."""
    for key, value in element.attrib.items() if element is not None else ():
        if key.rpartition("}")[2] == name:
            return value.strip()
    return None


def children(element: Element | None, name: str) -> Iterator[Element]:
    """The direct children of that local name; none where there is no element."""
    return (child for child in (element if element is not None else ()) if local(child) == name)


def child(element: Element | None, *names: str) -> Element | None:
    """The first element down a path of local names; None where it ends before."""
    for name in names:
        element = next(children(element, name), None)
    return element


def text(element: Element | None, *names: str) -> str:
    """The stripped text of the element at the end of a path; empty where there is none."""
    found = child(element, *names)
    return (found.text or "").strip() if found is not None else ""


def is_on(element: Element | None, name: str, *, default: bool = False) -> bool:
    """A yes-or-no attribute, as XML and its writers spell it."""
    value = attribute(element, name)
    return default if not value else value.lower() in ("true", "yes", "on", "1")


def below(element: Element | None, name: str) -> Iterator[Element]:
    """All elements of that local name at any depth, in document order; none where there is no element."""
    return (each for each in (element.iter() if element is not None else ()) if local(each) == name)


_SAYS_UTF_16 = re.compile(rb"\A((?:\xef\xbb\xbf)?<\?xml[^>]{0,64}encoding=[\"'])utf-16", re.IGNORECASE)


def _without_padding(raw: bytes) -> bytes:
    if raw[:2] in (b"<\0", b"\0<"):  # UTF-16 without its mark
        raw = (b"\xff\xfe" if raw[:1] == b"<" else b"\xfe\xff") + raw
    # files copied off VMFS or written in blocks end in NULs; a BOM before the declaration is the parser's own affair
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        end = len(raw) - len(raw) % 2
        while end >= 2 and raw[end - 2 : end] == b"\0\0":
            end -= 2
        return raw[:end]
    # people turn such files into UTF-8 and leave the declaration
    return _SAYS_UTF_16.sub(rb"\g<1>utf-8", raw.rstrip(b"\0\r\n\t ").lstrip(b"\r\n\t "))


def _check(description: Description, root: Element) -> None:
    level, depth, count = [root], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > _DEEPEST or count > _ELEMENTS_AT_MOST:
            raise description.error(f"has more than {_DEEPEST} levels or {_ELEMENTS_AT_MOST} elements")
        level = [each for element in level for each in element]
