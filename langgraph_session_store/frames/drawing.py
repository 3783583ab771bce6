"""The strokes that all plots share: canvas, heading, lines, bars, labels and shades of matplotlib, without pyplot."""

from __future__ import annotations

from datetime import UTC, timedelta
from functools import partial
from io import BytesIO
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, Final

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#222222"
QUIET: Final = "#6b6b6b"
FAINT: Final = "#d9d9d9"
MAIN: Final = "#1f4e79"
PALE: Final = "#a8bccf"
LOOKS: Final = (
    ("#1f4e79", "-", "o"),
    ("#c55a11", "--", "s"),
    ("#7f7f7f", "-.", "^"),
    ("#2e8b57", ":", "D"),
    ("#000000", "-", "x"),
    ("#8064a2", "--", "v"),
)
"""Color, line and marker of up to six lines: any one of the three tells them apart."""
_LABEL: Final = 28  # characters
_START: Final = 8  # characters of a label that goes on where others differ
_TICKS: Final = 7  # at most
_HEAD: Final = 0.62  # inches
_MARGIN: Final = 0.1


def canvas(
    width: float, height: float, *, rows: int = 1, columns: int = 1, heights: Sequence[float] = (1,)
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of *width* by *height* inches and its axes."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("a plot", "frames") from None
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    vars(figure)["_repr_png_"] = partial(_png, figure)  # a notebook draws it, whatever it has loaded of matplotlib
    axes = figure.subplots(rows, columns, squeeze=False, sharex=rows > 1, height_ratios=heights)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(QUIET)
        each.tick_params(colors=INK, labelsize=9)
    return figure, list(axes.flat)


def _png(figure: Figure) -> bytes:
    figure.savefig(picture := BytesIO(), format="png", facecolor="white")
    return picture.getvalue()


def heading(figure: Figure, title: str, about: str) -> None:
    """Put a title and a line below it into the room above the axes."""
    width, height = figure.get_size_inches()
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, 1 - _HEAD / height))  # type: ignore[call-arg]  # the engine of these figures takes it, not all do
    top = {"x": _MARGIN / width, "ha": "left", "va": "top"}
    figure.text(y=1 - _MARGIN / height, s=title, fontsize=13, fontweight="bold", color=INK, **top)
    figure.text(y=1 - 0.36 / height, s=about, fontsize=9.5, color=QUIET, **top)


def nothing(title: str, why: str = "No sessions") -> Figure:
    """Return a figure that says that there is nothing to see, and why."""
    figure, (axes,) = canvas(7.5, 2.2)
    heading(figure, title, "")
    axes.set_axis_off()
    axes.text(0.5, 0.6, f"{why}: nothing to draw", ha="center", va="center", fontsize=11, color=QUIET)
    return figure


def line(axes: Axes, x: Any, y: Iterable[float | None], look: tuple[str, str, str], name: str = "") -> None:
    """Draw a line with a gap where *y* is None, called *name*."""
    color, style, marker = look
    values = [float("nan") if value is None else value for value in y]
    axes.plot(x, values, color=color, linestyle=style, marker=marker, markersize=3.5, linewidth=1.5, label=name)


def scatter(axes: Axes, points: Sequence[tuple[float, float, int]], number: int, name: str) -> None:
    """Draw *points* (x, y, weight) in the look of group *number*; without any it is only named."""
    axes.set_axis_off()
    if not points:
        axes.plot([], [], linestyle="", label=name)
        return
    shade = ("#1f4e79", "#9dc3e6", "#404040", "#c55a11", "#a6a6a6", "#2e8b57", "#8064a2", "#000000")[number % 8]
    marker = "osD^vPX"[number % 7]
    x, y, weights = zip(*points, strict=True)
    sizes = [14 + 8 * weight**0.5 for weight in weights]
    axes.scatter(x, y, s=sizes, c=shade, marker=marker, linewidths=0.4, edgecolors="white", label=name)


def percent(axes: Axes) -> None:
    """Make the vertical axis a success rate."""
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(_share)
    axes.set_ylabel("Success rate")
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def volume(axes: Axes, x: Any, counts: Any, days: float, name: str) -> None:
    """Draw the number of sessions per bucket of *days* as bars, and the times below them."""
    axes.bar(x, counts, width=0.85 * days, color=PALE)
    if len(x) < 4:  # noqa: PLR2004 - one bar alone would be as wide as the picture
        axes.set_xlim(x[0] - timedelta(days=3 * days), x[-1] + timedelta(days=3 * days))
    axes.set_ylabel(name)
    whole(axes.yaxis)
    dates(axes, x, days)


def dates(axes: Axes, x: Any, days: float) -> None:
    """Write the times *x*, which are *days* apart, below the axes."""
    from matplotlib import dates as mdates

    span = x[-1] - x[0]
    hourly = days < 1 and span < timedelta(days=3)
    names = "%d %b %H:%M" if hourly else "%d %b" if span < timedelta(days=300) else "%b %Y"
    if days < 1 or len(x) > _TICKS:
        axes.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=3, maxticks=_TICKS))  # type: ignore[no-untyped-call]  # matplotlib has no types here
    else:
        axes.set_xticks(list(x))
    axes.xaxis.set_major_formatter(mdates.DateFormatter(names, tz=UTC))  # type: ignore[no-untyped-call]  # matplotlib has no types here
    years = sorted({x[0].year, x[-1].year})
    axes.set_xlabel(f"Time (UTC), {' to '.join(map(str, years))}")


def whole(axis: Any) -> None:
    """Write whole numbers at *axis*."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(_count)


def short(value: float, _place: float) -> str:
    """Write a number at an axis; by name, as is all that a figure keeps, so that it can be pickled."""
    return f"{value:g}"


def _share(value: float, _place: float) -> str:
    return f"{value:.0%}"


def _count(value: float, _place: float) -> str:
    return f"{value:,.0f}"


def bars(
    axes: Axes, names: Sequence[str], values: Iterable[float | None], told: Callable[[float], str] = "{:,}".format
) -> None:
    """Draw horizontal bars with their values, as *told* writes them, at their ends."""
    values = list(values)
    sizes = [value or 0 for value in values]
    axes.barh(range(len(sizes)), sizes, height=0.7, color=MAIN)
    room = max(sizes, default=0) or 1
    for place, value in enumerate(values):
        text = "-" if value is None else told(value)
        axes.text((value or 0) + 0.015 * room, place, text, va="center", fontsize=9, color=INK)
    categories(axes, names)
    axes.set_xlim(0, 1.15 * room)
    axes.xaxis.set_ticks([])
    axes.spines["bottom"].set_visible(False)


def categories(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a picture, the first one on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def key(figure: Figure, entries: Sequence[tuple[str, str]], title: str) -> None:
    """Say below the picture what its colors mean."""
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=color, label=name) for color, name in entries]
    figure.legend(handles=patches, title=title, loc="outside lower center", ncols=len(entries), frameon=False, fontsize=9, title_fontsize=9, handlelength=1.2)  # fmt: skip


def box(x: float, y: float, color: str) -> Any:
    """Return a cell of a heat map."""
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, edgecolor="white", linewidth=2)


def heat(share: float) -> str:
    """Return a blue that is the darker the larger *share* is, also when printed in grey."""
    ends = zip((0xDC, 0xE5, 0xEE), (0x1F, 0x4E, 0x79), strict=True)
    return "#" + "".join(f"{round(light + (dark - light) * share):02x}" for light, dark in ends)


def dark(color: str) -> bool:
    """Return whether white letters read better on *color* than black ones."""
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return 0.3 * red + 0.6 * green + 0.1 * blue < 140  # noqa: PLR2004


def shades(values: Sequence[int]) -> dict[int, str]:
    """Return a color for each of *values*, from light to dark."""
    return {value: heat(place / max(1, len(values) - 1)) for place, value in enumerate(values)}


def bins(low: float, high: float, count: int, *, logarithmic: bool) -> list[float]:
    """Return the edges of a histogram's bars."""
    number = max(5, min(40, round(2 * count ** (1 / 3))))
    if low == high:
        return [low - 0.5, low + 0.5]
    if logarithmic:
        return [low * (high / low) ** (step / number) for step in range(number + 1)]
    return [low + (high - low) * step / number for step in range(number + 1)]


def label(value: object) -> str:
    """Return *value* as a short label; the text "(none)" is in quotes, without them it is NULL."""
    return _cut(_words(value))


def labels(values: Iterable[Iterable[object]]) -> list[str]:
    """Return each of *values*, which are keys of one or several parts, as a short label that no other one has."""
    keys = [[_words(part) for part in parts] for parts in values]
    short = [", ".join(map(_cut, parts)) for parts in keys]
    whole = [", ".join(parts) for parts in keys]
    texts = []
    for text, start in zip(whole, short, strict=True):
        alike = [other for other, same in zip(whole, short, strict=True) if same == start]
        if len(set(alike)) > 1:  # then what they have in common tells less than where they begin to differ
            common = commonprefix(alike)  # noqa: RUF071 - of texts, not of paths
            texts.append(_cut(f"{text[:_START]}…{text[len(common[: common.rfind(' ') + 1] or common) :]}"))
        else:
            texts.append(start)
    again = [texts[:place].count(text) for place, text in enumerate(texts)]
    numbered = [f"{text} ({number + 1})" if number else text for text, number in zip(texts, again, strict=True)]
    # matplotlib leaves names that begin with a line below out of its legends
    return [f" {text}" if text.startswith("_") else text for text in numbered]


def _words(value: object) -> str:
    text = " ".join(str(value).split())
    return "(none)" if value is None else f'"{text}"' if text in ("(none)", "") else text


def _cut(text: str) -> str:
    return (text if len(text) <= _LABEL else text[: _LABEL - 1] + "…").replace("$", r"\$")
