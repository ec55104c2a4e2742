"""A page's budget, whatever is put into it: what is below its fair share stays whole, what is above is cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2v.pages.markup import Markup


def fair_share(sizes: Iterable[int], total: int, most: int) -> int:
    """The largest limit, up to ``most``, at which what is cut to it takes no more than ``total`` together."""
    rising = sorted(min(size, most) for size in sizes)
    left = total
    for index, size in enumerate(rising):
        others = len(rising) - index
        if size * others > left:
            return left // others
        left -= size
    return most


def fitting(parts: Sequence[Markup], limit: int) -> Sequence[Markup]:
    """The first of the parts, as many as the limit has room for."""
    used = 0
    for index, part in enumerate(parts):
        used += len(part.html)
        if used > limit:
            return parts[:index]
    return parts
