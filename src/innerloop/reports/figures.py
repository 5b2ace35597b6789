"""Charts as SVG to stand in a page: text and axes take the page's colour, so that they can be read on light and on dark."""

import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#0f0e0d"  # becomes the page's text colour; no chart uses it otherwise
COLORS = ("#1f83c4", "#e0861a", "#159e6e", "#d1495b", "#a36cc4", "#5fb3d9", "#a08a3c", "#8a8a8a")  # seen on white and on black
STYLE: Any = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.2,
    "grid.color": INK, "legend.frameon": False, "axes.prop_cycle": cycler(color=COLORS), "figure.facecolor": "none",
    "axes.facecolor": "none", "text.parse_math": False, "lines.linewidth": 1.6, "image.interpolation": "none",
}  # fmt: skip
Line = tuple[Sequence[float], Sequence[float], Sequence[float] | None]  # x, y, half a 95 % interval


def lines(title: str, x_label: str, y_label: str, of: Mapping[str, Line]) -> str:
    """A line for each name, with its interval as a band."""
    with matplotlib.rc_context(STYLE):
        columns = 1 if max(map(len, of)) > 24 else 2
        figure, axes = blank(5.2, 3 + 0.2 * -(-len(of) // columns))
        most = highest(of)
        for name, (x, y, half) in of.items():
            mark, label = (
                "o" if len(x) == 1 else None,
                name if np.nanmax(y, initial=0) <= most and np.isfinite(y).all() else f"{name} (diverged)",
            )
            (line,) = axes.plot(x, y, label=label, marker=mark, markersize=5)
            if half is not None:
                low, high = np.subtract(y, half), np.add(y, half)
                if len(x) == 1:
                    axes.errorbar(x, y, yerr=half, color=line.get_color())
                axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set(xlabel=x_label, ylabel=y_label)
        if axes.get_ylim()[1] > 1.5 * most:
            axes.set_ylim(-0.05 * most, most)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(of) > 1:
            figure.legend(loc="outside lower center", ncols=columns)
        return svg(figure, title)


def highest(of: Mapping[str, Line]) -> float:
    """What a chart shows at most: ten times what any line begins with. One that leaves that behind would make the others flat."""
    begin = [abs(y[0]) for _, y, _ in of.values() if len(y) and np.isfinite(y[0])]
    return 10 * max(begin, default=0) or np.inf


def fits(title: str, steps: Sequence[int], tasks: Iterable[tuple[Line, Line, Sequence[Sequence[float]]]]) -> str:
    """Functions of one variable: the truth, the support points, and a prediction after each of `steps`, for each task."""
    shown = list(tasks)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.6 * len(shown)), layout="constrained")
        for axes, (truth, support, predictions) in zip(figure.subplots(len(shown), 1, squeeze=False).flat, shown, strict=True):
            axes.plot(*truth[:2], color="#999999", linewidth=6, alpha=0.45, label="the function")
            for index, (step, prediction) in enumerate(zip(steps, predictions, strict=True)):
                axes.plot(truth[0], prediction, color=COLORS[index], linestyle=":" if step == 0 else "-", label=after(step))
            axes.plot(*support[:2], "o", color=INK, markersize=4, label="support")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return svg(figure, title)


def episode(title: str, support: np.ndarray, query: np.ndarray, before: np.ndarray | None, after: np.ndarray) -> str:
    """One episode of images, a row for each class. support (ways, shots, h, w, c), query (ways, queries, h, w, c), in [0, 1];
    before, after: predicted ways (ways, queries), before adaptation if it has steps. Under each query stands what it was taken for;
    errors have a red frame."""
    ways, shots, queries = *support.shape[:2], query.shape[1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.62 * (shots + queries) + 0.5, 0.86 * ways + 0.4), layout="constrained")
        all_axes = figure.subplots(ways, shots + queries + 1, squeeze=False, width_ratios=[1] * shots + [0.25] + [1] * queries)
        for way, row in enumerate(all_axes):
            row[shots].axis("off")
            for axes, image in zip(np.delete(row, shots), [*support[way], *query[way]], strict=True):
                axes.imshow(image.squeeze(), cmap="gray_r", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(visible=True, color="#999999")
            for index, (axes, last) in enumerate(zip(row[shots + 1 :], after[way], strict=True)):
                right = last == way
                axes.spines[:].set(color=COLORS[2] if right else COLORS[3], linewidth=2)
                first = "" if before is None else f"{before[way, index] + 1} → "
                axes.set_xlabel(f"{first}{last + 1}{'' if right else ' ✗'}", fontsize=8, color=INK if right else COLORS[3])
            row[0].set_ylabel(f"{way + 1}", rotation=0, labelpad=8, va="center")
        all_axes[0, 0].set_title("support", fontsize=9)
        all_axes[0, shots + 1].set_title("queries", fontsize=9, loc="left")
        return svg(figure, title)


def bars(title: str, label: str, of: Mapping[str, float], reference: float) -> str:
    """A bar for each name, and a line where the mean is."""
    with matplotlib.rc_context(STYLE):
        figure, axes = blank(5.2, 0.24 * len(of) + 0.9)
        axes.barh(list(of), list(of.values()), color=COLORS[0])
        axes.axvline(reference, color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel=label, xlim=(0, 1))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        return svg(figure, title)


def boxes(title: str, label: str, of: Mapping[str, np.ndarray], start: float) -> str:
    """How values spread, for each name: 5 %, quartiles, 95 %; and a line where they started."""
    with matplotlib.rc_context(STYLE):
        figure, axes = blank(5.2, 0.32 * len(of) + 1)
        line = {"color": INK}
        axes.boxplot(
            list(of.values()), orientation="horizontal", tick_labels=list(of), whis=(5, 95), showfliers=False,
            boxprops=line, whiskerprops=line, capprops=line, medianprops={"color": COLORS[1], "linewidth": 2},
        )  # fmt: skip
        axes.axvline(start, color=COLORS[0], linewidth=1, linestyle="--")
        axes.set(xlabel=label)
        axes.invert_yaxis()
        return svg(figure, title)


def heat_map(title: str, x_label: str, y_label: str, x: Sequence[float], y: Sequence[float], values: np.ndarray, reverse: bool) -> str:
    """values (len(y), len(x)), NaN where there is none. reverse: small ones are the good, bright ones."""
    with matplotlib.rc_context(STYLE):
        figure, axes = blank(1.1 + 0.8 * len(x), 1.1 + 0.5 * len(y))
        axes.imshow(values, cmap="viridis_r" if reverse else "viridis", aspect="auto")
        share = (values - np.nanmin(values)) / (np.ptp(values[~np.isnan(values)]) or 1)  # of the way to the brightest
        for (row, column), value in np.ndenumerate(values):
            dark = (share[row, column] < 0.6) != reverse
            text = "–" if np.isnan(value) else f"{value:.3g}"
            color = INK if np.isnan(value) else "white" if dark else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xticks(range(len(x)), [f"{value:g}" for value in x])
        axes.set_yticks(range(len(y)), [f"{value:g}" for value in y])
        axes.grid(False)
        return svg(figure, title)


def after(step: int) -> str:
    return "before adaptation" if step == 0 else f"after {step} step{'s' * (step > 1)}"


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """In inches; no pyplot, which would keep every figure."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, title: str) -> str:
    """The figure as an element for HTML; its title is for those who hear the page. The same bytes for the same figure."""
    text = io.StringIO()
    # ids differ between the charts of a page, and not between two runs
    with matplotlib.rc_context({"svg.hashsalt": title}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser has fonts of its own
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = text.getvalue()
    width = float(re.search(r'width="([\d.]+)pt"', drawn)[1])  # type: ignore[index]
    body = re.sub(f"(fill|stroke): {INK}", r"\1: currentColor", drawn[drawn.index("<defs>") : drawn.rindex("</svg>")])
    box = re.search(r'viewBox="([^"]+)"', drawn)[1]  # type: ignore[index]
    style = f"width:{width * 4 / 3:.0f}px"
    return f'<svg role="img" aria-label="{escape(title)}" viewBox="{box}" style="{style}" xmlns:xlink="http://www.w3.org/1999/xlink">{body}</svg>'
