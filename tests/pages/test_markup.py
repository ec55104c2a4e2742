"""Nothing becomes markup but what this module makes."""

from __future__ import annotations

import ast
import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from p2v import pages
from p2v.audit import report
from p2v.batch import report as batch_report
from p2v.pages.markup import (
    TEXT_LETTERS,
    Markup,
    element,
    joined,
    link,
    long_text,
    name_of,
    page,
    picture,
    shown,
    with_commands,
)
from tests.pages.hostile import HOSTILE

FOLDERS = [Path(str(each.__file__)).parent for each in (pages, report, batch_report)]


class Seen(HTMLParser):
    """The tags and the text of some markup."""

    def __init__(self, markup: Markup) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_a_text_wherever_it_stands(text: str) -> None:
    seen = Seen(element("p", text, name_of(text), title=text, class_="a"))
    assert [tag for tag, _ in seen.tags] == ["p", "bdi"]
    assert seen.tags[0][1] == {"title": seen.tags[0][1]["title"], "class": "a"}
    assert seen.text == shown(text) + shown(text, 200)
    seen.text.encode("utf-8")  # which lone surrogates could not be


def test_what_does_not_print_is_shown_as_an_escape() -> None:
    assert shown("a\u202eb\x00c\udc80d\x1b[m") == "a\\u202eb\\x00c\\x80d\\x1b[m"
    assert shown("one\ttwo\nthree ü 漢 ‐") == "one\ttwo\nthree ü 漢 ‐"


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    assert shown("x" * (TEXT_LETTERS + 1_234)) == "x" * TEXT_LETTERS + "… (1,234 more letters)"
    assert len(shown("\u202e" * 10 * TEXT_LETTERS)) < TEXT_LETTERS + 100, "escapes are longer than what they stand for"
    assert long_text("<" * 9, 10).html == "&lt;" * 9


@pytest.mark.parametrize(
    "target",
    ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", " https://a", "//a", "https://a b", "#a b", ""],
)
def test_a_link_leads_into_the_page_or_to_a_web_page_or_nowhere(target: str) -> None:
    assert Seen(link(target, "text")).tags == []
    assert Seen(link(target, "text")).text == "text"
    with pytest.raises(ValueError, match="link"):
        element("a", "text", href=target)


def test_links_that_are_links() -> None:
    assert Seen(link("https://example.org/a?b=\"'<", "text")).tags == [
        ("a", {"href": "https://example.org/a?b=\"'<", "rel": "noreferrer noopener"})
    ]
    assert Seen(link("#machine-1", "text")).tags == [("a", {"href": "#machine-1"})]


@pytest.mark.parametrize("name", ["script", "style", "img", "iframe", "p onload=x", ""])
def test_a_report_has_no_element_that_does_something(name: str) -> None:
    with pytest.raises(ValueError, match="no element"):
        element(name)


@pytest.mark.parametrize("name", ["onclick", "style", "src", "data_", "aria_label onload"])
def test_a_report_has_no_attribute_that_does_something(name: str) -> None:
    with pytest.raises(ValueError, match="no attribute"):
        element("p", **{name: "x"})


def test_a_picture_is_a_png_that_the_page_has_in_it() -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 100
    ((tag, attributes),) = Seen(picture(png, 64, 48, '"><script>')).tags
    assert (tag, attributes["alt"], attributes["width"], attributes["height"]) == ("img", '"><script>', "64", "48")
    assert attributes["src"] == "data:image/png;base64," + base64.b64encode(png).decode()
    for other in (b"", b"<svg onload=x>", b"GIF89a"):
        with pytest.raises(ValueError, match="PNG"):
            picture(other, 1, 1, "")


def test_a_page_is_loaded_anew_without_scripts_only_where_that_is_wished() -> None:
    assert '<noscript><meta http-equiv="refresh" content="30">' in page("title", (), "", "", Markup(""), 30)
    for none in (None, 0):
        assert 'http-equiv="refresh' not in page("title", (), "", "", Markup(""), none)


def test_styles_and_the_script_cannot_be_ended_from_inside() -> None:
    for bad in ("a</script>", "<!-- a", "</style>"):
        with pytest.raises(ValueError, match="would end it"):
            page("title", (bad,), "", "", Markup(""))
        with pytest.raises(ValueError, match="would end it"):
            page("title", (), "", bad, Markup(""))


def test_joined_puts_an_escaped_text_between() -> None:
    assert joined((1, element("p"), "<", None), " & ").html == "1 &amp; <p></p> &amp; &lt; &amp; "


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda each: f"{each.parent.name}-{each.name}")
def test_no_other_module_makes_markup(folder: Path) -> None:
    modules = [each for each in folder.glob("*.py") if each.name != "markup.py"]
    assert len(modules) > 4
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "Markup", f"{module.name}:{node.lineno} makes markup by itself"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"</?[a-z]", node.value), f"{module.name}:{node.lineno} has a tag in a text"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda each: f"{each.parent.name}-{each.name}")
def test_no_script_makes_markup_either(folder: Path) -> None:
    (script,) = folder.glob("*.js")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(|fetch|XMLHttp|import", script.read_text()
    )


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Put it right, then `p2v batch retry`.", "Put it right, then <code>p2v batch retry</code>."),
        ("`a` and `b`", "<code>a</code> and <code>b</code>"),
        ("one ` alone", "one ` alone"),
        ("`a` and `b", "<code>a</code> and `b"),
        ("`<script>`", "<code>&lt;script&gt;</code>"),
        ("", ""),
    ],
)
def test_commands_in_a_sentence_are_set_apart(text: str, html: str) -> None:
    assert with_commands(text).html == html
