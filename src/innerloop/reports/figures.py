"""Charts as SVG to stand in a page: text and axes take the page's colour, so that they can be read on light and on dark."""

import io
import itertools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

INK = "#0f0e0d"  # becomes the page's text colour; no chart uses it otherwise
# of contenders; each has a contrast of 3 to 1 on the light and on the dark page, and its own dashes besides
COLORS = ("#1f83c4", "#c2690b", "#158a5f", "#d1495b", "#9a5fc0", "#1592a6", "#8a7420", "#7d7d7d")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), "-.", (0, (8, 1.5, 1, 1.5, 1, 1.5)), (0, (3, 3)), (0, (9, 2)), (0, (1, 2.5)))
RIGHT, WRONG, PLAIN = COLORS[2], COLORS[3], COLORS[7]
STYLE: Any = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.2,
    "grid.color": INK, "legend.frameon": False, "axes.prop_cycle": cycler(color=COLORS), "figure.facecolor": "none",
    "axes.facecolor": "none", "text.parse_math": False, "lines.linewidth": 1.6, "image.interpolation": "none",
}  # fmt: skip
Line = tuple[Sequence[float], Sequence[float], Sequence[float] | None]  # x, y, half a 95 % interval
Lines = Mapping[str, Line]


def lines(
    title: str, x_label: str, y_label: str, of: Lines, levels: Mapping[str, float] = MappingProxyType({}), colors: Sequence[str] = COLORS,
    higher_is_better: bool = False,
) -> str:  # fmt: skip
    """A line for each name, with its interval as a band; a level one of what takes no steps. levels: dotted lines, as that of chance.
    colors: those of contenders, where the lines are none."""
    with matplotlib.rc_context({**STYLE, "axes.prop_cycle": cycler(color=colors)}):
        columns = 1 if max(map(len, of)) > 14 else 2  # the page's font may be wider than the one that it is laid out with
        figure, axes = blank(4.8, 3 + 0.22 * -(-len(of) // columns))
        most = np.inf if higher_is_better else highest(of)
        ends = [x[-1] for x, _, _ in of.values() if len(x) > 1]
        for (name, (x, y, half)), style in zip(of.items(), itertools.cycle(DASHES), strict=False):
            label = name if np.isfinite(y).all() and np.max(y) <= most else f"{name} (diverged)"
            if list(x) == [0] and ends:
                x, y, half = [0, max(ends)], [y[0]] * 2, None if half is None else [half[0]] * 2
            (line,) = axes.plot(x, y, label=label, linestyle=style, marker="o" if len(x) == 1 else None, markersize=5)
            if half is not None and len(x) == 1:
                axes.errorbar(x, y, yerr=half, color=line.get_color())
            if half is not None:
                axes.fill_between(x, np.subtract(y, half), np.add(y, half), color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(xlabel=x_label, ylabel=y_label)
        if axes.get_ylim()[1] > 1.5 * most:
            axes.set_ylim(-0.05 * most, most)
        for name, level in levels.items():
            axes.axhline(level, color=INK, linewidth=1, linestyle=":")
            axes.annotate(name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=x_label.endswith("steps"), min_n_ticks=1, nbins=6))
        if len(of) > 1:
            figure.legend(loc="outside lower center", ncols=columns, handlelength=3)
        return svg(figure, title)


def highest(of: Lines) -> float:
    """What a chart shows at most: ten times what any line begins with. One that leaves that behind would make the others flat. (Of what is
    better the lower.)"""
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
                color = ramp(index / max(len(steps) - 1, 1))
                style = {"linestyle": ":" if step == 0 else "-", "linewidth": 1.2 + index}
                axes.plot(truth[0], prediction, color=color, label=after(step), **style)
            axes.plot(*support[:2], "o", color=INK, markersize=4, label="support")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return svg(figure, title)


def paths(title: str, steps: Sequence[int], tasks: Sequence[Sequence[np.ndarray]], goals: Sequence[np.ndarray | None]) -> str:
    """Rollouts in a plane, a row for each task and a column after each of `steps`: places (rollouts, time, 2), NaN after their end. A cross
    is the goal, where all rollouts of a task have the same."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.1 * len(steps), 2.1 * len(tasks) + 0.3), layout="constrained")
        grid = figure.subplots(len(tasks), len(steps), squeeze=False, sharex=True, sharey=True)
        for row, task, goal in zip(grid, tasks, goals, strict=True):
            for axes, step, rollouts in zip(row, steps, task, strict=True):
                for rollout in rollouts:
                    axes.plot(*rollout.T, color=ramp(0.7), linewidth=0.9, alpha=0.6)
                if goal is not None:
                    axes.plot(*goal, "x", color=INK, markersize=8, markeredgewidth=2)
                axes.set_aspect("equal")
                if axes in grid[0]:
                    axes.set_title(after(step), fontsize=11)
        return svg(figure, title)


class Marked(NamedTuple):
    """An image (h, w, channels) in [0, 1] and, where that is known, what is in it: boxes (n, 4), top, left, bottom, right in pixels, with
    labels from 1 on, or the label of each pixel, 0 for none."""

    image: np.ndarray
    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    mask: np.ndarray | None = None


def marked(title: str, columns: Mapping[str, Sequence[Marked]]) -> str:
    """Images in columns of a name, with boxes or coloured pixels, a color for each label."""
    rows = len(next(iter(columns.values())))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.7 * len(columns), 1.7 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, len(columns), squeeze=False)
        for column, (name, shown) in enumerate(columns.items()):
            grid[0, column].set_title(name, fontsize=10)
            for axes, (image, boxes, labels, mask) in zip(grid[:, column], shown, strict=True):
                axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
                if mask is not None:
                    colors = np.array([to_rgba(color, 0.6) for color in COLORS])[(mask - 1) % len(COLORS)]
                    axes.imshow(np.where((mask > 0)[..., None], colors, 0.0))
                found = [] if boxes is None or labels is None else zip(boxes, labels, strict=True)
                for (top, left, bottom, right), label in found:
                    color = COLORS[(int(label) - 1) % len(COLORS)]
                    corner, width, height = (left - 0.5, top - 0.5), right - left, bottom - top
                    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=1.8))
                    axes.annotate(str(int(label)), (left, top - 1), color=color, fontsize=9, annotation_clip=False)
                axes.set(xticks=[], yticks=[], xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
                axes.grid(False)
                axes.spines[:].set_visible(False)
        return svg(figure, title)


def film(title: str, times: Sequence[int], rows: Sequence[Sequence[Sequence[Sequence[tuple[float, float]]] | None]]) -> str:
    """Frames of a rollout: a row after each adaptation step, a column for each of `times`; lines (points of (x, y)), None after the end."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.1 * len(times) + 0.6, 1.1 * len(rows) + 0.3), layout="constrained")
        grid = figure.subplots(len(rows), len(times), squeeze=False, sharex=True, sharey=True)
        for step, (axes_row, frames) in enumerate(zip(grid, rows, strict=True)):
            for axes, time, frame in zip(axes_row, times, frames, strict=True):
                for line in frame or []:
                    axes.plot(*zip(*line, strict=True), color=ramp(0.7), linewidth=1.8)
                axes.set(xticks=[], yticks=[])
                axes.set_aspect("equal")
                if step == 0:
                    axes.set_title(f"{time}", fontsize=10)
            axes_row[0].set_ylabel(after(step), fontsize=10)
        return svg(figure, title)


def episode(title: str, support: np.ndarray, query: np.ndarray, before: np.ndarray | None, after: np.ndarray) -> str:
    """One episode of images, a row for each class. support (ways, shots, h, w, c), query (ways, queries, h, w, c), in [0, 1],
    NaN where a class has fewer; before, after: predicted ways (ways, queries), before adaptation if it has steps. Under each query stands
    what it was taken for; errors have a red frame."""
    ways, shots, queries = *support.shape[:2], query.shape[1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.62 * (shots + queries) + 0.5, 0.9 * ways + 0.4), layout="constrained")
        all_axes = figure.subplots(ways, shots + queries + 1, squeeze=False, width_ratios=[1] * shots + [0.25] + [1] * queries)
        for way, row in enumerate(all_axes):
            row[shots].axis("off")
            for axes, image in zip(np.delete(row, shots), [*support[way], *query[way]], strict=True):
                if np.isnan(image).all():  # this class has fewer
                    axes.axis("off")
                    continue
                axes.imshow(image.squeeze(), cmap="gray_r", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(visible=True, color="#999999")
            for index, (axes, last) in enumerate(zip(row[shots + 1 :], after[way], strict=True)):
                if np.isnan(query[way, index]).all():
                    continue
                right = last == way
                axes.spines[:].set(color=RIGHT if right else WRONG, linewidth=2)
                first = "" if before is None else f"{before[way, index] + 1} → "
                axes.set_xlabel(f"{first}{last + 1}{'' if right else ' ✗'}", fontsize=10, color=INK if right else WRONG)
            row[0].set_ylabel(f"{way + 1}", rotation=0, labelpad=8, va="center")
        all_axes[0, 0].set_title("support", fontsize=11)
        all_axes[0, shots + 1].set_title("queries", fontsize=11, loc="left")
        return svg(figure, title)


def bars(title: str, label: str, of: Mapping[str, tuple[float, float, float]], reference: float) -> str:
    """A bar of a value in percent for each name, with its interval (low, high), and a line where the mean is."""
    with matplotlib.rc_context(STYLE):
        figure, axes = blank(4.8, 0.26 * len(of) + 0.9)
        values, low, high = np.array(list(of.values())).T
        axes.barh(list(of), values, color=PLAIN, xerr=[values - low, high - values], error_kw={"ecolor": INK, "elinewidth": 1})
        axes.axvline(reference, color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel=label, xlim=(0, 100))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        return svg(figure, title)


def boxes(title: str, label: str, of: Mapping[str, np.ndarray], start: float | None) -> str:
    """How values spread, for each name: 5 %, quartiles, 95 %; and a line where they started."""
    with matplotlib.rc_context(STYLE):
        figure, axes = blank(4.8, 0.36 * len(of) + 1)
        line = {"color": INK}
        axes.boxplot(
            list(of.values()), orientation="horizontal", tick_labels=list(of), whis=(5, 95), showfliers=False,
            boxprops=line, whiskerprops=line, capprops=line, medianprops={"color": INK, "linewidth": 2.5},
        )  # fmt: skip
        if start is not None:
            axes.axvline(start, color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel=label)
        axes.invert_yaxis()
        return svg(figure, title)


def forest(title: str, label: str, rows: Sequence[tuple[str, float, float, float]]) -> str:
    """A difference for each name, with half its intervals: the first thick, the second (0: not known) thin; and a line at no difference."""
    with matplotlib.rc_context(STYLE):
        figure, axes = blank(4.8, 0.36 * len(rows) + 1)
        places = range(len(rows))
        _, values, inner, outer = zip(*rows, strict=True)
        axes.errorbar(values, places, xerr=outer, fmt="none", ecolor=INK, elinewidth=1, capsize=4)
        axes.errorbar(values, places, xerr=inner, fmt="o", color=INK, ecolor=PLAIN, elinewidth=5, markersize=5)
        axes.axvline(0, color=INK, linewidth=1, linestyle="--")
        axes.set_yticks(places, [name for name, *_ in rows])
        axes.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
        return svg(figure, title)


def calibration(title: str, points: Sequence[tuple[float, float, int]]) -> str:
    """(confidence, how often right, how many), both in percent; the area of a point is for how many."""
    with matplotlib.rc_context(STYLE):
        figure, axes = blank(4.8, 3.4)
        sure, right, counts = np.array(points).T
        axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle="--")
        axes.plot(sure, right, color=PLAIN)
        axes.scatter(sure, right, s=20 + 180 * counts / counts.max(), color=PLAIN)
        axes.set(xlabel="confidence, %", ylabel="right, %", xlim=(0, 104), ylim=(0, 104))
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


def ramp(share: float) -> Any:
    """A colour for how far adaptation is, from grey at its first step (0) to blue at its last (1)."""
    return LinearSegmentedColormap.from_list("adaptation", [PLAIN, COLORS[0]])(share)


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
