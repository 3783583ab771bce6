"""The pictures of docs/benchmarks.md, from the results alone; the same results give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from langgraph_session_store.frames.drawing import FAINT, INK, MAIN, PALE, QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

Lines = list[dict[str, Any]]
FLOORS = {"ratio": 0.3, "added_cpu_us": 10, "of_copy": 0.03}
"""Where logarithmic scales begin."""
OURS = ("memory", "spool", "fsync", "sync")


def label(line: dict[str, Any]) -> str:
    """Return what a candidate of the hot path is called."""
    family, name = line["family"].removesuffix("_otlp"), str(line["candidate"])
    shown = {"ours": "session store", "langfuse": "Langfuse", "langsmith": "LangSmith", "mlflow": "MLflow"}
    if family in ("nothing", "postgres") or name.startswith(("bare", "nothing", "JSON")):
        return name
    return f"{shown.get(family, 'OpenInference')}, {name}"


def contenders(lines: Lines, mode: str) -> Lines:
    """Return the lines of *mode* without the yardsticks, and each floor once."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["mode"] == mode and not line["candidate"].startswith("bare"):
            found.setdefault(label(line), line)
    return list(found.values())


def mine(line: dict[str, Any]) -> bool:
    """Return whether *line* is about us."""
    return line["candidate"] in OURS or line["candidate"].startswith("ours")


def _canvas(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of *width* by *height* inches, and its axes row by row."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _points(axes: Axes, lines: Lines, value: str, title: str, names: Sequence[str]) -> None:
    """Draw a point for each line's median and a stroke between its quartiles."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    for place, line in enumerate(lines):
        color = MAIN if mine(line) else PALE
        low, middle, high = (max(FLOORS[value], each) for each in sorted([line[value], *line[f"{value}_quartiles"]]))
        axes.plot([low, high], [place, place], color=color, linewidth=3, solid_capstyle="butt")
        axes.plot(max(FLOORS[value], line[value]), place, "o", color=color, markersize=7)
        text = f"  {line[value]:,.2f}" if middle < 100 else f"  {line[value]:,.0f}"  # noqa: PLR2004
        axes.annotate(text, (high, place), va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(lines)), names, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", color=FAINT, linewidth=0.5)
    axes.margins(x=0.18)
    axes.set_title(title, loc="left", fontsize=10, color=INK)


def hot_path(results: dict[str, Any]) -> Figure:
    """Draw how many times as long as bare a run takes."""
    figure, (left, right) = _canvas(11, 5.2, 1, 2)
    for axes, mode in ((left, "sync"), (right, "async")):
        lines = contenders(results["lines"], mode)
        _points(axes, lines, "ratio", f"{'invoke' if mode == 'sync' else 'ainvoke'}, times bare", [*map(label, lines)])
        axes.axvline(1, color=QUIET, linewidth=0.8)
    return figure


def cpu(results: dict[str, Any]) -> Figure:
    """Draw what the whole process spends on a run beyond bare."""
    figure, (axes,) = _canvas(8, 4.4, 1, 1)
    lines = contenders(results["lines"], "sync")
    _points(axes, lines, "added_cpu_us", "CPU of the process added per run, µs, invoke", [*map(label, lines)])
    axes.axvline(250, color=QUIET, linewidth=0.8, linestyle="--")
    return figure


def ingest(results: dict[str, Any]) -> Figure:
    """Draw the rates as parts of COPY."""
    contests = results["contests"]
    rows = (len(contests) + 1) // 2
    figure, all_axes = _canvas(11, 2.8 * rows, rows, 2)
    for axes, contest in zip(all_axes, contests, strict=False):
        names = [f"{line['half']}: {line['candidate']}" for line in contest["lines"]]
        _points(axes, contest["lines"], "of_copy", f"{contest['kb']:g} KB, {contest['compression']}", names)
        axes.tick_params(axis="y", labelsize=6)
        axes.axvline(1, color=QUIET, linewidth=0.8)
    for axes in all_axes[len(contests) :]:
        axes.set_visible(False)
    return figure


def growth(results: dict[str, Any]) -> Figure:
    """Draw what grows: with the table, the state, the threads, the runs."""
    figure, (table, state, threads, memory) = _canvas(11, 6, 2, 2)
    sized = [line for line in results.get("state", ()) if line["candidate"] == "spool"]
    curves = {
        "rows": (table, results.get("table"), "time per stored run, over the smallest table", "rows in the table"),
        "kb": (state, sized, "invoke, times bare", "KB of state"),
        "threads": (threads, results.get("threads"), "time per run, times bare", "threads that invoke"),
    }
    for across, (axes, lines, title, below) in curves.items():
        axes.set_visible(bool(lines))
        if lines:
            _curve(axes, lines, across, title, below)
    for line in results.get("memory", ()):
        runs = [line["runs"] * step / (len(line["mb"]) - 1) for step in range(len(line["mb"]))]
        memory.plot(
            runs,
            line["mb"],
            color=MAIN if mine(line) else PALE,
            marker="." if mine(line) else None,
            label=line["candidate"],
        )
    memory.set_ylim(0, 1.2 * max((max(line["mb"]) for line in results.get("memory", ())), default=1))
    memory.legend(frameon=False, fontsize=8)
    memory.set_title("resident memory, MB", loc="left", fontsize=10, color=INK)
    memory.set_xlabel("runs", fontsize=8)
    return figure


def _curve(axes: Axes, lines: Lines, across: str, title: str, below: str) -> None:
    middle = [line["ratio"] for line in lines]
    reach = [[abs(line["ratio"] - line["ratio_quartiles"][side]) for line in lines] for side in (0, 1)]
    axes.errorbar([line[across] for line in lines], middle, yerr=reach, color=MAIN, marker="o", capsize=3)
    axes.set_xscale("log")
    axes.set_ylim(0, max(2, 1.1 * max(max(line["ratio_quartiles"]) for line in lines)))
    axes.axhline(1, color=QUIET, linewidth=0.8)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel(below, fontsize=8)


def write_pictures(results: dict[str, dict[str, Any]], folder: Path) -> list[str]:
    """Write one SVG for each picture whose results are there; return their names."""
    mpl.rcParams["svg.hashsalt"] = "bench"
    pictures: dict[str, tuple[str, Callable[[dict[str, Any]], Figure]]] = {
        "hot-path": ("hot_path", hot_path),
        "cpu": ("hot_path", cpu),
        "ingest": ("ingest", ingest),
        "growth": ("growth", growth),
    }
    written = []
    for name, (benchmark, draw) in pictures.items():
        if benchmark in results:
            draw(results[benchmark]).savefig(folder / f"bench-{name}.svg", format="svg", metadata={"Date": None})
            written.append(name)
    return written
