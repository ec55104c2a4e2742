"""How a page is laid out: its frame, its sections, what filters its table, its style and script."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from p2v.pages.markup import Markup, element, joined, link, page

_EVERYTHING_OPEN = "details::details-content{content-visibility:visible;block-size:auto}"


def whole_page(
    title: str, own: tuple[str, str, str], skip: str, parts: Sequence[Markup], refresh_seconds: int | None = None
) -> str:
    """A page of the given parts. ``own``: its package, its style's and its script's file there; both stand on the base ones.

    ``skip``: what the first link of all leads to, past the contents. ``refresh_seconds``: as ``markup.page`` takes it.
    """
    package, style, script = own
    styles = (_data("p2v.pages", "base.css"), _data(package, style))
    scripts = _data("p2v.pages", "base.js") + _data(package, script)
    body = joined((element("a", f"Skip to {skip}", href="#main", class_="skip"), *parts), "\n")
    return page(title, styles, _EVERYTHING_OPEN, scripts, body, refresh_seconds)


def _data(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text("utf-8")


def header(title: str, told: Sequence[str]) -> Markup:
    """The page's head, with the button for dark and light, which is hidden until the script is there."""
    return element(
        "header",
        element("h1", title),
        element("p", " · ".join(told)),
        element("button", "Dark or light", type="button", id="theme", hidden=True),
    )


def contents(sections: Sequence[tuple[str, str]]) -> Markup:
    """Links to sections: anchors and texts."""
    items = [element("li", link(f"#{anchor}", text)) for anchor, text in sections]
    return element("nav", element("ul", *items), aria_label="Sections")


def section(anchor: str, title: str, *parts: Markup) -> Markup:
    """A section below its heading."""
    heading = element("h2", title, id=f"{anchor}-title")
    return element("section", heading, *parts, id=anchor, aria_labelledby=f"{anchor}-title")


def filter_form(*choices: Markup) -> Markup:
    """What filters the table of machines: a search, choices, buttons. Hidden until the script is there to do it."""
    words = element("input", id="search", type="search", autocomplete="off", spellcheck="false")
    return element(
        "form",
        _field("Search", "search", words),
        *choices,
        element("button", "Clear", type="button", id="clear"),
        element("button", "Open all", type="button", id="open-all"),
        element("button", "Close all", type="button", id="close-all"),
        id="controls",
        class_="controls",
        role="search",
        aria_label="Filter machines",
        hidden=True,
    )


def choice(label: str, name: str, values: Sequence[tuple[str, str]]) -> Markup:
    """A field to choose from values, each with its text; at first any."""
    options = [element("option", "any", value=""), *(element("option", text, value=value) for value, text in values)]
    return _field(label, name, element("select", *options, id=name, autocomplete="off"))


def _field(label: str, name: str, control: Markup) -> Markup:
    return element("div", element("label", label, for_=name), control)


def filter_status(fields: str) -> Markup:
    """Said aloud by screen readers whenever the filter has changed it."""
    return element("p", element("output", id="status", for_=fields), class_="status")
