"""A page read tag by tag, without a browser."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img"}


class Nesting(HTMLParser):
    """Finds tags that are not closed in the order they were opened in; gathers the text, and what is named and linked."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if tag == "a" else []
        self.links += [f"#{given['data-of']}"] if "data-of" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def text_of(page: str, between: str) -> str:
    """The text of a page with its white space folded; ``between``: what is put between the texts of two elements."""
    return " ".join(between.join(Nesting(page).text).split())
