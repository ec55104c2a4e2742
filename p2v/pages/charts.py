"""Charts as SVG, drawn from numbers: stacked bars, bars inside each other, stacked columns. Sizes are in the drawing's own units.

Colours are classes of the style sheet, so that they follow light, dark and print. Each chart comes as a figure with a sentence that
says what it shows, a legend and its numbers as a table: nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from p2v.pages.markup import NOTHING, Child, Markup, element, joined, name_of

WIDTH = 480
_ROW = 42
_BAR = 16
_BAR_TOP = 20
_COLUMNS_HEIGHT = 200
_BASELINE = 170
_LEFT = 44
_LABEL_LETTERS = 52
_LABEL_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Series:
    """What one colour stands for. ``colour``: a class of the style sheet's."""

    label: str
    colour: str


@dataclass(frozen=True, slots=True)
class Row:
    """One bar or column: a value for each series (None: not known), and the text beside it."""

    label: str
    values: tuple[float | None, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with what stands around it. ``unit``: how a value is written in the table."""

    title: str
    sentence: str
    series: tuple[Series, ...]
    rows: tuple[Row, ...]
    first_column: str
    unit: Callable[[float], str] = lambda value: f"{value:,.0f}"
    note: str = ""


def stacked_bars(chart: Figure) -> Markup:
    """One bar a row, its values end to end."""
    most = max((sum(filter(None, row.values)) for row in chart.rows), default=0) or 1
    return _figure(chart, _drawing(chart, _rows_height(chart), _bar_rows(chart, most, _end_to_end)))


def nested_bars(chart: Figure) -> Markup:
    """One bar a row, each value drawn from the start and thinner than the one before it."""
    most = max((max(filter(None, row.values), default=0) for row in chart.rows), default=0) or 1
    return _figure(chart, _drawing(chart, _rows_height(chart), _bar_rows(chart, most, _one_in_another)))


def stacked_columns(chart: Figure) -> Markup:
    """One column a row, with an axis of counts. Every fourth label is written, from the first on, where it has room."""
    most = max((sum(filter(None, row.values)) for row in chart.rows), default=0) or 1
    return _figure(chart, _drawing(chart, _COLUMNS_HEIGHT, (*_axis(most), *_columns(chart, most))))


def _rows_height(chart: Figure) -> int:
    return _ROW * max(len(chart.rows), 1) + 4


def _drawing(chart: Figure, height: int, parts: Sequence[Markup] | Iterator[Markup]) -> Markup:
    """What is drawn is said in words beside it: to a screen reader the whole is one picture with its sentence."""
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_label=f"{chart.title}. {chart.sentence}",
        focusable="false",
    )


def _bar_rows(
    chart: Figure, most: float, bars: Callable[[Figure, Row, float, int], Iterator[Markup]]
) -> Iterator[Markup]:
    """Each row's label and value stand above its bar, so that long ones have room and a narrow window is enough."""
    for index, row in enumerate(chart.rows):
        top = index * _ROW
        yield _text(_short(row.label), 0, top + 14, "start")
        yield _text(row.text, WIDTH, top + 14, "end")
        yield from bars(chart, row, WIDTH / most, top + _BAR_TOP)


def _end_to_end(chart: Figure, row: Row, scale: float, top: int) -> Iterator[Markup]:
    left = 0.0
    for series, value in zip(chart.series, row.values, strict=True):
        if value:
            yield _box(left, top, max(value * scale, 1.5), _BAR, series, f"{series.label}: {chart.unit(value)}")
            left += value * scale


def _one_in_another(chart: Figure, row: Row, scale: float, top: int) -> Iterator[Markup]:
    for index, (series, value) in enumerate(zip(chart.series, row.values, strict=True)):
        if value:
            told = f"{series.label}: {chart.unit(value)}"
            yield _box(0, top + 2.5 * index, max(value * scale, 1.5), _BAR - 5 * index, series, told)


def _columns(chart: Figure, most: float) -> Iterator[Markup]:
    step = (WIDTH - _LEFT) / max(len(chart.rows), 1)
    for index, row in enumerate(chart.rows):
        left, bottom = _LEFT + index * step, float(_BASELINE)
        for series, value in zip(chart.series, row.values, strict=True):
            height = (value or 0) * (_BASELINE - 10) / most
            bottom -= height
            if value:
                told = f"{row.label}, {series.label}: {chart.unit(value)}"
                yield _box(left + step * 0.1, bottom, step * 0.8, max(height, 1.0), series, told)
        if index % 4 == 0 and left + _LABEL_WIDTH <= WIDTH:
            yield _text(row.label, left + step * 0.1, _BASELINE + 20, "start")


def _axis(most: float) -> Iterator[Markup]:
    digits = 0 if most >= 4 else 1 if most >= 0.4 else 2
    for value in sorted({0.0, round(most / 2, digits), round(most, digits)}):
        y = _BASELINE - value * (_BASELINE - 10) / most
        yield element("line", x1=_LEFT, x2=WIDTH, y1=y, y2=y, class_="axis")
        yield _text(f"{value:,.{digits if value % 1 else 0}f}", _LEFT - 6, y + 4, "end")


def _box(x: float, y: float, width: float, height: float, series: Series, told: str) -> Markup:
    return element("rect", element("title", told), x=x, y=y, width=width, height=height, class_=f"fill-{series.colour}")


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor)


def _short(text: str) -> str:
    return text if len(text) <= _LABEL_LETTERS else f"{text[: _LABEL_LETTERS - 1]}…"


def _figure(chart: Figure, drawing: Markup) -> Markup:
    legend = [element("li", each.label, class_=f"swatch-{each.colour}") for each in chart.series]
    return element(
        "figure",
        element("figcaption", element("h3", chart.title), element("p", chart.sentence)),
        element("div", drawing, class_="drawing", tabindex=0, role="group", aria_label=f"Chart: {chart.title}"),
        element("ul", *legend, class_="legend") if len(legend) > 1 else NOTHING,
        element("p", chart.note, class_="note") if chart.note else NOTHING,
        element(
            "details", element("summary", f"{chart.title}: the numbers"), element("div", _table(chart), class_="scroll")
        ),
        class_="chart",
        aria_label=chart.title,
    )


def _table(chart: Figure) -> Markup:
    head = [element("th", chart.first_column, scope="col")]
    head += [element("th", each.label, scope="col", class_="number") for each in chart.series]
    rows = []
    for row in chart.rows:
        cells: list[Child] = [
            element("td", "–" if value is None else chart.unit(value), class_="number") for value in row.values
        ]
        rows.append(element("tr", element("th", name_of(row.label), scope="row"), *cells))
    return element(
        "table",
        element("caption", chart.title),
        element("thead", element("tr", *head)),
        element("tbody", joined(rows)),
        class_="small",
    )
